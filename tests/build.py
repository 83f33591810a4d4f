"""Parts of a simulation built by hand, small and explicit: what a test does not say is zero, fixed or always."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.data.clients import Array, Examples
from fedsim.data.passes import Passes
from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.compute import Compute, InferenceCompute
from fedsim.device.energy import Energy
from fedsim.device.holders import Holders, RandomHolders
from fedsim.device.network import Network
from fedsim.device.session import Device, Sessions
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.device.world import World
from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability, Interruption, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.phones import LognormalPhones
from fedsim.schema import NETWORKS, OUTCOMES
from fedsim.server.aggregator import Aggregator
from fedsim.server.protocol.buffered import BufferedCoordinator
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.server.protocol.sync import SyncCoordinator
from fedsim.server.selector.selection import Scene, Selection, Selector
from fedsim.server.selector.uniform import UniformSelector
from fedsim.server.task import Evaluation, Policy, Stop, Task
from fedsim.simulation import Simulation
from fedsim.traces.canonical import Events
from fedsim.traces.rule import Rule
from fedsim.training.trainer import NullTrainer, StepResult, Trainer, Updates
from fedsim.units import DAY_S, FloatArray, IntArray
from tests.device.task_works import MODEL
from tests.hand import events_of, traces_of

Span = tuple[float, float]


# ------------------------------------------------------------------------------------- traces and fleets


def phone(*spans: Span) -> Events:
    """A phone that charges during these spans of seconds and is on wifi all the time."""
    rows: list[tuple[float, str, object]] = [(0.0, "network", "wifi"), (0.0, "charging", 0)]
    for start, end in spans:
        rows += [(start, "charging", 1), (end, "charging", 0)]
    return events_of(rows)


ALWAYS: tuple[Span, ...] = ((0.0, float(DAY_S)),)


def replay(*phones: Sequence[Span]) -> Fleet:
    """One device per phone, device i charging during ``phones[i]`` of each day."""
    traces = traces_of([phone(*spans) for spans in phones], period_s=DAY_S)
    return Fleet(traces, n_devices=len(phones), seed=0, is_replay=True)


def always(n_devices: int) -> Fleet:
    """A fleet whose devices charge all the time."""
    return Fleet(traces_of([phone(*ALWAYS)], period_s=DAY_S), n_devices=n_devices, seed=0)


# ------------------------------------------------------------------------------------- clients, compute, training


@dataclass(frozen=True)
class Sizes:
    """Clients of whom only the number of examples is known: client i holds ``sizes[i]``."""

    sizes: tuple[int, ...] = (10,)

    @property
    def n_clients(self) -> int:
        return len(self.sizes)

    def n_examples(self, client_ids: IntArray) -> IntArray:
        return np.array(self.sizes, dtype=np.int64)[client_ids]

    def fetch(self, client_ids: IntArray) -> Examples:
        raise AssertionError("nothing is trained here")

    def held_out(self) -> tuple[Array, Array]:
        raise AssertionError("nothing is evaluated here")

    def sha256(self) -> str:
        return "0" * 64


@dataclass(frozen=True)
class Seconds:
    """Training seconds of each device and session, from a function of ``(ids, k)``."""

    law: Callable[[IntArray, IntArray], FloatArray]

    def train_s(self, ids: IntArray, k: Any, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        return self.law(ids, k)


def inference_compute(*, seed: int, median_inference_ms: float, sigma: float, **values: Any) -> InferenceCompute:
    """Phones of a lognormal latency on which a sample costs three inferences, unless said otherwise."""
    phones = LognormalPhones(seed=seed, median_inference_ms=median_inference_ms, sigma=sigma)
    plain = {
        "relative_cost": 1.0,
        "benchmark_flops": 1.0,
        "flops_factor": 1.0,
        "latencies_per_layer": 0.0,
        "fixed_s_per_step": 0.0,
        "session_sigma": 0.0,
    }
    return InferenceCompute(
        seed=seed, phones=phones, model=lambda: MODEL, forward_flops=lambda: 1.0, **(plain | values)
    )


def by_device(*seconds: float) -> Seconds:
    """Device i trains ``seconds[i]``, in every session."""
    table = np.array(seconds, dtype=np.float64)
    return Seconds(lambda ids, k: table[ids])


@dataclass
class RecordingTrainer:
    """Steps without tensors, remembering what it was asked; its one metric is the version."""

    n_parameters: int = 0
    version: int = 0
    steps: list[Updates] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)

    def step(self, updates: Updates) -> StepResult:
        self.version += 1
        self.steps.append(updates)
        return StepResult(train_loss=1.0 / self.version, update_norm=1.0, losses=np.ones(len(updates)))

    def evaluate(self) -> dict[str, float]:
        self.evaluated.append(self.version)
        return {"version": float(self.version)}


# ------------------------------------------------------------------------------------- device and server


def rates(bytes_per_s: float) -> Mapping[str, float]:
    """The same rate on every type of network."""
    return dict.fromkeys(NETWORKS[1:], bytes_per_s)


def network(
    *, down: float = 10.0, up: float = 10.0, connect_s: float = 0.0, device_sigma: float = 0.0,
    session_sigma: float = 0.0, **more: Any,
) -> Network:  # fmt: skip
    """The same rates for all sessions, and for all devices unless they are spread by ``device_sigma``."""
    return Network(
        seed=0,
        down_bytes_per_s=rates(down),
        up_bytes_per_s=rates(up),
        device_sigma=device_sigma,
        session_sigma=session_sigma,
        connect_s=connect_s,
        assumed_type="wifi",
        **more,
    )


def device(
    compute: Compute,
    *,
    link: Network | None = None,
    interruption: Interruption = "abort",
    crash_fraction: float = 0.0,
    session_timeout_s: float | None = None,
    partial_work: bool = False,
    seed: int = 0,
) -> Device:
    """A device that trains as ``compute`` says; 2 W of training, 1 W of receiving, 3 W of sending."""
    return Device(
        seed=seed,
        compute=compute,
        network=link or network(),
        energy=Energy(compute_w=2.0, receive_w=1.0, send_w=3.0),
        interruption=interruption,
        crash_fraction=crash_fraction,
        session_timeout_s=session_timeout_s,
        partial_work=partial_work,
    )


def aggregator(service_s: float = 0.0, **changes: Any) -> Aggregator:
    """One worker without cost per byte."""
    return Aggregator(
        **{"seed": 0, "n_workers": 1, "bytes_per_s": None, "service": "fixed"} | {"service_s": service_s} | changes
    )


def sync(goal: int, **changes: Any) -> SyncCoordinator:
    """Rounds without over-selection, deadline or queue that need all reports, starting at once."""
    values = {
        "aggregator": aggregator(),
        "report_goal": goal,
        "over_selection": 1.0,
        "quorum_fraction": 1.0,
        "deadline_s": None,
        "selection_timeout_s": 0.0,
        "assignment_interval_s": 1.0,
        "server_step_s": 0.0,
        "weighting": "uniform",
    }
    return SyncCoordinator(**values | changes)


def buffered(concurrency: int, buffer_size: int, **changes: Any) -> BufferedCoordinator:
    """FedBuff with a tick of one second and no limit of staleness that a test would meet."""
    values = {
        "aggregator": aggregator(),
        "concurrency": concurrency,
        "buffer_size": buffer_size,
        "max_staleness": 1_000_000,
        "staleness_weight": "inverse_sqrt",
        "divisor": "buffer_size",
        "assignment_interval_s": 1.0,
        "weighting": "uniform",
    }
    return BufferedCoordinator(**values | changes)


class Counting(UniformSelector):
    """Notes when it is asked."""

    @classmethod
    def plain(cls) -> Counting:
        """Without separations."""
        return cls(seed=0, min_between_sessions_s=0.0, min_between_participations_s=0.0)

    def start(self, scene: Scene) -> Any:
        self.asked: list[float] = []
        search = super().start(scene)
        find = search.find

        def noted(at: FloatArray) -> Selection:
            self.asked.append(float(at[0]))
            return find(at)

        search.find = noted  # type: ignore[method-assign]
        return search


# ------------------------------------------------------------------------------------- simulations and their tables

NO_BYTES = Work(download_bytes=0, upload_bytes=0, passes=Passes(1, 10))


def simulation(
    coordinator: Coordinator,
    *,
    fleet: Fleet,
    phone: Device,
    work: Work = NO_BYTES,
    max_steps: int | None = None,
    max_s: float = 10.0 * DAY_S,
    trainer: Trainer | None = None,
    clients: Sizes | None = None,
    evaluation: Evaluation | None = None,
    stop: Stop | None = None,
    min_between_sessions_s: float = 0.0,
    min_between_participations_s: float = 0.0,
    gauge_interval_s: float = 600.0,
    rule: str = "charging",
    seed: int = 0,
    selector: Selector | None = None,
    holders: Holders | None = None,
    gates: Sequence[Gate] = (),
    limits: BatteryLimits | None = None,
) -> Simulation:
    """All parts of a run together; ten days at most, so that a broken engine fails and does not hang."""
    clients = clients or Sizes()
    made = trainer or NullTrainer(n_parameters=0)
    return Simulation(
        world=world_of(fleet, phone, rule=rule, limits=limits),
        task=Task(
            clients=clients,
            holders=holders or RandomHolders(clients, seed=seed),
            work=work,
            trainer=lambda: made,
            stop=stop or Stop(max_steps=max_steps, max_s=max_s),
            evaluation=evaluation or Evaluation(every_steps=None, every_s=None),
        ),
        policy=Policy(
            selector
            or UniformSelector(
                seed=seed,
                min_between_sessions_s=min_between_sessions_s,
                min_between_participations_s=min_between_participations_s,
            ),
            gates,
        ),
        coordinator=coordinator,
        gauge_interval_s=gauge_interval_s,
        seed=seed,
    )


def world_of(fleet: Fleet, phone: Device, *, rule: str = "charging", limits: BatteryLimits | None = None) -> World:
    """The world of a fleet whose devices are asked while they charge."""
    return World.of(fleet, Rule.parse(rule), phone, unknown="ineligible", limits=limits)


@dataclass(frozen=True)
class Tables:
    """What a run wrote, and its summary."""

    sessions: pa.Table
    steps: pa.Table
    evals: pa.Table
    gauges: pa.Table
    summary: Mapping[str, Any]

    def column(self, name: str) -> Any:
        """A column of the session table as numpy (nulls: NaN)."""
        return self.sessions.column(name).to_numpy()

    def step_column(self, name: str) -> Any:
        """A column of the step table as numpy (nulls: NaN)."""
        return self.steps.column(name).to_numpy()

    @property
    def outcomes(self) -> Any:
        """Outcome of each session as a word."""
        return np.array(OUTCOMES)[self.column("outcome")]


def played(simulation: Simulation, folder: Path) -> Tables:
    """Run it and read back its tables, sessions in the order of their numbers."""
    result = simulation.run(folder)
    sessions = pq.read_table(folder / "sessions").sort_by("session_id")
    small = {name: pq.read_table(folder / f"{name}.parquet") for name in ("steps", "evals", "gauges")}
    return Tables(sessions=sessions, summary=result.summary, **small)


def planned(
    made: Device,
    availability: Availability,
    track: Track | None,
    work: Work,
    *,
    now: float,
    ids: IntArray,
    n_examples: IntArray,
    k: IntArray | None = None,
    download_bytes: IntArray | None = None,
    battery: Battery | None = None,
) -> Sessions:
    """Trips of devices that are their own cells; each fetches all there is to fetch, unless said otherwise."""
    world = World(Rule.parse("charging"), made, availability, track)
    if battery is not None:
        world = replace(world, limits=battery.limits, charging=battery._charging)
    everything = work.download_bytes + work.plan_bytes + work.assets_bytes
    return world.plan(
        ids,
        ids,
        work=work,
        at=np.full(len(ids), now),
        until=availability.at_cells(ids, now)[1],
        k=(np.zeros(len(ids)) if k is None else k).astype(np.int32),
        n_examples=n_examples,
        download_bytes=np.full(len(ids), everything) if download_bytes is None else download_bytes,
        battery_percent=None if battery is None else battery.percent(ids, ids, now),
    )


def booked(
    rows: Sessions,
    work: Work,
    made: Device,
    availability: Availability,
    track: Track | None,
    limits: BatteryLimits | None = None,
) -> Spent:
    """What trips of :func:`planned` used."""
    return World(Rule.parse("charging"), made, availability, track, limits=limits).spent(rows, work)


def recorded(simulation: Simulation) -> Simulation:
    """The same simulation in a world that keeps a copy of every plan, before the server has decided anything."""
    return replace(simulation, world=PlanRecorder(**vars(simulation.world)))


@dataclass(frozen=True)
class PlanRecorder(World):
    """A world that remembers what was planned."""

    plans: list[Sessions] = field(default_factory=list)

    def plan(self, *args: Any, **kwargs: Any) -> Sessions:
        rows = super().plan(*args, **kwargs)
        self.plans.append(rows.copy())
        return rows

    @property
    def planned(self) -> Sessions:
        """All planned sessions in order of assignment."""
        return np.concatenate(self.plans)
