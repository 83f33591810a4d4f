"""The server's side of a run, one event at a time; who is selected, and when, is taken from the engine's table.

Events at one instant go by rank: sessions end and reports arrive, reports are ingested, a round closes, it steps,
devices are assigned.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedsim import rng
from tests.alone.phone import US
from tests.alone.setups import Setup
from tests.alone.trip import REPORTS, TRAINING, UPLOAD, Trip, Used, us_of

ENDS, INGESTED, CLOSES, STEPS, ASSIGNS = range(5)
_RETRY_US = 60 * US
_EVER = math.inf
_ROUNDED_PERCENT = 1e-5  # of a battery: a phone that stopped at its floor is so close to it, and stays there


class Disagreement(AssertionError):
    """The engine did what it may not do, or not what it should."""


@dataclass
class Session:
    """One session as it goes; instants in microseconds."""

    id: int
    trip: Trip
    version: int
    client: int
    n_examples: int
    debt: float
    end: float  # as far as is known
    would_end: float = _EVER  # if the run did not end
    outcome: str = ""  # "": not decided
    ingest_start: float = _EVER
    ingested: float = _EVER
    staleness: int | None = None
    weight: float | None = None

    @property
    def reports(self) -> bool:
        return self.trip.outcome == REPORTS

    @property
    def arrival(self) -> tuple[float, int]:
        return self.trip.ends[UPLOAD], self.id

    @property
    def used(self) -> Used:
        return self.trip.used(self.end)


@dataclass
class Seat:
    """What the server remembers of a device."""

    n_sessions: int = 0
    busy_until: float = -_EVER
    participated_at: float = -_EVER  # inf: a report of it is queued or buffered
    last: Session | None = None


@dataclass
class Step:
    """A row of the table of steps."""

    version: int
    opened_at: float
    started_at: float
    closed_at: float
    published_at: float | None
    n_assigned: int
    staleness: list[int]


@dataclass
class Server:
    """What both protocols share. ``selected``: device ids by instant, as the engine assigned them."""

    setup: Setup
    selected: dict[int, list[int]]
    sessions: list[Session] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    evals: list[tuple[float, int]] = field(default_factory=list)
    version: int = 0
    opened_at: float = 0
    ended_at: float = _EVER
    stop_reason: str = "max_s"

    def __post_init__(self) -> None:
        self.seats = [Seat() for _ in self.setup.phones]
        self.max_us = us_of(self.setup.max_s)
        self._events: list[tuple[float, int, tuple[float, int], int, Callable[[], None]]] = []
        self._n_events = 0
        self._free_at = [0.0] * self.setup.queue["n_workers"]
        self._n_arrived = 0
        self._next_eval: float = 0
        self._tried: set[int] = set()
        self.now: float = 0
        self.begin()

    # What a protocol adds

    def begin(self) -> None:
        raise NotImplementedError

    def ingested(self, session: Session) -> None:
        raise NotImplementedError

    # The clock

    def at(self, when: float, rank: int, do: Callable[[], None], order: tuple[float, int] = (0, 0)) -> None:
        heapq.heappush(self._events, (when, rank, order, self._n_events, do))
        self._n_events += 1

    def run(self) -> None:
        while math.isinf(self.ended_at) and self._events and self._events[0][0] <= self.max_us:
            when, rank, _, _, do = heapq.heappop(self._events)
            self.now = when
            if rank == ASSIGNS and when >= self.max_us:
                continue
            do()
        self.end(min(self.ended_at, self.max_us))

    def end(self, at: float) -> None:
        """Cut what has not ended; leave open what is not decided."""
        self.ended_at = at
        missed = sorted(set(self.selected) - self._tried)
        if missed:
            raise Disagreement(f"sessions: assigned at {missed[0] / US} s, when nobody may be")
        for session in self.sessions:
            session.would_end = session.end
            if session.end > at:
                session.end, session.outcome = at, "OPEN"
            session.outcome = session.outcome or "OPEN"
            if session.ingest_start > at:
                session.ingest_start = _EVER
            if session.ingested > at:
                session.ingested = _EVER
        self.evaluate_until(at)
        if self.evals[-1][1] != self.version:
            self.evals.append((at, self.version))

    # Selection

    def level(self, device: int, now: int) -> tuple[float, float]:
        """Percent of a device's battery and what it owes; as if without limits where there is no battery."""
        limits = self.setup.battery
        if limits is None:
            return math.nan, 0.0
        debt, last = 0.0, self.seats[device].last
        if last is not None:
            used = last.used.total_j / (limits.capacity_wh * 3600) * 100
            debt = self._restored(device, last.debt, last.trip.at, last.end) + used
            debt = self._restored(device, debt, last.end, now)
        told = self.setup.phones[device].at(now)[0].battery
        return max((limits.assumed_percent if told is None else told) - debt, 0.0), debt

    def _restored(self, device: int, debt: float, start: float, end: float) -> float:
        assert self.setup.battery is not None
        charged_h = self.setup.phones[device].charged_us(int(start), int(end)) / US / 3600
        return max(debt - charged_h * self.setup.battery.charge_percent_per_h, 0.0)

    def is_allowed(self, device: int, now: int) -> bool:
        seat, setup = self.seats[device], self.setup
        if not setup.phones[device].at(now)[0].is_eligible:
            return False
        if seat.busy_until + us_of(setup.min_between_sessions_s) > now:
            return False
        # Without a separation a report that waits is no reason to leave its device alone.
        separation = us_of(setup.min_between_participations_s)
        if separation and seat.participated_at + separation > now:
            return False
        return setup.battery is None or self.level(device, now)[0] > setup.battery.floor_percent + _ROUNDED_PERCENT

    def select(self, now: int, wanted: int, needed: int) -> list[Session]:
        """The sessions of those whom the engine took at this instant, after a check that they are as many as can be."""
        self._tried.add(now)
        taken = self.selected.get(now, [])
        allowed = [device for device in range(len(self.seats)) if self.is_allowed(device, now)]
        must = min(wanted, len(allowed)) if len(allowed) >= needed else 0
        wrong = [device for device in taken if device not in allowed]
        if wrong:
            raise Disagreement(f"sessions: device {wrong[0]} assigned at {now / US} s, allowed are {allowed}")
        if len(taken) != must or len(set(taken)) != len(taken):
            raise Disagreement(
                f"sessions: assigned at {now / US} s {sorted(taken)}, must be {must} of {allowed} "
                f"(wanted {wanted}, needed {needed})"
            )
        return [self._assign(device, now) for device in taken]

    def _assign(self, device: int, now: int) -> Session:
        seat, setup = self.seats[device], self.setup
        level, debt = self.level(device, now)
        client = int(rng.integers(setup.seed, "client", [device], len(setup.sizes))[0])
        trip = Trip(setup, setup.phones[device], device, seat.n_sessions, now, level, setup.sizes[client])
        made = Session(len(self.sessions), trip, self.newest(now), client, setup.sizes[client], debt, trip.end)
        seat.n_sessions, seat.last, seat.busy_until = seat.n_sessions + 1, made, trip.end
        self.sessions.append(made)
        return made

    def newest(self, now: int) -> int:
        """The version that is downloaded."""
        return sum(step.published_at is not None and step.published_at <= now for step in self.steps)

    def next_chance(self, now: int) -> float:
        """When the fleet will have changed, at the latest after a minute; if nobody is there, when somebody comes."""
        phones = self.setup.phones
        changes = [phone.change_after(now, lambda state: state.is_eligible) for phone in phones]
        is_anyone_there = any(phone.at(now)[0].is_eligible for phone in phones)
        return min([*changes, now + _RETRY_US] if is_anyone_there else changes)

    # The aggregator

    def arrive(self, session: Session) -> None:
        """A report comes to the queue."""
        queue, number = self.setup.queue, self._n_arrived
        self._n_arrived += 1
        service_s = queue["service_s"]
        if queue["bytes_per_s"]:
            service_s += self.setup.upload_bytes / queue["bytes_per_s"]
        if queue["service"] == "exponential":
            service_s *= float(rng.exponential(self.setup.seed, "aggregator/service", [number])[0])
        worker = min(range(len(self._free_at)), key=lambda i: self._free_at[i])
        session.ingest_start = max(self.now, self._free_at[worker])
        session.ingested = self._free_at[worker] = round(session.ingest_start + service_s * US)
        self.at(session.ingested, INGESTED, lambda: self.ingested(session), session.arrival)

    # Steps

    def evaluate_until(self, at: float) -> None:
        while self._next_eval <= at:
            self.evals.append((self._next_eval, self.version))
            self._next_eval += _EVER if self.setup.every_s is None else us_of(self.setup.every_s)

    def step(self, sessions: list[Session], weights: list[float], started_at: float, n_assigned: int) -> None:
        self.evaluate_until(self.now)
        for session, weight in zip(sessions, weights, strict=True):
            session.staleness, session.weight = self.version - session.version, weight
            session.outcome = "AGGREGATED"
            self.seats[session.trip.device].participated_at = self.now
        self.version += 1
        staleness = [self.version - 1 - session.version for session in sessions]
        takes = us_of(self.setup.rules["server_step_s"])
        before = max((step.published_at or 0 for step in self.steps), default=0)
        published = max(self.now, before) + takes
        self.steps.append(Step(self.version, self.opened_at, started_at, self.now, published, n_assigned, staleness))
        if self.setup.every_steps and self.version % self.setup.every_steps == 0:
            self.evals.append((self.now, self.version))
        if self.setup.max_steps is not None and self.version >= self.setup.max_steps:
            self.stop_reason, self.ended_at = "max_steps", self.now

    def plain_weights(self, sessions: list[Session]) -> list[float]:
        by_examples = self.setup.rules["weighting"] == "examples"
        return [session.n_examples * session.trip.trained_fraction if by_examples else 1.0 for session in sessions]


