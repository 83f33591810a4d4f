"""One run: a coordinator drives a job on a fleet while SimPy keeps the clock.

Ties between events at one instant: SimPy's order (time, priority, insertion). A report at exactly
the deadline counts; a device that asks to upload at exactly the closing instant is told no.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simpy

from fedsim.device.session import AGGREGATED
from fedsim.device.world import World
from fedsim.errors import InputError
from fedsim.log import JobLog, RowLog, SessionLog
from fedsim.moved import names_of
from fedsim.schema import ELIGIBILITY, GAUGES, OUTCOMES
from fedsim.server.job import Job
from fedsim.server.protocol.coordinator import Coordinator, Process, Running
from fedsim.server.task import Policy, Stop, Task
from fedsim.units import DAY_S, HOUR_S, J_PER_KWH

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

_ELIGIBILITY_INTERVAL_S = 600.0


@dataclass(frozen=True)
class Progress:
    """What a run tells while it goes on."""

    now: float
    version: int
    n_sessions: int
    metrics: dict[str, float]
    stop: Stop

    @property
    def fraction_done(self) -> float:
        """Share of the run that is over, by steps or by time, whichever is ahead."""
        by_steps = self.version / self.stop.max_steps if self.stop.max_steps else 0.0
        by_time = self.now / self.stop.max_s if self.stop.max_s else 0.0
        return min(1.0, max(by_steps, by_time))


@dataclass(frozen=True)
class Result:
    """What a run leaves besides its tables."""

    summary: dict[str, Any]
    wall_s: float


@dataclass(frozen=True)
class Simulation:
    """All parts of a run, built and checked before the clock starts.

    It holds configuration only: it can be played any number of times, each time to the same bytes.
    """

    world: World
    task: Task
    policy: Policy
    coordinator: Coordinator
    gauge_interval_s: float
    seed: int

    def __post_init__(self) -> None:
        if self.gauge_interval_s <= 0:
            raise InputError("gauge_interval_s must be positive", value=self.gauge_interval_s)

    def run(
        self,
        folder: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        central_metrics: Mapping[str, float] | None = None,
    ) -> Result:
        """Play the run; tables go to ``folder`` (None: sessions are counted and dropped).

        ``central_metrics`` of a baseline are passed on to the summary. The caller writes the summary
        when everything else is written: it marks the run as complete.
        """
        began = time.perf_counter()
        sessions = SessionLog(None if folder is None else folder / "sessions", self.world, self.task.work)

        def tell(job: Job, at: float) -> None:
            if on_progress is not None:
                on_progress(Progress(at, job.version, job.n_assigned, job.metrics, self.task.stop))

        job = Job(self.world, self.task, self.policy, JobLog(sessions), seed=self.seed, on_step=tell)
        gauges, week = RowLog(GAUGES), self._eligible_week()
        env, running = simpy.Environment(), self.coordinator.start(job)
        env.process(self._sample_gauges(env, job, running, gauges, tell))
        env.run(until=env.process(running.run(env)))
        if folder is not None:
            for table in (job.log.steps, job.log.evals, gauges, week):
                table.write(folder)
        summary = self._summary(job, week) | ({"central_metrics": dict(central_metrics)} if central_metrics else {})
        return Result(summary, time.perf_counter() - began)

    def _sample_gauges(
        self, env: simpy.Environment, job: Job, running: Running, gauges: RowLog, tell: Callable[[Job, float], None]
    ) -> Process:
        while True:
            gauges.add(
                at=env.now,
                eligible_fraction=self.world.availability.eligible_fraction(env.now),
                in_flight=running.in_flight(env.now),
                n_waiting=running.n_waiting(env.now),
                version=job.version,
            )
            tell(job, env.now)  # where no step comes for long, too
            yield env.timeout(self.gauge_interval_s)

    def _eligible_week(self) -> RowLog:
        week, availability = RowLog(ELIGIBILITY), self.world.availability
        for at in np.arange(0.0, 7 * DAY_S, _ELIGIBILITY_INTERVAL_S):
            week.add(
                at=at,
                eligible_fraction=availability.eligible_fraction(at),
                admitted_fraction=availability.admitted_fraction(at, self.policy.gates),
            )
        return week

    def _summary(self, job: Job, week: RowLog) -> dict[str, Any]:
        committed = [row for row in job.log.steps.rows if row["is_committed"]]
        sessions, fleet, work = job.log.sessions, self.world.fleet, self.task.work
        return {
            "protocol": self.coordinator.name,
            "seed": self.seed,
            "n_devices": fleet.n_devices,
            "n_base_traces": fleet.traces.n,
            "rule": str(self.world.rule),
            "simulated_s": job.ended_at,
            "stop_reason": job.stop_reason,
            "n_steps": len(committed),
            "n_abandoned_rounds": len(job.log.steps.rows) - len(committed),
            "n_versions": job.version,
            "n_sessions": job.n_assigned,
            "n_devices_touched": job.participation.n_touched,
            "outcomes": dict(zip(OUTCOMES, sessions.outcome_counts.tolist(), strict=True)),
            "device_h": float(sessions.device_s.sum() / HOUR_S),
            "wasted_device_h": float(np.delete(sessions.device_s, AGGREGATED).sum() / HOUR_S),
            "energy_kwh": float(sessions.joules.sum() / J_PER_KWH),
            "wasted_energy_kwh": float(np.delete(sessions.joules, AGGREGATED).sum() / J_PER_KWH),
            "download_bytes": sessions.download_bytes,
            "upload_bytes": sessions.upload_bytes,
            "eligible_fraction_mean": float(np.mean([row["eligible_fraction"] for row in week.rows])),
            "admitted_fraction_mean": float(np.mean([row["admitted_fraction"] for row in week.rows])),
            "n_parameters": job.trainer.n_parameters,
            "model_bytes": work.download_bytes,
            "assets_bytes": work.assets_bytes,
            "metrics": job.metrics,
        }
