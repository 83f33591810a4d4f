"""Sums and maxima per interval of what goes on in spells of time: whole numbers, the same however spells are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.errors import SimulationError
from fedsim.units import US_PER_S, IntArray

MILLI = 1000  # of a unit, in which speeds are summed
_MOST_MILLI_PER_S = 1e13  # no phone transfers faster; sums of a million such speeds fit 64 bits
_MOST_PIECES = 1 << 18  # of spells over many intervals that are cut at a time


@dataclass(frozen=True)
class Steps:
    """A whole number over time: ``level[k]`` from ``at_us[k]`` (ascending) until the next, the last ``until_us``.

    An instant that is there more than once has the same level each time.
    """

    at_us: IntArray
    level: IntArray
    until_us: int

    def levels_at(self, at_us: IntArray) -> IntArray:
        """The levels at instants in [at_us[0], until_us]."""
        return self.level[np.searchsorted(self.at_us, at_us, side="right") - 1]

    def between(self, start_us: int, stop_us: int) -> Steps:
        """The part over [start_us, stop_us)."""
        first, stop = np.searchsorted(self.at_us, (start_us, stop_us))
        later = slice(first + (first < stop and self.at_us[first] == start_us), stop)
        at_us = np.concatenate([[start_us], self.at_us[later]])
        return Steps(at_us, np.concatenate([self.levels_at(at_us[:1]), self.level[later]]), stop_us)

    def minus(self, other: Steps, factor: int) -> Steps:
        """This less ``factor`` times ``other``, over the same time."""
        at_us = np.sort(np.concatenate([self.at_us, other.at_us]))
        return Steps(at_us, self.levels_at(at_us) - factor * other.levels_at(at_us), self.until_us)

    def edges(self, interval_us: int) -> IntArray:
        """Where the intervals that this touches are cut: its start, their bounds in between, its end."""
        first, last = int(self.at_us[0]) // interval_us, (self.until_us - 1) // interval_us
        return np.concatenate([self.at_us[:1], np.arange(first + 1, last + 1) * interval_us, [self.until_us]])

    def integrals(self, edges: IntArray) -> IntArray:
        """Level × µs between neighbouring edges."""
        # The running total may wrap around in 64 bits; differences are right as long as they fit.
        total = np.concatenate([[0], np.cumsum(self.level[:-1] * np.diff(self.at_us))])
        place = np.searchsorted(self.at_us, edges, side="right") - 1
        return np.diff(total[place] + self.level[place] * (edges - self.at_us[place]))

    def maxima(self, edges: IntArray) -> IntArray:
        """Highest level between neighbouring edges, the one that held already at the first of them included."""
        bounds = np.empty(2 * len(edges) - 2, dtype=np.int64)
        bounds[::2] = np.searchsorted(self.at_us, edges[:-1], side="right") - 1
        bounds[1::2] = np.searchsorted(self.at_us, edges[1:])
        padded = np.append(self.level, self.level[-1])  # a bound may lie behind the last level
        return np.maximum.reduceat(padded, bounds)[::2]


class Spells:
    """Spells with an amount and a rate each, told in any order; summed up in order of time."""

    def __init__(self) -> None:
        self._told: list[IntArray] = []
        self._open = np.empty((4, 0), dtype=np.int64)  # start, stop, rate, amount of spells that are not over
        self._level, self._done_us = 0, 0

    @property
    def n_open(self) -> int:
        """Spells kept because they were not over when time last went on."""
        return self._open.shape[1]

    def add(self, start_us: IntArray, stop_us: IntArray, rate: IntArray | int = 1, amount: IntArray | int = 0) -> None:
        """Tell spells [start_us, stop_us); those told must not start before the instant up to which all is summed."""
        told = np.empty((4, len(start_us)), dtype=np.int64)
        told[0], told[1], told[2], told[3] = start_us, stop_us, rate, amount
        if len(start_us) and start_us.min() < self._done_us:
            raise SimulationError("a gauge was told of something that began before the instant it had reached")
        self._told.append(told)

    def go_on(self, until_us: int) -> tuple[Steps, IntArray]:
        """Sum of the rates from the instant reached so far until ``until_us`` > it, and the spells that are over.

        What ends and begins at one instant is netted. A spell that stops exactly at ``until_us`` is not over yet:
        another one may begin then.
        """
        spells = np.concatenate([self._open, *self._told], axis=1)
        start, stop, rate, _ = spells
        begins = np.flatnonzero((start >= self._done_us) & (start < until_us))
        is_over = stop < until_us
        over = spells.take(np.flatnonzero(is_over), axis=1)
        at_us = np.concatenate([start[begins], over[1]])
        order = _in_time(at_us, self._done_us, until_us)
        at_us = at_us[order]
        level = self._level + np.cumsum(np.concatenate([rate[begins], -over[2]])[order])
        is_last = np.append(at_us[1:] != at_us[:-1], True)[: len(at_us)]  # the level after all of one instant
        at_us, level = at_us[is_last], level[is_last]
        if not len(at_us) or at_us[0] > self._done_us:
            at_us, level = np.append(self._done_us, at_us), np.append(self._level, level)
        self._told, self._open = [], spells.take(np.flatnonzero(~is_over), axis=1)
        self._level, self._done_us = int(level[-1]), until_us
        return Steps(at_us, level, until_us), over

    def take_open(self) -> IntArray:
        """The spells that are not over, and forget them."""
        spells = np.concatenate([self._open, *self._told], axis=1)
        self._told, self._open = [], spells[:, :0]
        return spells


def _in_time(at_us: IntArray, start_us: int, until_us: int) -> IntArray:
    """The order of instants in [start_us, until_us)."""
    n_bits = len(at_us).bit_length()
    if (until_us - start_us).bit_length() + n_bits > 63:
        return np.argsort(at_us)
    # Instant and place in one number: numbers sort three times as fast as places by their numbers.
    return np.sort((at_us - start_us) << n_bits | np.arange(len(at_us))) & ((1 << n_bits) - 1)


class Intervals:
    """One whole number per interval; grows as time goes on."""

    def __init__(self, interval_us: int, empty: int = 0) -> None:
        self._interval_us, self._empty = interval_us, empty
        self._values = np.full(256, empty, dtype=np.int64)

    def part(self, first: int, stop: int) -> IntArray:
        """A view of the intervals first … stop − 1."""
        if stop > len(self._values):
            more = np.full(max(stop, 2 * len(self._values)) - len(self._values), self._empty, dtype=np.int64)
            self._values = np.concatenate([self._values, more])
        return self._values[first:stop]

    def from_edges(self, edges: IntArray) -> IntArray:
        """A view of the intervals between neighbouring edges (see :meth:`Steps.edges`)."""
        first = int(edges[0]) // self._interval_us
        return self.part(first, first + len(edges) - 1)

    def spread(self, start_us: IntArray, stop_us: IntArray, amount: IntArray, until_us: int) -> None:
        """Add amounts spread evenly over [start_us, stop_us), as far as they lie before ``until_us``.

        The part before a bound is rounded to a whole number, and an interval gets the difference between its bounds:
        the parts of a spell add up to all of it. An amount of one instant goes to its interval (at ``until_us``: the
        last).
        """
        first, last = start_us // self._interval_us, (np.minimum(stop_us, until_us) - 1) // self._interval_us
        is_whole = (last <= first) & (stop_us <= until_us)
        at = np.minimum(first[is_whole], (until_us - 1) // self._interval_us)
        np.add.at(self.part(0, int(at.max(initial=-1)) + 1), at, amount[is_whole])
        rest = np.flatnonzero(~is_whole & (start_us < until_us))
        block = np.cumsum(last[rest] - first[rest] + 1) // _MOST_PIECES
        for some in np.split(rest, np.flatnonzero(np.diff(block)) + 1):
            self._spread_pieces(start_us[some], stop_us[some], amount[some], until_us)

    def _spread_pieces(self, start_us: IntArray, stop_us: IntArray, amount: IntArray, until_us: int) -> None:
        end_us = np.minimum(stop_us, until_us)
        first = start_us // self._interval_us
        n = (end_us - 1) // self._interval_us - first + 1
        row = np.repeat(np.arange(len(n)), n)
        at = first[row] + np.arange(len(row)) - (np.cumsum(n) - n)[row]
        start, duration, whole = start_us[row], (stop_us - start_us)[row], amount[row]
        cut_from = np.maximum(at * self._interval_us, start)
        cut_to = np.minimum((at + 1) * self._interval_us, end_us[row])
        parts = np.rint((cut_to - start) / duration * whole) - np.rint((cut_from - start) / duration * whole)
        np.add.at(self.part(0, int(at.max(initial=-1)) + 1), at, parts.astype(np.int64))


class Counted:
    """How many spells go on: Σ µs and maximum per interval."""

    def __init__(self, interval_us: int) -> None:
        self.interval_us, self.spells = interval_us, Spells()
        self.sums, self.maxima = Intervals(interval_us), Intervals(interval_us)

    def go_on(self, until_us: int) -> Steps:
        """Sum up until an instant; how many there were until then."""
        steps, _ = self.spells.go_on(until_us)
        edges = steps.edges(self.interval_us)
        self.sums.from_edges(edges)[:] += steps.integrals(edges)
        highest = self.maxima.from_edges(edges)
        np.maximum(highest, steps.maxima(edges), out=highest)
        return steps


class Moved:
    """Amounts moved at an even speed during spells: Σ amount and highest speed (in thousandths) per interval.

    Simplification: in the maximum a single speed counts as 1e10 per second at most, and an amount moved in no time
    not at all.
    """

    def __init__(self, interval_us: int) -> None:
        self.interval_us, self.spells = interval_us, Spells()
        self.sums, self.maxima = Intervals(interval_us), Intervals(interval_us)

    def add(self, start_us: IntArray, stop_us: IntArray, amount: IntArray) -> None:
        """Tell amounts, each moved during [start_us, stop_us)."""
        some = np.flatnonzero(amount)
        start, stop, amount = start_us[some], stop_us[some], amount[some]
        speed = np.minimum(amount / np.maximum(stop - start, 1) * (MILLI * US_PER_S), _MOST_MILLI_PER_S)
        self.spells.add(start, stop, np.rint(speed).astype(np.int64), amount)

    def go_on(self, until_us: int) -> None:
        """Sum up until an instant."""
        steps, over = self.spells.go_on(until_us)
        edges = steps.edges(self.interval_us)
        highest = self.maxima.from_edges(edges)
        np.maximum(highest, steps.maxima(edges), out=highest)
        self._spread(over, until_us)

    def finish(self, end_us: int) -> None:
        """Cut what still goes on at the end, at which all has been summed up."""
        self._spread(self.spells.take_open(), end_us)

    def _spread(self, spells: IntArray, until_us: int) -> None:
        start, stop, _, amount = spells
        self.sums.spread(start, stop, amount, until_us)
