"""Measurement folders: hardware, links, levels and profiles that belong to no particular trace.

A folder holds any of ``hardware.parquet``, ``links.parquet``, ``levels.parquet``, ``profiles.parquet``, and always
``provenance.json``. It is to a phone's hardware and network what a trace set is to its behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table, write_json
from fedsim.folders import Form, whole_folder
from fedsim.schema import HARDWARE, LEVELS, LINKS, NETWORKS, PROFILES, Table
from fedsim.traces.validation import validate_hardware, validate_provenance
from fedsim.units import FloatArray

TABLES = (HARDWARE, LINKS, LEVELS, PROFILES)
_FILES = frozenset(f"{table.name}.parquet" for table in TABLES)
FORM = Form("measurement folder", frozenset({"provenance.json"}), _FILES)
_ROW_GROUP = 1 << 18
_MOST = 1e30  # of any number: far beyond what can be measured, far below where sums overflow
_LEAST = 1e-30
_RANGES = {
    "network": (0.0, len(NETWORKS) - 1.0),
    "duration_ms": (1.0, _MOST),
    "step_s": (_LEAST, _MOST),
    "inference_ms_per_sample": (_LEAST, _MOST),
    **dict.fromkeys(("batch_size", "in_size", "out_size", "seq_len", "n_threads"), (1.0, _MOST)),
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Measurements:
    """The tables of a measurement folder by name, and where they came from."""

    tables: Mapping[str, pa.Table]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path | str) -> Measurements:
        """Read and validate a measurement folder; errors name the file and the field."""
        folder = existing(folder, "measurement folder")
        found = {table: folder / f"{table.name}.parquet" for table in TABLES}
        tables = {table.name: read_table(path, table) for table, path in found.items() if path.exists()}
        if not tables:
            allowed = ", ".join(path.name for path in found.values())
            raise InputError("no measurement found", where=folder, allowed=allowed)
        for table, path in found.items():
            if table.name in tables:
                _validate_ranges(tables[table.name], table, path)
        if HARDWARE.name in tables:
            validate_hardware(tables[HARDWARE.name], where=found[HARDWARE])
        provenance = read_json(folder / "provenance.json", "measurement provenance")
        validate_provenance(provenance, where=folder / "provenance.json")
        return cls(tables, provenance)

    def __getitem__(self, table: Table) -> pa.Table:
        """One of the tables; an :class:`InputError` if the folder lacks it."""
        if table.name not in self.tables:
            raise InputError(f"no {table.name} in these measurements", allowed=", ".join(self.tables))
        return self.tables[table.name]


def _validate_ranges(rows: pa.Table, table: Table, where: Path) -> None:
    """Networks that exist, numbers that are finite and no less than they can be; null passes."""
    for column in table.columns:
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            values = rows.column(column.name).drop_null().to_numpy().astype(np.float64)
            least, most = _RANGES.get(column.name, (0.0, _MOST))
            if not ((values >= least) & (values <= most)).all():
                _refuse_first(rows.column(column.name), column.name, least, most, where)


def _refuse_first(column: pa.ChunkedArray, name: str, least: float, most: float, where: Path) -> NoReturn:
    values = column.to_pylist()
    row = next(row for row, value in enumerate(values) if value is not None and not least <= value <= most)
    allowed = f"{least:g} … {most:g}"
    raise InputError(f"{name} out of range at row {row}", value=values[row], where=where, allowed=allowed)


class MeasurementWriter:
    """Writes a measurement folder in batches of rows, so that the source need not fit in memory.

    The folder appears under its name when the ``with`` block ends without error, and not at all
    otherwise. Earlier measurements are replaced; a folder that holds anything else is refused.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.provenance: dict[str, Any] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._pending: dict[str, list[pa.Table]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._temporary = self._open.enter_context(whole_folder(self.folder, FORM))
        self._open.push(self._finish)  # after the block, and before the folder takes its place
        return self

    def add(self, table: Table, rows: pa.Table) -> None:
        """Append rows to one of the tables; its optional columns may be left out."""
        if table.name not in self._writers:
            path = self._temporary / f"{table.name}.parquet"
            self._writers[table.name] = pq.ParquetWriter(path, table.arrow(), compression="zstd")
        pending = self._pending.setdefault(table.name, [])
        try:
            pending.append(table.check(rows, where=self.folder).cast(table.arrow()))
        except pa.ArrowException as error:
            raise InputError(f"rows that no table {table.name!r} can hold ({error})", where=self.folder) from error
        if sum(part.num_rows for part in pending) >= _ROW_GROUP:
            self._flush(table.name)

    def _flush(self, name: str) -> None:
        self._writers[name].write_table(pa.concat_tables(self._pending.pop(name)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _finish(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is None:
                self._write_rest()
        finally:
            for writer in self._writers.values():
                writer.close()
        if error is None:
            Measurements.load(self._temporary)  # what is left can be read, or is not left

    def _write_rest(self) -> None:
        if not self._writers:
            raise InputError("no measurement found in the source", where=self.folder)
        for name in list(self._pending):
            self._flush(name)
        write_json(self._temporary / "provenance.json", self.provenance)


def link_quantiles(
    links: pa.Table,
    network: str,
    *,
    scenario: str | None = None,
    column: str = "down_bytes_per_s",
    q: Sequence[float] = QUANTILES,
) -> FloatArray | None:
    """Quantiles over time of a rate (or ``rtt_ms``) on one network type, ``float64[len(q)]``; None if never measured.

    A segment counts as long as it lasts. The quantile is the least measured value that is not exceeded for a
    share ``q`` of the time: no value is invented between two measured ones.
    """
    chosen = pc.equal(links.column("network"), NETWORKS.index(network))
    if scenario is not None:
        chosen = pc.and_(chosen, pc.equal(links.column("scenario"), scenario))
    rows = links.filter(pc.and_(chosen, pc.is_valid(links.column(column))))
    if not rows.num_rows:
        return None
    return weighted_quantiles(rows.column(column).to_numpy(), rows.column("duration_ms").to_numpy(), q=q)


def weighted_quantiles(values: npt.ArrayLike, weights: npt.ArrayLike, *, q: npt.ArrayLike = QUANTILES) -> FloatArray:
    """The least of ``values`` that at least a share ``q`` of all weight does not exceed, ``float64[len(q)]``."""
    values, weights = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    until = np.cumsum(weights[order])
    ranks = np.searchsorted(until, np.asarray(q) * until[-1])
    quantiles: FloatArray = values[order][np.minimum(ranks, len(values) - 1)]
    return quantiles
