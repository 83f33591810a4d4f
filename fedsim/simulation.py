"""One run: a coordinator drives a job on a fleet while SimPy keeps the clock.

Ties between events at one instant: SimPy's order (time, priority, insertion). A report at exactly
the deadline counts; a device that asks to upload at exactly the closing instant is told no.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simpy

from fedsim.data.clients import ClientData
from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.holders import Holders
from fedsim.device.session import Device, spent
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.log import RowLog, SessionLog
from fedsim.schema import ELIGIBILITY, GAUGES, OUTCOMES
from fedsim.server.job import Evaluation, Job, Stop
from fedsim.server.protocol.coordinator import Coordinator, Process
from fedsim.server.selector.selection import Selector
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_channel, compile_rule
from fedsim.traces.rule import Rule
from fedsim.training.trainer import Trainer
from fedsim.units import DAY_S

_ELIGIBILITY_INTERVAL_S = 600.0

Unknown = Literal["ineligible", "eligible"]


@dataclass(frozen=True)
class Progress:
    """What a run tells while it goes on."""

    now: float
    version: int
    n_sessions: int
    metrics: dict[str, float]
    stop: Stop


@dataclass(frozen=True)
class Result:
    """What a run leaves besides its tables."""

    summary: dict[str, Any]
    wall_s: float


def reachable(rule: Rule, traces: TraceSet) -> Rule:
    """The rule and, where the traces know the network, that there is one: else nobody can check in."""
    return rule & Rule.parse("network != none") if "network" in traces.channels() else rule


def _track(fleet: Fleet, channel: str) -> Track | None:
    """A channel of the fleet's traces, None where the traces do not have it."""
    return Track(fleet, compile_channel(fleet.traces, channel)) if channel in fleet.traces.channels() else None


def _charging(fleet: Fleet) -> Availability | None:
    """When devices are on the charger; what is unknown is not charging."""
    if "charging" not in fleet.traces.channels():
        return None
    return Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))


class Simulation:
    """All parts of a run, built and checked before the clock starts."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        rule: Rule,
        unknown: Unknown,
        device: Device,
        selector: Selector,
        coordinator: Coordinator,
        clients: ClientData,
        work: Work,
        trainer: Trainer,
        stop: Stop,
        evaluation: Evaluation,
        gauge_interval_s: float,
        seed: int,
        holders: Holders | None = None,
        gates: Sequence[Gate] = (),
        battery: BatteryLimits | None = None,
    ) -> None:
        if gauge_interval_s <= 0:
            raise InputError("gauge_interval_s must be positive", value=gauge_interval_s)
        traces = fleet.traces
        self.fleet, self.rule, self.device, self.selector = fleet, rule, device, selector
        self.coordinator, self.clients, self.work, self.trainer = coordinator, clients, work, trainer
        self.stop, self.evaluation, self.gauge_interval_s, self.seed = stop, evaluation, gauge_interval_s, seed
        self.availability = Availability(fleet, compile_rule(traces, reachable(rule, traces), unknown=unknown))
        self.track = _track(fleet, "network")
        self.holders, self.gates, self.battery = holders, gates, battery
        if battery is not None:
            self._level, self._charging = _track(fleet, "battery"), _charging(fleet)
        self.gauges = RowLog(GAUGES)

    def run(
        self,
        folder: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        central_metrics: Mapping[str, float] | None = None,
    ) -> Result:
        """Play the run once; tables go to ``folder`` (None: sessions are counted and dropped).

        ``central_metrics`` of a baseline are passed on to the summary. The caller writes the summary
        when everything else is written: it marks the run as complete.
        """
        began = time.perf_counter()
        sessions = SessionLog(
            None if folder is None else folder / "sessions",
            lambda rows: spent(rows, self.work, self.device, self.availability, self.battery),
        )
        participation = Participation(len(self.work.assets))
        job = Job(
            seed=self.seed,
            availability=self.availability,
            track=self.track,
            device=self.device,
            selector=self.selector,
            clients=self.clients,
            work=self.work,
            trainer=self.trainer,
            stop=self.stop,
            evaluation=self.evaluation,
            sessions=sessions,
            participation=participation,
            holders=self.holders,
            gates=self.gates,
            battery=None if self.battery is None else Battery(self.battery, self._level, self._charging, participation),
        )
        if on_progress is not None:
            job.on_step = lambda at: on_progress(Progress(at, job.version, job.n_assigned, job.metrics, self.stop))
        week = self._eligible_week()
        env = simpy.Environment()
        env.process(self._sample_gauges(env, job))
        env.run(until=env.process(self.coordinator.run(env, job)))
        if folder is not None:
            for table in (job.steps, job.evals, self.gauges, week):
                table.write(folder)
        summary = self._summary(job, week) | ({"central_metrics": dict(central_metrics)} if central_metrics else {})
        return Result(summary, time.perf_counter() - began)

    def _sample_gauges(self, env: simpy.Environment, job: Job) -> Process:
        while True:
            self.gauges.add(
                at=env.now,
                eligible_fraction=self.availability.eligible_fraction(env.now),
                in_flight=self.coordinator.in_flight(env.now),
                n_waiting=self.coordinator.n_waiting(env.now),
                version=job.version,
            )
            yield env.timeout(self.gauge_interval_s)

    def _eligible_week(self) -> RowLog:
        week = RowLog(ELIGIBILITY)
        for at in np.arange(0.0, 7 * DAY_S, _ELIGIBILITY_INTERVAL_S):
            week.add(
                at=at,
                eligible_fraction=self.availability.eligible_fraction(at),
                admitted_fraction=self.availability.admitted_fraction(at, self.gates),
            )
        return week

    def _summary(self, job: Job, week: RowLog) -> dict[str, Any]:
        committed = [row for row in job.steps.rows if row["is_committed"]]
        counts = job.sessions.outcome_counts
        return {
            "protocol": self.coordinator.name,
            "seed": self.seed,
            "n_devices": self.fleet.n_devices,
            "n_base_traces": self.fleet.traces.n,
            "rule": str(self.rule),
            "simulated_s": job.ended_at,
            "stop_reason": job.stop_reason,
            "n_steps": len(committed),
            "n_abandoned_rounds": len(job.steps.rows) - len(committed),
            "n_versions": job.version,
            "n_sessions": job.n_assigned,
            "n_devices_touched": job.participation.n_touched,
            "outcomes": dict(zip(OUTCOMES, counts.tolist(), strict=True)),
            "download_bytes": job.sessions.download_bytes,
            "upload_bytes": job.sessions.upload_bytes,
            "eligible_fraction_mean": float(np.mean([row["eligible_fraction"] for row in week.rows])),
            "admitted_fraction_mean": float(np.mean([row["admitted_fraction"] for row in week.rows])),
            "n_parameters": self.trainer.n_parameters,
            "model_bytes": self.work.download_bytes,
            "assets_bytes": self.work.assets_bytes,
            "metrics": job.metrics,
        }
