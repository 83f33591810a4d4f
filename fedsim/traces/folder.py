"""The canonical trace set as a folder: ``devices.parquet``, ``events.parquet``, ``provenance.json``.

``hardware.parquet`` is optional.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table, write_json, write_table
from fedsim.folders import Form, whole_folder
from fedsim.schema import CLOCKS, HARDWARE, TRACE_DEVICES, TRACE_EVENTS
from fedsim.traces.canonical import FACTS, Events, TraceSet
from fedsim.traces.validation import validate, validate_devices, validate_events, validate_hardware, validate_provenance
from fedsim.units import BoolArray

FORM = Form(
    "trace set", frozenset({"devices.parquet", "events.parquet", "provenance.json"}), frozenset({"hardware.parquet"})
)


def load_traces(folder: Path | str) -> TraceSet:
    """Read and validate a canonical folder; errors name the file, the row and the field."""
    folder = existing(folder, "trace set")
    devices = read_table(folder / "devices.parquet", TRACE_DEVICES)
    events = read_table(folder / "events.parquet", TRACE_EVENTS)
    device = events.column("device").to_numpy()
    n = devices.num_rows
    _check_devices_column(device, n, where=folder / "events.parquet")
    hardware_file = folder / "hardware.parquet"
    traces = TraceSet(
        device_id=np.array(devices.column("device_id").to_pylist(), dtype=object),
        start_ms=devices.column("start_ms").to_numpy().copy(),
        period_ms=devices.column("period_ms").to_numpy().copy(),
        is_local=_clock_is_local(devices, where=folder / "devices.parquet"),
        facts=_facts(devices),
        offsets=np.searchsorted(device, np.arange(n + 1)).astype(np.int64),
        events=Events(
            at_ms=events.column("at_ms").to_numpy(),
            channel=events.column("channel").to_numpy(),
            value=events.column("value").to_numpy(),
            is_sentinel=events.column("is_sentinel").to_numpy(),
        ),
        provenance=read_json(folder / "provenance.json", "trace provenance"),
        hardware=read_table(hardware_file, HARDWARE) if hardware_file.exists() else None,
    )
    validate_devices(traces, where=folder / "devices.parquet")
    validate_events(traces, where=folder / "events.parquet")
    validate_provenance(traces.provenance, where=folder / "provenance.json")
    if traces.hardware is not None:
        validate_hardware(traces.hardware, where=hardware_file)
    return traces


def save_traces(traces: TraceSet, folder: Path | str) -> None:
    """Write the canonical folder, whole or not at all."""
    with TraceWriter(folder) as writer:
        writer.add(traces)
        writer.provenance.update(traces.provenance)
        writer.hardware = traces.hardware


def _facts(devices: pa.Table) -> dict[str, npt.NDArray[Any]]:
    columns = {name: devices.column(name).to_pylist() for name in FACTS}
    return {name: np.array(v, dtype=object if name == "model" else np.float32) for name, v in columns.items()}


def _clock_is_local(devices: pa.Table, where: Path) -> BoolArray:
    clocks = np.array(devices.column("clock").to_pylist(), dtype=object)
    bad = np.flatnonzero(~np.isin(clocks, CLOCKS))
    if bad.size:
        raise InputError(f"unknown clock at row {bad[0]}", value=clocks[bad[0]], where=where, allowed=", ".join(CLOCKS))
    return np.asarray(clocks == "local", dtype=bool)


def _check_devices_column(device: npt.NDArray[np.int32], n: int, where: Path) -> None:
    bad = np.flatnonzero((device < 0) | (device >= n))
    if bad.size:
        raise InputError(
            f"event {bad[0]} has an unknown device", value=int(device[bad[0]]), where=where, allowed=f"0 … {n - 1}"
        )
    bad = np.flatnonzero(np.diff(device) < 0)
    if bad.size:
        raise InputError(f"events are not sorted by device at row {bad[0] + 1}", where=where)


class TraceWriter:
    """Writes a canonical folder in batches of devices, so that the source need not fit in memory.

    ``add`` may be called any number of times; the folder appears under its name when the ``with``
    block ends without error, and not at all otherwise. An existing trace set is replaced; a folder
    that holds anything else is refused.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.provenance: dict[str, Any] = {}
        self.hardware: pa.Table | None = None
        self._devices: list[pa.Table] = []
        self._n = 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._temporary = self._open.enter_context(whole_folder(self.folder, FORM))
        self._events = pq.ParquetWriter(self._temporary / "events.parquet", TRACE_EVENTS.arrow(), compression="zstd")
        self._open.push(self._finish)  # after the block, and before the folder takes its place
        return self

    def add(self, traces: TraceSet) -> None:
        """Append a batch of devices; they are checked as they are when they are read.

        Raises:
            InputError: what the format does not allow, named by its row in the batch.
        """
        validate(traces, where=self.folder)
        try:
            self._add(traces)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError) as error:
            raise InputError(f"devices that no table can hold ({error})", where=self.folder) from error

    def _add(self, traces: TraceSet) -> None:
        events = traces.events
        device = traces.device_of_event() + np.int32(self._n)
        columns = [
            pa.array(device),
            pa.array(events.at_ms),
            pa.array(events.channel, pa.int8()),
            pa.array(events.value, from_pandas=True),
            pa.array(events.is_sentinel),
        ]
        self._events.write_table(pa.table(columns, schema=TRACE_EVENTS.arrow()))
        clock = np.where(traces.is_local, "local", "relative")
        device_columns = [traces.device_id, traces.start_ms, traces.period_ms, clock]
        device_columns += [traces.facts[name] for name in FACTS]
        arrays = [
            pa.array(values, type=column.type, from_pandas=True)
            for values, column in zip(device_columns, TRACE_DEVICES.columns, strict=True)
        ]
        self._devices.append(pa.table(arrays, schema=TRACE_DEVICES.arrow()))
        self._n += traces.n

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _finish(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._events.close()
        if error is not None:
            return
        if not self._devices:
            raise InputError("no device found in the source", where=self.folder)
        validate_provenance(self.provenance, where=self.folder)
        write_table(self._temporary / "devices.parquet", pa.concat_tables(self._devices), TRACE_DEVICES)
        if self.hardware is not None:
            validate_hardware(self.hardware, where=self.folder)
            write_table(self._temporary / "hardware.parquet", self.hardware, HARDWARE)
        write_json(self._temporary / "provenance.json", self.provenance)
