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

    With ``of`` a level that changes by itself, the maximum is of that level less the rates.
    """

    def __init__(self, interval_us: int, *, of: Changes | None = None) -> None:
        self._interval_us, self._of = interval_us, of
        self._sums, self._maxima = np.zeros((2, 0), dtype=np.int64)
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
        self._raise_maxima(self._at_us[is_due], self._change[is_due], until_us)
        self._at_us, self._change = self._at_us[~is_due], self._change[~is_due]
        self._open = joined([self._open, new])
        is_past = self._open.stop_us <= until_us
        self._spread(self._open.some(np.flatnonzero(is_past)))
        self._open = self._open.some(np.flatnonzero(~is_past))

    def finish(self, end_us: int) -> tuple[IntArray, IntArray]:
        """Sums and maxima of every interval up to the end; what lies behind it is cut off."""
        self.advance(end_us)
        self._spread(self._open.cut(end_us))
        n = max(1, -(-end_us // self._interval_us))
        sums, maxima = self._reaching(n)
        if len(sums) > n:  # amounts of the very instant of the end
            sums[n - 1] += sums[n:].sum()
        return sums[:n], maxima[:n]

    def _reaching(self, n: int) -> tuple[IntArray, IntArray]:
        if len(self._sums) < n:
            more = np.zeros(max(n, 2 * len(self._sums)) - len(self._sums), dtype=np.int64)
            self._sums, self._maxima = np.concatenate([self._sums, more]), np.concatenate([self._maxima, more])
        return self._sums, self._maxima

    def _spread(self, spells: Spells) -> None:
        """Add the amounts to the intervals in proportion; parts are whole, and add up to the amount."""
        if not len(spells.start_us):
            return
        width = self._interval_us
        first = spells.start_us // width
        last = np.maximum((spells.stop_us - 1) // width, first)
        sums, _ = self._reaching(int(last.max()) + 1)
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
        if until_us <= self._since_us:
            return
        instants, place = np.unique(np.append(at_us, self._since_us), return_inverse=True)
        steps = np.zeros(len(instants), dtype=np.int64)
        np.add.at(steps, place[:-1], change)
        level = self._level + np.cumsum(steps)
        self._level = int(level[-1])
        if self._of is not None:
            instants, level = _less(*self._of(self._since_us, until_us), instants, level)
        first = instants // self._interval_us
        last = (np.append(instants[1:], until_us) - 1) // self._interval_us
        _, maxima = self._reaching(int(last[-1]) + 1)
        n = last - first + 1
        row = np.repeat(np.arange(len(instants)), n)
        part = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n) + first[row]
        np.maximum.at(maxima, part, level[row])
        self._since_us = until_us


def _less(at_us: IntArray, level: IntArray, less_at_us: IntArray, less: IntArray) -> tuple[IntArray, IntArray]:
    """One step function less another, both from the same first instant on."""
    instants = np.union1d(at_us, less_at_us)
    one = level[np.searchsorted(at_us, instants, side="right") - 1]
    other = less[np.searchsorted(less_at_us, instants, side="right") - 1]
    return instants, one - other
