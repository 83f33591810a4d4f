"""Synchronous rounds with over-selection, quorum and deadline (Bonawitz et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np

from fedsim.device.session import ABORTED, LATE, NO_SESSIONS, REPORTS, TIMEOUT, Sessions, joined
from fedsim.errors import InputError, SimulationError
from fedsim.ranges import Count, DurationS, IntervalS, PositiveShare, Range, SomeTimeS
from fedsim.server.aggregator import Aggregator, Weighting, example_weights, visited_examples
from fedsim.server.inbox import Inbox
from fedsim.server.job import Job
from fedsim.units import IntArray, format_duration, on_clock

ShortRound = Literal["deadline", "last_report"]
Stragglers = Literal["busy", "free"]
Phase = Literal["try", "close", "step"]


class SyncCoordinator:
    """Each round assigns ``report_goal × over_selection`` devices at one instant.

    It closes at the report that meets the goal, or at the deadline; it counts if at least
    ``quorum_fraction`` of the goal has reported, else it is abandoned. A report at exactly the
    deadline counts. A ``short_round``, one that does not meet its goal, closes at the deadline, or at its last
    report; without a deadline always at its last report, and one without any report with its last session.
    ``stragglers``, devices whose session outlives their round, are busy until it ends, or free from the close on.
    Simplifications: devices are not held while a cohort is assembled; the round waits until
    enough are eligible at one instant, or after ``selection_timeout_s`` starts with a quorum. That no report will come
    any more is known when the last one has come.
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
        short_round: ShortRound = "deadline",
        stragglers: Stragglers = "busy",
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
        if short_round not in ("deadline", "last_report"):
            raise InputError("server.short_round is unknown", value=short_round, allowed="deadline, last_report")
        if stragglers not in ("busy", "free"):
            raise InputError("server.stragglers is unknown", value=stragglers, allowed="busy, free")
        self.aggregator, self.weighting = aggregator, weighting
        self.waits_for_deadline = short_round == "deadline" and deadline_s is not None
        self.frees_stragglers = stragglers == "free"
        self.goal, self.deadline_s = report_goal, math.inf if deadline_s is None else deadline_s
        self.cohort = math.ceil(report_goal * over_selection - 1e-9)
        self.quorum = math.ceil(report_goal * quorum_fraction - 1e-9)
        self.selection_timeout_s, self.assignment_interval_s = selection_timeout_s, assignment_interval_s
        self.server_step_s = server_step_s

    def start(self, job: Job) -> Rounds:
        """The coordinator at the start of a run of the job."""
        return Rounds(self, job)


