"""Which eligible devices are assigned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim import rng
from fedsim.fleet.availability import Availability
from fedsim.fleet.participation import Participation
from fedsim.units import IntArray


@dataclass(frozen=True)
class Selection:
    """Devices found (distinct, eligible, free) and their cells."""

    ids: IntArray
    cells: IntArray


NOBODY = Selection(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Selector(Protocol):
    """A policy that picks up to ``n`` free eligible devices."""

    def select(self, availability: Availability, participation: Participation, *, now: float, n: int) -> Selection:
        """Up to ``n`` devices; fewer if the bounded search finds no more."""
        ...


class UniformSelector:
    """Uniform over the eligible, free devices, by rejection sampling without replacement.

    Each call walks a fresh keyed permutation of the ids, so a small fleet is searched exactly and a
    large one costs O(n ÷ eligible share). The walk gives up after ``PATIENCE`` times the ids it
    expects to need; the caller tries again later.
    """

    PATIENCE = 32

    def __init__(self, *, seed: int, min_separation_s: float) -> None:
        self.seed, self.min_separation_s = seed, min_separation_s
        self._n_calls = 0

    def select(self, availability: Availability, participation: Participation, *, now: float, n: int) -> Selection:
        """Up to ``n`` devices, in random order."""
        fleet = availability.fleet
        is_open, _ = availability.cells_at(now)
        share = availability.eligible_fraction(now)
        walk = rng.Permutation(fleet.n_devices, rng.bits(self.seed, "select", [self._n_calls])[0])
        self._n_calls += 1
        found: list[tuple[IntArray, IntArray]] = []
        n_found, position = 0, 0
        stop = min(walk.n_counters, self._patience(n, share, walk)) if share > 0 else 0
        while n_found < n and position < stop:
            batch = self._batch(n - n_found, share, walk)
            ids = walk.ids(position, min(position + batch, stop))
            position += batch
            cells = fleet.cell_of(ids)
            open_rows = np.flatnonzero(is_open[cells])
            ids, cells = ids[open_rows], cells[open_rows]
            free = np.flatnonzero(participation.is_free(ids, now, min_separation_s=self.min_separation_s))
            free = free[: n - n_found]
            found.append((ids[free], cells[free]))
            n_found += free.size
        if not found:
            return NOBODY
        return Selection(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def _batch(self, n: int, share: float, walk: rng.Permutation) -> int:
        per_id = walk.n_counters / walk.n
        return int(per_id * (n + 2.0 * n**0.5) / share) + 32

    def _patience(self, n: int, share: float, walk: rng.Permutation) -> int:
        return self.PATIENCE * (self._batch(n, share, walk) + 1024)
