"""Folds over spells of time: exact mean and maximum, per interval, of what goes on at once.

All is counted in whole numbers, so that it does not matter in which portions spells are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedsim.units import IntArray

Changes = Callable[[int, int], tuple[IntArray, IntArray]]


@dataclass(frozen=True)
class Spells:
    """Spells [start, stop) in µs; in each an ``amount`` is spread evenly, and ``rate`` goes on at once."""

    start_us: IntArray
    stop_us: IntArray
    amount: IntArray
    rate: IntArray

    def some(self, which: IntArray) -> Spells:
        """The spells at these places."""
        return Spells(self.start_us[which], self.stop_us[which], self.amount[which], self.rate[which])

    def cut(self, end_us: int) -> Spells:
        """What of the spells lies before an instant."""
        stop_us, lasts_us = np.minimum(self.stop_us, end_us), np.maximum(self.stop_us - self.start_us, 1)
        amount = _share(self.amount, np.maximum(stop_us - self.start_us, 0), lasts_us)
        cut = Spells(self.start_us, stop_us, np.where(self.stop_us <= end_us, self.amount, amount), self.rate)
        return cut.some(np.flatnonzero(self.start_us <= end_us))


def _share(amount: IntArray, part_us: IntArray, whole_us: IntArray) -> IntArray:
    return np.rint(amount * (part_us / whole_us)).astype(np.int64)


def joined(parts: list[Spells]) -> Spells:
    """All spells end to end."""
    columns = ("start_us", "stop_us", "amount", "rate")
    return Spells(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


NO_SPELLS = Spells(*np.zeros((4, 0), dtype=np.int64))


class Fold:
    """Sums of amounts and maxima of simultaneous rates, per interval of ``interval_us``.

    With ``of``, a level that changes by itself and of which ``unit`` is one rate, also the maxima of what it leaves.
    """

    def __init__(self, interval_us: int, *, of: Changes | None = None, unit: int = 1) -> None:
        self._interval_us, self._of, self._unit = interval_us, of, unit
        self._sums, self._maxima, self._left = (_Growing() for _ in range(3))
        self._open = NO_SPELLS  # not wholly in the past
        self._new: list[Spells] = []
        self._at_us, self._change = np.zeros((2, 0), dtype=np.int64)  # changes of the level that are to come
        self._since_us, self._level = 0, 0

    def add(self, spells: Spells) -> None:
        """Add spells; none may start before the last :meth:`advance`."""
        self._new.append(spells)

    def advance(self, until_us: int) -> None:
        """All spells that start before ``until_us`` have been added: fold what lies before."""
        new, self._new = joined([NO_SPELLS, *self._new]), []
        self._at_us = np.concatenate([self._at_us, new.start_us, new.stop_us])
        self._change = np.concatenate([self._change, new.rate, -new.rate])
        is_due = self._at_us < until_us
        if until_us > self._since_us:
            self._raise_maxima(self._at_us[is_due], self._change[is_due], until_us)
        self._at_us, self._change = self._at_us[~is_due], self._change[~is_due]
        self._open = joined([self._open, new])
        is_past = self._open.stop_us <= until_us
        self._spread(self._open.some(np.flatnonzero(is_past)))
        self._open = self._open.some(np.flatnonzero(~is_past))

    def finish(self, end_us: int) -> tuple[IntArray, IntArray, IntArray]:
        """Sums, maxima and maxima of what is left, of every interval up to the end; what lies behind it is cut off."""
        self.advance(end_us)
        self._spread(self._open.cut(end_us))
        n = max(1, -(-end_us // self._interval_us))
        sums = self._sums.up_to(max(n, self._sums.n))
        sums[n - 1] += sums[n:].sum()  # amounts of the very instant of the end
        return sums[:n], self._maxima.up_to(n)[:n], self._left.up_to(n)[:n]

    def _spread(self, spells: Spells) -> None:
        """Add the amounts to the intervals in proportion; parts are whole, and add up to the amount."""
        if not len(spells.start_us):
            return
        width = self._interval_us
        first = spells.start_us // width
        last = np.maximum((spells.stop_us - 1) // width, first)
        sums = self._sums.up_to(int(last.max()) + 1)
        within = first == last
        np.add.at(sums, first[within], spells.amount[within])
        across = np.flatnonzero(~within)
        if not across.size:
            return
        n_parts = (last - first + 1)[across]
        row = np.repeat(across, n_parts)
        part = np.arange(len(row)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts) + first[row]
        start, lasts_us, amount = spells.start_us[row], (spells.stop_us - spells.start_us)[row], spells.amount[row]
        before = _share(amount, np.maximum(part * width - start, 0), lasts_us)
        after = _share(amount, np.minimum((part + 1) * width - start, lasts_us), lasts_us)
        np.add.at(sums, part, after - before)

    def _raise_maxima(self, at_us: IntArray, change: IntArray, until_us: int) -> None:
        """Raise maxima to the levels that hold from each instant to the next, the one carried here among them."""
        order = np.argsort(at_us)
        at_us = np.concatenate([[self._since_us], at_us[order]])
        level = self._level + np.concatenate([[0], np.cumsum(change[order])])
        is_last = np.append(at_us[1:] != at_us[:-1], True)  # of the changes of one instant
        instants, level = at_us[is_last], level[is_last]
        _raise(self._maxima, self._interval_us, instants, level, until_us)
        if self._of is not None:
            left = _less(*self._of(self._since_us, until_us), instants, level * self._unit)
            _raise(self._left, self._interval_us, *left, until_us)
        self._level, self._since_us = int(level[-1]), until_us


class _Growing:
    """Numbers by interval, as many as were asked for."""

    def __init__(self) -> None:
        self._values = np.zeros(0, dtype=np.int64)
        self.n = 0

    def up_to(self, n: int) -> IntArray:
        """The first ``n``, to be written to."""
        if len(self._values) < n:
            more = np.zeros(max(n, 2 * len(self._values)) - len(self._values), dtype=np.int64)
            self._values = np.concatenate([self._values, more])
        self.n = max(self.n, n)
        return self._values[:n]


def _raise(maxima: _Growing, width_us: int, instants: IntArray, level: IntArray, until_us: int) -> None:
    """Raise the maxima of all intervals in which a level holds, from its instant to the next one."""
    first = instants // width_us
    last = (np.append(instants[1:], until_us) - 1) // width_us
    values = maxima.up_to(int(last[-1]) + 1)
    np.maximum.at(values, first, level)
    across = np.flatnonzero(last > first)
    n = (last - first)[across]
    row = np.repeat(across, n)
    np.maximum.at(values, first[row] + 1 + np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n), level[row])


def _less(at_us: IntArray, level: IntArray, less_at_us: IntArray, less: IntArray) -> tuple[IntArray, IntArray]:
    """One step function less another, both from the same first instant on."""
    instants = np.union1d(at_us, less_at_us)
    one = level[np.searchsorted(at_us, instants, side="right") - 1]
    other = less[np.searchsorted(less_at_us, instants, side="right") - 1]
    return instants, one - other
