"""The canonical trace set: a folder with ``devices.parquet``, ``events.parquet``, ``provenance.json``.

``hardware.parquet`` is optional. Events are a change log over the channels of
:data:`fedsim.schema.CHANNELS`; a channel is unknown before its first event and after a null value.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table, write_json, write_table
from fedsim.schema import CHANNELS, CLOCKS, HARDWARE, NETWORKS, TRACE_DEVICES, TRACE_EVENTS
from fedsim.traces.validation import (
    validate,
    validate_devices,
    validate_events,
    validate_hardware,
    validate_provenance,
)
from fedsim.units import DAY_MS, BoolArray, IntArray

__all__ = ["CHANNEL_CODE", "FACTS", "NETWORK_CODE", "Events", "TraceSet", "TraceWriter", "validate"]

CHANNEL_CODE = {name: code for code, name in enumerate(CHANNELS)}
NETWORK_CODE = {name: code for code, name in enumerate(NETWORKS)}
FACTS = ("model", "ram_gb", "os_version")

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Events:
    """A change log as columns of equal length, sorted by time inside each device."""

    at_ms: IntArray
    channel: Int8Array
    value: Float32Array  # NaN = becomes unknown
    is_sentinel: BoolArray

    @classmethod
    def of(cls, rows: Sequence[tuple[float, str, object]]) -> Events:
        """Events from ``(seconds, channel, value)`` rows; for hand-written traces and tests."""
        at_s, channels, values = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(
            at_ms=np.rint(np.asarray(at_s, dtype=np.float64) * 1000).astype(np.int64),
            channel=np.array([CHANNEL_CODE[c] for c in channels], dtype=np.int8),
            value=np.array([_number(v) for v in values], dtype=np.float32),
            is_sentinel=np.zeros(len(rows), dtype=bool),
        )

    def __len__(self) -> int:
        return len(self.at_ms)


def _number(value: object) -> float:
    if value is None:
        return float("nan")
    return float(NETWORK_CODE[value]) if isinstance(value, str) else float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TraceSet:
    """Base traces in memory: device columns of length n, events in CSR order.

    ``offsets[i] : offsets[i + 1]`` are device i's events. ``start_ms`` is the trace's first instant
    counted from the set's own first midnight; the trace repeats after ``period_ms``.
    """

    device_id: npt.NDArray[np.object_]
    start_ms: IntArray
    period_ms: IntArray
    is_local: BoolArray  # False: the hour of day of the trace is unknown
    facts: Mapping[str, npt.NDArray[Any]]  # model (object, None unknown), ram_gb, os_version (NaN unknown)
    offsets: IntArray
    events: Events
    provenance: Mapping[str, Any] = field(default_factory=dict)
    hardware: pa.Table | None = None

    @property
    def n(self) -> int:
        """Number of base traces."""
        return len(self.period_ms)

    @property
    def period_days(self) -> IntArray:
        """Whole days in each trace, at least 1."""
        return np.maximum(self.period_ms // DAY_MS, 1)

    def device_of_event(self) -> npt.NDArray[np.int32]:
        """The device row of every event."""
        return np.repeat(np.arange(self.n, dtype=np.int32), np.diff(self.offsets))

    def channels(self) -> tuple[str, ...]:
        """Names of the channels that have any event."""
        present = np.bincount(self.events.channel, minlength=len(CHANNELS)) > 0
        return tuple(name for name, is_present in zip(CHANNELS, present, strict=True) if is_present)

    @classmethod
    def of(
        cls,
        logs: Sequence[Events],
        *,
        period_s: float | Sequence[float],
        start_s: float | Sequence[float] = 0.0,
        is_local: bool = True,
        facts: Mapping[str, Sequence[Any]] | None = None,
    ) -> TraceSet:
        """A trace set from one event log per device; for hand-written traces and generators."""
        n = len(logs)
        counts = np.array([len(log) for log in logs], dtype=np.int64)
        columns = {
            name: np.concatenate([getattr(log, name) for log in logs])
            for name in ("at_ms", "channel", "value", "is_sentinel")
        }
        traces = cls(
            device_id=np.array([str(i) for i in range(n)], dtype=object),
            start_ms=np.broadcast_to(np.rint(np.asarray(start_s) * 1000).astype(np.int64), n).copy(),
            period_ms=np.broadcast_to(np.rint(np.asarray(period_s) * 1000).astype(np.int64), n).copy(),
            is_local=np.full(n, is_local),
            facts=_fact_columns(facts or {}, n),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            events=Events(**columns),
        )
        validate(traces, where="hand-written traces")
        return traces

    @classmethod
    def load(cls, folder: Path | str) -> TraceSet:
        """Read and validate a canonical folder; errors name the file, the row and the field."""
        folder = existing(folder, "trace set")
        devices = read_table(folder / "devices.parquet", TRACE_DEVICES)
        events = read_table(folder / "events.parquet", TRACE_EVENTS)
        device = events.column("device").to_numpy()
        n = devices.num_rows
        _check_devices_column(device, n, where=folder / "events.parquet")
        hardware_file = folder / "hardware.parquet"
        traces = cls(
            device_id=np.array(devices.column("device_id").to_pylist(), dtype=object),
            start_ms=devices.column("start_ms").to_numpy().copy(),
            period_ms=devices.column("period_ms").to_numpy().copy(),
            is_local=_clock_is_local(devices, where=folder / "devices.parquet"),
            facts=_fact_columns({name: devices.column(name).to_pylist() for name in FACTS}, n),
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

    def save(self, folder: Path | str) -> None:
        """Write the canonical folder, whole or not at all."""
        with TraceWriter(folder) as writer:
            writer.add(self)
            writer.provenance.update(self.provenance)
            writer.hardware = self.hardware


def _fact_columns(facts: Mapping[str, Sequence[Any]], n: int) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in FACTS:
        values = list(facts.get(name, [None] * n))
        dtype = object if name == "model" else np.float32
        columns[name] = np.array(values, dtype=dtype)
    return columns


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


def _holds_something(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


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

    def __enter__(self) -> Self:
        is_replaceable = (self.folder / "provenance.json").exists() or not _holds_something(self.folder)
        if not is_replaceable:
            raise InputError("will not replace what is not a trace set", value=str(self.folder), allowed="a new folder")
        self._temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._events = pq.ParquetWriter(self._temporary / "events.parquet", TRACE_EVENTS.arrow(), compression="zstd")
        return self

    def add(self, traces: TraceSet) -> None:
        """Append a batch of devices."""
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
        self._events.close()
        try:
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        if not self._devices:
            raise InputError("no device found in the source", where=self.folder.name)
        write_table(self._temporary / "devices.parquet", pa.concat_tables(self._devices), TRACE_DEVICES)
        if self.hardware is not None:
            write_table(self._temporary / "hardware.parquet", self.hardware, HARDWARE)
        write_json(self._temporary / "provenance.json", self.provenance)
        old = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.old")
        if self.folder.exists():
            os.replace(self.folder, old)
        os.replace(self._temporary, self.folder)
        shutil.rmtree(old, ignore_errors=True)
