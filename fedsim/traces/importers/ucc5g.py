"""UCC 5G production data set: throughput and radio metrics of a phone, about one row a second.

Format: a zip (or the folder it unpacks to) of CSV files ``<app>/<mobility>/…/*.csv``, ``-`` for missing, instants
``2019.12.16_13.40.04``, bitrates in kbit/s of 1000 bits.
Source: Raca et al., MMSys 2020.

- Throughput is the network's capacity only while something downloads: app ``Download``, state ``D``. Videos and
  idle rows are limited by the app, and are left out.
- ``UL_bitrate`` is the ACK traffic of the download, not capacity: ``up_bytes_per_s`` is null.
- The logger skips a second now and then, and writes some seconds twice. A second lasts until the next one in the
  file (at most 5 s); rows that share it divide it evenly. A row whose clock goes back counts to the second before it.
- ``__MACOSX`` entries are packing debris. Positions and cell ids are not read.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.schema import LINKS, NETWORKS
from fedsim.traces.clock import MAX_MS, MIN_MS, PLAUSIBLE
from fedsim.traces.importers.source import Source, source_file
from fedsim.traces.measurements import MeasurementWriter
from fedsim.units import BoolArray, IntArray

_SOURCE = Source(
    "ucc5g",
    "UCC 5G production data set (Raca et al., MMSys 2020)",
    "GPL-3.0, as stated by the data set's repository",
)
_TRANSFORMS = (
    "only app Download in state D: elsewhere the app limits the throughput",
    "UL_bitrate left out: ACK traffic, not capacity",
    "a row lasts until the next second of the file, at most 5 s; rows that share a second divide it",
    "kbit/s of 1000 bits to bytes/s; positions and cell ids left out",
)
_NETWORK = {
    **dict.fromkeys(("GPRS", "EDGE"), "2g"),
    **dict.fromkeys(("UMTS", "HSDPA", "HSUPA", "HSPA", "HSPA+"), "3g"),
    "LTE": "4g",
    "5G": "5g",
}
_BYTES_PER_KBIT = 125.0
_LONGEST_S = 5
_MOST_KBIT = 1e12  # kbit/s: a petabit
_DAMAGED = (  # what opening and reading a file, or a member of a zip, can raise
    pa.ArrowException, OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    RuntimeError, ValueError, OverflowError,
)  # fmt: skip
_TYPES = {
    "Timestamp": pa.timestamp("s"),
    "NetworkMode": pa.string(),
    "DL_bitrate": pa.float64(),
    "State": pa.string(),
    "PINGAVG": pa.float32(),
}
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types=_TYPES,
    include_columns=list(_TYPES),
    null_values=["-", ""],
    strings_can_be_null=True,
    timestamp_parsers=["%Y.%m.%d_%H.%M.%S"],
)


def import_ucc5g(src: Path, dst: Path) -> None:
    """Write the seconds that measure capacity as ``links.parquet``.

    Raises:
        InputError: no CSV file below a folder ``Download``; a file that breaks the format, by name.
    """
    existing(src, "UCC 5G data set")
    counts: Counter[str] = Counter()
    with MeasurementWriter(dst) as writer:
        with _opened(src) as files:
            if not files:
                raise InputError("no recording found", where=src, allowed="*.csv")
            for name, opened in files:
                counts["n_files"] += 1
                app, mobility = _place(name)
                if app != "download":
                    counts["n_files_of_other_apps"] += 1
                    continue
                rows = _rows(opened, f"{name} of {src}")
                writer.add(LINKS, _links(rows, PurePosixPath(name).stem, mobility, counts))
        writer.provenance = _SOURCE.provenance(_files(src), _TRANSFORMS, counts)


@contextmanager
def _opened(src: Path) -> Iterator[list[tuple[str, Callable[[], IO[bytes]]]]]:
    """Name of every CSV file, in order, and what opens it."""
    if src.is_dir():
        paths = sorted(path for path in src.rglob("*.csv") if _is_data(path.relative_to(src).as_posix()))
        yield [(path.relative_to(src).as_posix(), partial(_open_file, path)) for path in paths]
        return
    with _readable("zip", src):
        archive = zipfile.ZipFile(src)
    with archive:
        yield [(name, partial(archive.open, name)) for name in sorted(filter(_is_data, archive.namelist()))]


def _open_file(path: Path) -> IO[bytes]:
    return source_file(path, "recording").open("rb")


@contextmanager
def _readable(what: str, where: Path | str) -> Iterator[None]:
    """Whatever a damaged, encrypted or missing file raises in the block is one line."""
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{what} cannot be read ({reason})", where=where) from error


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".csv" and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _place(name: str) -> tuple[str, str]:
    """App and mobility, lower case, from ``…/<app>/<mobility>/…/file.csv``."""
    parts = [part.lower() for part in PurePosixPath(name).parts[:-1]]
    mobilities = [k for k, part in enumerate(parts) if part in ("static", "driving")]
    if not mobilities or mobilities[0] == 0:
        raise InputError(
            "app and mobility of a file are not known", value=name, allowed="<app>/Static or <app>/Driving"
        )
    return parts[mobilities[0] - 1], parts[mobilities[0]]


def _rows(opened: Callable[[], IO[bytes]], where: str) -> pa.Table:
    """The columns of one recording."""
    with _readable("recording", where), opened() as file:
        rows = pyarrow.csv.read_csv(file, convert_options=_CONVERT)
    if rows.column("Timestamp").null_count or not rows.num_rows:
        raise InputError("a row without Timestamp, or no row at all", where=where)
    at_ms = rows.column("Timestamp").cast(pa.int64()).to_numpy() * 1000
    _refuse((at_ms < MIN_MS) | (at_ms >= MAX_MS), rows, "Timestamp", where, PLAUSIBLE)
    kbit = rows.column("DL_bitrate").to_numpy()
    is_rate = np.isnan(kbit) | ((kbit >= 0) & (kbit <= _MOST_KBIT))
    _refuse(~is_rate, rows, "DL_bitrate", where, f"0 … {_MOST_KBIT:g} kbit/s")
    ping_ms = rows.column("PINGAVG").to_numpy()
    _refuse(~(np.isnan(ping_ms) | ((ping_ms >= 0) & (ping_ms < np.inf))), rows, "PINGAVG", where, "0 ms or more")
    return rows


def _refuse(is_bad: BoolArray, rows: pa.Table, name: str, where: str, allowed: str) -> None:
    bad = np.flatnonzero(is_bad)
    if bad.size:
        row = int(bad[0])
        value = rows.column(name)[row].as_py()
        raise InputError(f"{name} out of range at row {row}", value=str(value), where=where, allowed=allowed)


def _links(rows: pa.Table, trace: str, mobility: str, counts: Counter[str]) -> pa.Table:
    """The rows that measure capacity, each with its share of its second."""
    network = np.array([_code(mode, counts) for mode in rows.column("NetworkMode").to_pylist()], dtype=np.int8)
    is_download = pc.fill_null(pc.equal(rows.column("State"), "D"), False).to_numpy()
    down = rows.column("DL_bitrate").to_numpy() * _BYTES_PER_KBIT
    at_ms, duration_ms = _spans(rows.column("Timestamp").cast(pa.int64()).to_numpy(), counts)
    is_kept = is_download & (network >= 0) & ~np.isnan(down)
    counts["n_rows"] += len(is_kept)
    counts["n_rows_not_downloading"] += int(np.count_nonzero(~is_download))
    counts["n_rows_without_bitrate"] += int(np.count_nonzero(np.isnan(down)))
    table = pa.table(
        {
            "network": network,
            "trace": pa.repeat(pa.scalar(trace), len(network)),
            "scenario": pa.repeat(pa.scalar(mobility), len(network)),
            "at_ms": at_ms,
            "duration_ms": duration_ms,
            "down_bytes_per_s": down,
            "up_bytes_per_s": pa.nulls(len(network), pa.float64()),
            "rtt_ms": rows.column("PINGAVG"),
        }
    )
    return table.filter(is_kept)


def _code(mode: str | None, counts: Counter[str]) -> int:
    if mode not in _NETWORK:
        counts["n_rows_of_unknown_network"] += 1
        return -1
    return NETWORKS.index(_NETWORK[mode])


def _spans(stamp_s: IntArray, counts: Counter[str]) -> tuple[IntArray, IntArray]:
    """Start (since the first row) and length of every row, ms; rows that share a second divide it."""
    second = np.maximum.accumulate(stamp_s)
    counts["n_rows_with_a_clock_that_went_back"] += int(np.count_nonzero(second != stamp_s))
    seconds, first, n = np.unique(second, return_index=True, return_counts=True)
    counts["n_rows_that_share_a_second"] += int(n[n > 1].sum())
    until_next_s = np.minimum(np.append(np.diff(seconds), 1), _LONGEST_S)
    length_ms, shares = np.repeat(until_next_s * 1000, n), np.repeat(n, n)
    rank = np.arange(len(second)) - np.repeat(first, n)
    start_ms = length_ms * rank // shares
    end_ms = length_ms * (rank + 1) // shares
    return (second - second[0]) * 1000 + start_ms, end_ms - start_ms


def _files(src: Path) -> list[Path]:
    """The zip, or the CSV files of the folder it unpacks to."""
    return [src] if src.is_file() else sorted(path for path in src.rglob("*.csv") if _is_data(path.name))
