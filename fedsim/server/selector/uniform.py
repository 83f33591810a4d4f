"""Uniform selection: every free eligible device is as likely as any other, whoever was asked before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedsim import rng
from fedsim.device.session import Sessions
from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.ranges import DurationS, Seed
from fedsim.server.selector.selection import Scene, Selection, nobody
from fedsim.units import BoolArray, FloatArray, IntArray, on_clock

_MORE = 1024  # candidates that a search expects to need besides


class UniformSelector:
    """Uniform over the eligible, free, admitted devices, independently of all selections before.

    Candidates are ids drawn independently, with replacement, and judged one after the other: who is not eligible,
    busy or met before is passed over. After ``PATIENCE`` times the candidates it expects to need a search gives up.
    A small fleet is then looked through wholly and the rest drawn from who is left, so that whoever is there is found.

    A device is free ``min_between_sessions_s`` after its last session ended, whatever its outcome, and
    ``min_between_participations_s`` after its last update was aggregated. While an update waits to be aggregated,
    its device is not free if the latter is asked for.
    """

    PATIENCE = 32

    def __init__(
        self, *, seed: Seed, min_between_sessions_s: DurationS, min_between_participations_s: DurationS
    ) -> None:
        for name, value in (
            ("min_between_sessions_s", min_between_sessions_s),
            ("min_between_participations_s", min_between_participations_s),
        ):
            if not value >= 0:
                raise InputError(f"server.selector.{name} must not be negative", value=value)
        self.seed = seed
        self.min_between_sessions_s = min_between_sessions_s
        self.min_between_participations_s = min_between_participations_s

    @property
    def keeps_participations(self) -> bool:
        """Whether a search asks when devices were aggregated last."""
        return self.min_between_participations_s > 0

    def start(self, scene: Scene) -> UniformSearch:
        """The search at the start of a run."""
        return UniformSearch(self, scene)


@dataclass(frozen=True)
class _Ticks:
    """The distinct instants of a question: where each begins, and after how many candidates it gives up.

    ``share`` of the fleet is eligible and admitted at the first of them.
    """

    first: IntArray
    budget: IntArray
    share: float

    @property
    def n_at_first(self) -> int:
        """Devices wanted at the first instant."""
        return int(self.first[1])

    def of(self, slots: IntArray) -> IntArray:
        """Which instant each of the devices wanted belongs to."""
        ticks: IntArray = np.searchsorted(self.first, slots, side="right") - 1
        return ticks


class UniformSearch:
    """One run's walk along the candidates."""

    def __init__(self, rules: UniformSelector, scene: Scene) -> None:
        self._rules, self._scene = rules, scene
        self._candidates = _Candidates(scene.fleet, rules.seed)
        n_devices = scene.fleet.n_devices
        self._most = 2**40 if scene.fleet.is_large else max(n_devices, 16)  # candidates that a search looks at
        self._least_budget = min(UniformSelector.PATIENCE * (16 + _MORE), self._most)  # whatever is asked for
        # How far to look at once, which changes no result: candidates a device took lately, what share could be taken.
        self._n_per_device, self._share = 1.0, 1.0

    def observe(self, rows: Sessions, losses: FloatArray) -> None:
        """Nothing to learn: all devices are alike."""

    def find(self, at: FloatArray) -> Selection:
        """One device for each instant, as far as it is certain, in random order."""
        n = math.ceil(_needed(len(at), 1.0 / self._n_per_device))
        if n <= self._least_budget:
            ids, trace_days = self._candidates.ahead(n)
            places, cells = self._accepted(ids, trace_days, at)
            if len(places) == len(at):
                return self._selection(ids[places], cells, at, places + 1)
        return self._found(at, n)

    def _found(self, at: FloatArray, n: int) -> Selection:
        """As :meth:`find` where the search may have to give up; at first ``n`` candidates are looked at."""
        ticks = self._ticks(at)
        most = int(ticks.budget[0])
        if not most:
            return nobody()
        n = math.ceil(n * min(self._share / ticks.share, 2.0))  # the fewer are eligible, the farther
        self._share = ticks.share
        n = min(n, max(most, 4 * len(at)))
        while True:
            ids, trace_days = self._candidates.ahead(n)
            places, cells = self._accepted(ids, trace_days, at)
            places = _within(places, ticks)
            if len(places) >= ticks.n_at_first or n >= most:
                break
            n = min(2 * n, most)  # where few are free, twice as far each time
        selection = self._selection(ids[places], cells[: len(places)], at, places + 1)
        if len(places) >= ticks.n_at_first:
            return selection
        return self._completed(selection, at[: ticks.n_at_first], most)

    def take(self, selection: Selection, n: int) -> None:
        """The first ``n`` of what was found last are assigned: later searches go on behind them."""
        is_all = n == len(selection)
        n_walked = selection.n_walked_in_all if is_all else int(selection.n_walked[n - 1]) if n else 0
        if n:
            self._n_per_device = 0.5 * self._n_per_device + 0.5 * n_walked / n
        self._candidates.pass_over(n_walked)

    def _ticks(self, at: FloatArray) -> _Ticks:
        starts = np.flatnonzero(at[1:] != at[:-1]) + 1
        first = np.concatenate([[0], starts, [len(at)]])
        instants, n = at[first[:-1]], np.diff(first)
        share = self._scene.availability.eligible_fraction(instants)
        for gate in self._scene.gates:
            share = share * gate.share(instants)
        needed = _needed(n, np.maximum(share, 1e-12))
        budget = np.where(share > 0, UniformSelector.PATIENCE * (needed + _MORE), 0.0)
        return _Ticks(first, np.minimum(budget, self._most).astype(np.int64), float(share[0]))

    def _accepted(self, ids: IntArray, trace_days: IntArray, at: FloatArray) -> tuple[IntArray, IntArray]:
        """Places and cells of the candidates that are taken: each judged at the instant of the device it would be.

        That instant follows from how many were taken before; so it is guessed and judged again until nothing changes.
        What is settled up to a candidate stays settled, so this ends, and in two or three passes as a rule.
        """
        is_open, until = self._scene.watch.cells_at(float(at[0]))
        is_possible = is_open if at[-1] == at[0] else is_open | (until <= at[-1])
        possible, cells = self._on(is_possible, ids, trace_days)
        judge = _Judge(self._rules, self._scene, ids.take(possible), cells, is_open, until)
        slot = np.minimum(np.arange(len(possible)), len(at) - 1)
        while True:
            taken = judge.taken(at[slot])
            before = np.zeros(len(possible), dtype=np.int64)
            before[1:] = np.cumsum(taken[:-1])
            np.minimum(before, len(at) - 1, out=before)
            if at[-1] == at[0] or (before == slot).all():
                break
            slot = before
        kept = np.flatnonzero(taken)[: len(at)]
        doubtful = judge.in_doubt(at[slot], float(at[0]))
        if doubtful.size:
            n = int(slot[doubtful[0]])
            kept = kept[: int(np.searchsorted(at, at[n], side="left")) if n < len(at) else n]
        return possible[kept], cells[kept]

    def _on(self, is_possible: BoolArray, ids: IntArray, trace_days: IntArray) -> tuple[IntArray, IntArray]:
        """Places and cells of the candidates on possible cells; the cells of few others are worked out."""
        fleet, at_once = self._scene.fleet, _Candidates.AT_ONCE
        is_some = fleet.trace_days_with(is_possible)
        parts = [(start, trace_days[start : start + at_once]) for start in range(0, len(ids), at_once)]
        some = np.concatenate([start + np.flatnonzero(is_some.take(part)) for start, part in parts])
        cells = fleet.cell_on(trace_days.take(some), ids.take(some))
        possible = np.flatnonzero(is_possible.take(cells))
        return some.take(possible), cells.take(possible)

    def _selection(self, ids: IntArray, cells: IntArray, at: FloatArray, n_walked: IntArray) -> Selection:
        at = at[: len(ids)]
        _, until = self._scene.watch.cells_at(float(at[0])) if len(ids) else (None, np.zeros(0))
        leaves_at = until[cells]
        passed = np.flatnonzero(leaves_at <= at)  # the window in which it is taken opened after the first instant
        if passed.size:
            leaves_at[passed] = self._scene.availability.at_cells(cells[passed], at[passed])[1]
        return Selection(ids, cells, at, leaves_at, n_walked, int(n_walked[-1]) if len(ids) else 0)

    def _completed(self, found: Selection, at: FloatArray, n_walked: int) -> Selection:
        """The search has come to its end: of a small fleet, the rest is drawn from all that are left."""
        if self._scene.fleet.is_large:
            return Selection(found.ids, found.cells, found.at, found.until, found.n_walked, n_walked)
        now = float(at[0])
        is_open, until = self._scene.watch.cells_at(now)
        ids = np.flatnonzero(is_open[self._candidates.all_cells])
        cells = self._candidates.all_cells[ids]
        left = _Judge(self._rules, self._scene, ids, cells, is_open, until).taken(np.full(len(ids), now))
        left &= ~np.isin(ids, found.ids)
        ids, cells = ids[left], cells[left]
        lot = rng.bits(self._rules.seed, "select/rest", ids, np.full(len(ids), self._candidates.n_passed))
        drawn = np.argsort(lot, kind="stable")[: len(at) - len(found)]
        ids, cells = np.concatenate([found.ids, ids[drawn]]), np.concatenate([found.cells, cells[drawn]])
        walked = np.concatenate([found.n_walked, np.full(len(drawn), n_walked)])
        return Selection(ids, cells, at[: len(ids)], until[cells], walked, n_walked)


