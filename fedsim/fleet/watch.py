"""A fleet's cells watched along a run: what changes between two looks is looked up alone."""

from __future__ import annotations

import numpy as np

from fedsim.fleet.curve import AtCells
from fedsim.units import US_PER_S, BoolArray, FloatArray, to_us


class Watch:
    """Who is eligible at the present instant of a run, cell by cell; each run has its own.

    ``at_cells(cells, now)`` tells which cells are open and until when, ``has_devices`` which hold any.
    """

    def __init__(self, at_cells: AtCells, has_devices: BoolArray) -> None:
        self._at_cells, self._has_devices = at_cells, has_devices
        self._cells = np.arange(len(has_devices))
        self._now = -np.inf
        self._next_change = -np.inf

    def cells_at(self, now: float) -> tuple[BoolArray, FloatArray]:
        """``(is_eligible, until)`` of every cell; only cells that changed since the last call are looked up.

        The result is the same whatever was asked before; the arrays are shared, not to be written to.
        """
        now = float(to_us(now)) / US_PER_S
        if np.isinf(self._now) or now < self._now:
            self._is_open, self._until = self._at_cells(self._cells, now)
            self._next_change = float(self._until.min())
        elif now >= self._next_change:
            due = np.flatnonzero(self._until <= now)
            self._is_open[due], self._until[due] = self._at_cells(due, now)
            self._next_change = float(self._until.min())
        self._now = now
        return self._is_open, self._until

    def earliest_start(self, now: float) -> float:
        """The next instant at which a device that is not eligible now becomes so (inf: never)."""
        is_open, until = self.cells_at(now)
        starts = until[~is_open & self._has_devices]
        return float(starts.min()) if starts.size else float("inf")

    def next_change(self, now: float) -> float:
        """The next instant at which any cell's eligibility changes (inf: never)."""
        self.cells_at(now)
        return self._next_change
