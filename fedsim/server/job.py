"""One FL job on the fleet: finds devices, plans and books their sessions, steps and evaluates the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fedsim import rng
from fedsim.data.arrival import arriving
from fedsim.device.session import AGGREGATED, OPEN, Sessions
from fedsim.device.world import World
from fedsim.errors import SimulationError
from fedsim.fleet.admission import Gate
from fedsim.fleet.participation import Participation
from fedsim.moved import names_of
from fedsim.server.arrivals import Arrivals
from fedsim.server.books import JobLog
from fedsim.server.evaluations import Evaluations
from fedsim.server.groups import log_groups
from fedsim.server.selector.selection import Scene, Selection, nobody
from fedsim.server.task import Policy, Task
from fedsim.training.trainer import Measured, Updates
from fedsim.units import DAY_S, FloatArray, IntArray, format_duration

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

_RETRY_S = 60.0  # an incomplete selection is tried again at the next change of the fleet, at the latest then
_LOST_SESSIONS, _LOST_BATCHES = 100_000, 100  # without a limit of time, a run in which so many come to nothing is over
_LOST_PERIODS, _LOST_S = (
    2,
    30.0 * DAY_S,
)  # so is one in which nothing is accepted for so long: what repeats has been seen
_SCARCE_S = 5.0  # in a large fleet that had fewer than were wanted, somebody is looked for again after so long
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
        central: Measured | None = None,
    ) -> None:
        self.world, self.task, self.log, self.seed = world, task, log, seed
        self.trainer = task.trainer()
        self.watch = world.availability.watch()
        self.participation = Participation(
            n_assets=len(task.work.assets),
            keeps_cache=task.work.caches_model or bool(task.work.assets),
            keeps_debt=world.limits is not None,
            keeps_participations=policy.selector.keeps_participations or "participation" in task.evaluation.groups,
        )
        self.battery = world.battery(self.participation)
        data = arriving(task.clients)
        self.arrivals = None if data is None else Arrivals(
            data, task.holders, self.participation, n_devices=world.fleet.n_devices, seed=seed
        )  # fmt: skip
        own: Sequence[Gate] = [gate for gate in (self.battery, self.arrivals) if gate is not None]
        gates: Sequence[Gate] = [*policy.gates, *own]
        self.scene = Scene(world.availability, self.watch, self.participation, gates)
        self.search = policy.selector.start(self.scene)
        self.evaluations = Evaluations(self.trainer, task.evaluation, task.stop, log.evals)
        self.version = 0
        self.n_assigned = 0
        self.stop_reason = ""
        self.ended_at = math.nan
        self._on_step, self._central = on_step, central
        self._retry_at = -math.inf
        self._accepted_at, self._n_assigned_then, self._largest_batch = 0.0, 0, 0  # when an update was last accepted
        self._n_found = 0  # devices that any selection found or knew to be there, assigned or not
        self._is_anyone_eligible = False  # whom a selection did not find

    @property
    def until(self) -> float:
        """The instant at which the run's time is up."""
        max_s = self.task.stop.max_s
        return math.inf if max_s is None else max_s

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that were evaluated last."""
        return self.evaluations.metrics

    @property
    def can_look_ahead(self) -> bool:
        """Whether a session can be planned before the version that it downloads is there."""
        return not self.task.work.caches_model

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

    def find(self, at: FloatArray) -> Selection:
        """One device for each instant, as :meth:`Search.find`; fewer than wanted at the first: when to try again."""
        selection, now = self.search.find(at), float(at[0])
        n_wanted = int(np.searchsorted(at, now, side="right"))
        self._n_found += min(len(selection), n_wanted)
        if len(selection) < n_wanted:
            self._retry_at = self._next_chance(now)
            if self._retry_at > now and not self.sees_every_change:
                self._retry_at = max(self._retry_at, now + _SCARCE_S)
        return selection

    def find_together(self, now: float, n: int, *, at_least: int) -> Selection:
        """Up to ``n`` devices that start together: none is looked for if ``at_least`` cannot be there."""
        most = self.world.availability.most_eligible(now)
        if most < at_least:
            self._n_found += most
            selection, self._retry_at = nobody(), self._next_chance(now)
        else:
            selection = self.find(np.full(n, now))
            most = len(selection)
        is_anyone_there = self.world.availability.eligible_fraction(now) > 0
        if most < at_least and is_anyone_there and not self.sees_every_change:
            self._retry_at = now + min(_WAITS_PER_LACK * (at_least - most) / at_least, 1.0) * _RETRY_S
        return selection

    def check_admitted(self) -> None:
        """Refuse a run in which devices are eligible, but no selection found one that it may take.

        Raises:
            SimulationError: that is so.
        """
        if self._is_anyone_eligible and not self._n_found:
            raise SimulationError(
                f"devices are eligible, but none is admitted before the run's end at {format_duration(self.until)}: "
                "requirements on the phone, roll-out, holders of data, batteries or fleet.gates leave nobody"
            )

    def _next_chance(self, now: float) -> float:
        if self.world.availability.eligible_fraction(now) > 0:
            self._is_anyone_eligible = True
            return min(self.watch.next_change(now), now + _RETRY_S)
        start = self.watch.earliest_start(now)
        if math.isinf(start):
            raise SimulationError("no device of this fleet is ever eligible under its rule")
        if start >= self.until and not self._n_found:
            self.check_admitted()
            raise SimulationError(
                f"no device is eligible before the run's end at {format_duration(self.until)}: "
                f"the first one would be at {format_duration(start)}"
            )
        return start

    @property
    def sees_every_change(self) -> bool:
        """Whether a cohort that is not complete is looked at whenever a device comes or goes.

        Simplification: in a fleet of more than 65,536 devices somebody comes or goes all the time, and it is looked at
        again after up to a minute, in proportion to what is lacking, and after five seconds where single devices are
        wanted.
        """
        return not self.world.fleet.is_large

    @property
    def retry_at(self) -> float:
        """Instant before which another selection finds nothing new, unless a session ends."""
        return self._retry_at

    def draft(self, selection: Selection) -> Sessions:
        """Plan a session for each device found; nothing has begun yet, and nothing is changed."""
        ids, cells, at, work = selection.ids, selection.cells, selection.at, self.task.work
        client_ids = self.task.holders.client_of(ids)
        since = None if self.arrivals is None else self.arrivals.since(ids, at)
        if self.arrivals is None or since is None:
            n_examples = self.task.clients.n_examples(client_ids)
        else:
            n_examples = self.arrivals.n_examples(client_ids, since, at)
        download_bytes, assets_bytes = self._sizes(ids, n_examples, at)
        rows = self.world.plan(
            ids,
            cells,
            work=work,
            at=at,
            until=selection.until,
            k=self.participation.n_sessions(ids),
            n_examples=n_examples,
            download_bytes=download_bytes,
            assets_bytes=assets_bytes,
            battery_percent=None if self.battery is None else self.battery.percent(ids, cells, at),
        )
        rows["client_id"] = client_ids
        if since is not None:
            rows["data_since"] = since
        if self.battery is not None:
            rows["debt_percent"] = self.battery.debt(ids, cells, at)
        return rows

    def _sizes(self, ids: IntArray, n_examples: IntArray, at: FloatArray) -> tuple[IntArray, IntArray | int]:
        """Bytes that each device downloads, and of these assets."""
        work = self.task.work
        if not self.participation.keeps_cache:
            return work.full_sizes(n_examples), work.assets_bytes
        version, assets_at = self.participation.held(ids)
        sizes = work.sizes(version, assets_at, n_examples, version=self.version, at=at)
        return sizes, work.assets_sizes(assets_at, at)

    def begin(self, rows: Sessions, versions: int | IntArray) -> None:
        """The drafted sessions begin, each with the version that is the newest then."""
        n, ids = len(rows), rows["device_id"]
        rows["session_id"] = np.arange(self.n_assigned, self.n_assigned + n)
        rows["version"] = versions
        self.n_assigned += n
        self._largest_batch = max(self._largest_batch, n)
        self.participation.begin(ids, rows["end_at"])
        if self.participation.keeps_cache:
            self._fill_cache(rows)

    def _fill_cache(self, rows: Sessions) -> None:
        """What devices will hold when their download is done; nobody asks before their session has ended."""
        done = rows.compress(rows["download_end_at"] <= rows["end_at"])
        _, assets_at = self.participation.held(done["device_id"])
        is_fetched = self.task.work.needs_assets(assets_at, done["assigned_at"])
        assets_at = np.where(is_fetched, done["download_end_at"][:, None], assets_at)
        self.participation.hold(done["device_id"], done["version"], assets_at)

    # Ends of sessions

    def book(self, rows: Sessions) -> None:
        """How these sessions go is certain, up to their end: book what they take of phones, network and server.

        A battery owes at a session's end what charging had not restored by then and what the session took. It is
        booked ahead, since nobody asks before: the device is busy.
        """
        self.log.gauges.add(rows)
        if self.battery is not None:
            spent = self.world.spent(rows, self.task.work)
            debt = self.battery.left(rows["debt_percent"], rows["cell"], rows["assigned_at"], rows["end_at"])
            self.participation.owe(rows["device_id"], debt + spent.battery_percent, rows["end_at"])

    def finish(self, rows: Sessions, *, at: FloatArray | float, outcome: int | None = None) -> None:
        """Log sessions as decided at these instants, with the outcome their plan has, or with ``outcome``."""
        if outcome is not None:
            rows["outcome"] = outcome
        if len(rows):
            self.log.sessions.add(rows, at if isinstance(at, np.ndarray) else np.full(len(rows), at))

    def leave_open(self, rows: Sessions, at: float) -> None:
        """The run ends with these sessions in flight, queued or buffered: they are cut there."""
        rows = rows.take(np.argsort(rows["session_id"]))
        rows["end_at"] = np.minimum(rows["end_at"], at)
        for name in ("ingest_start_at", "ingested_at"):
            rows[name] = np.where(rows[name] <= at, rows[name], np.inf)
        self.finish(rows, at=at, outcome=OPEN)

    # Steps

    def step(
        self, rows: Sessions, coefficients: FloatArray, *, started_at: float, at: float, n_assigned: int,
        opened_at: float | None = None, published_at: float | None = None,
    ) -> None:  # fmt: skip
        """Aggregate reported sessions with the given coefficients into the next version, at instant ``at``.

        ``opened_at`` (None: ``started_at``) and ``published_at``, from when devices download it (None: ``at``), are
        for the table.
        """
        self.accepted(at)
        self.evaluations.until(at, self.version)
        rows["staleness"] = self.version - rows["version"]
        rows["weight"] = coefficients
        self.participation.aggregate(rows["device_id"], at)
        result = self.trainer.step(
            Updates(
                client_ids=rows["client_id"],
                versions=rows["version"],
                weights=coefficients,
                seeds=rng.bits(self.seed, "update", rows["device_id"], rows["participation"]),
                n_steps=self.task.work.steps_on_data(rows["n_examples"], rows["n_steps"]),
                since=None if self.arrivals is None else rows["data_since"],
                at=None if self.arrivals is None else rows["assigned_at"],
            )
        )
        self.version += 1
        instants = (
            started_at if opened_at is None else opened_at,
            started_at,
            at,
            at if published_at is None else published_at,
        )
        self._log_step(rows, instants, n_assigned, loss=result.train_loss, norm=result.update_norm)
        self.finish(rows, at=at, outcome=AGGREGATED)
        self.evaluations.stepped(at, self.version)
        if self.task.stop.max_steps is not None and self.version >= self.task.stop.max_steps:
            self.stop_reason = "max_steps"
        if self.evaluations.has_reached_target:
            self.stop_reason = "target"
        if result.losses is not None:
            self.search.observe(rows, result.losses)
        if self._on_step is not None:
            self._on_step(self, at)

    def abandon(
        self, rows: Sessions, *, started_at: float, at: float, n_assigned: int, outcome: int,
        opened_at: float | None = None,
    ) -> None:  # fmt: skip
        """Log a round that missed its quorum; what was reported is lost."""
        instants = (started_at if opened_at is None else opened_at, started_at, at, None)
        self._log_step(rows[:0], instants, n_assigned, loss=None, norm=None)
        self.finish(rows, at=at, outcome=outcome)

    def _log_step(
        self, rows: Sessions, instants: tuple[float, float, float, float | None], n_assigned: int, *,
        loss: float | None, norm: float | None,
    ) -> None:  # fmt: skip
        opened_at, started_at, closed_at, published_at = instants
        self.log.steps.add(
            step=len(self.log.steps.rows),
            version=self.version,
            opened_at=opened_at,
            started_at=started_at,
            closed_at=closed_at,
            published_at=published_at,
            is_committed=published_at is not None,
            n_assigned=n_assigned,
            n_aggregated=len(rows),
            mean_staleness=float(rows["staleness"].mean()) if len(rows) else None,
            train_loss=loss,
            update_norm=norm,
        )

    def advance(self, now: float) -> None:
        """Everything that was decided by ``now`` is logged, and every session that began before is booked."""
        self.log.sessions.advance()
        self.log.gauges.advance(now)

    def end(self, at: float) -> None:
        """Evaluate the last version, by groups too if that is asked for, and close the tables."""
        self.evaluations.end(at, self.version)
        measured = getattr(self.trainer, "measured", None)
        if self.task.evaluation.groups and measured is not None:
            log_groups(
                self.log.groups, self.task, self.world, self.participation, at=at, version=self.version,
                measured=measured, central=self._central, seed=self.seed,
            )  # fmt: skip
        self.stop_reason = self.stop_reason or ("target" if self.evaluations.has_reached_target else "max_s")
        self.ended_at = at
        self.log.sessions.close()
