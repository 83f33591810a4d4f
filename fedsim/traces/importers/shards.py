"""Grouping by device what does not fit in memory: rows go to shards by a hash of their device, on disk.

Every row of one device lands in one shard, so a shard can be turned into traces alone. All intermediate files live
in a work folder beside the target, ``.<target>.work``:

- ``plan.json``: what the rows depend on (importer, options, hashes of the source files). Another plan starts over.
- ``rows/<file>/<shard>.parquet`` and ``rows/<file>.json``: the rows of one source file, and what was counted in it.
- ``parts/<shard>``: the traces of one shard, a canonical folder of its own.

An import that is cut off (killed, disk full) leaves the work folder; the next one with the same plan goes on after
the last source file and the last shard that were finished. Bad input, and success, remove it; so does any other command
that writes the target. Two imports cannot write one target at a time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError, WriteError, printable
from fedsim.files import read_json, sha256, write_json
from fedsim.folders import work_folder
from fedsim.targets import remove, writing
from fedsim.traces.canonical import TraceSet
from fedsim.traces.folder import FORM, TraceWriter, load_traces, save_traces
from fedsim.traces.validation import MAX_WINDOW_MS
from fedsim.units import DAY_MS, IntArray

_VERSION = 1  # of the work folder's contents
_SHARD_BYTES = 32 << 20
_MAX_SHARDS = 256  # files open at once
_BUFFER_ROWS = 1 << 20


@dataclass(frozen=True)
class Totals:
    """What is known only after all rows were read, in ms on the clock of the traces.

    ``days`` are the days (since instant 0) on which anything happens, sorted; ``counts`` what the reader counted.
    """

    first_ms: int
    last_ms: int
    days: IntArray
    counts: Counter[str]


Rows = tuple[pa.Table, Mapping[str, int]]
"""Rows with the columns ``device`` (text), ``at_ms`` and any others, maybe ``until_ms``; and counts to be added up."""


@dataclass(frozen=True)
class Grouping:
    """An import that groups rows by device.

    ``read`` yields the rows of one file. ``convert`` makes traces of all rows of some devices, sorted by device,
    instant and place in the source; None if no device is left. ``plan`` is whatever both depend on.
    """

    files: Sequence[Path]
    plan: Mapping[str, Any]
    read: Callable[[Path], Iterator[Rows]]
    convert: Callable[[pa.Table, Totals], TraceSet | None]

    def run(self, dst: Path, provenance: Callable[[Totals], dict[str, Any]]) -> None:
        """Write the canonical folder; numbers in the parts' provenance are added up and join ``provenance``."""
        FORM.require_replaceable(dst)  # before any work is done
        with work_folder(dst) as work:
            try:
                with writing(dst, work):
                    self._fill(work, dst, provenance)
            except WriteError:
                raise  # a full disk: what was done is kept
            except InputError:
                remove(work)
                raise
            remove(work)

    def _fill(self, work: Path, dst: Path, provenance: Callable[[Totals], dict[str, Any]]) -> None:
        self._open(work)
        totals = self._add_up([self._rows_of(file, number, work) for number, file in enumerate(self.files)])
        parts = [self._part(shard, work, totals) for shard in range(self._n_shards)]
        _join([part for part in parts if part is not None], dst, provenance(totals))

    @property
    def _n_shards(self) -> int:
        size = sum(file.stat().st_size for file in self.files)
        return int(np.clip(-(-size // _SHARD_BYTES), 1, _MAX_SHARDS))

    def _open(self, work: Path) -> None:
        """Keep what an earlier import of the same plan left, remove anything else."""
        files = [[printable(file.name), sha256(file)] for file in self.files]
        plan = {"version": _VERSION, "shards": self._n_shards, "files": files, "options": dict(self.plan)}
        if _plan_of(work) != plan:
            for left in list(work.iterdir()):
                remove(left)
            write_json(work / "plan.json", plan)

    def _rows_of(self, file: Path, number: int, work: Path) -> dict[str, Any]:
        """Deal the rows of one file out to the shards, unless that was done; what was counted."""
        done, folder = work / "rows" / f"{number:05d}.json", work / "rows" / f"{number:05d}"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(done, _deal(self.read(file), folder, self._n_shards))
        counted: dict[str, Any] = read_json(done, "counts of an import")
        return counted

    def _part(self, shard: int, work: Path, totals: Totals) -> Path | None:
        """Turn one shard into traces, unless that was done; None if no device is in it."""
        part = work / "parts" / f"{shard:05d}"
        if (part / "provenance.json").exists():
            return part
        files = sorted((work / "rows").glob(f"*/{shard:05d}.parquet"))
        traces = self.convert(_sorted(_read_rows(files)), totals) if files else None
        if traces is None:
            return None
        save_traces(traces, part)
        return part

    def _add_up(self, counted: Sequence[Mapping[str, Any]]) -> Totals:
        seen = [(part, file) for part, file in zip(counted, self.files, strict=True) if part["first_ms"] is not None]
        if not seen:
            raise InputError("no row found in the source", where=" ".join(file.name for file in self.files))
        first, begins = min(((part["first_ms"], file) for part, file in seen), key=lambda found: found[0])
        last, ends = max(((part["last_ms"], file) for part, file in seen), key=lambda found: found[0])
        if last - first > MAX_WINDOW_MS:
            raise InputError(
                f"the log covers {(last - first) // DAY_MS:,} days, from that of {begins.name} to that of {ends.name}",
                value=(first, last),
                allowed=f"{MAX_WINDOW_MS // DAY_MS:,} days; is the unit or a date wrong?",
            )
        counts: Counter[str] = Counter()
        for part in counted:
            counts.update(part["counts"])
        days = np.unique(np.concatenate([np.array(part["days"], dtype=np.int64) for part, _ in seen]))
        return Totals(first_ms=first, last_ms=last, days=days, counts=counts)


def _plan_of(work: Path) -> Any:
    """What an earlier import was to do; None if there was none, or it did not come to write it whole."""
    try:
        return read_json(work / "plan.json", "plan of an import")
    except InputError:
        return None


def _read_rows(files: Sequence[Path]) -> pa.Table:
    try:
        return pa.concat_tables([pq.read_table(file) for file in files])
    except (pa.ArrowException, OSError) as error:
        what = f"what an earlier import left is damaged ({error})"
        raise InputError(what, allowed="once more: it is removed now") from error


def _deal(rows: Iterator[Rows], folder: Path, n_shards: int) -> dict[str, Any]:
    """Write each row to its device's shard; extremes, days and counts."""
    writers: dict[int, pq.ParquetWriter] = {}
    counts: Counter[str] = Counter()
    ends: list[tuple[int, int]] = []
    days = np.empty(0, dtype=np.int64)
    try:
        for table, counted in _gathered(rows):
            counts.update(counted)
            if not table.num_rows:
                continue
            at_ms = table.column("at_ms").to_numpy()
            until_ms = table.column("until_ms").to_numpy() if "until_ms" in table.column_names else at_ms
            ends.append((int(at_ms.min()), int(until_ms.max())))
            days = np.union1d(days, at_ms // DAY_MS)
            _write_shards(table, folder, writers, n_shards)
    finally:
        for writer in writers.values():
            writer.close()
    first, last = (min(f for f, _ in ends), max(e for _, e in ends)) if ends else (None, None)
    return {"first_ms": first, "last_ms": last, "days": days.tolist(), "counts": dict(counts)}


def _gathered(rows: Iterator[Rows]) -> Iterator[Rows]:
    """Small batches together, so that the shards' row groups are not tiny."""
    pending: list[pa.Table] = []
    counts: Counter[str] = Counter()
    for table, counted in rows:
        pending.append(table)
        counts.update(counted)
        if sum(part.num_rows for part in pending) >= _BUFFER_ROWS:
            yield pa.concat_tables(pending), counts
            pending, counts = [], Counter()
    if pending:
        yield pa.concat_tables(pending), counts


def _write_shards(table: pa.Table, folder: Path, writers: dict[int, pq.ParquetWriter], n_shards: int) -> None:
    encoded = table.column("device").combine_chunks().dictionary_encode()
    shard_of_name = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)) % n_shards
    shard = shard_of_name[encoded.indices.to_numpy()].astype(np.int64)
    order = np.argsort(shard, kind="stable")
    edges = np.searchsorted(shard[order], np.arange(n_shards + 1))
    dealt = table.take(order)
    for number in np.flatnonzero(np.diff(edges)).tolist():
        if number not in writers:
            writers[number] = pq.ParquetWriter(folder / f"{number:05d}.parquet", table.schema, compression="lz4")
        writers[number].write_table(dealt.slice(edges[number], edges[number + 1] - edges[number]))


def _sorted(rows: pa.Table) -> pa.Table:
    """By device and instant; rows of one instant keep the order of the source."""
    encoded = rows.column("device").combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_numpy(zero_copy_only=False)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    return rows.take(np.lexsort((rows.column("at_ms").to_numpy(), rank[encoded.indices.to_numpy()])))


def _join(parts: Sequence[Path], dst: Path, provenance: dict[str, Any]) -> None:
    counts: Counter[str] = Counter()
    with TraceWriter(dst) as writer:
        for part in parts:
            traces = load_traces(part)
            counts.update(traces.provenance["counts"])
            writer.add(traces)
        writer.provenance = provenance | dict(counts)
