"""Uniform selection: every free eligible device is as likely as any other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedsim import rng
from fedsim.device.session import Sessions
from fedsim.errors import InputError
from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.ranges import DurationS, Seed
from fedsim.server.selector.selection import NOBODY, Selection
from fedsim.units import FloatArray, IntArray


class UniformSelector:
    """Uniform over the eligible, free devices, by rejection sampling without replacement.

    Candidates come from a walk over a keyed permutation of all ids, drawn ahead in blocks and judged
    at the instant of the call; when the walk ends, another permutation begins. A small fleet is
    searched wholly in each call, a large one costs O(n ÷ eligible share): the search gives up after
    ``PATIENCE`` times the ids it expects to need, and the caller tries again later.
    """

    PATIENCE = 32

    def __init__(self, *, seed: Seed, min_separation_s: DurationS) -> None:
        if min_separation_s < 0:
            raise InputError("server.selector.min_separation_s must not be negative", value=min_separation_s)
        self.seed, self.min_separation_s = seed, min_separation_s

    def start(self, fleet: Fleet) -> UniformSearch:
        """The search at the start of a run."""
        return UniformSearch(_Walk(fleet, self.seed), self.min_separation_s)


class UniformSearch:
    """One run's walk over the fleet."""

    def __init__(self, walk: _Walk, min_separation_s: float) -> None:
        self._walk, self._min_separation_s = walk, min_separation_s

    def observe(self, rows: Sessions, losses: FloatArray) -> None:
        """Nothing to learn: all devices are alike."""

    def select(
        self,
        availability: Availability,
        participation: Participation,
        *,
        now: float,
        n: int,
        gates: Sequence[Gate] = (),
    ) -> Selection:
        """Up to ``n`` devices that all gates admit, in random order."""
        is_open, _ = availability.cells_at(now)
        share = availability.eligible_fraction(now) * math.prod(gate.share(now) for gate in gates)
        budget = self._walk.whole() if share > 0 else 0
        if share > 0:
            budget = min(budget, int(UniformSelector.PATIENCE * (_needed(n, share) + 1024)))
        parts: list[Selection] = []
        n_found = 0
        while n_found < n and budget > 0:
            wanted = min(int(_needed(n - n_found, share)), budget)
            ids, cells = self._walk.take(wanted)
            budget -= max(len(ids), 1)
            kept = np.flatnonzero(is_open[cells])
            kept = kept[participation.is_free(ids[kept], now, min_separation_s=self._min_separation_s)]
            for gate in gates:
                kept = kept[gate.admits(ids[kept], cells[kept], now)]
            if parts:  # a walk that began anew may meet a device a second time
                kept = kept[~np.isin(ids[kept], np.concatenate([part.ids for part in parts]))]
            kept = kept[: n - n_found]
            parts.append(Selection(ids[kept], cells[kept]))
            n_found += kept.size
        if len(parts) == 1:
            return parts[0]
        return _joined(parts) if parts else NOBODY


def _joined(parts: list[Selection]) -> Selection:
    return Selection(np.concatenate([part.ids for part in parts]), np.concatenate([part.cells for part in parts]))


def _needed(n: int, share: float) -> float:
    """Candidates among which ``n`` eligible ones are found as a rule (two standard deviations)."""
    return (n + 2.0 * math.sqrt(n)) / share + 16


class _Walk:
    """Candidates in the order of successive permutations of the fleet, with their cells."""

    BLOCK = 1 << 13

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.seed = fleet, seed
        self._n_begun = 0
        self._begin()

    def _begin(self) -> None:
        key = rng.bits(self.seed, "select", [self._n_begun])[0]
        self._permutation = rng.Permutation(self.fleet.n_devices, key)
        self._n_begun += 1
        self._next_counter = 0
        self._drawn, self._cells = NOBODY.ids, NOBODY.cells

    def whole(self) -> int:
        """Candidates after which every device has been met: the rest of this permutation and the next."""
        rest = self._permutation.n_counters - self._next_counter
        return len(self._drawn) + rest + self._permutation.n_counters

    def take(self, n: int) -> tuple[IntArray, IntArray]:
        """Up to ``n`` candidates and their cells; fewer where a permutation ends."""
        if not self._drawn.size:
            self._draw(max(n, self.BLOCK))
        ids, cells = self._drawn[:n], self._cells[:n]
        self._drawn, self._cells = self._drawn[n:], self._cells[n:]
        return ids, cells

    def _draw(self, n: int) -> None:
        if self._next_counter >= self._permutation.n_counters:
            self._begin()
        stop = min(self._next_counter + n, self._permutation.n_counters)
        self._drawn = self._permutation.ids(self._next_counter, stop)
        self._cells = self.fleet.cell_of(self._drawn)
        self._next_counter = stop
