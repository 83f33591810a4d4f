"""Synchronous rounds with over-selection, quorum and deadline (Bonawitz et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Annotated, Any

import numpy as np
import simpy

from fedsim.device.session import REPORTS, TIMEOUT, Sessions
from fedsim.errors import InputError, SimulationError
from fedsim.ranges import Count, DurationS, IntervalS, PositiveShare, Range, SomeTimeS
from fedsim.server.aggregator import Aggregator, Weighting, example_weights
from fedsim.server.job import Job
from fedsim.server.protocol.coordinator import Process, wait
from fedsim.server.selector.selection import Selection
from fedsim.units import FloatArray, IntArray, format_duration


class SyncCoordinator:
    """Each round assigns ``report_goal × over_selection`` devices at one instant.

    It closes at the report that meets the goal, or at the deadline; it counts if at least
    ``quorum_fraction`` of the goal has reported, else it is abandoned. A report at exactly the
    deadline counts. If no device can report any more, a round without deadline closes with the last
    session. Simplification: devices are not held while a cohort is assembled; the round waits until
    enough are eligible at one instant, or after ``selection_timeout_s`` starts with a quorum.
    """

    name = "sync"
    max_staleness = 0

    def __init__(
        self,
        *,
        aggregator: Aggregator,
        report_goal: Count,
        over_selection: Annotated[float, Range(1, 100)],
        quorum_fraction: PositiveShare,
        deadline_s: SomeTimeS | None,
        selection_timeout_s: DurationS,
        assignment_interval_s: IntervalS,
        server_step_s: DurationS,
        weighting: Weighting,
    ) -> None:
        if report_goal < 1:
            raise InputError("server.report_goal must be at least 1", value=report_goal)
        if over_selection < 1:
            raise InputError("server.over_selection is cohort ÷ report goal", value=over_selection, allowed="1 or more")
        if not 0 < quorum_fraction <= 1:
            raise InputError("server.quorum_fraction is outside its range", value=quorum_fraction, allowed="0 < … ≤ 1")
        if deadline_s is not None and deadline_s <= 0:
            raise InputError("server.deadline_s must be positive", value=deadline_s)
        if selection_timeout_s < 0 or assignment_interval_s <= 0 or server_step_s < 0:
            raise InputError(
                "server.selection_timeout_s, assignment_interval_s and server_step_s must be positive",
                value=(selection_timeout_s, assignment_interval_s, server_step_s),
            )
        self.aggregator, self.weighting = aggregator, weighting
        self.goal, self.deadline_s = report_goal, math.inf if deadline_s is None else deadline_s
        self.cohort = math.ceil(report_goal * over_selection - 1e-9)
        self.quorum = math.ceil(report_goal * quorum_fraction - 1e-9)
        self.selection_timeout_s, self.assignment_interval_s = selection_timeout_s, assignment_interval_s
        self.server_step_s = server_step_s

    def start(self, job: Job) -> Rounds:
        """The coordinator at the start of a run of the job."""
        return Rounds(self, job)


class Rounds:
    """The rounds of one run."""

    def __init__(self, rules: SyncCoordinator, job: Job) -> None:
        self._rules, self._job, self._queue = rules, job, rules.aggregator.start()
        self._round_ends: FloatArray = np.zeros(0)  # planned ends of the open round's sessions
        self._straggler_ends: FloatArray = np.zeros(0)  # ends of sessions that outlive their round

    def run(self, env: simpy.Environment) -> Process:
        """Play rounds until the job's stop condition is met."""
        job, quorum, n_devices = self._job, self._rules.quorum, self._job.world.fleet.n_devices
        if n_devices < quorum:
            raise SimulationError(f"a round needs {quorum} devices at one instant; the fleet has {n_devices}")
        now = env.now
        while not job.stop_reason:
            selection, now = yield from self._assemble(env, now)
            if selection is None:
                break
            now = yield from self._round(env, job.assign(selection, now), now)
        if not job.n_assigned:
            raise SimulationError(
                f"no round began before the run's end at {format_duration(job.until)}: it needs {quorum} free "
                "eligible devices at one instant"
            )
        job.end(now)

    def _assemble(
        self, env: simpy.Environment, now: float
    ) -> Generator[simpy.Event, Any, tuple[Selection | None, float]]:
        """Wait until a cohort can be assigned, and until when that was; None when the run's time is up."""
        job, rules, timeout_at = self._job, self._rules, now + self._rules.selection_timeout_s
        while now < job.until:
            job.check_life(now)
            needed = rules.cohort if now < timeout_at else rules.quorum
            selection = job.select_together(now, rules.cohort, at_least=needed)
            if len(selection.ids) >= needed:
                return selection, now
            now = min(self._next_try(now, timeout_at), job.until)
            yield wait(env, now)
        return None, now

    def _next_try(self, now: float, timeout_at: float) -> float:
        """When the fleet may have changed, a straggler is free, or a quorum is enough."""
        free_at = math.inf
        if self._job.sees_every_change:
            free_at = float(self._straggler_ends[self._straggler_ends > now].min(initial=math.inf))
        next_at = max(min(self._job.retry_at, free_at), now + self._rules.assignment_interval_s)
        return min(next_at, timeout_at) if now < timeout_at else next_at

    def _round(self, env: simpy.Environment, rows: Sessions, started_at: float) -> Generator[simpy.Event, Any, float]:
        """Play a round; returns the instant at which the next one may open."""
        job, rules = self._job, self._rules
        self._round_ends = rows["end_at"].copy()
        accepted, close_at = self._accept(rows, started_at)
        ingested_at = self._queue.serve(rows["upload_end_at"][accepted], job.task.work.upload_bytes)
        step_at = float(ingested_at.max(initial=close_at))
        yield wait(env, min(close_at, job.until))
        if close_at > job.until:
            self._settle(rows, job.until)
            return job.until
        reported = rows[accepted]
        is_rest = np.ones(len(rows), dtype=bool)
        is_rest[accepted] = False
        self._settle(rows[is_rest], close_at)
        yield wait(env, min(step_at, job.until))
        if step_at > job.until:
            self._settle(reported, job.until)
            return job.until
        if len(accepted) >= rules.quorum:
            weights = example_weights(reported["n_examples"], rules.weighting)
            job.step(reported, weights / weights.sum(), started_at=started_at, at=step_at, n_assigned=len(rows))
        else:
            job.abandon(reported, started_at=started_at, at=step_at, n_assigned=len(rows), outcome=TIMEOUT)
        next_at = min(step_at + rules.server_step_s, job.until)
        yield wait(env, next_at)
        return next_at

    def _accept(self, rows: Sessions, started_at: float) -> tuple[IntArray, float]:
        """Rows of the reports that count, in order of arrival, and the instant the round closes."""
        reports = np.flatnonzero(rows["outcome"] == REPORTS)
        reports = reports[np.argsort(rows["upload_end_at"][reports], kind="stable")]
        deadline_at = started_at + self._rules.deadline_s
        arrivals = rows["upload_end_at"][reports]
        n = min(int(np.searchsorted(arrivals, deadline_at, side="right")), self._rules.goal)
        if n == self._rules.goal:
            return reports[:n], float(arrivals[n - 1])
        last_end = float(rows["end_at"].max(initial=started_at))
        return reports[:n], deadline_at if math.isfinite(deadline_at) else last_end

    def _settle(self, rows: Sessions, close_at: float) -> None:
        ends = self._job.settle(rows, close_at)["end_at"]
        before = self._straggler_ends
        self._straggler_ends = np.concatenate([before[before > close_at], ends[ends > close_at]])
        self._round_ends = np.zeros(0)

    def in_flight(self, now: float) -> int:
        """Devices in a session at ``now``."""
        return int((self._round_ends > now).sum() + (self._straggler_ends > now).sum())

    def n_waiting(self, now: float) -> int:
        """Reports that wait for an aggregator worker at ``now``."""
        return self._queue.n_waiting(now)
