"""Event logs of an app (user, time) as CSV or Parquet: events close in time make a session, as FLINT builds them.

- A silence longer than ``gap_s`` ends a session. It lasts from its first event to ``tail_s`` after its last one:
  how long a user stays after the last event is not in the log, it is assumed.
- All users share one window, the whole days of the log; what reaches past its end is cut.
- ``days="logged"`` is for a log of sampled days: days on which nobody has an event are left out, the others close
  up. The order of week days is lost then.
- The user's id becomes the device id, so that traces can be joined with the user's own data.

Source of the method: Wang et al., MLSys 2023 (FLINT), §3.2, which takes the sessions of an app as the times at which
its users can be reached.
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
from fedsim.traces.spans import Window, device_rows, traces_of_spans
from fedsim.units import IntArray


@dataclass(frozen=True, kw_only=True)
class EventLog(AppLog):
    """How an event log is read; ``time`` names a column, the others are those of :class:`SessionLaw`."""

    time: str = "time"
    gap_s: float = 1800.0
    tail_s: float = 60.0
    days: str = "all"

    def law(self) -> SessionLaw:
        """How sessions follow from its events."""
        return SessionLaw(self.read_clock(), gap_s=self.gap_s, tail_s=self.tail_s, days=self.days)


def import_events(src: Path, dst: Path, **options: Any) -> None:
    """Write one trace per user; the options are the fields of :class:`EventLog`.

    Raises:
        InputError: a missing column, a bad value named by row, a tail longer than the gap.
    """
    log = EventLog(**options)
    law, files = log.law(), table_files(src, "event log")
    plan = log.plan("events", log.time) | {"law": [log.gap_s, log.tail_s, log.days]}
    read = partial(_read, user=log.user, time=log.time, clock=law.clock)
    grouping, source = Grouping(files, plan, read=read, convert=law.traces), log.source_of("events", src)
    grouping.run(dst, lambda totals: source.provenance(files, law.transforms, law.window(totals).said(), totals.counts))


def _read(path: Path, *, user: str, time: str, clock: Clock) -> Iterator[Rows]:
    extent = Extent(str(path))
    for first, rows in batches(path, (user, time)):
        at_ms = clock.local_ms(clock.read_ms(rows.column(time), time, str(path), first=first))
        extent.add(at_ms, first=first)
        names = texts(rows.column(user), user, str(path), first=first)
        yield pa.table({"device": names, "at_ms": at_ms}), {"n_events_read": rows.num_rows}


@dataclass(frozen=True)
class SessionLaw:
    """How sessions follow from events: gap, tail, and the days they are laid over."""

    clock: Clock
    gap_s: float
    tail_s: float
    days: str

    def __post_init__(self) -> None:
        if self.days not in ("all", "logged"):
            raise InputError("unknown choice of days", value=self.days, allowed="all, logged")
        if not 0 < self.tail_s <= self.gap_s < 1e9:
            limits = "0 < tail_s <= gap_s"
            raise InputError("gap_s and tail_s do not fit", value=(self.gap_s, self.tail_s), allowed=limits)

    @property
    def transforms(self) -> list[str]:
        """The law in words, for the provenance."""
        return [
            f"instants: {self.clock}",
            f"a silence of more than {self.gap_s:g} s ends a session, {self.tail_s:g} s after its last event",
            "one window for all users, in which a user without a session is not available",
            f"days of the window: {self.days}",
        ]

    def window(self, totals: Totals) -> Window:
        """The days covered."""
        if self.days == "logged":
            return Window(totals.days, self.clock.is_local)
        return Window.of(totals.first_ms, totals.last_ms + 1, is_local=self.clock.is_local)

    def traces(self, rows: pa.Table, totals: Totals) -> TraceSet:
        """Traces of sorted events."""
        window = self.window(totals)
        names, device = device_rows(rows.column("device"))
        at_ms = rows.column("at_ms").to_numpy()
        first, last = self._bounds(device, at_ms)
        start_ms = window.at_ms(at_ms[first])
        end_ms = at_ms[last] + round(self.tail_s * 1000)
        inside_ms = np.minimum(end_ms, window.covered_until_ms(at_ms[last]))
        counts = {
            "n_sessions": len(first),
            "n_sessions_of_one_event": int(np.count_nonzero(first == last)),
            "n_sessions_cut_at_the_end_of_the_log": int(np.count_nonzero(inside_ms < end_ms)),
        }
        end_at_ms = window.at_ms(at_ms[last]) + inside_ms - at_ms[last]
        return traces_of_spans(names, device[first], start_ms, end_at_ms, window=window, counts=counts)

    def _bounds(self, device: IntArray, at_ms: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of the first and the last event of every session."""
        is_first = np.append(True, (np.diff(device) != 0) | (np.diff(at_ms) > self.gap_s * 1000))
        first = np.flatnonzero(is_first)
        return first, np.append(first[1:], len(device)) - 1
