"""What a rule leaves of the devices, their sessions and their hours: the shares of a criteria table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.traces.clock import HOUR_MS, HOURS_OF_DAY, ms_by_hour, n_touched, touched_by_hour
from fedsim.traces.criteria import Windows
from fedsim.units import DAY_MS, IntArray

KINDS = ("devices", "sessions", "device_hours")


@dataclass(frozen=True)
class Base:
    """What counts as all: the windows of a base rule, each of them one session of its device.

    Without a base rule (``is_whole``) the windows are the whole traces, and 24 hours of a trace,
    counted from its start, stand for a session.
    """

    windows: Windows
    is_whole: bool

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Devices, sessions and device-hours of the base, in all and by hour."""
        return self.count(self.windows)

    def count(self, windows: Windows) -> dict[str, Any]:
        """Devices, sessions and device-hours with at least a moment in the windows, which lie inside the base.

        ``by_hour`` (None on a relative clock) counts pairs of device and date with a moment in that hour,
        sessions that begin in it (None without a base rule), and device-hours.
        """
        session = self._session(windows)
        return {
            "devices": int(np.count_nonzero(np.diff(windows.offsets))),
            "sessions": self._n_days(windows) if session is None else len(session),
            "device_hours": float(windows.open_ms.sum() / HOUR_MS),
            "by_hour": self._count_by_hour(windows, session) if windows.is_local.all() else None,
        }

    def _session(self, windows: Windows) -> IntArray | None:
        """Rows of the base's windows that hold any of these windows."""
        if self.is_whole:
            return None
        row = np.searchsorted(_key(self.windows), _key(windows), side="right") - 1
        return row[np.diff(row, prepend=-1) > 0]

    def _n_days(self, windows: Windows) -> int:
        return n_touched(windows.trace_of_window, windows.start_ms, windows.end_ms, cell_ms=DAY_MS)

    def _count_by_hour(self, windows: Windows, session: IntArray | None) -> dict[str, list[float] | None]:
        trace, start_ms, end_ms = _on_local_clock(windows)
        return {
            "devices": touched_by_hour(trace, start_ms, end_ms).tolist(),
            "sessions": None if session is None else self._starts_by_hour(session).tolist(),
            "device_hours": (ms_by_hour(start_ms, end_ms) / HOUR_MS).tolist(),
        }

    def _starts_by_hour(self, session: IntArray) -> IntArray:
        _, start_ms, _ = _on_local_clock(self.windows)
        return np.bincount(start_ms[session] // HOUR_MS % HOURS_OF_DAY, minlength=HOURS_OF_DAY)

    def left(self, windows: Windows) -> dict[str, Any]:
        """Shares of the base's devices, sessions and device-hours that the windows leave, in all and by hour."""
        counted = self.count(windows)
        by_hour = counted["by_hour"]
        return share_of(counted, self.counts) | {
            "by_hour": None
            if by_hour is None
            else {kind: _shares(by_hour[kind], self.counts["by_hour"][kind]) for kind in KINDS}
        }


def share_of(counted: dict[str, Any], total: dict[str, Any]) -> dict[str, float | None]:
    """Share of each kind that is left of a total; None of nothing."""
    return {kind: counted[kind] / total[kind] if total[kind] else None for kind in KINDS}


def _shares(part: list[float] | None, whole: list[float] | None) -> list[float | None] | None:
    if part is None or whole is None:
        return None
    return [p / w if w else None for p, w in zip(part, whole, strict=True)]


def _key(windows: Windows) -> IntArray:
    """Trace and start of every window as one number that sorts like the windows."""
    span = windows.period_ms.max() + 1
    key: IntArray = windows.trace_of_window.astype(np.int64) * span + windows.start_ms
    return key


def _on_local_clock(windows: Windows) -> tuple[npt.NDArray[np.int32], IntArray, IntArray]:
    """Trace, start and end of every window, since the set's first midnight."""
    trace = windows.trace_of_window
    return trace, windows.start_ms + windows.trace_start_ms[trace], windows.end_ms + windows.trace_start_ms[trace]
