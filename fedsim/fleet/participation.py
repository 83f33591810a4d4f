"""What a run changes about a device: kept only for devices that were touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.units import FloatArray, IntArray

_EMPTY = np.int64(-1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S32 = np.uint64(32)
_FIRST_SIZE = 1 << 12
_AT_ONCE = 1 << 14
_AHEAD = np.arange(1, 9)

Column = npt.NDArray[Any]


class Participation:
    """Per device: sessions started and the end of the last one; where asked for, more.

    ``keeps_participations``: the instant of the last aggregated session. ``keeps_debt``: what its battery is owed.
    ``keeps_cache``: the model version it holds, and when it downloaded each of ``n_assets``.

    An open-addressing hash table of numpy columns, between 8/15 and 2/3 full: 20 bytes a device in its rows, 30 to 38
    in the table, below 64 while it grows, which it does column by column. All methods are vectorised over distinct
    device ids.
    """

    def __init__(
        self,
        n_assets: int = 0,
        *,
        keeps_participations: bool = False,
        keeps_debt: bool = False,
        keeps_cache: bool = False,
    ) -> None:
        self.keeps_participations, self.keeps_debt, self.keeps_cache = keeps_participations, keeps_debt, keeps_cache
        self._fresh: dict[str, Any] = {"n_sessions": np.int32(0), "free_at": -np.inf}
        if keeps_participations:
            self._fresh |= {"participated_at": -np.inf}
        if keeps_debt:
            self._fresh |= {"debt_percent": 0.0, "debt_at": -np.inf}
        if keeps_cache:
            self._fresh |= {"held_version": np.int32(-1), "assets_at": np.full(n_assets, -np.inf)}
        self._n_assets = n_assets
        self._keys: IntArray = np.full(_FIRST_SIZE, _EMPTY)
        self._columns = {name: self._column(name, _FIRST_SIZE) for name in self._fresh}
        self.n_touched = 0

    def _column(self, name: str, size: int) -> Column:
        fresh = np.asarray(self._fresh[name])
        return np.full((size, *fresh.shape), fresh, dtype=fresh.dtype)

    @property
    def n_bytes(self) -> int:
        """Memory of the table."""
        return self._keys.nbytes + sum(column.nbytes for column in self._columns.values())

    def _home(self, ids: IntArray) -> IntArray:
        hashed = ids.view(np.uint64) * _GOLDEN  # Fibonacci hashing (Knuth 1973, 6.4): the high bits are mixed
        hashed >>= _S32
        hashed *= np.uint64(self._keys.size)
        hashed >>= _S32
        return hashed.view(np.int64)

    def _find(self, ids: IntArray) -> IntArray:
        """Slot of each id: its own, or the empty one where its search ends."""
        slots = self._home(ids)
        found = self._keys[slots]
        moving = np.flatnonzero((found != ids) & (found != _EMPTY))
        while moving.size:  # a few are far from home: they look at several slots at once
            ahead = slots[moving, None] + _AHEAD
            ahead[ahead >= self._keys.size] -= self._keys.size
            found = self._keys[ahead]
            is_there = (found == ids[moving, None]) | (found == _EMPTY)
            place = is_there.argmax(axis=1)
            some = np.arange(moving.size)
            place[~is_there[some, place]] = _AHEAD.size - 1
            slots[moving] = ahead[some, place]
            moving = moving[~is_there[some, place]]
        return slots

    def _claim(self, ids: IntArray) -> IntArray:
        """Slot of each id, made if new."""
        if 3 * (self.n_touched + ids.size) > 2 * self._keys.size:
            self._grow(self.n_touched + ids.size)
        slots = self._find(ids)
        new = np.flatnonzero(self._keys[slots] == _EMPTY)
        self.n_touched += new.size
        while new.size:
            self._keys[slots[new]] = ids[new]  # two new ids may meet in one slot: the loser looks again
            new = new[self._keys[slots[new]] != ids[new]]
            slots[new] = self._find(ids[new])
        return slots

    def _grow(self, n: int) -> None:
        """Room for ``n`` devices; one column after the other and few devices at once, so that little is there twice."""
        old = np.flatnonzero(self._keys != _EMPTY).astype(np.uint32)
        ids, size = self._keys[old], self._keys.size
        self._keys = ids[:0]  # the old ones go before the new ones come
        self._keys = np.full(max(15 * n // 8, 5 * size // 4), _EMPTY)
        self.n_touched = 0
        slots = np.empty(len(old), dtype=np.uint32)
        for start in range(0, len(old), _AT_ONCE):
            slots[start : start + _AT_ONCE] = self._claim(ids[start : start + _AT_ONCE])
        del ids
        for name, column in self._columns.items():
            grown = self._column(name, self._keys.size)
            for start in range(0, len(old), _AT_ONCE):
                grown[slots[start : start + _AT_ONCE]] = column[old[start : start + _AT_ONCE]]
            self._columns[name] = grown

    def free_at(self, ids: IntArray) -> FloatArray:
        """The instant at which each device's last session ends or ended (−inf: it had none), ``float64[n]``."""
        ends: FloatArray = self._columns["free_at"][self._find(ids)]
        return ends

    def n_sessions(self, ids: IntArray) -> npt.NDArray[np.int32]:
        """How many sessions each device has begun."""
        n: npt.NDArray[np.int32] = self._columns["n_sessions"][self._find(ids)]
        return n

    def begin(self, ids: IntArray, end_at: FloatArray) -> None:
        """Book one more session for each device, until ``end_at``."""
        slots = self._claim(ids)
        self._columns["n_sessions"][slots] += 1
        self._columns["free_at"][slots] = end_at

    def end(self, ids: IntArray, end_at: FloatArray) -> None:
        """Book that the devices' present sessions end at ``end_at`` after all."""
        self._columns["free_at"][self._find(ids)] = end_at

    def aggregate(self, ids: IntArray, at: float) -> None:
        """Book that the devices' updates were aggregated at ``at`` (inf: will be, at an instant still open)."""
        if self.keeps_participations:
            self._columns["participated_at"][self._find(ids)] = at

    def participated_at(self, ids: IntArray) -> FloatArray:
        """When each device's update was aggregated last (−inf: never; inf: one waits to be), if that is kept."""
        instants: FloatArray = self._columns["participated_at"][self._find(ids)]
        return instants

    def debt(self, ids: IntArray) -> tuple[FloatArray, FloatArray]:
        """Battery debt in percent as last booked, and the instant it was booked for, if that is kept."""
        slots = self._find(ids)
        return self._columns["debt_percent"][slots], self._columns["debt_at"][slots]

    def owe(self, ids: IntArray, percent: FloatArray, at: FloatArray) -> None:
        """Book the devices' battery debt as of ``at``."""
        slots = self._find(ids)
        self._columns["debt_percent"][slots], self._columns["debt_at"][slots] = percent, at

    def held(self, ids: IntArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """Model version each device holds (−1: none), instants of the assets' downloads ``[n, assets]`` (−inf: never).

        Where caches are not kept nobody holds anything.
        """
        if not self.keeps_cache:
            return np.full(len(ids), -1, dtype=np.int32), np.full((len(ids), self._n_assets), -np.inf)
        slots = self._find(ids)
        return self._columns["held_version"][slots], self._columns["assets_at"][slots]

    def hold(self, ids: IntArray, version: int | IntArray, assets_at: FloatArray) -> None:
        """Book what the devices hold after a finished download."""
        slots = self._find(ids)
        self._columns["held_version"][slots], self._columns["assets_at"][slots] = version, assets_at
