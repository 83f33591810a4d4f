"""How many devices of a fleet are eligible, as an exact step function of time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim.units import DAY_S, US_PER_S, FloatArray, IntArray, to_us

SCALE = 1_000_000  # levels are whole millionths of a device, so that they add up exactly and 0 is nobody
_DAY_US = DAY_S * US_PER_S
_DAYS_KEPT = 8

AtCells = Callable[[IntArray, FloatArray], tuple[npt.NDArray[np.bool_], FloatArray]]


@dataclass(frozen=True)
class _Day:
    """The level from each instant of a day on; the first instant is 0."""

    at_us: IntArray
    level: IntArray


class EligibleCurve:
    """The number of eligible devices at any instant, a day worked out at a time and when it is asked for.

    ``at_cells(cells, now)`` tells which cells are open and until when, ``devices`` how many devices each holds, in
    millionths. With ``is_periodic`` every day is like the first: all day shifts of a trace are equally frequent.
    """

    def __init__(self, at_cells: AtCells, devices: IntArray, *, is_periodic: bool) -> None:
        self._at_cells, self._cells = at_cells, np.flatnonzero(devices)
        self._devices, self._is_periodic = devices, is_periodic
        self._days: OrderedDict[int, _Day] = OrderedDict()

    def level(self, at: npt.ArrayLike) -> IntArray:
        """Millionths of eligible devices at each instant (seconds)."""
        at_us = np.atleast_1d(to_us(at))
        days = at_us // _DAY_US
        level = np.zeros(len(at_us), dtype=np.int64)
        for day in np.unique(days).tolist():
            some = days == day
            known = self._day(day)
            level[some] = known.level[np.searchsorted(known.at_us, at_us[some] - day * _DAY_US, side="right") - 1]
        return level

    def changes(self, start_us: int, stop_us: int) -> tuple[IntArray, IntArray]:
        """Instants (µs) and levels from each on: at ``start_us``, and at every change before ``stop_us``."""
        at_us, level = [np.array([start_us])], [self.level(start_us / US_PER_S)]
        for day in range(start_us // _DAY_US, (stop_us - 1) // _DAY_US + 1):
            known = self._day(day)
            instants = known.at_us + day * _DAY_US
            inside = slice(*np.searchsorted(instants, [start_us + 1, stop_us]))
            at_us.append(instants[inside])
            level.append(known.level[inside])
        return np.concatenate(at_us), np.concatenate(level)

    def _day(self, day: int) -> _Day:
        day = 0 if self._is_periodic else day
        known = self._days.get(day)
        if known is None:
            known = self._walked(day)
            days = self._days.copy()  # replaced as a whole, so that another thread never sees it half changed
            days[day] = known
            while len(days) > _DAYS_KEPT:
                days.popitem(last=False)
            self._days = days
        return known

    def _walked(self, day: int) -> _Day:
        """Walk all cells from change to change through a day."""
        begin, end = float(day * DAY_S), float((day + 1) * DAY_S)
        cells = self._cells
        is_open, until = self._at_cells(cells, np.full(len(cells), begin))
        total = int(self._devices[cells[is_open]].sum())
        at_us, steps = [np.zeros(1, dtype=np.int64)], [np.array([total])]
        while True:
            going_on = np.flatnonzero(until < end)
            if not going_on.size:
                break
            cells, now, was_open = cells[going_on], until[going_on], is_open[going_on]
            is_open, until = self._at_cells(cells, now)
            at_us.append(to_us(now) - day * _DAY_US)
            steps.append((is_open.astype(np.int64) - was_open) * self._devices[cells])
        return _summed(np.concatenate(at_us), np.concatenate(steps))


def _summed(at_us: IntArray, steps: IntArray) -> _Day:
    """The level after all steps of each instant."""
    instants, place = np.unique(at_us, return_inverse=True)
    change = np.zeros(len(instants), dtype=np.int64)
    np.add.at(change, place, steps)
    return _Day(instants, np.cumsum(change))


def devices_of(shares: FloatArray, n_devices: int) -> IntArray:
    """Devices of each cell in whole millionths: counted ones exactly, expected ones rounded."""
    devices: IntArray = np.rint(shares * (n_devices * float(SCALE))).astype(np.int64)
    return devices
