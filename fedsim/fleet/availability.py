"""When is a device eligible, and until when: pure functions of (device, instant), exact across the wrap.

All instants are compared as whole microseconds (int64), so an instant returned here, given back as
a question, falls on the same side of the bound, at any time, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from fedsim.fleet.admission import Gate
from fedsim.fleet.curve import EligibleCurve
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.openings import openings_per_device
from fedsim.fleet.watch import Watch
from fedsim.traces.criteria import Levels, Windows
from fedsim.units import DAY_S, US_PER_MS, US_PER_S, BoolArray, FloatArray, IntArray, to_us

Interruption = Literal["abort", "pause", "ignore"]
INTERRUPTIONS: tuple[Interruption, ...] = ("abort", "pause", "ignore")

_NEVER = np.int64(1) << np.int64(60)  # µs; 36,000 years stands for "never changes"


def _seconds(us: IntArray) -> FloatArray:
    """Microseconds to seconds, "never" (give or take a run's length) to infinity."""
    return np.where(us >= _NEVER // 2, np.inf, us / US_PER_S)


class Availability:
    """Eligible windows of a fleet.

    Methods take device ids and instants in seconds (one for all, or one each). Those ending in
    ``_cells`` take the cells of the devices instead (:meth:`Fleet.cell_of`).
    """

    def __init__(self, fleet: Fleet, windows: Windows) -> None:
        self.fleet, self._windows = fleet, windows
        self._period_us: IntArray = windows.period_ms * US_PER_MS
        self._start_us: IntArray = windows.start_ms * US_PER_MS
        self._end_us: IntArray = windows.end_ms * US_PER_MS
        self._first: IntArray = windows.offsets[:-1]
        self._stop: IntArray = windows.offsets[1:]
        trace = np.repeat(np.arange(windows.n), np.diff(windows.offsets))
        # One sorted array for all traces: each trace is moved to a stretch of its own.
        self._base_us: IntArray = np.concatenate([[0], np.cumsum(self._period_us + 1)])[:-1]
        self._key: IntArray = self._base_us[trace] + self._start_us
        self._until_us = self._joined_ends()
        self._index_open_time(trace)

    def _joined_ends(self) -> IntArray:
        """Window ends, where one that touches the wrap is joined to the one at the trace's start."""
        until = self._end_us.copy()
        some = np.flatnonzero(self._stop > self._first)
        first, last = self._first[some], self._stop[some] - 1
        wraps = (self._start_us[first] == 0) & (self._end_us[last] == self._period_us[some])
        first, last, some = first[wraps], last[wraps], some[wraps]
        is_whole = self._end_us[first] == self._period_us[some]
        until[last] = np.where(is_whole, _NEVER, self._period_us[some] + self._end_us[first])
        return until

    def _index_open_time(self, trace: IntArray) -> None:
        """Eligible time before each window: inside its trace, and over all traces (for look-up)."""
        length = self._end_us - self._start_us
        total = np.concatenate([[0], np.cumsum(length)])
        self._open_total_us: IntArray = total[self._stop] - total[self._first]
        self._open_base_us: IntArray = total[self._first]
        self._open_key: IntArray = total[:-1]
        self._open_before_us: IntArray = total[:-1] - self._open_base_us[trace]

    def _locate(self, cells: IntArray, now: npt.ArrayLike) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Trace, instant and position (µs), and the last window that starts at or before it (or first - 1)."""
        now_us = to_us(now)
        trace = self.fleet.cell_trace[cells]
        position = (now_us + self.fleet.cell_phase_us[cells]) % self._period_us[trace]
        window = np.searchsorted(self._key, self._base_us[trace] + position, side="right") - 1
        return trace, now_us, position, window

    def _is_open(self, trace: IntArray, position: IntArray, window: IntArray) -> BoolArray:
        if not self._end_us.size:
            return np.zeros(trace.shape, dtype=bool)
        is_open: BoolArray = (window >= self._first[trace]) & (position < self._end_us[window])
        return is_open

    def _wait_us(self, trace: IntArray, position: IntArray, window: IntArray) -> IntArray:
        """Microseconds from a closed position to the next window, "never" if the trace has none."""
        if not self._start_us.size:
            return np.full(trace.shape, _NEVER)
        following = np.maximum(window, self._first[trace] - 1) + 1
        is_wrapped = following >= self._stop[trace]
        start = self._start_us[np.where(is_wrapped, np.minimum(self._first[trace], self._start_us.size - 1), following)]
        wait = start + is_wrapped * self._period_us[trace] - position
        return np.where(self._open_total_us[trace] > 0, wait, _NEVER)

    def at_cells(self, cells: IntArray, now: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
        """As :meth:`at`, for cells."""
        trace, now_us, position, window = self._locate(cells, now)
        is_open = self._is_open(trace, position, window)
        wait = self._wait_us(trace, position, window)
        if self._until_us.size:
            wait = np.where(is_open, self._until_us[window] - position, wait)
        return is_open, _seconds(now_us + wait)

    def at(self, ids: IntArray, now: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
        """``(is_eligible, until)``: the answer at ``now`` and the instant at which it changes (inf: never).

        Windows are half-open: eligible at their start, no longer at their end.
        """
        return self.at_cells(self.fleet.cell_of(ids), now)

    def _open_before(self, trace: IntArray, position: IntArray, window: IntArray) -> IntArray:
        """Eligible microseconds of the trace before a position."""
        is_started = window >= self._first[trace]
        at_window = np.where(is_started, window, 0)
        inside = np.minimum(position, self._end_us[at_window]) - self._start_us[at_window]
        return np.where(is_started, self._open_before_us[at_window] + inside, 0)

    def finish_paused(self, cells: IntArray, start: npt.ArrayLike, work_s: npt.ArrayLike) -> FloatArray:
        """Instant at which work begun at ``start`` ends if it goes on in the next windows; NaN where there are none."""
        if not self._start_us.size:
            return np.full(len(cells), np.nan)
        trace, start_us, position, window = self._locate(cells, start)
        total = np.maximum(self._open_total_us[trace], 1)
        goal = self._open_before(trace, position, window) + to_us(work_s)
        wraps = (goal - 1) // total  # work that ends with the last window does not wrap
        rest = goal - wraps * total
        last = np.searchsorted(self._open_key, self._open_base_us[trace] + rest, side="left") - 1
        last = np.maximum(last, self._first[trace])
        end_position = self._start_us[np.minimum(last, self._start_us.size - 1)]
        end_position = end_position + rest - self._open_before_us[np.minimum(last, self._start_us.size - 1)]
        end_us = start_us - position + wraps * self._period_us[trace] + end_position
        end_us = np.where(to_us(work_s) == 0, start_us, end_us)
        return np.where(self._open_total_us[trace] > 0, end_us / US_PER_S, np.nan)

    def open_s(self, cells: IntArray, start: npt.ArrayLike, end: npt.ArrayLike) -> FloatArray:
        """Eligible seconds in [start, end) for each cell."""
        if not self._start_us.size:
            return np.zeros(len(cells))
        trace, start_us, position, window = self._locate(cells, start)
        before = self._open_before(trace, position, window)
        _, end_us, end_position, end_window = self._locate(cells, end)
        after = self._open_before(trace, end_position, end_window)
        n_wraps = (end_us - end_position - start_us + position) // self._period_us[trace]
        return (n_wraps * self._open_total_us[trace] + after - before) / US_PER_S

    def spells(self, cells: IntArray, start: FloatArray, end: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Starts and ends of all eligible spells within [start, end) of each cell, in no order."""
        starts, stops = [np.zeros(0)], [np.zeros(0)]
        while len(cells):
            is_open, until = self.at_cells(cells, start)
            starts.append(start[is_open])
            stops.append(np.minimum(until, end)[is_open])
            on = np.flatnonzero(until < end)
            cells, start, end = cells[on], until[on], end[on]
        return np.concatenate(starts), np.concatenate(stops)

    def watch(self) -> Watch:
        """A look at all cells that goes along with one run."""
        return Watch(self.at_cells, self.has_devices)

    @cached_property
    def has_devices(self) -> BoolArray:
        """Which cells hold devices."""
        return self.fleet.cell_weights() > 0

    @cached_property
    def curve(self) -> EligibleCurve:
        """The number of eligible devices over time; where all traces are as long it repeats, in a large fleet daily."""
        day_us, longest_us = DAY_S * US_PER_S, int(self._period_us.max())
        is_periodic = self.is_daily or bool((self._period_us == longest_us).all())
        repeats_us = day_us if self.is_daily else longest_us
        return EligibleCurve(
            self.at_cells,
            self.fleet.cell_weights(),
            n_devices=self.fleet.n_devices,
            stretch_us=repeats_us if is_periodic else min(day_us, longest_us),
            is_periodic=is_periodic,
        )

    @property
    def is_daily(self) -> bool:
        """Whether every day has the same eligible share: all day shifts of a trace are equally frequent."""
        return self.fleet.is_large and not self.fleet.is_replay

    @overload
    def eligible_fraction(self, at: float) -> float: ...

    @overload
    def eligible_fraction(self, at: FloatArray) -> FloatArray: ...

    def eligible_fraction(self, at: float | FloatArray) -> float | FloatArray:
        """Share of the fleet that is eligible (by :meth:`Fleet.cell_weights`); exactly 0 where nobody is."""
        share = self.curve.level(at) / (self.fleet.n_devices * float(self.curve.scale))
        return share if isinstance(at, np.ndarray) else float(share[0])

    def admitted_fraction(self, at: FloatArray, gates: Sequence[Gate]) -> FloatArray:
        """Expected share of the fleet that is eligible and passes all gates at each instant."""
        if not gates:
            return self.eligible_fraction(at)
        share = np.ones((len(at), 1))
        for gate in gates:
            share = share * np.array([np.atleast_1d(gate.share_by_trace(float(now))) for now in at])
        admitted: FloatArray = (self._open_by_trace(at) * share).sum(axis=1)
        return admitted

    def openings_per_device(self, edges: FloatArray) -> FloatArray:
        """Windows that open between these instants, per device of the fleet, ``float64[n - 1]``."""
        return openings_per_device(self.fleet, self._windows, edges)

    def _open_by_trace(self, at: FloatArray) -> FloatArray:
        """Share of the fleet that is eligible among the devices of each base trace, ``float64[instants, traces]``."""
        instants, place = np.unique(at % DAY_S if self.is_daily else at, return_inverse=True)
        weights, watch = self.fleet.cell_weights(), self.watch()
        by_trace = np.zeros((len(instants), self.fleet.traces.n))
        for row, now in zip(by_trace, instants.tolist(), strict=True):
            is_open, _ = watch.cells_at(now)
            row[:] = np.bincount(self.fleet.cell_trace[is_open], weights[is_open], minlength=len(row))
        return by_trace[place]

    def most_eligible(self, now: float) -> int:
        """A bound on the number of eligible devices: exact in a small fleet, six standard deviations up in a large."""
        expected = self.eligible_fraction(now) * self.fleet.n_devices
        return math.ceil(expected + 6.0 * math.sqrt(expected)) if self.fleet.is_large else round(expected)


class Track:
    """A channel of the fleet's traces (network, battery) at any instant."""

    def __init__(self, fleet: Fleet, levels: Levels) -> None:
        self.fleet = fleet
        self._period_us: IntArray = levels.period_ms * US_PER_MS
        self._at_us: IntArray = levels.at_ms * US_PER_MS
        self._value = levels.value
        self._stop: IntArray = levels.offsets[1:]
        trace = np.repeat(np.arange(len(levels.period_ms)), np.diff(levels.offsets))
        self._base_us: IntArray = np.concatenate([[0], np.cumsum(self._period_us + 1)])[:-1]
        self._key: IntArray = self._base_us[trace] + self._at_us

    def at_cells(self, cells: IntArray, now: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """``(value, until)``: the level (NaN unknown) and the instant of its next entry in the trace."""
        now_us = to_us(now)
        trace = self.fleet.cell_trace[cells]
        position = (now_us + self.fleet.cell_phase_us[cells]) % self._period_us[trace]
        entry = np.searchsorted(self._key, self._base_us[trace] + position, side="right") - 1
        is_last = entry + 1 >= self._stop[trace]
        following = np.where(is_last, self._period_us[trace], self._at_us[np.minimum(entry + 1, self._at_us.size - 1)])
        return self._value[entry], (now_us + following - position) / US_PER_S
