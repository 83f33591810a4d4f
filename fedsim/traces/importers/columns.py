"""Declared columns of CSV and Parquet files of any size, batch by batch, and the instants in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.targets import reading
from fedsim.traces.clock import MAX_MS, MAX_RELATIVE_MS, MIN_MS, PLAUSIBLE, PLAUSIBLE_RELATIVE, instant_of
from fedsim.traces.importers import CLOCKS, UNITS
from fedsim.traces.importers.source import source_file
from fedsim.traces.validation import MAX_WINDOW_MS
from fedsim.units import DAY_MS, HOUR_S, FloatArray, IntArray

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_ROWS = 1 << 18
_CSV_BLOCK = 1 << 24  # bytes read at once
_MS_PER_UNIT = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 60e3}
_ZONED = re.compile(r"\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$")
_MAX_COUNT_MS = 2.0**62  # beyond it a number cannot be counted in ms


def table_files(src: Path, what: str) -> list[Path]:
    """The file, or the CSV and Parquet files of a folder in order of name."""
    existing(src, what)
    with reading(src, what):
        files = sorted(src.iterdir()) if src.is_dir() else [src]
    files = [path for path in files if path.name.endswith(_SUFFIXES)]
    if not files:
        raise InputError(f"no table found: {what}", value=src, allowed=", ".join(f"*{s}" for s in _SUFFIXES))
    return [source_file(path, what) for path in files]  # not one of them may be passed over


def batches(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Number of the first row (from 0) and rows of the named columns; CSV columns are texts, empty ones null.

    Raises:
        InputError: a column that is missing or named twice, a file that is damaged.
    """
    _check_distinct(columns)
    first = 0
    try:
        for batch in _parquet(path, columns) if path.suffix == ".parquet" else _csv(path, columns):
            yield first, pa.Table.from_batches([batch]).select(columns)
            first += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"table cannot be read after row {first} ({error})", where=path) from error


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(path)
    _check_present(file.schema_arrow.names, columns, path)
    yield from file.iter_batches(batch_size=_ROWS, columns=list(columns))


def _csv(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    wanted = list(columns)
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as head:
        names = pyarrow.csv.open_csv(head, read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK)).schema.names
    _check_present(names, wanted, path)
    convert = pyarrow.csv.ConvertOptions(
        include_columns=wanted,
        column_types={name: pa.string() for name in wanted},
        null_values=[""],
        strings_can_be_null=True,
    )
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        options = pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK)
        yield from pyarrow.csv.open_csv(stream, read_options=options, convert_options=convert)


def _check_distinct(wanted: Sequence[str]) -> None:
    for name in wanted:
        if wanted.count(name) > 1:
            raise InputError("one column cannot stand for two things", value=name)


