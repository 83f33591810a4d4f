"""Buffered asynchronous aggregation (FedBuff, Nguyen et al. 2022); a buffer of 1 is FedAsync."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import simpy

from fedsim.device.session import REPORTS, SESSION, STALE, Sessions, joined
from fedsim.errors import InputError
from fedsim.ranges import Count, IntervalS, VersionCount
from fedsim.server.aggregator import Aggregator, Weighting, example_weights
from fedsim.server.job import Job
from fedsim.server.protocol.coordinator import Process, wait
from fedsim.units import FloatArray

StalenessWeight = Literal["inverse_sqrt", "constant"]
Divisor = Literal["buffer_size", "weight_sum"]

_EMPTY = np.zeros(0, dtype=SESSION)


class BufferedCoordinator:
    """Keeps ``concurrency`` devices in flight; every ``buffer_size`` accepted updates make a step.

    Devices are assigned on a tick of ``assignment_interval_s``. Reports take effect at their own
    instants, between ticks too; they are worked through at the next tick, which changes nothing
    because a version is downloaded only at ticks. An update whose staleness (server version when
    it is ingested − version downloaded) exceeds ``max_staleness`` is refused as STALE.
    """

    name = "buffered"

    def __init__(
        self,
        *,
        aggregator: Aggregator,
        concurrency: Count,
        buffer_size: Count,
        max_staleness: VersionCount,
        staleness_weight: StalenessWeight,
        divisor: Divisor,
        assignment_interval_s: IntervalS,
        weighting: Weighting,
    ) -> None:
        for name, value in (("concurrency", concurrency), ("buffer_size", buffer_size)):
            if value < 1:
                raise InputError(f"server.{name} must be at least 1", value=value)
        if max_staleness < 0:
            raise InputError("server.max_staleness must not be negative", value=max_staleness)
        if staleness_weight not in ("inverse_sqrt", "constant"):
            raise InputError("server.staleness_weight", value=staleness_weight, allowed="inverse_sqrt, constant")
        if divisor not in ("buffer_size", "weight_sum"):
            raise InputError("server.divisor is unknown", value=divisor, allowed="buffer_size, weight_sum")
        if assignment_interval_s <= 0:
            raise InputError("server.assignment_interval_s must be positive", value=assignment_interval_s)
        self.aggregator, self.weighting = aggregator, weighting
        self.concurrency, self.buffer_size, self.max_staleness = concurrency, buffer_size, max_staleness
        self.staleness_weight, self.divisor = staleness_weight, divisor
        self.interval_s = assignment_interval_s

    def start(self, job: Job) -> Buffering:
        """The coordinator at the start of a run of the job."""
        return Buffering(self, job)

    def coefficients(self, rows: Sessions, staleness: FloatArray) -> FloatArray:
        """What each update of a full buffer counts, ``float64[n]``."""
        weights = example_weights(rows["n_examples"], self.weighting)
        discounted = weights / np.sqrt(1.0 + staleness) if self.staleness_weight == "inverse_sqrt" else weights
        total = discounted.sum() if self.divisor == "weight_sum" else weights.sum()
        coefficients: FloatArray = discounted / total
        return coefficients


class Buffering:
    """The buffer of one run, and who is under way."""

    def __init__(self, rules: BufferedCoordinator, job: Job) -> None:
        self._rules, self._job, self._queue = rules, job, rules.aggregator.start()
        self._open = np.zeros(rules.concurrency, dtype=SESSION)  # one slot per device in flight
        self._open["end_at"] = np.inf
        self._free = np.arange(rules.concurrency)
        self._waiting, self._ingested_at = _EMPTY, np.zeros(0)  # reported, not yet ingested
        self._buffer: list[Sessions] = []
        self._n_buffered, self._n_assigned_before, self._buffer_started_at = 0, 0, 0.0

    def run(self, env: simpy.Environment) -> Process:
        """Tick until the job's stop condition is met."""
        job, now = self._job, env.now
        while True:
            has_ended = self._receive(now)
            if job.stop_reason or now >= job.until:
                break
            job.check_life(now)
            if has_ended or now >= job.retry_at:
                self._refill(now)
            now = min(self._next_tick(now), job.until)
            yield wait(env, now)
        end_at = job.log.steps.rows[-1]["closed_at"] if job.stop_reason else now
        self._close(end_at)
        job.end(end_at)

    def _next_tick(self, now: float) -> float:
        """The next tick at which anything can happen."""
        first_end = float(self._open["end_at"].min())
        event_at = min(first_end, self._ingested_at.min(initial=math.inf))
        if self._free.size:
            event_at = min(event_at, max(self._job.retry_at, now))
        n_ticks = max(1, math.ceil((event_at - now) / self._rules.interval_s - 1e-9)) if math.isfinite(event_at) else 1
        return now + n_ticks * self._rules.interval_s

    def _refill(self, now: float) -> None:
        if not self._free.size:
            return
        selection = self._job.select(now, self._free.size)
        n = len(selection.ids)
        if n:
            self._open[self._free[:n]] = self._job.assign(selection, now)
            self._free = self._free[n:]

    def _receive(self, now: float) -> bool:
        """Work through everything that happened since the last tick, in order of time; has a session ended?"""
        ended = np.flatnonzero(self._open["end_at"] <= now)
        if ended.size:
            rows = self._open[ended]
            rows = rows[np.lexsort((rows["session_id"], rows["end_at"]))]
            self._open["end_at"][ended] = np.inf
            self._free = np.concatenate([self._free, ended])
            is_report = rows["outcome"] == REPORTS
            self._job.finish(rows[~is_report])
            self._report(rows[is_report])
        n = int(np.searchsorted(self._ingested_at, now, side="right"))
        rows, at = self._waiting[:n], self._ingested_at[:n]
        self._waiting, self._ingested_at = self._waiting[n:], self._ingested_at[n:]
        self._ingest(rows, at)
        return bool(ended.size)

    def _report(self, rows: Sessions) -> None:
        self._job.participation.aggregate(rows["device_id"], math.inf)
        ingested_at = self._queue.serve(rows["end_at"], self._job.task.work.upload_bytes)
        rows, ingested_at = joined([self._waiting, rows]), np.concatenate([self._ingested_at, ingested_at])
        order = np.argsort(ingested_at, kind="stable")
        self._waiting, self._ingested_at = rows[order], ingested_at[order]

    def _ingest(self, rows: Sessions, at: FloatArray) -> None:
        """Add reports to the buffer in order; step whenever it is full."""
        job, rules = self._job, self._rules
        while len(rows) and not job.stop_reason:
            is_stale = job.version - rows["version"] > rules.max_staleness
            fresh = np.flatnonzero(~is_stale)
            room = rules.buffer_size - self._n_buffered
            is_full = fresh.size >= room
            n = int(fresh[room - 1]) + 1 if is_full else len(rows)
            self._refuse(rows[:n][is_stale[:n]])
            self._put(rows[fresh[:room]], at[fresh[:room]])
            if is_full:
                self._step(float(at[n - 1]))
            rows, at = rows[n:], at[n:]
        self._waiting = joined([rows, self._waiting])
        self._ingested_at = np.concatenate([at, self._ingested_at])

    def _refuse(self, rows: Sessions) -> None:
        job = self._job
        rows["staleness"] = job.version - rows["version"]
        job.participation.aggregate(rows["device_id"], -math.inf)
        job.finish(rows, STALE)

    def _put(self, rows: Sessions, at: FloatArray) -> None:
        if len(rows):
            if not self._n_buffered:
                self._buffer_started_at = float(at[0])
            self._job.accepted(float(at[-1]))
            self._buffer.append(rows)
            self._n_buffered += len(rows)

    def _step(self, at: float) -> None:
        job, rows = self._job, joined(self._buffer)
        n_assigned = job.n_assigned - self._n_assigned_before
        self._buffer, self._n_buffered, self._n_assigned_before = [], 0, job.n_assigned
        coefficients = self._rules.coefficients(rows, job.version - rows["version"])
        job.step(rows, coefficients, started_at=self._buffer_started_at, at=at, n_assigned=n_assigned)

    def _close(self, at: float) -> None:
        """The job is over: what is in flight, queued or buffered comes too late."""
        in_flight = self._open[np.isfinite(self._open["end_at"])]
        rows = joined([*self._buffer, self._waiting, in_flight])
        self._job.settle(rows[np.argsort(rows["session_id"])], at)
        self._open["end_at"] = np.inf

    def in_flight(self, now: float) -> int:
        """Devices in a session at ``now``."""
        ends = self._open["end_at"]
        return int((np.isfinite(ends) & (ends > now)).sum())

    def n_waiting(self, now: float) -> int:
        """Reports that wait for an aggregator worker at ``now``."""
        return self._queue.n_waiting(now)
