"""What a run changes about a device: kept only for devices that were touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.units import FloatArray, IntArray

_NOBODY = 0  # the row of whoever was not touched
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BITS, _FIRST_ROWS, _AT_ONCE = 12, 1 << 10, 1 << 14

Column = npt.NDArray[Any]


class Participation:
    """Per device: sessions started and the end of the last one; where asked for, more.

    ``keeps_participations``: the instant of the last aggregated session. ``keeps_debt``: what its battery is owed.
    ``keeps_cache``: the model version it holds, and when it downloaded each of ``n_assets``.

    Rows lie in numpy columns in the order in which devices were touched, 20 bytes each and up to a quarter in reserve;
    an open-addressing table of row numbers, a fifth to two fifths full, finds them. That is 30 to 45 bytes a device,
    and below 64 while it grows, which it does column by column. All methods are vectorised over distinct device ids.
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
        self._index = np.full(1 << _FIRST_BITS, _NOBODY, dtype=np.int32)  # row numbers by hash
        self._ids: IntArray = np.full(_FIRST_ROWS, -1)
        self._columns = {name: self._column(name, _FIRST_ROWS) for name in self._fresh}
        self.n_touched = 0  # their rows follow the one of nobody

    def _column(self, name: str, size: int) -> Column:
        fresh = np.asarray(self._fresh[name])
        return np.full((size, *fresh.shape), fresh, dtype=fresh.dtype)

    @property
    def n_bytes(self) -> int:
        """Memory of the table."""
        return self._index.nbytes + self._ids.nbytes + sum(column.nbytes for column in self._columns.values())

    def _home(self, ids: IntArray) -> IntArray:
        hashed = ids.view(np.uint64) * _GOLDEN  # Fibonacci hashing (Knuth 1973, 6.4): the high bits are mixed
        hashed >>= np.uint64(65 - self._index.size.bit_length())
        return hashed.view(np.int64)

    def _find(self, ids: IntArray) -> tuple[npt.NDArray[np.int32], IntArray]:
        """Row of each id (that of nobody, if it was not touched), and the slot where its search ended."""
        slots = self._home(ids)
        rows = self._index.take(slots)
        moving = np.flatnonzero((rows != _NOBODY) & (self._ids.take(rows) != ids))
        while moving.size:
            following = (slots[moving] + 1) & (self._index.size - 1)
            slots[moving] = following
            found = self._index[following]
            rows[moving] = found
            moving = moving[(found != _NOBODY) & (self._ids[found] != ids[moving])]
        return rows, slots

    def _rows(self, ids: IntArray) -> npt.NDArray[np.int32]:
        return self._find(ids)[0]

    def _claim(self, ids: IntArray) -> npt.NDArray[np.int32]:
        """Row of each id, made if new."""
        n = self.n_touched + len(ids)
        if n >= len(self._ids):
            self._grow(n + 1)
        if 5 * n > 2 * len(self._index):
            self._index_anew(n)
        rows, slots = self._find(ids)
        new = np.flatnonzero(rows == _NOBODY)
        if new.size:
            rows[new] = np.arange(self.n_touched + 1, self.n_touched + 1 + new.size)
            self._ids[rows[new]] = ids[new]
            self.n_touched += new.size
            self._enter(ids[new], rows[new], slots[new])
        return rows

    def _enter(self, ids: IntArray, rows: npt.NDArray[np.int32], slots: IntArray) -> None:
        """Enter rows in the index, at free slots where the searches for their ids ended."""
        while len(ids):
            self._index[slots] = rows  # two may meet in one slot: the loser looks again
            lost = np.flatnonzero(self._index[slots] != rows)
            ids, rows = ids[lost], rows[lost]
            slots = self._find(ids)[1]

    def _index_anew(self, n: int) -> None:
        size = len(self._index)
        while 5 * n > 2 * size:
            size *= 2
        self._index = self._index[:0]  # the old one goes before the new one comes
        self._index = np.full(size, _NOBODY, dtype=np.int32)
        for start in range(1, self.n_touched + 1, _AT_ONCE):
            ids = self._ids[start : min(start + _AT_ONCE, self.n_touched + 1)]
            rows = np.arange(start, start + len(ids), dtype=np.int32)
            self._enter(ids, rows, self._find(ids)[1])

    def _grow(self, n: int) -> None:
        """Rows for ``n`` devices; one column after the other, so that only one is there twice."""
        more = max(n, 5 * len(self._ids) // 4) - len(self._ids)
        self._ids = np.concatenate([self._ids, np.full(more, -1)])
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate([column, self._column(name, more)])

    def free_at(self, ids: IntArray) -> FloatArray:
        """The instant at which each device's last session ends or ended (−inf: it had none), ``float64[n]``."""
        ends: FloatArray = self._columns["free_at"].take(self._rows(ids))
        return ends

    def n_sessions(self, ids: IntArray) -> npt.NDArray[np.int32]:
        """How many sessions each device has begun."""
        n: npt.NDArray[np.int32] = self._columns["n_sessions"].take(self._rows(ids))
        return n

    def begin(self, ids: IntArray, end_at: FloatArray) -> None:
        """Book one more session for each device, until ``end_at``."""
        rows = self._claim(ids)
        self._columns["n_sessions"][rows] += 1
        self._columns["free_at"][rows] = end_at

    def end(self, ids: IntArray, end_at: FloatArray) -> None:
        """Book that the devices' present sessions end at ``end_at`` after all."""
        self._columns["free_at"][self._rows(ids)] = end_at

    def aggregate(self, ids: IntArray, at: float) -> None:
        """Book that the devices' updates were aggregated at ``at`` (inf: will be, at an instant still open)."""
        if self.keeps_participations:
            self._columns["participated_at"][self._rows(ids)] = at

    def participated_at(self, ids: IntArray) -> FloatArray:
        """When each device's update was aggregated last (−inf: never; inf: one waits to be), if that is kept."""
        instants: FloatArray = self._columns["participated_at"][self._rows(ids)]
        return instants

    def debt(self, ids: IntArray) -> tuple[FloatArray, FloatArray]:
        """Battery debt in percent as last booked, and the instant it was booked for, if that is kept."""
        rows = self._rows(ids)
        return self._columns["debt_percent"][rows], self._columns["debt_at"][rows]

    def owe(self, ids: IntArray, percent: FloatArray, at: FloatArray) -> None:
        """Book the devices' battery debt as of ``at``."""
        rows = self._rows(ids)
        self._columns["debt_percent"][rows], self._columns["debt_at"][rows] = percent, at

    def held(self, ids: IntArray) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """Model version each device holds (−1: none), instants of the assets' downloads ``[n, assets]`` (−inf: never).

        Where caches are not kept nobody holds anything.
        """
        if not self.keeps_cache:
            return np.full(len(ids), -1, dtype=np.int32), np.full((len(ids), self._n_assets), -np.inf)
        rows = self._rows(ids)
        return self._columns["held_version"][rows], self._columns["assets_at"][rows]

    def hold(self, ids: IntArray, version: int | IntArray, assets_at: FloatArray) -> None:
        """Book what the devices hold after a finished download."""
        rows = self._rows(ids)
        self._columns["held_version"][rows], self._columns["assets_at"][rows] = version, assets_at
