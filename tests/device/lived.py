"""A phone that lives through its trips one by one in exact fractions, and the same trips as they are planned."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.device.compute import FixedCompute
from fedsim.device.energy import Energy
from fedsim.device.network import Network
from fedsim.device.session import Device, Sessions
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.schema import NETWORKS
from fedsim.traces.criteria import Rule, compile_channel, compile_rule
from fedsim.units import DAY_S, FloatArray, IntArray
from tests.build import booked as spent
from tests.build import planned as plan_trips
from tests.hand import events_of, traces_of

DOWN = {"wifi": 100.0, "2g": 10.0, "3g": 20.0, "4g": 50.0, "5g": 100.0}
UP = {"wifi": 50.0, "2g": 10.0, "3g": 10.0, "4g": 20.0, "5g": 100.0}
ENERGY = Energy(compute_w=3.0, receive_w=0.5, send_w=1.25)
MODES = ("abort", "pause", "ignore")
Log = list[tuple[int, str | None]]  # seconds since the trace's first instant, network or unknown
Instant = Fraction | float  # a float only for infinity


@dataclass(frozen=True)
class Phone:
    """One trace on a grid of whole seconds."""

    spans: list[tuple[int, int]]
    log: Log
    period_s: int
    start_s: int

    def position(self, at: Fraction) -> Fraction:
        return (at - self.start_s) % self.period_s

    def is_open(self, at: Fraction) -> bool:
        return any(start <= self.position(at) < end for start, end in self.spans)

    def change_after(self, at: Fraction) -> Instant:
        """The next instant at which ``is_open`` differs: the grid is searched second by second."""
        grid = Fraction(math.floor(at))
        for step in range(1, 2 * self.period_s + 2):
            if self.is_open(grid + step) != self.is_open(at):
                return grid + step
        return math.inf

    def network(self, at: Fraction) -> str | None:
        """The network that the log tells, None where it is unknown."""
        kind = None
        for instant, value in self.log:
            kind = value if instant <= self.position(at) else kind
        return kind

    def network_until(self, at: Fraction) -> Fraction:
        """The instant of the next entry of the log, or of its end."""
        position = self.position(at)
        return at + min([i for i, _ in self.log if i > position], default=self.period_s) - position


@dataclass(frozen=True)
class Scene:
    """Some phones, and what is asked of them at one instant; all instants are multiples of 10 ms."""

    phones: list[Phone]
    now: Fraction
    connect_s: Fraction
    train_s: list[Fraction]
    work: Work
    mode: str
    timeout_s: Fraction | None
    crash_fraction: float

    def parts(self, row: int, phase: int) -> list[tuple[Fraction, dict[str, float] | None]]:
        """What a phase consists of: seconds of work, or bytes at the rates of the networks."""
        if phase == 0:
            return [(self.connect_s, None), (Fraction(self.work.download_bytes), DOWN)]
        if phase == 1:
            return [(self.train_s[row], None)]
        return [(Fraction(self.work.upload_bytes), UP)]


@dataclass
class Played:
    """Ends of the phases that were reached; seconds of work and bytes of each, as far as it came."""

    ends: list[Instant] = field(default_factory=list)
    active_s: list[Fraction] = field(default_factory=lambda: [Fraction(0)] * 3)
    n_bytes: list[Fraction] = field(default_factory=lambda: [Fraction(0)] * 3)
    at: Instant = Fraction(0)


def play(scene: Scene, row: int, cut: Instant = math.inf) -> Played:
    """Live through one trip until it is done or cut off; what stands still for a whole period goes on for ever."""
    phone, played, pauses = scene.phones[row], Played(at=scene.now), scene.mode == "pause"
    moved_at = scene.now
    for phase in range(3):
        for left, rates in scene.parts(row, phase):
            while left > 0:
                if played.at - moved_at >= phone.period_s:
                    played.at = cut
                if played.at == cut:
                    played.ends += [math.inf] * (3 - phase) * (cut == math.inf)
                    return played
                until = min(phone.network_until(played.at), cut)
                until = min(until, phone.change_after(played.at)) if pauses else until
                rate = Fraction(1)
                if rates is not None:
                    kind = phone.network(played.at)
                    rate = Fraction(0) if kind == "none" else Fraction(rates[kind or "3g"])
                if pauses and not phone.is_open(played.at):
                    rate = Fraction(0)
                step = Fraction(until) - played.at
                step = min(step, left / rate) if rate else step
                played.at += step
                played.active_s[phase] += step if rate else 0
                played.n_bytes[phase] += rate * step if rates is not None else 0
                left -= rate * step
                moved_at = played.at if rate else moved_at
        played.ends.append(played.at)
    return played


def cut_of(scene: Scene, row: int, planned: Played) -> tuple[Instant, int]:
    """What would end the trip before a report, and when; of two at one instant the first named."""
    crash: Instant = math.inf
    if rng.uniform(7, "crash", [row], [row])[0] < scene.crash_fraction:
        moment = Fraction(float(rng.uniform(7, "crash/moment", [row], [row])[0]))
        crash = scene.now + moment * (planned.ends[2] - scene.now) if planned.ends[2] < math.inf else math.inf
    leave = scene.phones[row].change_after(scene.now) if scene.mode == "abort" else math.inf
    timeout = scene.now + (30 * DAY_S if scene.timeout_s is None else scene.timeout_s)
    return min([(leave, 0), (crash, 1), (timeout, 2)])


@st.composite
def phones(draw: st.DrawFn, period_s: int) -> Phone:
    kind = draw(st.sampled_from(["cuts", "cuts", "always", "both ends"]))
    cuts = draw(st.sets(st.integers(0, period_s), min_size=2, max_size=8))
    edges = sorted(cuts | ({0, period_s} if kind == "both ends" else set()))
    edges = [0, period_s] if kind == "always" else edges[: len(edges) // 2 * 2]
    instants = sorted(draw(st.sets(st.integers(0, period_s - 1), min_size=1, max_size=5)))
    network = st.sampled_from([*NETWORKS, "wifi", "none", None])
    log: Log = [(at, draw(network)) for at in instants]
    if all(value == "none" for _, value in log):
        log[-1] = (log[-1][0], "wifi")
    return Phone(list(zip(edges[::2], edges[1::2], strict=True)), log, period_s, draw(st.integers(0, 100)))


@st.composite
def scenes(draw: st.DrawFn, mode: str) -> Scene:
    period_s = draw(st.integers(5, 60))
    made = draw(st.lists(phones(period_s), min_size=1, max_size=5))
    now = draw(st.integers(0, 300 * period_s).map(lambda n: Fraction(n, 100)))
    if not made[0].is_open(now):
        now = Fraction(made[0].change_after(now))
    here = [phone for phone in made if phone.is_open(now)]
    hundredths = st.integers(0, 3000).map(lambda n: Fraction(n, 100))
    seconds = st.integers(0, 30).map(Fraction)  # on the grid, so that ends and changes often coincide
    lengths = hundredths | seconds
    return Scene(
        phones=here,
        now=now,
        connect_s=draw(st.sampled_from([Fraction(0), Fraction(3, 10), Fraction(2)])),
        train_s=draw(st.lists(lengths, min_size=len(here), max_size=len(here))),
        work=Work(
            download_bytes=draw(st.integers(1, 1500)),
            upload_bytes=draw(st.integers(1, 800)),
            passes=Passes(1, 1),
        ),
        mode=mode,
        timeout_s=draw(st.none() | lengths.filter(lambda s: s > 0)),
        crash_fraction=draw(st.sampled_from([0.0, 0.0, 0.5, 1.0])),
    )


@dataclass(frozen=True)
class Given:
    """A compute law that reads the seconds of each device from a list."""

    seconds: FloatArray

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        return self.seconds[ids]


def network(**changes: Any) -> Network:
    arguments: dict[str, Any] = {
        "seed": 7, "down_bytes_per_s": DOWN, "up_bytes_per_s": UP, "device_sigma": 0.0, "session_sigma": 0.0,
        "connect_s": 0.0, "assumed_type": "3g",
    }  # fmt: skip
    return Network(**(arguments | changes))


def device(**changes: Any) -> Device:
    arguments: dict[str, Any] = {
        "seed": 7, "compute": FixedCompute(train_s=5.0), "network": network(), "energy": ENERGY,
        "interruption": "abort", "crash_fraction": 0.0, "session_timeout_s": None,
    }  # fmt: skip
    return Device(**(arguments | changes))


def fleet_of(made: list[Phone]) -> tuple[Availability, Track]:
    logs = []
    for phone in made:
        rows: list[tuple[float, str, object]] = [(at, "network", value) for at, value in phone.log]
        rows += [(0, "charging", int(phone.spans[0][0] == 0))]
        rows += [(at, "charging", 1) for at, _ in phone.spans if at] + [(at, "charging", 0) for _, at in phone.spans]
        logs.append(events_of(sorted(rows, key=lambda row: row[0])))
    traces = traces_of(
        logs, period_s=[phone.period_s for phone in made], start_s=[phone.start_s for phone in made], is_local=False
    )
    fleet = Fleet(traces, n_devices=len(made), seed=7, is_replay=True)
    windows = compile_rule(traces, Rule.parse("charging"), unknown="ineligible")
    return Availability(fleet, windows), Track(fleet, compile_channel(traces, "network"))


def planned(scene: Scene) -> tuple[Sessions, Spent]:
    """The rows and their bookings as the product has them; row = device = trace = session number."""
    availability, track = fleet_of(scene.phones)
    made = device(
        compute=Given(np.array([float(s) for s in scene.train_s])),
        network=network(connect_s=float(scene.connect_s)),
        interruption=scene.mode,
        crash_fraction=scene.crash_fraction,
        session_timeout_s=None if scene.timeout_s is None else float(scene.timeout_s),
    )
    ids = np.arange(len(scene.phones))
    rows = plan_trips(made,
        availability, track, scene.work, now=float(scene.now), ids=ids, k=ids.astype(np.int32),
        n_examples=np.ones(len(ids), dtype=np.int64),
    )  # fmt: skip
    return rows, spent(rows, scene.work, made, availability, track)


# Open 0–20 and 30–60 of 100 s; Wi-Fi but for 4G from 12 s, nothing from 40 s, Wi-Fi from 45 s.
GOLDEN = Phone([(0, 20), (30, 60)], [(0, "wifi"), (12, "4g"), (40, "none"), (45, "wifi")], 100, 0)


def trip(
    *, now: float, train_s: float, mode: str = "abort", down: int = 400, up: int = 100, **changes: Any
) -> tuple[dict[str, Any], dict[str, float]]:
    """One trip of the golden phone: its row and its bookings."""
    availability, track = fleet_of([GOLDEN])
    made = device(compute=FixedCompute(train_s=train_s), interruption=mode, **changes)
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=down, upload_bytes=up, passes=Passes(1, 1))
    rows = plan_trips(made, availability, track, work, now=now, ids=zero, k=zero.astype(np.int32), n_examples=zero)
    booked = spent(rows, work, made, availability, track)
    row = {name: rows[name][0].item() for name in rows.dtype.names or ()}
    return row, {name: column[0].item() for name, column in vars(booked).items()}
