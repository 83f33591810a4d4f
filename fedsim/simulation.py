"""One run: a coordinator drives a job on a fleet while SimPy keeps the clock (the order of things: server.clock)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simpy

from fedsim.device.session import AGGREGATED
from fedsim.device.world import World
from fedsim.errors import InputError
from fedsim.log import RowLog, SessionLog
from fedsim.moved import names_of
from fedsim.schema import ELIGIBILITY, OUTCOMES
from fedsim.server.books import GaugeLog, JobLog
from fedsim.server.clock import Decides, play
from fedsim.server.job import Job
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.server.task import Policy, Stop, Task
from fedsim.training.trainer import Measured, Saves
from fedsim.units import DAY_S, HOUR_S, J_PER_KWH, US_PER_S, FloatArray

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

    It holds configuration only: it can be played any number of times, each time to the same bytes. ``remarks`` are
    lines for the user, known before it is played.
    """

    world: World
    task: Task
    policy: Policy
    coordinator: Coordinator
    gauge_interval_s: float
    seed: int
    remarks: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.gauge_interval_s <= 0:
            raise InputError("gauge_interval_s must be positive", value=self.gauge_interval_s)

    def run(
        self,
        folder: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        central_metrics: Mapping[str, float] | None = None,
        central: Measured | None = None,
    ) -> Result:
        """Play the run; tables go to ``folder`` (None: sessions are counted and dropped).

        ``central_metrics`` of a baseline are passed on to the summary, ``central`` to the metrics by group. The caller
        writes the summary when everything else is written: it marks the run as complete.
        """
        began = time.perf_counter()

        def tell(job: Job, at: float) -> None:
            if on_progress is not None:
                on_progress(Progress(at, job.version, job.n_assigned, job.metrics, self.task.stop))

        job = Job(self.world, self.task, self.policy, self._log(folder), seed=self.seed, on_step=tell, central=central)
        week, env = self._eligible_week(), simpy.Environment()
        running = _Told(self.coordinator.start(job), job, tell, self.gauge_interval_s)
        if folder is not None:
            week.write(folder)
        try:
            env.run(until=env.process(play(env, running, rank=0)))
        except BaseException as error:
            if folder is not None and not isinstance(error, Exception):  # told to stop: what is there so far is kept
                job.log.sessions.close()
                _write(job, folder, end_at=float(env.now) / US_PER_S)
            raise
        finally:
            job.log.sessions.stop()
        if folder is not None:
            _write(job, folder, end_at=job.ended_at)
        summary = self._summary(job, week) | ({"central_metrics": dict(central_metrics)} if central_metrics else {})
        return Result(summary, time.perf_counter() - began)

    def _log(self, folder: Path | None) -> JobLog:
        world, work = self.world, self.task.work
        sessions = SessionLog(None if folder is None else folder / "sessions", world, work)
        return JobLog(sessions, GaugeLog(self.gauge_interval_s, world, work))

    def _eligible_week(self) -> RowLog:
        week, availability = RowLog(ELIGIBILITY), self.world.availability
        at = np.arange(0.0, 7 * DAY_S, _ELIGIBILITY_INTERVAL_S)
        eligible, admitted = availability.eligible_fraction(at), availability.admitted_fraction(at, self.policy.gates)
        openings = availability.openings_per_device(np.append(at, 7 * DAY_S))
        columns = {
            "at": at,
            "eligible_fraction": eligible,
            "admitted_fraction": admitted,
            "openings_per_device": openings,
        }
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            week.add(**dict(zip(columns, row, strict=True)))
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
            "metered_bytes": sessions.metered_bytes if self.world.metered else None,
            "regions": list(fleet.regions),
            "eligible_fraction_mean": float(np.mean([row["eligible_fraction"] for row in week.rows])),
            "admitted_fraction_mean": float(np.mean([row["admitted_fraction"] for row in week.rows])),
            "n_parameters": job.trainer.n_parameters,
            "model_bytes": work.download_bytes,
            "assets_bytes": work.assets_bytes,
            "metrics": job.metrics,
        }


class _Told:
    """A coordinator that tells how far the run has come, every ``interval_s`` where no step comes for long."""

    def __init__(self, running: Decides, job: Job, tell: Callable[[Job, float], None], interval_s: float) -> None:
        self._running, self._job, self._tell, self._interval_s = running, job, tell, interval_s
        self._next_at = interval_s

    def decide(self, now: float) -> float:
        """The coordinator's decision."""
        next_at = self._running.decide(now)
        if now >= self._next_at:
            self._tell(self._job, now)
            self._next_at = now + self._interval_s
        return next_at


def _write(job: Job, folder: Path, *, end_at: float) -> None:
    """The small tables of a run that ended, or was stopped, at ``end_at``."""
    for table in (job.log.steps, job.log.evals, *([job.log.groups] if job.log.groups.rows else [])):
        table.write(folder)
    job.log.gauges.write(folder, end_at=end_at, stepped_at=_stepped_at(job.log.steps))
    if isinstance(job.trainer, Saves):
        job.trainer.save(folder / "model")


def _stepped_at(steps: RowLog) -> FloatArray:
    """Instants at which versions were made."""
    return np.array([row["closed_at"] for row in steps.rows if row["is_committed"]])
