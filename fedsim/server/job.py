"""One FL job on the fleet: assigns sessions, books how they end, steps and evaluates the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedsim import rng
from fedsim.device.session import ABORTED, AGGREGATED, LATE, REPORTS, Sessions
from fedsim.device.spent import Spent
from fedsim.device.world import World
from fedsim.errors import InputError, SimulationError
from fedsim.fleet.admission import Gate
from fedsim.fleet.participation import Participation
from fedsim.log import JobLog
from fedsim.moved import names_of
from fedsim.server.selector.selection import NOBODY, Selection
from fedsim.server.task import Policy, Task
from fedsim.training.trainer import Updates
from fedsim.units import DAY_S, FloatArray, IntArray, format_duration

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

_RETRY_S = 60.0  # an incomplete selection is tried again at the next change of the fleet, at the latest then
_LOST_SESSIONS, _LOST_BATCHES = 100_000, 100  # without a limit of time, a run in which so many come to nothing is over
_LOST_PERIODS, _LOST_S = (
    2,
    30.0 * DAY_S,
)  # so is one in which nothing is accepted for so long: what repeats has been seen
_WAITS_PER_LACK = 10.0  # in a large fleet a cohort that lacks a tenth or more waits the full time, else in proportion


class Job:
    """What both protocols share. Coordinators decide when; the job does."""

    def __init__(
        self,
        world: World,
        task: Task,
        policy: Policy,
        log: JobLog,
        *,
        seed: int,
        on_step: Callable[[Job, float], None] | None = None,
    ) -> None:
        self.world, self.task, self.log, self.seed = world, task, log, seed
        self.trainer = task.trainer()
        self.participation = Participation(len(task.work.assets))
        self.battery = world.battery(self.participation)
        self.gates: Sequence[Gate] = policy.gates if self.battery is None else [*policy.gates, self.battery]
        self.search = policy.selector.start(world.fleet)
        self.version = 0
        self.n_assigned = 0
        self.stop_reason = ""
        self.ended_at = math.nan
        self.metrics: dict[str, float] = {}
        self._on_step = on_step
        self._evaluated_version = -1
        self._next_evaluation_at = 0.0
        self._retry_at = -math.inf
        self._accepted_at, self._n_assigned_then, self._largest_batch = 0.0, 0, 0  # when an update was last accepted
        self._n_found = 0  # devices that any selection found or knew to be there, assigned or not

    @property
    def until(self) -> float:
        """The instant at which the run's time is up."""
        max_s = self.task.stop.max_s
        return math.inf if max_s is None else max_s

    def accepted(self, at: float) -> None:
        """Note that something came of the sessions: an update is in a step or in a buffer."""
        self._accepted_at, self._n_assigned_then = at, self.n_assigned

    def check_life(self, now: float) -> None:
        """Give up a run without a limit of time in which nothing comes of the sessions, or none begins.

        Raises:
            SimulationError: since an update was last accepted, so many sessions or so much time went by.
        """
        if not math.isinf(self.until):
            return
        n_lost, most = self.n_assigned - self._n_assigned_then, max(_LOST_SESSIONS, _LOST_BATCHES * self._largest_batch)
        longest_s = max(_LOST_S, _LOST_PERIODS * float(self.world.fleet.traces.period_ms.max()) / 1000)
        if n_lost > most or now - self._accepted_at > longest_s:
            lasted = format_duration(now - self._accepted_at)
            raise SimulationError(
                f"nothing came of the last {n_lost:,} sessions in {lasted}: no update was accepted; "
                "stop.max_s ends such a run at an instant"
            )

    # Assignment

    def select(self, now: float, n: int) -> Selection:
        """Up to ``n`` devices that may be assigned now."""
        selection = self.search.select(self.world.availability, self.participation, now=now, n=n, gates=self.gates)
        self._n_found += len(selection.ids)
        if len(selection.ids) < n:
            self._retry_at = self._next_chance(now)
        return selection

    def select_together(self, now: float, n: int, *, at_least: int) -> Selection:
        """As :meth:`select` for devices that start together: none is looked for if ``at_least`` cannot be there."""
        most = self.world.availability.most_eligible(now)
        if most < at_least:
            self._n_found += most
            selection, self._retry_at = NOBODY, self._next_chance(now)
        else:
            selection = self.select(now, n)
            most = len(selection.ids)
        is_anyone_there = self.world.availability.eligible_fraction(now) > 0
        if most < at_least and is_anyone_there and not self.sees_every_change:
            self._retry_at = now + min(_WAITS_PER_LACK * (at_least - most) / at_least, 1.0) * _RETRY_S
        return selection

    def _next_chance(self, now: float) -> float:
        if self.world.availability.eligible_fraction(now) > 0:
            return min(self.world.availability.next_change(now), now + _RETRY_S)
        start = self.world.availability.earliest_start(now)
        if math.isinf(start):
            raise SimulationError("no device of this fleet is ever eligible under its rule")
        if start >= self.until and not self._n_found:
            raise SimulationError(
                f"no device is eligible before the run's end at {format_duration(self.until)}: "
                f"the first one would be at {format_duration(start)}"
            )
        return start

    @property
    def sees_every_change(self) -> bool:
        """Whether a cohort that is not complete is looked at whenever a device comes or goes.

        Simplification: in a fleet of more than 65,536 devices somebody comes or goes all the time, and it is looked at
        again after up to a minute, in proportion to what is lacking.
        """
        return not self.world.fleet.is_large

    @property
    def retry_at(self) -> float:
        """Instant before which another selection finds nothing new, unless a session ends."""
        return self._retry_at

    def assign(self, selection: Selection, now: float) -> Sessions:
        """Plan one session for each selected device, starting now from the newest version."""
        ids, cells, work = selection.ids, selection.cells, self.task.work
        client_ids = self.task.holders.client_of(ids)
        n_examples = self.task.clients.n_examples(client_ids)
        n_before, slots = self.participation.begin(ids)
        held = self.participation.cache(slots)
        rows = self.world.plan(
            ids,
            cells,
            work=work,
            now=now,
            k=n_before,
            n_examples=n_examples,
            download_bytes=work.sizes(*held, n_examples, version=self.version, now=now),
            battery_percent=None if self.battery is None else self.battery.percent(ids, cells, now),
        )
        rows["session_id"] = np.arange(self.n_assigned, self.n_assigned + len(ids))
        rows["client_id"], rows["version"] = client_ids, self.version
        self.n_assigned += len(ids)
        self._largest_batch = max(self._largest_batch, len(ids))
        self.participation.hold(slots, rows["end_at"])
        self._fill_cache(slots, rows, now)
        return rows

    def _fill_cache(self, slots: IntArray, rows: Sessions, now: float) -> None:
        """What devices will hold when their download is done; nobody asks before their session has ended."""
        done = np.flatnonzero(rows["download_end_at"] <= rows["end_at"])
        _, assets_at = self.participation.cache(slots[done])
        fetched_at = rows["download_end_at"][done, None]
        assets_at = np.where(self.task.work.needs_assets(assets_at, now), fetched_at, assets_at)
        self.participation.fill_cache(slots[done], self.version, assets_at)

    # Ends of sessions

    def settle(self, rows: Sessions, close_at: float) -> Sessions:
        """Decide sessions that were not aggregated when the server closed at ``close_at``; log them.

        A device asks before it uploads: from ``close_at`` on it is told that it is not needed (ABORTED).
        """
        is_told = (rows["train_end_at"] <= rows["end_at"]) & (rows["train_end_at"] >= close_at)
        told_at = np.where(np.isfinite(rows["train_end_at"]), rows["train_end_at"], close_at)
        rows["end_at"] = np.where(is_told, told_at, rows["end_at"])
        rows["outcome"] = np.where(is_told, ABORTED, np.where(rows["outcome"] == REPORTS, LATE, rows["outcome"]))
        self.participation.end(rows["device_id"], rows["end_at"])
        self.finish(rows)
        return rows

    def finish(self, rows: Sessions, outcome: int | None = None) -> None:
        """Log sessions with the outcome their plan has, or with ``outcome``."""
        if outcome is not None:
            rows["outcome"] = outcome
        if len(rows):
            self.log.sessions.add(rows, self._book_battery(rows))

    def _book_battery(self, rows: Sessions) -> Spent | None:
        """Devices owe their battery what the sessions took, on top of what was not restored before; what they took."""
        if self.battery is None:
            return None
        spent = self.world.spent(rows, self.task.work)
        debt = self.battery.debt(rows["device_id"], rows["cell"], rows["assigned_at"])
        self.participation.owe(rows["device_id"], debt + spent.battery_percent, rows["end_at"])
        return spent

    # Steps

    def step(self, rows: Sessions, coefficients: FloatArray, *, started_at: float, at: float, n_assigned: int) -> None:
        """Aggregate reported sessions with the given coefficients into the next version, at instant ``at``."""
        self.accepted(at)
        self.evaluate_until(at)
        rows["staleness"] = self.version - rows["version"]
        rows["weight"] = coefficients
        self.participation.aggregate(rows["device_id"], at)
        result = self.trainer.step(
            Updates(
                client_ids=rows["client_id"],
                versions=rows["version"],
                weights=coefficients,
                seeds=rng.bits(self.seed, "update", rows["device_id"], rows["participation"]),
            )
        )
        self.version += 1
        self._log_step(
            rows, started_at, at, n_assigned, is_committed=True, loss=result.train_loss, norm=result.update_norm
        )
        self.finish(rows, AGGREGATED)
        if self.task.evaluation.every_steps and self.version % self.task.evaluation.every_steps == 0:
            self._evaluate(at)
        if self.task.stop.max_steps is not None and self.version >= self.task.stop.max_steps:
            self.stop_reason = self.stop_reason or "max_steps"
        if result.losses is not None:
            self.search.observe(rows, result.losses)
        if self._on_step is not None:
            self._on_step(self, at)

    def abandon(self, rows: Sessions, *, started_at: float, at: float, n_assigned: int, outcome: int) -> None:
        """Log a round that missed its quorum; what was reported is lost."""
        self._log_step(rows[:0], started_at, at, n_assigned, is_committed=False, loss=None, norm=None)
        self.finish(rows, outcome)

    def _log_step(
        self, rows: Sessions, started_at: float, at: float, n_assigned: int, *, is_committed: bool,
        loss: float | None, norm: float | None,
    ) -> None:  # fmt: skip
        self.log.steps.add(
            step=len(self.log.steps.rows),
            version=self.version,
            started_at=started_at,
            closed_at=at,
            is_committed=is_committed,
            n_assigned=n_assigned,
            n_aggregated=len(rows),
            mean_staleness=float(rows["staleness"].mean()) if len(rows) else None,
            train_loss=loss,
            update_norm=norm,
        )

    # Evaluation

    def evaluate_until(self, at: float) -> None:
        """Evaluate at every scheduled instant up to ``at`` with the version of that instant."""
        while self._next_evaluation_at <= at:
            self._evaluate(self._next_evaluation_at)
            self._next_evaluation_at += self.task.evaluation.every_s or math.inf

    def _evaluate(self, at: float) -> None:
        if self._evaluated_version != self.version:
            self.metrics = _numbers(self.trainer.evaluate(), self.version)
            self._evaluated_version = self.version
        for name, value in self.metrics.items():
            self.log.evals.add(at=at, version=self.version, metric=name, value=value)
        if self.task.stop.metric is not None and self.metrics:
            self._check_target()

    def _check_target(self) -> None:
        metric, goal = self.task.stop.metric, self.task.stop.metric_at_least
        if metric not in self.metrics:
            raise InputError("stop.metric is not evaluated", value=metric, allowed=", ".join(self.metrics))
        if goal is not None and self.metrics[metric] >= goal:
            self.stop_reason = self.stop_reason or "target"

    def end(self, at: float) -> None:
        """Evaluate the last version and close the session log."""
        self.evaluate_until(at)
        if self._evaluated_version != self.version or not self.log.evals.rows:
            self._evaluate(at)
        self.stop_reason = self.stop_reason or "max_s"
        self.ended_at = at
        self.log.sessions.close()


def _numbers(metrics: Mapping[str, float], version: int) -> dict[str, float]:
    """Metrics as a trainer of one's own may give them, as plain floats; what no table can hold ends the run."""
    try:
        found = {str(name): float(value) for name, value in metrics.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SimulationError(f"the trainer's metrics of version {version} are no numbers by name ({error})") from error
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise SimulationError(f"metric {wrong[0]} of version {version} is {found[wrong[0]]}")
    return found
