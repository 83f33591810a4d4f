"""Session logs of an app (user, start, end) as CSV or Parquet: a user is available while a session runs.

- All users share one window, the whole days of the log: a user without a session on a day was not available then.
- Sessions of one user that overlap (several tabs, doubled rows) are merged and counted. Sessions that touch stay two.
- The user's id becomes the device id, so that traces can be joined with what else is known of the user.
- An end before its start is an error; a session without length is kept, it is never eligible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.importers.app_log import AppLog
from fedsim.traces.importers.columns import Clock, Extent, batches, table_files, texts
from fedsim.traces.importers.shards import Grouping, Rows, Totals
from fedsim.traces.spans import Window, device_rows, merged, traces_of_spans

_TRANSFORMS = (
    "overlapping sessions of one user merged",
    "one window of whole days for all users, in which a user without a session is not available",
)


@dataclass(frozen=True, kw_only=True)
class SessionLog(AppLog):
    """How a session log is read; ``start`` and ``end`` name columns."""

    start: str = "start"
    end: str = "end"


def import_sessions(src: Path, dst: Path, **options: Any) -> None:
    """Write one trace per user; the options are the fields of :class:`SessionLog`.

    Raises:
        InputError: a missing column, or a bad value named by row.
    """
    log = SessionLog(**options)
    clock, files = log.read_clock(), table_files(src, "session log")
    read = partial(_read, columns=(log.user, log.start, log.end), clock=clock)
    plan = log.plan("sessions", log.start, log.end)
    grouping = Grouping(files, plan, read=read, convert=partial(_convert, clock=clock))
    source, transforms = log.source_of("sessions", src), [f"instants: {clock}", *_TRANSFORMS]
    grouping.run(dst, lambda totals: source.provenance(files, transforms, _window(totals, clock).said(), totals.counts))


def _window(totals: Totals, clock: Clock) -> Window:
    """The days covered."""
    return Window.of(totals.first_ms, totals.last_ms, is_local=clock.is_local)


def _read(path: Path, *, columns: tuple[str, str, str], clock: Clock) -> Iterator[Rows]:
    user, start, end = columns
    extent = Extent(str(path))
    for first, rows in batches(path, columns):
        start_ms = clock.read_ms(rows.column(start), start, str(path), first=first)
        length_ms = clock.read_ms(rows.column(end), end, str(path), first=first) - start_ms
        backwards = np.flatnonzero(length_ms < 0)
        if backwards.size:
            row = int(backwards[0])
            value = tuple(str(rows.column(name)[row].as_py()) for name in (start, end))
            raise InputError("a session ends before it starts", value=value, where=f"row {first + row} of {path}")
        names = texts(rows.column(user), user, str(path), first=first)
        extent.add(start_ms, first=first)
        extent.add(start_ms + length_ms, first=first)
        at_ms = clock.local_ms(start_ms)
        counts = {"n_sessions_read": rows.num_rows, "n_sessions_without_length": int(np.count_nonzero(length_ms == 0))}
        yield pa.table({"device": names, "at_ms": at_ms, "until_ms": at_ms + length_ms}), counts


def _convert(rows: pa.Table, totals: Totals, *, clock: Clock) -> TraceSet:
    window = _window(totals, clock)
    names, device = device_rows(rows.column("device"))
    start_ms = rows.column("at_ms").to_numpy() - window.first_ms
    end_ms = rows.column("until_ms").to_numpy() - window.first_ms
    device, start_ms, end_ms = merged(device, start_ms, end_ms)
    counts = {"n_sessions": len(device), "n_sessions_merged_into_another": rows.num_rows - len(device)}
    return traces_of_spans(names, device, start_ms, end_ms, window=window, counts=counts)
