"""Buffered asynchronous aggregation (FedBuff, Nguyen et al. 2022); a buffer of 1 is FedAsync."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fedsim.device.session import NO_SESSIONS, REPORTS, SESSION, STALE, Sessions, joined
from fedsim.errors import InputError, SimulationError
from fedsim.ranges import Count, DurationS, TickS, VersionCount
from fedsim.server.aggregator import Aggregator, Weighting, example_weights, visited_examples
from fedsim.server.inbox import Inbox
from fedsim.server.job import Job
from fedsim.units import US_PER_S, FloatArray, IntArray, on_clock, to_us

StalenessWeight = Literal["inverse_sqrt", "constant"]
Divisor = Literal["buffer_size", "weight_sum"]

_FIRST_LOOK = 64  # devices looked for ahead at the start of a run
_NONE_AHEAD = np.zeros(0)


class BufferedCoordinator:
    """Keeps ``concurrency`` devices in flight; every ``buffer_size`` accepted updates make a step.

    Devices are assigned on ticks, at whole multiples of ``assignment_interval_s``. Reports take effect at their own
    instants, between ticks too; they are worked through at the next tick, which changes nothing
    because a version is downloaded only at ticks. An update whose staleness (server version when
    it is ingested − version downloaded) exceeds ``max_staleness`` is refused as STALE.

    A full buffer is aggregated, validated and published in ``server_step_s``, one after the other; until then devices
    download the version before, and reports go into the next buffer.

    ``looks_ahead``: ticks whose assignments cannot influence each other are worked through together, in a *stride*;
    else one by one. Both give the same tables.
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
        assignment_interval_s: TickS,
        weighting: Weighting,
        server_step_s: DurationS = 0.0,
        looks_ahead: bool = True,
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
        if not server_step_s >= 0:
            raise InputError("server.server_step_s must not be negative", value=server_step_s)
        self.aggregator, self.weighting, self.server_step_s = aggregator, weighting, server_step_s
        self.concurrency, self.buffer_size, self.max_staleness = concurrency, buffer_size, max_staleness
        self.staleness_weight, self.divisor = staleness_weight, divisor
        self.interval_us, self.looks_ahead = int(to_us(assignment_interval_s)), looks_ahead
        if self.interval_us < 1:
            raise InputError("server.assignment_interval_s is below a microsecond", value=assignment_interval_s)

    def start(self, job: Job) -> Buffering:
        """The coordinator at the start of a run of the job."""
        return Buffering(self, job)

    def tick_from(self, at: FloatArray) -> FloatArray:
        """The first tick at or after each instant (inf: never)."""
        is_finite = np.isfinite(at)
        ticks = -(-to_us(np.where(is_finite, at, 0.0)) // self.interval_us) * self.interval_us
        return np.where(is_finite, ticks / US_PER_S, np.inf)

    def coefficients(self, rows: Sessions, staleness: FloatArray) -> FloatArray:
        """What each update of a full buffer counts, ``float64[n]``."""
        weights = example_weights(visited_examples(rows), self.weighting)
        discounted = weights / np.sqrt(1.0 + staleness) if self.staleness_weight == "inverse_sqrt" else weights
        total = discounted.sum() if self.divisor == "weight_sum" else weights.sum()
        coefficients: FloatArray = discounted / total
        return coefficients


class Buffering:
    """The buffer of one run, and who is under way.

    A stride: until a session that begins in it ends, every free slot is known ahead: those free now, and one more at
    the tick after each end of a session under way. So devices are found for the ticks to come and their sessions
    planned, which changes nothing; the ticks before the first at which a planned session ends are certain. What
    happens up to the last of them is worked through, and then their sessions begin, each with the version of its
    instant.
    """

    def __init__(self, rules: BufferedCoordinator, job: Job) -> None:
        n_devices = job.world.fleet.n_devices
        if n_devices < rules.concurrency:
            raise SimulationError(f"{rules.concurrency} devices cannot be in flight; the fleet has {n_devices}")
        self._rules, self._job = rules, job
        self._inbox = Inbox(rules.aggregator.start(), job.task.work.upload_bytes, job.log.gauges.waits)
        self._open = np.zeros(rules.concurrency, dtype=SESSION)  # one slot per device in flight
        self._ends = np.full(rules.concurrency, np.inf)  # of the sessions in the slots; inf: the slot is free
        self._free: IntArray = np.arange(rules.concurrency)
        self._has_ended = True  # has a session ended since devices were looked for?
        self._lost = NO_SESSIONS  # ended without a report after the run was over
        self._buffer: list[Sessions] = []
        self._n_buffered, self._buffer_started_at, self._n_assigned_then = 0, 0.0, 0
        self._buffer_opened_at = 0.0
        self._published: list[float] = []  # when versions are downloaded from; those that no session waits for are gone
        self._n_ahead = _FIRST_LOOK if rules.looks_ahead and job.can_look_ahead else 0

    def decide(self, now: float) -> float:
        """Work through what happened up to the tick ``now`` and assign; the tick at which anything can happen next."""
        job = self._job
        if not self._n_ahead or now >= job.until or job.participation.keeps_participations:
            self._receive(now)  # a stride does that with what comes after, unless who is selected depends on it
        if not job.stop_reason and now < job.until:
            job.check_life(now)
            now = self._go_on(now)
        if job.stop_reason or now >= job.until:
            return self._end(now)
        job.advance(now)
        return self._next_tick(now)

    def _next_tick(self, now: float) -> float:
        event_at = min(float(self._ends.min()), self._inbox.next_at)
        if self._free.size:
            event_at = min(event_at, self._job.retry_at)
        after = now + 1 / US_PER_S
        return min(float(self._rules.tick_from(np.array(max(event_at, after)))), self._job.until)

    # Assignment

    def _go_on(self, now: float) -> float:
        """Assign at the tick ``now``, if anything has changed, and ahead; the last tick that is worked through."""
        at = self._wanted(now)
        has_changed = self._has_ended or self._ends.min() <= now
        if len(at) and at[0] == now and (now >= self._job.retry_at or (has_changed and self._job.sees_every_change)):
            return self._assign(now, at)
        self._receive(now)
        return now

    def _assign(self, now: float, at: FloatArray) -> float:
        """Assign at the tick ``now`` and at those of ``at`` that are certain; the last tick that is worked through."""
        job = self._job
        selection = job.find(at)
        rows = job.draft(selection)
        n = self._n_certain(rows, int(np.searchsorted(at, now, side="right")))
        begin_at = selection.at[:n]
        last = float(begin_at[-1]) if n else now
        stepped_at = self._receive(last, begin_at)
        if job.stop_reason:
            n = int(np.searchsorted(begin_at, stepped_at[-1], side="left"))
        self._has_ended = False
        job.search.take(selection, n)
        self._begin(rows[:n], self._newest(begin_at[:n]))
        return last

    def _newest(self, at: FloatArray) -> IntArray:
        """The newest version that is published at each of these instants, which ascend from call to call."""
        if not len(at):
            return np.zeros(0, dtype=np.int64)
        known = np.array(self._published)
        self._published = self._published[int(np.searchsorted(known, at[0], side="right")) :]
        versions: IntArray = self._job.version - len(known) + np.searchsorted(known, at, side="right")
        return versions

    def _begin(self, rows: Sessions, versions: IntArray) -> None:
        if len(rows):
            self._job.begin(rows, versions)
            self._job.book(rows)
            slots, self._free = self._free[: len(rows)], self._free[len(rows) :]
            self._open.put(slots, rows)
            self._ends[slots] = rows["end_at"]

    def _wanted(self, now: float) -> FloatArray:
        """The instants at which devices are wanted, ascending: now for every free slot, and ahead.

        That is at the ticks after the next ends of sessions under way: whole ticks, before the run's end.
        """
        at_once = np.full(self._free.size, now)
        if not self._n_ahead:
            return at_once
        ends = self._ends
        if len(ends) > self._n_ahead:
            ends = np.partition(ends, self._n_ahead)[: self._n_ahead + 1]
        ticks = np.sort(self._rules.tick_from(ends[np.isfinite(ends)]))
        if len(ticks) > self._n_ahead:  # the last tick may not be whole
            ticks = ticks[ticks < ticks[-1]] if ticks[-1] > now else np.full((self._ends <= now).sum(), now)
        return np.concatenate([at_once, ticks[ticks < self._job.until]])

    def _n_certain(self, rows: Sessions, n_now: int) -> int:
        """How many of the drafted sessions begin before the first tick at which one of them ends, or begin now."""
        if len(rows) <= n_now:
            return len(rows)
        ends_at = self._rules.tick_from(np.array(rows["end_at"].min()))
        n = max(int(np.searchsorted(rows["assigned_at"], ends_at, side="left")), n_now)
        self._n_ahead = min(2 * self._n_ahead, len(self._open)) if n == len(rows) else max(_FIRST_LOOK, n + n // 2)
        return n

    # What happened

    def _receive(self, now: float, begin_at: FloatArray = _NONE_AHEAD) -> list[float]:
        """Work through everything up to ``now``, in order of time; the instants of the steps.

        ``begin_at`` are the instants at which sessions are going to begin up to ``now``.
        """
        job = self._job
        ended = np.flatnonzero(self._ends <= now)
        lost = NO_SESSIONS
        if ended.size:
            rows = self._open.take(ended[np.lexsort((self._open["session_id"][ended], self._ends[ended]))])
            self._ends[ended] = np.inf
            self._free = np.concatenate([self._free, ended])
            self._has_ended = True
            is_report = rows["outcome"] == REPORTS
            reports, lost = rows.compress(is_report), rows.compress(~is_report)
            job.participation.aggregate(reports["device_id"], math.inf)
            self._inbox.arrive(reports)
        stepped_at = self._ingest(self._inbox.take(now), begin_at)
        if job.stop_reason:
            is_over = lost["end_at"] > stepped_at[-1]
            self._lost, lost = lost.compress(is_over), lost.compress(~is_over)
        job.finish(lost, at=lost["end_at"])
        return stepped_at

    def _ingest(self, rows: Sessions, begin_at: FloatArray) -> list[float]:
        """Add reports to the buffer in order; step whenever it is full, until the run is over."""
        job, rules, stepped_at = self._job, self._rules, list[float]()
        n_assigned = job.n_assigned
        while len(rows) and not job.stop_reason:
            is_stale = job.version - rows["version"] > rules.max_staleness
            fresh = np.flatnonzero(~is_stale)
            room = rules.buffer_size - self._n_buffered
            is_full = fresh.size >= room
            n = int(fresh[room - 1]) + 1 if is_full else len(rows)
            self._refuse(rows[:n].compress(is_stale[:n]))
            self._put(rows.take(fresh[:room]))
            if is_full:
                at = float(rows["ingested_at"][n - 1])
                self._step(at, n_assigned + int(np.searchsorted(begin_at, at, side="left")))
                stepped_at.append(at)
            rows = rows[n:]
        self._inbox.put_back(rows)
        return stepped_at

    def _refuse(self, rows: Sessions) -> None:
        job = self._job
        if len(rows):
            rows["staleness"] = job.version - rows["version"]
            job.participation.aggregate(rows["device_id"], -math.inf)
            job.finish(rows, at=rows["ingested_at"], outcome=STALE)

    def _put(self, rows: Sessions) -> None:
        if len(rows):
            if not self._n_buffered:
                self._buffer_started_at = float(rows["ingested_at"][0])
            self._job.accepted(float(rows["ingested_at"][-1]))
            self._buffer.append(rows)
            self._n_buffered += len(rows)

    def _step(self, at: float, n_assigned: int) -> None:
        """Make a version of the full buffer; ``n_assigned`` sessions began before."""
        job, rows = self._job, joined(self._buffer)
        since, self._n_assigned_then = n_assigned - self._n_assigned_then, n_assigned
        self._buffer, self._n_buffered = [], 0
        coefficients = self._rules.coefficients(rows, job.version - rows["version"])
        published_at = on_clock(max([at, *self._published[-1:]]) + self._rules.server_step_s)
        opened_at, self._buffer_opened_at = self._buffer_opened_at, at
        self._published.append(published_at)
        job.step(
            rows, coefficients, started_at=self._buffer_started_at, at=at, n_assigned=since, opened_at=opened_at,
            published_at=published_at,
        )  # fmt: skip

    def _end(self, now: float) -> float:
        """The run is over, with the step that met its condition or as its time is up: the rest is left open."""
        job = self._job
        job.check_admitted()
        at = float(job.log.steps.rows[-1]["closed_at"]) if job.stop_reason else now
        in_flight = self._open.compress(np.isfinite(self._ends))
        job.leave_open(joined([*self._buffer, self._inbox.rest(), self._lost, in_flight]), at)
        job.end(at)
        return math.inf