class Sync(Server):
    """Rounds."""

    def begin(self) -> None:
        rules = self.setup.rules
        self.goal = rules["report_goal"]
        self.cohort = math.ceil(self.goal * rules["over_selection"] - 1e-9)
        self.quorum = math.ceil(self.goal * rules["quorum_fraction"] - 1e-9)
        self.straggler_ends: list[float] = []
        self._try_from(0)

    def _try_from(self, at: float) -> None:
        self.trying_since = self.opened_at = int(at)
        self.at(at, ASSIGNS, self._try)

    def _try(self) -> None:
        now, rules = int(self.now), self.setup.rules
        timeout_at = self.trying_since + us_of(rules["selection_timeout_s"])
        round_ = self.select(now, self.cohort, self.cohort if now < timeout_at else self.quorum)
        if round_:
            self._begin_round(round_)
            return
        free_at = min([end for end in self.straggler_ends if end > now], default=_EVER)
        next_at = max(min(self.next_chance(now), free_at), now + us_of(rules["assignment_interval_s"]))
        self.at(min(next_at, timeout_at) if now < timeout_at else next_at, ASSIGNS, self._try)

    def _begin_round(self, round_: list[Session]) -> None:
        self.round, self.started_at, self.n_left = round_, self.now, 0
        deadline_s = self.setup.rules["deadline_s"]
        deadline_at = self.now + (_EVER if deadline_s is None else us_of(deadline_s))
        reports = sorted((session for session in round_ if session.reports), key=lambda session: session.arrival)
        self.accepted = [session for session in reports if session.arrival[0] <= deadline_at][: self.goal]
        self.n_left = len(self.accepted)
        if len(self.accepted) < self.goal and self.setup.rules["short_round"] == "deadline" and deadline_s is not None:
            self.close_at = deadline_at
        elif self.accepted:
            self.close_at = self.accepted[-1].arrival[0]
        else:
            self.close_at = min(max(session.trip.end for session in round_), deadline_at)
        for session in round_:
            self._follow(session)
        self.at(self.close_at, CLOSES, self._close)

    def _follow(self, session: Session) -> None:
        """What will become of it, as long as the run goes on until then."""
        trip, is_accepted = session.trip, session in self.accepted
        if not is_accepted and self.close_at <= trip.ends[TRAINING] <= trip.end:
            session.end = trip.ends[TRAINING]
            self.at(session.end, ENDS, lambda: self._ends_as(session, "ABORTED"))
        elif session.reports:
            self.at(session.end, ENDS, lambda: self.arrive(session), (0, session.id))
        else:
            self.at(session.end, ENDS, lambda: self._ends_as(session, trip.outcome))

    def _ends_as(self, session: Session, outcome: str) -> None:
        session.outcome = outcome

    def ingested(self, session: Session) -> None:
        if session not in self.accepted:
            session.outcome = "LATE"
            return
        self.n_left -= 1
        if not self.n_left and self.close_at < self.now:
            self.at(self.now, STEPS, self._step)

    def _close(self) -> None:
        rest = [session for session in self.round if session not in self.accepted]
        self.straggler_ends += [session.end for session in rest]
        is_free = self.setup.rules["stragglers"] == "free"
        for session in rest:
            self.seats[session.trip.device].busy_until = min(session.end, self.now) if is_free else session.end
        if not self.n_left:
            self.at(self.now, STEPS, self._step)

    def _step(self) -> None:
        accepted, n = self.accepted, len(self.round)
        if len(accepted) >= self.quorum:
            weights = self.plain_weights(accepted)
            self.step(accepted, [weight / sum(weights) for weight in weights], self.started_at, n)
        else:
            for session in accepted:
                session.outcome = "TIMEOUT"
            self.steps.append(Step(self.version, self.opened_at, self.started_at, self.now, None, n, []))
        self._try_from(self.now + us_of(self.setup.rules["server_step_s"]))


