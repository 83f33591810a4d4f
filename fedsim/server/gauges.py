"""What a run looked like over time: exact means and maxima per interval, folded from its sessions.

Nothing is sampled, so nothing between two samples is missed, and the same sessions give the same
numbers however they are told: in any order, in strides or tick by tick.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fedsim.device.session import Sessions
from fedsim.errors import InputError, SimulationError
from fedsim.server.folds import MILLI, Counted, Intervals, Moved, Steps
from fedsim.units import DAY_S, US_PER_S, FloatArray, IntArray, to_us

Changes = Callable[[int, int], tuple[IntArray, IntArray]]  # (start_us, stop_us) → instants (µs), levels from each on

_PER_BATCH = 1 << 15  # sessions, at least, that are summed up together
_CURVE_US = DAY_S * US_PER_S  # the eligible level is asked for in parts of at most so long
_LIMB_BITS = 20  # level × µs needs more than 64 bits: it is summed in three parts
_LONGEST_US = 1 << (63 - _LIMB_BITS)  # 101 days, beyond which the parts would not fit
_NEVER = 2.0**42  # s: 139,000 years, after every run's end
_INSTANTS = ("assigned_at", "download_end_at", "train_end_at", "upload_end_at", "end_at")


class Gauges:
    """Means and maxima per interval of ``interval_s``, for the table GAUGES.

    ``changes(start_us, stop_us)`` is how many devices are expected to be eligible: instants (whole microseconds,
    ascending, the first is ``start_us``) and the level from each on, ``scale`` being one device. Under
    ``outlives_windows`` a session may go on while its device is not eligible, and :meth:`sessions` is told when it was.

    Memory grows with what is in flight and with the number of intervals, not with the number of sessions.
    """

    def __init__(
        self, interval_s: float, *, changes: Changes, scale: int, n_devices: int, outlives_windows: bool = False
    ) -> None:
        self._interval_us = int(to_us(interval_s))
        if not 0 < self._interval_us < _LONGEST_US:
            raise InputError("gauge_interval_s is outside its range", value=interval_s, allowed="1 µs … 100 days")
        self._changes, self._scale, self._n_devices = changes, scale, n_devices
        self._flying, self._waiting = Counted(self._interval_us), Counted(self._interval_us)
        self._present = Counted(self._interval_us) if outlives_windows else self._flying
        self._down, self._up = Moved(self._interval_us), Moved(self._interval_us)
        self._free_maxima = Intervals(self._interval_us, empty=np.iinfo(np.int64).min)
        self._eligible = [Intervals(self._interval_us) for _ in range(3)]
        self._told: list[tuple[FloatArray, IntArray, IntArray]] = []
        self._waits: list[FloatArray] = []
        self._n_told, self._until, self._done_us = 0, 0.0, 0

    def sessions(
        self,
        rows: Sessions,
        down_bytes: IntArray,
        up_bytes: IntArray,
        *,
        present: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> None:
        """Tell sessions whose end is decided, and the bytes they moved until it.

        Args:
            rows: dtype SESSION; phases may be planned to end after ``end_at``.
            down_bytes: ``int64[n]`` received.
            up_bytes: ``int64[n]`` sent.
            present: starts and ends, in seconds, of the spells (any number) of these sessions in which their devices
                were eligible; wanted under ``outlives_windows``, not otherwise.
        """
        if (present is not None) != (self._present is not self._flying):
            raise SimulationError("the gauges want eligible spells if sessions outlive their windows, and only then")
        self._told.append((np.array([rows[name] for name in _INSTANTS]), np.array(down_bytes), np.array(up_bytes)))
        self._n_told += len(rows)
        if present is not None:
            start_us, stop_us = map(to_us, present)
            self._present.spells.add(start_us, stop_us)

    def waits(self, arrived_at: FloatArray, started_at: FloatArray) -> None:
        """Tell reports that waited from their arrival until a worker took them (inf: not before the run's end)."""
        self._waits.append(np.array([arrived_at, started_at]))
        self._n_told += len(arrived_at)

    def advance(self, until: float) -> None:
        """Note that everything that starts before ``until``, which is not after the run's end, has been told."""
        self._until = max(self._until, until)
        n_open = self._flying.spells.n_open + self._waiting.spells.n_open
        if self._n_told >= max(_PER_BATCH, n_open):  # what is open is gone through each time
            self._go_on(int(to_us(self._until)))

    def table(self, end_at: float, closed_at: npt.ArrayLike) -> dict[str, npt.NDArray[np.generic]]:
        """The columns of GAUGES for a run that ended at ``end_at``: one row per interval that began before.

        ``closed_at``: ascending instants at which versions 1, 2 … came to be. Everything is told; asked for once.

        Raises:
            SimulationError: :meth:`advance` went beyond the end.
        """
        end_us = int(to_us(end_at))
        if to_us(self._until) > end_us:
            raise SimulationError("the gauges were told that time went on beyond the run's end")
        self._go_on(end_us)
        n = -(-end_us // self._interval_us)
        if n:
            self._down.finish(end_us)
            self._up.finish(end_us)
        at_us = np.arange(n) * self._interval_us
        until_us = np.minimum(at_us + self._interval_us, end_us)
        length_us = (until_us - at_us).astype(object)  # Python's whole numbers: no overflow, one rounding
        low, middle, high = (limb.part(0, n).astype(object) for limb in self._eligible)
        eligible = low + (middle << _LIMB_BITS) + (high << 2 * _LIMB_BITS)
        free = eligible - self._present.sums.part(0, n).astype(object) * self._scale

        def mean(total: npt.NDArray[np.generic], per: int = 1) -> FloatArray:
            return np.asarray(total.astype(object) / (length_us * per), dtype=np.float64)

        def bytes_per_s(moved: Moved) -> tuple[FloatArray, FloatArray]:
            per_s = mean(moved.sums.part(0, n).astype(object) * US_PER_S)
            return per_s, moved.maxima.part(0, n) / MILLI

        down_mean, down_max = bytes_per_s(self._down)
        up_mean, up_max = bytes_per_s(self._up)
        return {
            "at": at_us / US_PER_S,
            "until": until_us / US_PER_S,
            "eligible_fraction_mean": mean(eligible, self._scale * self._n_devices),
            "in_flight_mean": mean(self._flying.sums.part(0, n)),
            "in_flight_max": self._flying.maxima.part(0, n).copy(),
            "waiting_mean": mean(self._waiting.sums.part(0, n)),
            "waiting_max": self._waiting.maxima.part(0, n).copy(),
            "download_bytes_per_s_mean": down_mean,
            "download_bytes_per_s_max": down_max,
            "upload_bytes_per_s_mean": up_mean,
            "upload_bytes_per_s_max": up_max,
            "free_eligible_mean": mean(free, self._scale),
            "free_eligible_max": self._free_maxima.part(0, n) / self._scale,
            "version": np.searchsorted(to_us(closed_at), at_us, side="right"),
        }

    def _go_on(self, until_us: int) -> None:
        """Sum up what has been told, until an instant."""
        self._sort_told()
        self._n_told = 0
        if until_us <= self._done_us:
            return
        busy = self._flying.go_on(until_us)
        if self._present is not self._flying:
            busy = self._present.go_on(until_us)
        self._waiting.go_on(until_us)
        self._down.go_on(until_us)
        self._up.go_on(until_us)
        for start_us in range(self._done_us, until_us, _CURVE_US):
            self._compare(busy.between(start_us, min(start_us + _CURVE_US, until_us)))
        self._done_us = until_us

    def _sort_told(self) -> None:
        """Tell each gauge its part of the sessions, and who waited."""
        if self._waits:
            waits, self._waits = np.concatenate(self._waits, axis=1), []
            waits = np.minimum(waits[:, waits[1] > waits[0]], _NEVER)
            self._waiting.spells.add(*to_us(waits))
        if not self._told:
            return
        instants, down_bytes, up_bytes = (np.concatenate(part, axis=-1) for part in zip(*self._told, strict=True))
        self._told = []
        start, down_end, train_end, up_end, end = to_us(np.minimum(instants, instants[-1]))
        self._flying.spells.add(start, end)
        self._down.add(start, down_end, down_bytes)
        self._up.add(train_end, up_end, up_bytes)

    def _compare(self, busy: Steps) -> None:
        """Sum up the eligible devices, and those of them that are not ``busy``."""
        at_us, level = self._changes(int(busy.at_us[0]), busy.until_us)
        eligible = Steps(at_us, level, busy.until_us)
        edges = eligible.edges(self._interval_us)
        highest = self._free_maxima.from_edges(edges)
        np.maximum(highest, eligible.minus(busy, self._scale).maxima(edges), out=highest)
        for i, limb in enumerate(self._eligible):
            part = Steps(at_us, level >> (i * _LIMB_BITS) & ((1 << _LIMB_BITS) - 1), busy.until_us)
            limb.from_edges(edges)[:] += part.integrals(edges)