class Rounds:
    """The rounds of one run: assemble a cohort, close the round, step; and again.

    When a cohort is assigned its round's close is known, since the trips are planned: the clock is asked for that
    instant instead of for each report's. What the server knows by then does not depend on it.
    """

    def __init__(self, rules: SyncCoordinator, job: Job) -> None:
        n_devices = job.world.fleet.n_devices
        if n_devices < rules.quorum:
            raise SimulationError(f"a round needs {rules.quorum} devices at one instant; the fleet has {n_devices}")
        self._rules, self._job = rules, job
        self._inbox = Inbox(rules.aggregator.start(), job.task.work.upload_bytes, job.log.gauges.waits)
        self._phases: dict[Phase, Callable[[float], float]] = {
            "try": self._try, "close": self._close, "step": self._step
        }  # fmt: skip
        self._phase: Phase = "try"
        self._started_at, self._close_at, self._step_at = 0.0, 0.0, 0.0  # the round is assembled since, closes, steps
        self._opened_at = 0.0  # devices are sought since; the round starts when they are found
        self._round = NO_SESSIONS  # sessions of the open round, until its close
        self._accepted: IntArray = np.zeros(0, dtype=np.int64)  # places in it of the reports that count
        self._n_assigned = 0  # in the present round
        self._stragglers = NO_SESSIONS  # sessions of closed rounds that have not ended
        self._reported: list[Sessions] = []  # accepted reports that are ingested

    def decide(self, now: float) -> float:
        """Do what is due at ``now``; the instant of the next decision."""
        return self._phases[self._phase](now)

    # Assembling a cohort

    def _try(self, now: float) -> float:
        """Assign a cohort if there is one."""
        job, rules, timeout_at = self._job, self._rules, on_clock(self._started_at + self._rules.selection_timeout_s)
        self._follow(now)
        if now >= job.until:
            return self._end(now)
        job.check_life(now)
        needed = rules.cohort if now < timeout_at else rules.quorum
        selection = job.find_together(now, rules.cohort, at_least=needed)
        job.search.take(selection, len(selection))
        if len(selection) < needed:
            job.advance(now)
            return min(self._next_try(now, timeout_at), job.until)
        self._round = job.draft(selection)
        job.begin(self._round, job.version)
        self._n_assigned, self._started_at, self._phase = len(selection), now, "close"
        self._accepted = self._counting(self._round)
        self._close_at = self._closes_at(self._round, self._accepted)
        return min(self._close_at, job.until)

    def _next_try(self, now: float, timeout_at: float) -> float:
        """When the fleet may have changed, a straggler is free, or a quorum is enough."""
        free_at = math.inf
        if self._job.sees_every_change:
            free_at = float(self._stragglers["end_at"].min(initial=math.inf))
        next_at = max(min(self._job.retry_at, free_at), on_clock(now + self._rules.assignment_interval_s))
        return min(next_at, timeout_at) if now < timeout_at else next_at

    # Closing the round

    def _closes_at(self, rows: Sessions, accepted: IntArray) -> float:
        """The instant at which a round that has just begun will close."""
        rules, deadline_at = self._rules, on_clock(self._started_at + self._rules.deadline_s)
        if len(accepted) == rules.goal:
            return float(rows["upload_end_at"][accepted[-1]])
        if rules.waits_for_deadline:
            return deadline_at
        if len(accepted):
            return float(rows["upload_end_at"][accepted[-1]])
        return min(float(rows["end_at"].max(initial=self._started_at)), deadline_at)

    def _counting(self, rows: Sessions) -> IntArray:
        """The reports that count, in order of arrival: those by the deadline, up to the goal."""
        deadline_at = on_clock(self._started_at + self._rules.deadline_s)
        reports = np.flatnonzero((rows["outcome"] == REPORTS) & (rows["upload_end_at"] <= deadline_at))
        accepted: IntArray = reports[np.argsort(rows["upload_end_at"][reports], kind="stable")][: self._rules.goal]
        return accepted

    def _close(self, now: float) -> float:
        """Close the round: what is accepted goes to the aggregator, of the rest is decided how it ends."""
        job, rules, rows, accepted = self._job, self._rules, self._round, self._accepted
        if self._close_at > job.until:
            return self._cut(now)
        is_rest = np.ones(len(rows), dtype=bool)
        is_rest[accepted] = False
        _tell(rows, np.flatnonzero(is_rest), now)
        job.book(rows)
        rest = rows.compress(is_rest)
        ends_at = np.minimum(rest["end_at"], now) if rules.frees_stragglers else rest["end_at"]
        job.participation.end(rest["device_id"], ends_at)
        self._round, self._stragglers = NO_SESSIONS, joined([self._stragglers, rest])
        self._step_at = max(now, self._follow(now, rows.take(accepted)))
        self._phase = "step"
        job.advance(now)
        return min(self._step_at, job.until)

    def _follow(self, now: float, accepted: Sessions = NO_SESSIONS) -> float:
        """Follow sessions of closed rounds up to ``now``: some end, some report late and load the aggregator.

        They queue with the ``accepted`` reports of a round that closes now, which are in order of arrival; returns when
        the last of these is ingested.
        """
        has_ended = self._stragglers["end_at"] <= now
        ended, going_on = self._stragglers.compress(has_ended), self._stragglers.compress(~has_ended)
        self._stragglers = going_on
        is_late = ended["outcome"] == LATE
        lost = ended.compress(~is_late)
        self._job.finish(lost, at=lost["end_at"])
        arrived = joined([ended.compress(is_late), accepted])
        if is_late.any():
            arrived = arrived.take(np.lexsort((arrived["session_id"], arrived["upload_end_at"])))
        ingested_at = self._inbox.arrive(arrived)
        last_at = float(ingested_at[arrived["outcome"] == REPORTS].max(initial=-math.inf))
        ingested = self._inbox.take(now)
        is_late = ingested["outcome"] == LATE
        if is_late.any():
            late, ingested = ingested.compress(is_late), ingested.compress(~is_late)
            self._job.finish(late, at=late["ingested_at"])
        self._reported.append(ingested)
        return last_at

    # The step

    def _step(self, now: float) -> float:
        """Aggregate what was accepted, if it is a quorum."""
        job, rules = self._job, self._rules
        self._follow(now)
        if self._step_at > job.until:
            return self._end(now)
        reported, self._reported = joined(self._reported), []
        arrived_at = reported["upload_end_at"]
        if (arrived_at[1:] < arrived_at[:-1]).any():  # several workers: back in order of arrival
            reported = reported.take(np.lexsort((reported["session_id"], arrived_at)))
        n, next_at = self._n_assigned, on_clock(now + rules.server_step_s)
        since = {"opened_at": self._opened_at, "started_at": self._started_at}
        if len(reported) >= rules.quorum:
            weights = example_weights(visited_examples(reported), rules.weighting)
            job.step(reported, weights / weights.sum(), at=now, n_assigned=n, published_at=next_at, **since)
        else:
            job.abandon(reported, at=now, n_assigned=n, outcome=TIMEOUT, **since)
        if job.stop_reason:
            return self._end(now)
        job.advance(now)
        self._phase, self._started_at = "try", min(next_at, job.until)
        self._opened_at = self._started_at
        return self._started_at

    # The end of the run

    def _cut(self, now: float) -> float:
        """The run's time is up before the round closes."""
        job, rows = self._job, self._round
        job.book(rows)
        has_ended, is_report = rows["end_at"] <= now, rows["outcome"] == REPORTS
        arrived = rows.compress(has_ended & is_report)
        self._follow(now, arrived.take(np.argsort(arrived["upload_end_at"], kind="stable")))
        lost = rows.compress(has_ended & ~is_report)
        job.finish(lost, at=lost["end_at"])
        self._stragglers = joined([self._stragglers, rows.compress(~has_ended)])
        return self._end(now)

    def _end(self, now: float) -> float:
        """The run is over: what has not ended, or is not aggregated, is left open."""
        job = self._job
        if not job.n_assigned:
            job.check_admitted()
            raise SimulationError(
                f"no round began before the run's end at {format_duration(job.until)}: it needs {self._rules.quorum} "
                "free eligible devices at one instant"
            )
        job.leave_open(joined([*self._reported, self._inbox.rest(), self._stragglers]), now)
        job.end(now)
        return math.inf


def _tell(rows: Sessions, rest: IntArray, close_at: float) -> None:
    """Decide how the sessions at ``rest`` end, whose round closed without their report.

    A device asks before it uploads: from the close on it is told that it is not needed (ABORTED).
    """
    trained_at, end_at, outcome = (rows[name][rest] for name in ("train_end_at", "end_at", "outcome"))
    is_told = (trained_at <= end_at) & (trained_at >= close_at)
    rows["end_at"][rest] = np.where(is_told, trained_at, end_at)
    rows["outcome"][rest] = np.where(is_told, ABORTED, np.where(outcome == REPORTS, LATE, outcome))
