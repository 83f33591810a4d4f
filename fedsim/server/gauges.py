"""The gauges of a run: what went on at once, folded from its sessions interval by interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsim.device.session import Sessions
from fedsim.fleet.availability import Availability
from fedsim.server.folds import Fold, Spells
from fedsim.units import US_PER_S, FloatArray, IntArray, to_us

_MILLI = 1000  # traffic is counted in whole thousandths of a byte per second


class Gauges:
    """Exact mean and maximum, per interval, of devices in flight, free eligible devices, waiting reports and traffic.

    A session's bytes are spread evenly over its download, from assignment on, and over its upload. Simplification: of a
    session that the end of the run cuts off, they go on at the rate of the whole leg.
    """

    def __init__(self, interval_s: float, availability: Availability, *, stays_eligible: bool) -> None:
        """``stays_eligible``: a device in a session is eligible all the time, since leaving ends it."""
        self._interval_us, self._availability = int(to_us(interval_s)), availability
        self._stays_eligible, self._scale = stays_eligible, availability.curve.scale
        self._waiting, self._out, self._in = (Fold(self._interval_us) for _ in range(3))
        eligible = Fold(self._interval_us, of=availability.curve.changes, unit=self._scale)  # and who of them is busy
        self._busy, self._in_flight = eligible, eligible if stays_eligible else Fold(self._interval_us)

    def sessions(self, rows: Sessions, down_bytes: IntArray, up_bytes: IntArray) -> None:
        """Add sessions that are certain to go as their rows say."""
        begin, end = to_us(rows["assigned_at"]), to_us(rows["end_at"])
        self._in_flight.add(_counted(begin, end))
        if not self._stays_eligible:
            self._busy.add(_counted(*_eligible_spells(rows, self._availability)))
        self._out.add(_traffic(begin, np.minimum(_finite_us(rows["download_end_at"]), end), down_bytes))
        sent = np.flatnonzero(up_bytes > 0)
        some = rows[sent]
        up_end = np.minimum(_finite_us(some["upload_end_at"]), end[sent])
        self._in.add(_traffic(to_us(some["train_end_at"]), up_end, up_bytes[sent]))

    def waits(self, arrived_at: FloatArray, started_at: FloatArray) -> None:
        """Add reports that wait for a worker from when they arrive until they are taken."""
        waiting = np.flatnonzero(started_at > arrived_at)
        if waiting.size:
            self._waiting.add(_counted(to_us(arrived_at[waiting]), to_us(started_at[waiting])))

    def advance(self, now: float) -> None:
        """Everything that began before ``now`` has been added."""
        for fold in {self._busy, self._in_flight, self._waiting, self._out, self._in}:
            fold.advance(int(to_us(now)))

    def table(self, end_at: float, stepped_at: FloatArray) -> list[dict[str, Any]]:
        """The rows of a run that ended at ``end_at`` and made versions at these instants."""
        end_us = int(to_us(end_at))
        edges = np.minimum(np.arange(max(1, -(-end_us // self._interval_us)) + 1) * self._interval_us, end_us)
        at, seconds = edges[:-1] / US_PER_S, np.diff(edges) / US_PER_S
        busy, in_flight_max, free_max = self._busy.finish(end_us)
        in_flight = busy
        if not self._stays_eligible:
            in_flight, in_flight_max, _ = self._in_flight.finish(end_us)
        waiting, waiting_max, _ = self._waiting.finish(end_us)
        out, out_max, _ = self._out.finish(end_us)
        into, into_max, _ = self._in.finish(end_us)
        eligible = self._eligible(edges)
        columns = {
            "at": at,
            "until": edges[1:] / US_PER_S,
            "eligible_fraction_mean": eligible / self._availability.fleet.n_devices,
            "in_flight_mean": in_flight / US_PER_S / seconds,
            "in_flight_max": in_flight_max,
            "free_eligible_mean": eligible - busy / US_PER_S / seconds,
            "free_eligible_max": free_max / self._scale,
            "waiting_mean": waiting / US_PER_S / seconds,
            "waiting_max": waiting_max,
            "download_bytes_per_s_mean": out / seconds,
            "download_bytes_per_s_max": out_max / _MILLI,
            "upload_bytes_per_s_mean": into / seconds,
            "upload_bytes_per_s_max": into_max / _MILLI,
            "version": np.searchsorted(stepped_at, at, side="right"),
        }
        names, lists = list(columns), [column.tolist() for column in columns.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]

    def _eligible(self, edges: IntArray) -> FloatArray:
        """Mean number of eligible devices between edges (µs)."""
        means = np.zeros(len(edges) - 1)
        for i, (start, stop) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
            at_us, level = self._availability.curve.changes(start, stop)
            lasts_us = np.diff(np.append(at_us, stop))
            means[i] = float(level @ (lasts_us / (stop - start))) / self._scale
        return means


def _finite_us(at: FloatArray) -> IntArray:
    """Microseconds of instants; of those that never come a far one."""
    return to_us(np.minimum(at, 1e12))


def _counted(start_us: IntArray, stop_us: IntArray) -> Spells:
    """Spells that count as one, the amount being the microseconds."""
    return Spells(start_us, stop_us, stop_us - start_us, np.ones(len(start_us), dtype=np.int64))


def _traffic(start_us: IntArray, stop_us: IntArray, n_bytes: IntArray) -> Spells:
    lasts_us = stop_us - start_us
    rate = np.rint(n_bytes * (_MILLI * float(US_PER_S)) / np.maximum(lasts_us, 1)).astype(np.int64)
    return Spells(start_us, stop_us, n_bytes, np.where(lasts_us > 0, rate, 0))


def _eligible_spells(rows: Sessions, availability: Availability) -> tuple[IntArray, IntArray]:
    """Spells of sessions in which their device is eligible, window after window."""
    cells, start, end, until = rows["cell"], rows["assigned_at"], rows["end_at"], rows["leaves_at"]
    starts, stops = [], []
    while len(cells):
        starts.append(start)
        stops.append(np.minimum(until, end))
        on = np.flatnonzero(until < end)
        cells, end, closes_at = cells[on], end[on], until[on]
        _, start = availability.at_cells(cells, closes_at)
        on = np.flatnonzero(start < end)
        cells, end, start = cells[on], end[on], start[on]
        _, until = availability.at_cells(cells, start)
    return to_us(np.concatenate([np.zeros(0), *starts])), to_us(np.concatenate([np.zeros(0), *stops]))