def _check_present(present: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    for name in wanted:
        if name not in present:
            raise InputError("column is missing", value=name, where=path, allowed=", ".join(present))
        if present.count(name) > 1:
            raise InputError("two columns have one name", value=name, where=path)


def texts(column: pa.ChunkedArray, name: str, where: str, *, first: int) -> pa.ChunkedArray:
    """The column as text without nulls; numbers in their shortest form.

    Raises:
        InputError: an empty cell, named by row.
    """
    if pa.types.is_floating(column.type):
        raise InputError(f"column {name!r} holds fractions, no identifiers", value=str(column.type), where=where)
    if column.null_count:
        row = first + column.is_null().to_pylist().index(True)
        raise InputError(f"column {name!r} is empty at row {row}", where=where)
    return as_text(column, name, where, first=first)


def as_text(column: pa.ChunkedArray, name: str, where: str, *, first: int) -> pa.ChunkedArray:
    """The column as text, nulls as they are; what has no text (lists, bytes that are no UTF-8) is refused by row."""
    return _cast(column, pa.string(), name, where, first)


@dataclass(frozen=True)
class Clock:
    """How a log tells time: :meth:`read_ms` reads its instants, :meth:`local_ms` puts them on the traces' clock.

    ``kind`` ``utc`` becomes the local wall time of ``zone`` (hours ahead of UTC, or an IANA name whose summer time
    is followed: in autumn one hour of it comes twice), ``local`` stays as it is, ``relative`` counts from the log's
    own beginning.
    """

    unit: str
    kind: str
    zone: str = "0"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError("unknown unit of time", value=self.unit, allowed=", ".join(UNITS))
        if self.kind not in CLOCKS:
            raise InputError("unknown clock", value=self.kind, allowed=", ".join(CLOCKS))
        if self.unit == "iso" and self.kind == "relative":
            raise InputError(
                "a relative clock counts, it has no dates: unit", value="iso", allowed=", ".join(UNITS[1:])
            )
        if self._shift != 0 and self.kind != "utc":
            raise InputError("a zone is for logs in UTC: zone", value=self.zone, allowed="clock utc")

    @cached_property
    def _shift(self) -> float | ZoneInfo:
        """Fixed hours, or a zone."""
        try:
            hours = float(self.zone)
        except ValueError:
            try:
                return ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                allowed = "hours ahead of UTC (8, -3.5) or a name (Asia/Shanghai)"
                raise InputError("unknown time zone", value=self.zone, allowed=allowed) from error
        if not -24 < hours < 24:
            raise InputError("time zone out of range", value=self.zone, allowed="-24 … 24 h")
        return hours

    def __str__(self) -> str:
        return f"unit {self.unit}, clock {self.kind}, zone {self.zone}"

    @property
    def is_local(self) -> bool:
        """Whether the hour of day is known."""
        return self.kind != "relative"

    def read_ms(self, column: pa.ChunkedArray, name: str, where: str, *, first: int) -> IntArray:
        """The column's instants in ms on the log's own clock, ``int64[n]``; ``first`` is its first row's number.

        Raises:
            InputError: an empty cell, text that is no instant, a zone where the clock is local, an instant that no
                phone can have recorded (named by row).
        """
        if column.null_count:
            row = first + column.is_null().to_pylist().index(True)
            raise InputError(f"column {name!r} is empty at row {row}", where=where)
        read = self._dates_ms if self.unit == "iso" else self._counts_ms
        at_ms = read(column, name, where, first)
        early = np.flatnonzero(at_ms < 0) if self.kind == "relative" else np.empty(0, dtype=np.int64)
        if early.size:
            value = column[int(early[0])].as_py()
            raise InputError(
                f"a relative clock starts at 0: column {name!r}, row {first + early[0]}", value=value, where=where
            )
        self._check_plausible(at_ms, column, name, where, first)
        return at_ms

    def _check_plausible(self, at_ms: IntArray, column: pa.ChunkedArray, name: str, where: str, first: int) -> None:
        """Refuse instants that only a wrong unit or a clock that was never set can tell."""
        least, most = (MIN_MS, MAX_MS) if self.is_local else (0, MAX_RELATIVE_MS)
        bad = np.flatnonzero((at_ms < least) | (at_ms >= most))
        if bad.size:
            row = int(bad[0])
            said = instant_of(int(at_ms[row])) if self.is_local else f"{at_ms[row] / DAY_MS:,.0f} days"
            what = f"column {name!r} has no plausible instant at row {first + row}, {said}"
            allowed = PLAUSIBLE if self.is_local else PLAUSIBLE_RELATIVE
            raise InputError(what, value=str(column[row].as_py()), where=where, allowed=allowed)

    def _dates_ms(self, column: pa.ChunkedArray, name: str, where: str, first: int) -> IntArray:
        """Text or timestamps to ms since 1970, of UTC if they carry a zone."""
        kind = column.type
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind) or _is_text(kind)):
            raise InputError(
                f"column {name!r} holds no dates: unit", value="iso", where=where, allowed=", ".join(UNITS[1:])
            )
        is_zoned = getattr(kind, "tz", None) is not None
        if _is_text(kind):
            is_zoned = len(column) > 0 and _ZONED.search(column[0].as_py()) is not None
            column = _cast(column, pa.timestamp("us", "UTC" if is_zoned else None), name, where, first)
        if is_zoned and self.kind == "local":
            raise InputError(f"column {name!r} carries a time zone: clock", value="local", where=where, allowed="utc")
        in_ms = column.cast(pa.timestamp("ms", column.type.tz if is_zoned else None), safe=False)
        at_ms: IntArray = in_ms.cast(pa.int64()).to_numpy()
        return at_ms

    def _counts_ms(self, column: pa.ChunkedArray, name: str, where: str, first: int) -> IntArray:
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            raise InputError(f"column {name!r} holds dates: unit", value=self.unit, where=where, allowed="iso")
        values = numbers(column, name, where, first=first) * _MS_PER_UNIT[self.unit]
        bad = np.flatnonzero(~(np.abs(values) < _MAX_COUNT_MS))
        if bad.size:
            value = column[int(bad[0])].as_py()
            raise InputError(f"column {name!r} is out of range at row {first + bad[0]}", value=value, where=where)
        return np.rint(values).astype(np.int64)

    def local_ms(self, at_ms: IntArray) -> IntArray:
        """Instants of the log on the clock of the traces: local wall time, or as they are."""
        if self.kind != "utc":
            return at_ms
        if isinstance(self._shift, float):
            return at_ms + np.int64(round(self._shift * HOUR_S * 1000))
        local = pd.DatetimeIndex(at_ms.astype("datetime64[ms]"), tz="UTC").tz_convert(self._shift).tz_localize(None)
        return local.to_numpy().astype("datetime64[ms]").astype(np.int64)


class Extent:
    """How far the instants of one file reach; the row that takes them beyond what a recording can last is refused."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._least: int | None = None
        self._most: int | None = None

    def add(self, at_ms: IntArray, *, first: int) -> None:
        """Take in the instants of the rows from ``first`` on.

        Raises:
            InputError: naming the row.
        """
        for row in {int(at_ms.argmin()), int(at_ms.argmax())} if len(at_ms) else ():
            at = int(at_ms[row])
            least = at if self._least is None else min(at, self._least)
            most = at if self._most is None else max(at, self._most)
            if most - least > MAX_WINDOW_MS:
                other = most if at == least else least
                what = f"row {first + row} is {(most - least) // DAY_MS:,} days away from another, {instant_of(other)}"
                allowed = f"{MAX_WINDOW_MS // DAY_MS:,} days; is the unit or the date wrong?"
                raise InputError(what, value=instant_of(at), where=self._where, allowed=allowed)
            self._least, self._most = least, most


def numbers(column: pa.ChunkedArray, name: str, where: str, *, first: int) -> FloatArray:
    """The column as numbers, null as NaN; text that is none is an :class:`InputError` with its row."""
    if pa.types.is_integer(column.type):  # beyond 2**53 the last digits go: nanoseconds of no interest here
        column = column.cast(pa.float64(), safe=False)
    values: FloatArray = _cast(column, pa.float64(), name, where, first).to_numpy()
    return values


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, where: str, first: int) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        for row, value in enumerate(column):
            try:
                value.cast(kind)
            except pa.ArrowException:
                what = f"column {name!r} has a bad value at row {first + row}"
                raise InputError(what, value=value.as_py(), where=where, allowed=kind) from error
        raise InputError(f"column {name!r} cannot be read", where=where, allowed=kind) from error
