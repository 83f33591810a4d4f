"""How many devices of a fleet are eligible, as an exact step function of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.units import US_PER_S, BoolArray, FloatArray, IntArray, to_us

_WHOLE = 1 << 52  # levels are whole parts of a device, so that they add up exactly and 0 is nobody
_STRETCHES_KEPT = 8

AtCells = Callable[[IntArray, Any], tuple[BoolArray, FloatArray]]


@dataclass(frozen=True)
class _Stretch:
    """The level from each instant of a stretch on, counted from its begin; the first is 0."""

    at_us: IntArray
    level: IntArray


class EligibleCurve:
    """The number of eligible devices at any instant, a stretch worked out at a time and when it is asked for.

    ``at_cells(cells, now)`` tells which cells are open and until when, ``shares`` what share of the ``n_devices`` each
    holds. A device is ``scale`` units of the level. With ``is_periodic`` every stretch is like the first: the period of
    all traces, or a day, where all day shifts of a trace are equally frequent.
    """

    def __init__(
        self, at_cells: AtCells, shares: FloatArray, *, n_devices: int, stretch_us: int, is_periodic: bool
    ) -> None:
        self.scale = max(_WHOLE // n_devices, 1)
        self._units: IntArray = np.rint(shares * n_devices * float(self.scale)).astype(np.int64)
        self._at_cells, self._cells = at_cells, np.flatnonzero(self._units)
        self._stretch_us, self._is_periodic = stretch_us, is_periodic
        self._known: dict[int, _Stretch] = {}

    def level(self, at: npt.ArrayLike) -> IntArray:
        """Units of eligible devices at each instant (seconds)."""
        at_us = np.atleast_1d(to_us(at))
        stretches = at_us // self._stretch_us
        level = np.zeros(len(at_us), dtype=np.int64)
        for number in np.unique(stretches).tolist():
            some = stretches == number
            known = self._stretch(number)
            inside_us = at_us[some] - number * self._stretch_us
            level[some] = known.level[np.searchsorted(known.at_us, inside_us, side="right") - 1]
        return level

    def changes(self, start_us: int, stop_us: int) -> tuple[IntArray, IntArray]:
        """Instants (µs) and levels from each on: at ``start_us``, and at every change before ``stop_us``."""
        at_us, level = [np.array([start_us])], [self.level(start_us / US_PER_S)]
        for number in range(start_us // self._stretch_us, (stop_us - 1) // self._stretch_us + 1):
            known = self._stretch(number)
            instants = known.at_us + number * self._stretch_us
            inside = slice(*np.searchsorted(instants, [start_us + 1, stop_us]))
            at_us.append(instants[inside])
            level.append(known.level[inside])
        return np.concatenate(at_us), np.concatenate(level)

    def _stretch(self, number: int) -> _Stretch:
        number = 0 if self._is_periodic else number
        known = self._known.get(number)
        if known is None:
            known = self._walked(number * self._stretch_us)
            kept = list(self._known.items())[-_STRETCHES_KEPT:]
            # Replaced as a whole, so that another thread never sees it half changed.
            self._known = dict([*kept, (number, known)])
        return known

    def _walked(self, begin_us: int) -> _Stretch:
        """Walk all cells from change to change."""
        begin, end = begin_us / US_PER_S, (begin_us + self._stretch_us) / US_PER_S
        cells = self._cells
        is_open, until = self._at_cells(cells, np.full(len(cells), begin))
        total = int(self._units[cells[is_open]].sum())
        at_us, steps = [np.zeros(1, dtype=np.int64)], [np.array([total])]
        while True:
            going_on = np.flatnonzero(until < end)
            if not going_on.size:
                break
            cells, now, was_open = cells[going_on], until[going_on], is_open[going_on]
            is_open, until = self._at_cells(cells, now)
            at_us.append(to_us(now) - begin_us)
            steps.append((is_open.astype(np.int64) - was_open) * self._units[cells])
        return _summed(np.concatenate(at_us), np.concatenate(steps))


def _summed(at_us: IntArray, steps: IntArray) -> _Stretch:
    """The level after all steps of each instant."""
    instants, place = np.unique(at_us, return_inverse=True)
    change = np.zeros(len(instants), dtype=np.int64)
    np.add.at(change, place, steps)
    return _Stretch(instants, np.cumsum(change))
