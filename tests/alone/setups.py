"""Small set-ups drawn at random; many numbers are small and whole, so that instants tie."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.device.battery import BatteryLimits
from fedsim.device.energy import Energy
from fedsim.device.network import Network
from fedsim.device.session import Device
from fedsim.device.work import Work
from fedsim.fleet.fleet import Fleet
from fedsim.schema import NETWORKS
from fedsim.server.task import Evaluation, Stop
from fedsim.simulation import Simulation
from fedsim.units import DAY_S, FloatArray, IntArray
from tests.alone.phone import Log, Phone
from tests.build import RecordingTrainer, Sizes, aggregator, buffered, simulation, sync
from tests.hand import events_of, traces_of

TYPES = NETWORKS[1:]
BATCH = 10
ByType = dict[str, float]


@dataclass(frozen=True)
class Link:
    """Settings of the network; ``level`` draws are the product's."""

    down: ByType
    up: ByType
    device_sigma: float
    session_sigma: float
    connect_s: float
    rtt_s: ByType | None
    n_round_trips: int
    waits_on: tuple[str, ...]
    assumed_type: str


@dataclass(frozen=True)
class Setup:
    """Everything that is said about a run."""

    seed: int
    phones: tuple[Phone, ...]
    sizes: tuple[int, ...]  # examples of each client
    train_s: tuple[int, ...]  # what training takes, drawn anew for each session
    thermal_after_s: float
    thermal_slowdown: float
    link: Link
    download_bytes: int
    upload_bytes: int
    plan_bytes: int
    watts: tuple[float, ByType, ByType]  # training, receiving, sending
    interruption: Any
    crash_fraction: float
    session_timeout_s: float | None
    battery: BatteryLimits | None
    min_between_sessions_s: float
    min_between_participations_s: float
    queue: dict[str, Any]
    protocol: str
    rules: dict[str, Any]  # of the coordinator
    max_s: float
    max_steps: int | None
    every_steps: int | None
    every_s: float | None
    gauge_interval_s: float
    epochs: int = 1
    setup_s: float = 0.0
    budget_s: float | None = None  # of training
    partial_work: bool = False

    def trained_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_steps: IntArray) -> FloatArray:
        """Seconds of training of sessions on phones that stay cool; whole ones in each step where steps matter."""
        which = np.floor(rng.uniform(self.seed, "alone/train", ids, k) * len(self.train_s)).astype(np.int64)
        seconds = np.array(self.train_s, dtype=np.float64)[which]
        return np.ceil(seconds / n_steps) * n_steps if self.budget_s or self.partial_work else seconds

    def batches(self, n_examples: int) -> list[int]:
        """How many examples each step of a client with so many sees."""
        a_pass = [min(BATCH, n_examples - start) for start in range(0, n_examples, BATCH)]
        return a_pass * self.epochs


@dataclass(frozen=True)
class Trained:
    """The law of the set-up's training time."""

    setup: Setup

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        return self.setup.trained_s(ids, k, n_steps)


def setup_of(seed: int) -> Setup:
    """The set-up of this number."""
    draw = random.Random(seed)
    pick = draw.choice
    protocol = pick(["sync", "buffered"])
    n = draw.randint(3, 12)
    rule = pick(["available", "available", "charging"])
    with_battery = pick([False, False, True])
    is_on_grid = draw.random() < 0.4  # transfers take whole seconds, and instants tie
    link = _link(draw, is_on_grid)
    rules = _sync_rules(draw, n) if protocol == "sync" else _buffered_rules(draw, n)
    # Who is asked anew while a former session goes on would be booked twice on one battery.
    with_battery &= rules.get("stragglers") != "free"
    setup = Setup(
        seed=seed,
        phones=tuple(_phone(draw, rule, with_battery, link.waits_on) for _ in range(n)),
        sizes=tuple(draw.randint(1, 70) for _ in range(draw.randint(1, 5))),
        train_s=pick([(1, 2, 3), (5, 10, 20, 60), (0, 1), (10,), tuple(range(1, 60)), (0, 30, 200)]),
        thermal_after_s=pick([10.0, float("inf"), float("inf")]),
        thermal_slowdown=pick([1.0, 1.5, 2.0]),
        link=link,
        download_bytes=pick([375, 750] if is_on_grid else [1, 75, 375, 1125, draw.randint(1, 2000)]),
        upload_bytes=pick([0, 75, 75, 150] if is_on_grid else [1, 75, 225, 1125, draw.randint(1, 2000)]),
        plan_bytes=pick([0, 0, 375]),
        watts=(pick([3.0, 5.0]), _by_type(draw, [1.0, 3.0, 0.0]), _by_type(draw, [1.0, 3.0])),
        interruption=pick(["abort", "pause", "ignore"]),
        crash_fraction=pick([0.0, 0.0, 0.2, 0.5]),
        session_timeout_s=pick([None, None, 20.0, 45.0, 150.0]),
        battery=_battery(draw) if with_battery else None,
        min_between_sessions_s=pick([0.0, 0.0, 7.0, 60.0, 100.5]),
        min_between_participations_s=pick([0.0, 0.0, 10.0, 90.0, 200.0]),
        queue=_queue(draw),
        protocol=protocol,
        rules=rules,
        max_s=pick([200.0, 600.0, 1500.0, 3000.0, draw.randint(100_000, 3_000_000) / 1000]),
        max_steps=pick([None, None, 1, 3, 10]),
        every_steps=pick([None, 1, 2]),
        every_s=pick([None, None, 50.0, 33.5]),
        gauge_interval_s=pick([10.0, 60.0, 37.5, 600.0, 10_000.0]),
        epochs=pick([1, 1, 2]),
        setup_s=pick([0.0, 0.0, 0.0, 2.0]),
        budget_s=pick([None, None, 3.0, 7.0, 25.0]),
    )
    if setup.interruption != "abort" or pick([True, False, False, False]):
        return setup
    return _with_partial_work(draw, setup)