class Buffered(Server):
    """A buffer that fills."""

    def begin(self) -> None:
        self.interval = us_of(self.setup.rules["assignment_interval_s"])
        self.retry_at: float = -_EVER
        self.last_tick: float = -_EVER
        self.buffer: list[Session] = []
        self._participated_before: dict[int, float] = {}
        self.n_before_step = 0
        self.at(0, ASSIGNS, self._tick)

    def _tick(self) -> None:
        now, last = int(self.now), self.last_tick
        self.last_tick = now
        self.at(now + self.interval, ASSIGNS, self._tick)
        n_free = self.setup.rules["concurrency"] - sum(session.end > now for session in self.sessions)
        has_ended = any(last < session.end <= now for session in self.sessions)
        if not n_free or not (has_ended or now >= self.retry_at):
            return
        taken = self.select(now, n_free, 1)
        if len(taken) < n_free:
            self.retry_at = self.next_chance(now)
        for session in taken:
            self._follow(session)

    def _follow(self, session: Session) -> None:
        if session.reports:
            self.at(session.end, ENDS, lambda: self._arrive(session), (0, session.id))
        else:
            self.at(session.end, ENDS, lambda: self._lose(session))

    def _lose(self, session: Session) -> None:
        session.outcome = session.trip.outcome

    def _arrive(self, session: Session) -> None:
        seat = self.seats[session.trip.device]
        self._participated_before[session.id] = seat.participated_at
        seat.participated_at = _EVER
        self.arrive(session)

    def ingested(self, session: Session) -> None:
        if self.version - session.version > self.setup.rules["max_staleness"]:
            session.staleness, session.outcome = self.version - session.version, "STALE"
            self.seats[session.trip.device].participated_at = self._participated_before[session.id]
            return
        self.buffer.append(session)
        if len(self.buffer) == self.setup.rules["buffer_size"]:
            self._step()

    def _step(self) -> None:
        buffer, self.buffer = self.buffer, []
        plain = self.plain_weights(buffer)
        weights = list(plain)
        if self.setup.rules["staleness_weight"] == "inverse_sqrt":
            staleness = [self.version - session.version for session in buffer]
            weights = [weight / math.sqrt(1 + s) for weight, s in zip(plain, staleness, strict=True)]
        total = sum(weights) if self.setup.rules["divisor"] == "weight_sum" else sum(plain)
        n_begun = sum(session.trip.at < self.now for session in self.sessions)
        started_at = buffer[0].ingested
        self.step(buffer, [weight / total for weight in weights], started_at, n_begun - self.n_before_step)
        self.n_before_step, self.opened_at = n_begun, self.now


def played_alone(setup: Setup, table: Any) -> Server:
    """The run of a set-up whose selections are those of the engine's session ``table`` (by session_id)."""
    selected: dict[int, list[int]] = defaultdict(list)
    instants = np.rint(table.column("assigned_at").to_numpy() * US).astype(np.int64)
    for at, device in zip(instants.tolist(), table.column("device_id").to_pylist(), strict=True):
        selected[at].append(device)
    server = (Sync if setup.protocol == "sync" else Buffered)(setup, dict(selected))
    server.run()
    return server