class _Judge:
    """Whether candidates can be taken, each at its own instant. ``is_open`` and ``until`` are of all cells."""

    def __init__(
        self,
        rules: UniformSelector,
        scene: Scene,
        ids: IntArray,
        cells: IntArray,
        is_open: BoolArray,
        until: FloatArray,
    ) -> None:
        self._scene, self._ids, self._cells = scene, ids, cells
        self._is_open, self._until = is_open.take(cells), until.take(cells)
        self._ended_at = scene.participation.free_at(ids)
        self._ready_at = self._ended_at
        if rules.min_between_sessions_s:
            self._ready_at = on_clock(self._ended_at + rules.min_between_sessions_s)
        self._participated_at = None
        if rules.keeps_participations:
            self._participated_at = scene.participation.participated_at(ids)
            again_at = on_clock(self._participated_at + rules.min_between_participations_s)
            self._ready_at = np.maximum(self._ready_at, again_at)

    def taken(self, at: FloatArray) -> BoolArray:
        """Which candidates are eligible, free, admitted and met for the first time."""
        is_taken = self._is_open.copy()
        changed = np.flatnonzero(self._until <= at)
        if changed.size:
            is_taken[changed] = self._scene.availability.at_cells(self._cells[changed], at[changed])[0]
        is_taken &= self._ready_at <= at
        for gate in self._scene.gates:
            some = np.flatnonzero(is_taken)
            is_taken[some] = gate.admits(self._ids[some], self._cells[some], at[some])
        kept = np.flatnonzero(is_taken)
        in_order = np.sort(self._ids[kept])
        if (in_order[1:] == in_order[:-1]).any():
            is_taken[kept] = False
            is_taken[kept[np.unique(self._ids[kept], return_index=True)[1]]] = True
        return is_taken

    def in_doubt(self, at: FloatArray, first_at: float) -> IntArray:
        """Candidates met after the first instant of whom it is not known then when their update will be aggregated."""
        if self._participated_at is None:
            return np.zeros(0, dtype=np.int64)
        is_open = (self._ended_at > first_at) | np.isinf(self._participated_at) & (self._participated_at > 0)
        return np.flatnonzero(is_open & (at > first_at) & (self._ended_at <= at))