def _with_partial_work(draw: random.Random, setup: Setup) -> Setup:
    """Windows close while phones take many steps."""
    phones = [
        replace(phone, logs=phone.logs | {phone.rule: _log(draw, phone.period_s, [1, 1, 0], 120)})
        for phone in setup.phones
    ]
    return replace(
        setup,
        partial_work=True,
        phones=tuple(phones),
        sizes=tuple(size * draw.choice([1, 3]) for size in setup.sizes),
        train_s=draw.choice([(10, 60, 200), (0, 100, 400), tuple(range(50, 300))]),
        session_timeout_s=draw.choice([None, None, 200.0]),
        budget_s=draw.choice([None, None, setup.budget_s, 60.0]),
    )


def _sync_rules(draw: random.Random, n: int) -> dict[str, Any]:
    goal = draw.randint(1, max(1, n // 2))
    return {
        "report_goal": goal,
        "over_selection": draw.choice([1.0, 1.0, 1.3, 2.0]),
        "quorum_fraction": draw.choice([1.0, 0.5, 0.01]),
        "deadline_s": draw.choice([None, None, float(draw.randint(10, 60)), 60.0, 200.0]),
        "selection_timeout_s": draw.choice([0.0, 0.0, 30.0, 100.0]),
        "assignment_interval_s": draw.choice([1.0, 5.0, 0.3]),
        "server_step_s": draw.choice([0.0, 0.0, 2.0, 10.7]),
        "weighting": draw.choice(["uniform", "examples"]),
        "short_round": draw.choice(["deadline", "last_report"]),
        "stragglers": draw.choice(["busy", "busy", "free"]),
    }


def _buffered_rules(draw: random.Random, n: int) -> dict[str, Any]:
    return {
        "concurrency": draw.randint(1, n),
        "buffer_size": draw.randint(1, 5),
        "max_staleness": draw.choice([0, 1, 2, 1000]),
        "staleness_weight": draw.choice(["inverse_sqrt", "constant"]),
        "divisor": draw.choice(["buffer_size", "weight_sum"]),
        "assignment_interval_s": draw.choice([0.3, 1.0, 1.0, 2.5, 7.0]),
        "server_step_s": draw.choice([0.0, 0.0, 3.0, 9.3]),
        "weighting": draw.choice(["uniform", "examples"]),
    }


def _queue(draw: random.Random) -> dict[str, Any]:
    service = draw.choice(["none", "fixed", "exponential"])
    if service == "none":
        return {"service_s": 0.0, "n_workers": 1, "service": "fixed", "bytes_per_s": None}
    return {
        "service_s": draw.choice([1.0, 5.0, 12.0, 0.0]),
        "n_workers": draw.randint(1, 3),
        "service": service,
        "bytes_per_s": draw.choice([None, 100.0]),
    }


def _battery(draw: random.Random) -> BatteryLimits:
    return BatteryLimits(
        capacity_wh=draw.choice([0.05, 0.2, 1.0]),
        floor_percent=draw.choice([0.0, 15.0, 30.0]),
        charge_percent_per_h=draw.choice([20.0, 300.0]),
        assumed_percent=50.0,
    )


def _by_type(draw: random.Random, values: list[float]) -> ByType:
    return {kind: draw.choice(values) for kind in TYPES}


def _link(draw: random.Random, is_on_grid: bool) -> Link:
    is_spread = draw.random() < 0.4 and not is_on_grid
    return Link(
        # Odd, so that no end falls between two microseconds, where a rounding error would decide.
        down=_by_type(draw, [15.0, 25.0, 75.0, 125.0]),
        up=_by_type(draw, [5.0, 15.0, 75.0]),
        device_sigma=0.7 if is_spread else 0.0,
        session_sigma=0.4 if is_spread else 0.0,
        connect_s=draw.choice([0.0, 1.0, 1.0 if is_on_grid else 0.3]),
        rtt_s=_by_type(draw, [1.0, 2.0] if is_on_grid else [0.1, 0.5, 1.0]) if draw.random() < 0.5 else None,
        n_round_trips=draw.choice([0, 1, 3]),
        waits_on=tuple(draw.sample(TYPES, draw.choice([0, 0, 0, 1, 2]))),
        assumed_type=draw.choice(TYPES),
    )


def _log(draw: random.Random, period_s: int, values: list[object], most: int) -> Log:
    # What the run can see of a long lap: its last minutes, and its first hour.
    seen = [*range(1, min(period_s, 3600)), *range(max(3600, period_s - 1500), period_s)]
    return [(at, draw.choice(values)) for at in [0, *sorted(draw.sample(seen, draw.randint(0, most)))]]


def _phone(draw: random.Random, rule: str, with_battery: bool, waits_on: tuple[str, ...]) -> Phone:
    period_s = DAY_S if draw.random() < 0.99 else draw.randint(1000, 4000)  # short laps make the week's curve slow
    networks: list[object] = ["wifi", "wifi", *TYPES, "none", *draw.choice([[], [None]])]
    logs = {
        "available": _log(draw, period_s, [1, 1, 0], 12),
        "network": _log(draw, period_s, networks, 12),
        "charging": _log(draw, period_s, [0, 1], 8),
    }
    if all(kind == "none" or kind in waits_on for _, kind in logs["network"]) and draw.random() < 0.99:
        # A transfer that never ends takes long to plan.
        logs["network"] = [entry for entry in logs["network"] if entry[0] < period_s - 1]
        logs["network"].append((period_s - 1, draw.choice([kind for kind in TYPES if kind not in waits_on])))
    if with_battery:
        logs["battery"] = _log(draw, period_s, [*range(10, 101, 10), None], 3)
    return Phone(rule, period_s, draw.choice([0, draw.randrange(1500), draw.randrange(1500)]), logs)


def engine_of(setup: Setup, **changes: Any) -> Simulation:
    """The product's parts of the set-up; ``changes`` are more rules of the coordinator."""
    queue = aggregator(seed=setup.seed, **setup.queue)
    rules = setup.rules | changes | {"aggregator": queue}
    if setup.protocol == "sync":
        coordinator: Any = sync(rules.pop("report_goal"), **rules)
    else:
        coordinator = buffered(rules.pop("concurrency"), rules.pop("buffer_size"), **rules)
    made = simulation(
        coordinator,
        fleet=_fleet(setup),
        phone=_device(setup),
        work=Work(
            download_bytes=setup.download_bytes,
            upload_bytes=setup.upload_bytes,
            plan_bytes=setup.plan_bytes,
            passes=Passes(setup.epochs, BATCH, max_s=setup.budget_s),
        ),
        clients=Sizes(setup.sizes),
        stop=Stop(max_steps=setup.max_steps, max_s=setup.max_s),
        evaluation=Evaluation(every_steps=setup.every_steps, every_s=setup.every_s),
        min_between_sessions_s=setup.min_between_sessions_s,
        min_between_participations_s=setup.min_between_participations_s,
        gauge_interval_s=setup.gauge_interval_s,
        rule=setup.phones[0].rule,
        seed=setup.seed,
        limits=setup.battery,
    )
    return replace(made, task=replace(made.task, trainer=RecordingTrainer))


def _fleet(setup: Setup) -> Fleet:
    logs = []
    for phone in setup.phones:
        rows = [(float(at), name, value) for name, log in phone.logs.items() for at, value in log]
        logs.append(events_of(sorted(rows, key=lambda row: row[0])))
    traces = traces_of(
        logs,
        period_s=[phone.period_s for phone in setup.phones],
        start_s=[phone.start_s for phone in setup.phones],
        is_local=False,
    )
    return Fleet(traces, n_devices=len(setup.phones), seed=setup.seed, is_replay=True)


def _device(setup: Setup) -> Device:
    link, (compute_w, receive_w, send_w) = setup.link, setup.watts
    return Device(
        seed=setup.seed,
        compute=Trained(setup),
        network=Network(
            seed=setup.seed,
            down_bytes_per_s=link.down,
            up_bytes_per_s=link.up,
            device_sigma=link.device_sigma,
            session_sigma=link.session_sigma,
            connect_s=link.connect_s,
            assumed_type=link.assumed_type,
            rtt_s=link.rtt_s,
            n_round_trips=link.n_round_trips,
            waits_on=link.waits_on,
        ),
        energy=Energy(compute_w=compute_w, receive_w=receive_w, send_w=send_w),
        interruption=setup.interruption,
        crash_fraction=setup.crash_fraction,
        session_timeout_s=setup.session_timeout_s,
        thermal_after_s=setup.thermal_after_s,
        thermal_slowdown=setup.thermal_slowdown,
        setup_s=setup.setup_s,
        partial_work=setup.partial_work,
    )
