"""What a run changes about a device: kept only for devices that were touched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedsim.units import BoolArray, FloatArray, IntArray

_EMPTY = np.int64(-1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _row_type(n_assets: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("n_sessions", np.int32),
            ("busy_until", np.float64),
            ("participated_at", np.float64),
            ("debt_percent", np.float32),  # battery our work took and charging had not restored at debt_at
            ("debt_at", np.float64),
            ("held_version", np.int32),  # model version in the device's cache, −1: none
            ("assets_at", np.float64, (n_assets,)),  # instants at which its assets were downloaded last
        ]
    )


class Participation:
    """Per device: sessions started, end of the last one, instant of the last aggregated one, battery debt, cache.

    An open-addressing hash table of numpy columns (88 to 352 bytes a touched device, 16 to 64 more for each of
    ``n_assets``); all methods are vectorised over distinct device ids.
    """

    def __init__(self, n_assets: int = 0) -> None:
        never = (-np.inf,) * n_assets
        self._fresh = np.array((0, -np.inf, -np.inf, 0.0, -np.inf, -1, never), dtype=_row_type(n_assets))
        self._keys = np.full(1 << 12, _EMPTY)
        self._rows = np.full(1 << 12, self._fresh)
        self.n_touched = 0

    def _home(self, ids: IntArray) -> IntArray:
        hashed = ids.view(np.uint64) * _GOLDEN  # Fibonacci hashing (Knuth 1973, 6.4): the high bits are mixed
        return (hashed >> np.uint64(65 - self._keys.size.bit_length())).view(np.int64)

    def _find(self, ids: IntArray) -> IntArray:
        """Slot of each id: its own, or the empty one where its search ends."""
        slots = self._home(ids)
        found = self._keys[slots]
        moving = np.flatnonzero((found != ids) & (found != _EMPTY))
        while moving.size:
            slots[moving] = (slots[moving] + 1) & (self._keys.size - 1)
            found = self._keys[slots[moving]]
            moving = moving[(found != ids[moving]) & (found != _EMPTY)]
        return slots

    def _claim(self, ids: IntArray) -> IntArray:
        """Slot of each id, made if new."""
        if 2 * (self.n_touched + ids.size) > self._keys.size:
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
        old_keys, old_rows = self._keys, self._rows
        size = 1 << int(4 * n - 1).bit_length()
        self._keys, self._rows, self.n_touched = np.full(size, _EMPTY), np.full(size, self._fresh), 0
        kept = np.flatnonzero(old_keys != _EMPTY)
        self._rows[self._claim(old_keys[kept])] = old_rows[kept]

    def is_free(self, ids: IntArray, now: float, *, min_separation_s: float) -> BoolArray:
        """Not in a session, and not aggregated within the last ``min_separation_s`` seconds."""
        rows = self._rows[self._find(ids)]
        is_free: BoolArray = rows["busy_until"] <= now
        if min_separation_s:
            is_free &= rows["participated_at"] <= now - min_separation_s
        return is_free

    def begin(self, ids: IntArray) -> tuple[npt.NDArray[np.int32], IntArray]:
        """Book one more session for each device: how many it started before, and slots for :meth:`hold`."""
        slots = self._claim(ids)
        before: npt.NDArray[np.int32] = self._rows["n_sessions"][slots]
        self._rows["n_sessions"][slots] = before + 1
        return before, slots

    def hold(self, slots: IntArray, end_at: FloatArray) -> None:
        """Book that the sessions just begun last until ``end_at``; slots are stale after the next ``begin``."""
        self._rows["busy_until"][slots] = end_at

    def end(self, ids: IntArray, end_at: FloatArray) -> None:
        """Book that the devices' present sessions end at ``end_at`` after all."""
        self._rows["busy_until"][self._find(ids)] = end_at

    def aggregate(self, ids: IntArray, at: float) -> None:
        """Book that the devices' updates were aggregated at ``at`` (inf: will be, at an instant still open)."""
        self._rows["participated_at"][self._find(ids)] = at

    def debt(self, ids: IntArray) -> tuple[FloatArray, FloatArray]:
        """Battery debt in percent as last booked, and the instant it was booked for."""
        rows = self._rows[self._find(ids)]
        return rows["debt_percent"].astype(np.float64), rows["debt_at"].copy()

    def owe(self, ids: IntArray, percent: FloatArray, at: FloatArray) -> None:
        """Book the devices' battery debt as of ``at``."""
        slots = self._find(ids)
        self._rows["debt_percent"][slots], self._rows["debt_at"][slots] = percent, at

    def cache(self, slots: IntArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """By slot: model version held (−1: none), instants of the assets' downloads ``[n, assets]`` (−inf: never)."""
        return self._rows["held_version"][slots], self._rows["assets_at"][slots]

    def fill_cache(self, slots: IntArray, version: int, assets_at: FloatArray) -> None:
        """Book what the devices hold after a finished download."""
        self._rows["held_version"][slots], self._rows["assets_at"][slots] = version, assets_at
