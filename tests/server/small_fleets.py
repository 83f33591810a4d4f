"""Small busy fleets drawn at random, on whole seconds so that instants tie, and what holds in every run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.device.session import ABORTED, AGGREGATED, LATE, REPORTS
from fedsim.device.work import Work
from fedsim.errors import SimulationError
from fedsim.fleet.availability import INTERRUPTIONS
from fedsim.fleet.fleet import Fleet
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.simulation import Simulation
from fedsim.units import HOUR_S
from tests.build import Seconds, Sizes, Span, Tables, device, network, played, recorded, replay, simulation

WORK = Work(download_bytes=100, upload_bytes=50, passes=Passes(1, 10))
PERIOD_S = 24 * HOUR_S


@dataclass(frozen=True)
class SmallFleet:
    """A fleet of replayed phones with windows, speeds and sizes drawn from ``draw_seed``."""

    n_devices: int
    draw_seed: int
    interruption: Any
    crash_fraction: float
    session_timeout_s: float | None
    min_between_participations_s: float
    device_sigma: float  # 0: transfers take whole seconds and instants tie
    training_s: float | None  # the budget
    partial_work: bool  # where interruptions abort

    def windows(self) -> list[list[Span]]:
        """Windows of each phone in its first hour, and one later that day."""
        draw = np.random.default_rng(self.draw_seed)
        edges = np.sort(draw.choice(np.arange(1, 3000), (self.n_devices, 8), replace=False), axis=1)
        edges[:, 0] *= draw.integers(0, 2, self.n_devices)  # half of the phones begin plugged in
        late = [[(40_000.0, 41_000.0)]] * self.n_devices
        early = edges.reshape(self.n_devices, -1, 2).astype(float).tolist()
        return [[*((start, end) for start, end in spans), *more] for spans, more in zip(early, late, strict=True)]

    def fleet(self) -> Fleet:
        return replay(*self.windows())

    def simulation(self, coordinator: Coordinator, *, max_s: float, max_steps: int | None, **more: Any) -> Simulation:
        """A run whose world keeps its plans (:class:`tests.build.PlanRecorder`)."""
        phone = device(
            Seconds(lambda ids, k: 5.0 + np.floor(60 * rng.uniform(self.draw_seed, "seconds", ids, k) ** 2)),
            link=network(down=10.0, up=10.0, connect_s=1.0, device_sigma=self.device_sigma),
            interruption=self.interruption,
            crash_fraction=self.crash_fraction,
            session_timeout_s=self.session_timeout_s,
            partial_work=self.partial_work and self.interruption == "abort",
        )
        made = simulation(
            coordinator,
            fleet=self.fleet(),
            phone=phone,
            work=replace(WORK, passes=replace(WORK.passes, max_s=self.training_s)),
            clients=Sizes((10, 30, 5, 70)),
            max_s=max_s,
            max_steps=max_steps,
            min_between_participations_s=self.min_between_participations_s,
            seed=self.draw_seed,
            **more,
        )
        return recorded(made)


SMALL_FLEETS = st.builds(
    SmallFleet,
    n_devices=st.integers(4, 14),
    draw_seed=st.integers(0, 1000),
    interruption=st.sampled_from(INTERRUPTIONS),
    crash_fraction=st.sampled_from([0.0, 0.2]),
    session_timeout_s=st.sampled_from([None, 45.0]),
    min_between_participations_s=st.sampled_from([0.0, 100.0]),
    device_sigma=st.sampled_from([0.0, 0.0, 0.8]),
    training_s=st.sampled_from([None, None, 20.0]),
    partial_work=st.booleans(),
)


@dataclass(frozen=True)
class End:
    """How a session ends."""

    end_at: float
    outcome: int


def end_after_close(plan: Any, close_at: float) -> End:
    """The end of a session that the server does not want any more from ``close_at`` on."""
    has_trained = plan["train_end_at"] <= plan["end_at"]
    if has_trained and plan["train_end_at"] >= close_at:
        return End(plan["train_end_at"], ABORTED)
    return End(plan["end_at"], LATE if plan["outcome"] == REPORTS else int(plan["outcome"]))


def run_of(parts: Simulation) -> Tables | None:
    """The tables of a run; None if it rightly refuses because there are never enough devices before its end."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return played(parts, Path(folder))
        except SimulationError as error:
            ids, until = np.arange(parts.world.fleet.n_devices), parts.task.stop.max_s
            assert until is not None
            n_eligible = max(int(parts.world.availability.at(ids, at)[0].sum()) for at in np.arange(until))
            assert n_eligible < getattr(parts.coordinator, "quorum", 1)
            assert ("no round began" if n_eligible else "no device is eligible") in str(error)
            return None


def check_ends(run: Tables, expected: dict[int, End]) -> None:
    """Outcome and end of every session in the table are those expected."""
    found = zip(run.column("session_id"), run.column("end_at"), run.column("outcome"), strict=True)
    assert {int(i): End(float(end), int(outcome)) for i, end, outcome in found} == expected


def check_devices(run: Tables, small: SmallFleet) -> None:
    """One session at a time per device, begun while eligible, and aggregated ones far enough apart."""
    spans = [np.array(spans) for spans in small.windows()]
    ids, begin, end = run.column("device_id"), run.column("assigned_at"), run.column("end_at")
    for phone in np.unique(ids):
        mine = np.flatnonzero(ids == phone)
        position = np.round(begin[mine], 6) % PERIOD_S  # instants are compared in microseconds
        starts, stops = spans[phone].T
        assert ((starts <= position[:, None]) & (position[:, None] < stops)).any(axis=1).all()
        order = mine[np.lexsort((end[mine], begin[mine]))]
        assert (begin[order][1:] >= end[order][:-1]).all()
        np.testing.assert_array_equal(run.column("participation")[order], np.arange(len(order)))
        closed_at = run.step_column("closed_at")[run.step_column("is_committed")]
        aggregated = mine[run.column("outcome")[mine] == AGGREGATED]
        step = (run.column("version") + run.column("staleness"))[aggregated].astype(int)
        assert (np.diff(np.sort(closed_at[step])) >= small.min_between_participations_s).all()