def _within(places: IntArray, ticks: _Ticks) -> IntArray:
    """Of the places taken, those whose instants did not give up before; of instants after the first, whole ones."""
    tick = ticks.of(np.arange(len(places)))
    last = ticks.first[tick] - 1  # the last device of the instant before
    begun_at = np.where(last >= 0, places[last] + 1, 0)
    too_far = np.flatnonzero(places + 1 - begun_at > ticks.budget[tick])
    n = int(too_far[0]) if too_far.size else len(places)
    if n >= ticks.n_at_first:
        n = int(ticks.first[np.searchsorted(ticks.first, n, side="right") - 1])
    return places[:n]


def _needed(n: int | IntArray, share: float | FloatArray) -> FloatArray:
    """Candidates among which ``n`` that can be taken are found as a rule (two standard deviations)."""
    needed: FloatArray = (n + 2.0 * np.sqrt(n)) / share + 16
    return needed


class _Candidates:
    """Ids drawn independently and uniformly from the fleet, with their traces' days, drawn ahead in blocks."""

    BLOCK, AT_ONCE = 1 << 13, 1 << 15  # drawn at least; at most at a time, so that what is worked on stays in the cache

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet, self._seed = fleet, seed
        self.n_passed = 0
        self._ids, self._trace_days = np.zeros((2, 0), dtype=np.int64)  # those from n_passed on
        self._all_cells: IntArray | None = None

    @property
    def all_cells(self) -> IntArray:
        """The cell of every device of a small fleet."""
        if self._all_cells is None:
            self._all_cells = self._fleet.cell_of(np.arange(self._fleet.n_devices))
        return self._all_cells

    def ahead(self, n: int) -> tuple[IntArray, IntArray]:
        """The next ``n`` candidates and the days of their traces; they stay where they are."""
        lacking = n - len(self._ids)
        if lacking > 0:
            self._draw(max(lacking, self.BLOCK))
        return self._ids[:n], self._trace_days[:n]

    def _draw(self, n: int) -> None:
        begin = self.n_passed + len(self._ids)
        ids, trace_days = [self._ids], [self._trace_days]
        for start in range(begin, begin + n, self.AT_ONCE):
            numbers = np.arange(start, min(start + self.AT_ONCE, begin + n))
            ids.append(rng.integers(self._seed, "select", numbers, self._fleet.n_devices))
            trace_days.append(self._fleet.trace_day_of(ids[-1]))
        self._ids, self._trace_days = np.concatenate(ids), np.concatenate(trace_days)

    def pass_over(self, n: int) -> None:
        """Go on behind the next ``n`` candidates."""
        self.n_passed += n
        self._ids, self._trace_days = self._ids[n:], self._trace_days[n:]
