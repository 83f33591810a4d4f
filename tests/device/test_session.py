"""Trips planned in one call against a phone that is played through in exact fractions, one trip at a time."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsim import rng
from fedsim.device.compute import FixedCompute, LognormalCompute
from fedsim.device.energy import Energy
from fedsim.device.network import Network
from fedsim.device.session import (
    FAILED,
    INTERRUPTED,
    REPORTS,
    TIMEOUT,
    Device,
    Sessions,
    Spent,
    Work,
    joined,
    spent,
)
from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.schema import NETWORKS
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import Rule, Windows, compile_channel, compile_rule
from fedsim.units import DAY_S, FloatArray, IntArray

DOWN = {"wifi": 100.0, "2g": 10.0, "3g": 20.0, "4g": 50.0, "5g": 100.0}
UP = {"wifi": 50.0, "2g": 10.0, "3g": 10.0, "4g": 20.0, "5g": 100.0}
ENERGY = Energy(compute_w=3.0, receive_w=0.5, send_w=1.25)
MODES = ("abort", "pause", "ignore")
Log = list[tuple[int, str | None]]  # seconds since the trace's first instant, network or unknown
Instant = Fraction | float  # a float only for infinity


# ------------------------------------------------------------------------------------- a phone, played


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

    def transfer_end(self, at: Fraction, size: int, rates: dict[str, float]) -> tuple[Fraction, Fraction]:
        """End of a transfer, and how long it waits for a network."""
        left, waited = Fraction(size), Fraction(0)
        while True:
            position, kind = self.position(at), None
            for instant, value in self.log:
                kind = value if instant <= position else kind
            stay = min([i for i, _ in self.log if i > position], default=self.period_s) - position
            rate = Fraction(0) if kind == "none" else Fraction(rates[kind or "3g"])
            if rate and left <= rate * stay:
                return at + left / rate, waited
            waited += 0 if rate else stay
            left -= rate * stay
            at += stay


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

    def phase_s(self, row: int, phase: int, at: Fraction) -> tuple[Fraction, Fraction]:
        """Seconds that a phase takes if it begins at ``at``, and those of them without a network."""
        if phase == 1:
            return self.train_s[row], Fraction(0)
        if phase == 0:
            end, waited = self.phones[row].transfer_end(at + self.connect_s, self.work.download_bytes, DOWN)
        else:
            end, waited = self.phones[row].transfer_end(at, self.work.upload_bytes, UP)
        return end - at, waited


@dataclass
class Played:
    """Ends of the phases that were reached, and the active seconds of each."""

    ends: list[Fraction] = field(default_factory=list)
    active_s: list[Fraction] = field(default_factory=lambda: [Fraction(0)] * 3)
    waited_s: list[Fraction] = field(default_factory=lambda: [Fraction(0)] * 3)
    at: Fraction = Fraction(0)


def play(scene: Scene, row: int, cut: Instant = math.inf) -> Played:
    """Live through one trip until it is done or cut off."""
    phone, played = scene.phones[row], Played(at=scene.now)
    for phase in range(3):
        left, played.waited_s[phase] = scene.phase_s(row, phase, played.at)
        while left > 0:
            if played.at == cut:
                return played
            pauses = scene.mode == "pause"
            until = min(phone.change_after(played.at) if pauses else math.inf, cut)
            if pauses and not phone.is_open(played.at):
                played.at = Fraction(until)
                continue
            step = left if math.isinf(until) else min(left, Fraction(until) - played.at)
            played.at += step
            played.active_s[phase] += step
            left -= step
        played.ends.append(played.at)
    return played


def cut_of(scene: Scene, row: int, planned: Played) -> tuple[Instant, int]:
    """What would end the trip before a report, and when; of two at one instant the first named."""
    crash: Instant = math.inf
    if rng.uniform(7, "crash", [row], [row])[0] < scene.crash_fraction:
        moment = Fraction(float(rng.uniform(7, "crash/moment", [row], [row])[0]))
        crash = scene.now + moment * (planned.ends[2] - scene.now)
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
            epochs=1,
            batch_size=1,
        ),
        mode=mode,
        timeout_s=draw(st.none() | lengths.filter(lambda s: s > 0)),
        crash_fraction=draw(st.sampled_from([0.0, 0.0, 0.5, 1.0])),
    )


# ------------------------------------------------------------------------------------------ what is tested


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
        logs.append(Events.of(sorted(rows, key=lambda row: row[0])))
    traces = TraceSet.of(
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
    rows = made.plan(
        availability, track, scene.work, now=float(scene.now), ids=ids, cells=ids, k=ids.astype(np.int32),
        n_examples=np.ones(len(ids), dtype=np.int64),
    )  # fmt: skip
    return rows, spent(rows, scene.work, made, availability)


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_a_planned_batch_is_every_trip_played_alone(mode: str, data: st.DataObject) -> None:
    scene = data.draw(scenes(mode))
    rows, booked = planned(scene)
    for i, row in enumerate(rows):
        whole = play(scene, i)
        ends = [row["download_end_at"], row["train_end_at"], row["upload_end_at"]]
        assert ends == pytest.approx([float(end) for end in whole.ends], abs=1e-6)
        cut, cause = cut_of(scene, i, whole)
        short = play(scene, i, cut)
        wanted = REPORTS if len(short.ends) == 3 else (INTERRUPTED, FAILED, TIMEOUT)[cause]
        if wanted == REPORTS and mode == "ignore" and not scene.phones[i].is_open(short.at):
            wanted = INTERRUPTED
        assert row["outcome"] == wanted
        assert row["end_at"] == pytest.approx(float(short.at if wanted == REPORTS or len(short.ends) == 3 else cut))
        active = [booked.download_s[i], booked.compute_s[i], booked.upload_s[i]]
        assert active == pytest.approx([float(s) for s in short.active_s], abs=2e-6)
        works = [max(float(s - w), 0.0) for s, w in zip(short.active_s, whole.waited_s, strict=True)]
        joules = [booked.download_j[i], booked.compute_j[i], booked.upload_j[i]]
        assert joules == pytest.approx([0.5 * works[0], 3.0 * works[1], 1.25 * works[2]], abs=1e-5)
        sizes = (scene.work.download_bytes, scene.work.upload_bytes)
        for phase, size, n_bytes in zip((0, 2), sizes, (booked.download_bytes[i], booked.upload_bytes[i]), strict=True):
            share = short.active_s[phase] / whole.active_s[phase]
            assert abs(n_bytes - size * share) <= 0.5 + 1e-3


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_nothing_is_booked_twice_or_lost(mode: str, data: st.DataObject) -> None:
    scene = data.draw(scenes(mode))
    rows, booked = planned(scene)
    for n_bytes, size in (
        (booked.download_bytes, scene.work.download_bytes),
        (booked.upload_bytes, scene.work.upload_bytes),
    ):
        assert ((n_bytes >= 0) & (n_bytes <= size)).all()
    total_s = booked.download_s + booked.compute_s + booked.upload_s
    elapsed = rows["end_at"] - rows["assigned_at"]
    assert (total_s <= elapsed + 1e-6).all()
    if mode != "pause":
        assert total_s == pytest.approx(elapsed, abs=1e-6)
    whole = rows["outcome"] == REPORTS
    assert (booked.download_bytes[whole] == scene.work.download_bytes).all()
    assert (booked.upload_bytes[whole] == scene.work.upload_bytes).all()
    assert booked.compute_s[whole] == pytest.approx(rows["train_s"][whole], abs=1e-6)


# ---------------------------------------------------------------------------------------- golden trips

# Open 0–20 and 30–60 of 100 s; Wi-Fi but for 4G from 12 s, nothing from 40 s, Wi-Fi from 45 s.
GOLDEN = Phone([(0, 20), (30, 60)], [(0, "wifi"), (12, "4g"), (40, "none"), (45, "wifi")], 100, 0)


def trip(
    *, now: float, train_s: float, mode: str = "abort", down: int = 400, up: int = 100, **changes: Any
) -> tuple[dict[str, Any], dict[str, float]]:
    """One trip of the golden phone: its row and its bookings."""
    availability, track = fleet_of([GOLDEN])
    made = device(compute=FixedCompute(train_s=train_s), interruption=mode, **changes)
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=down, upload_bytes=up, epochs=1, batch_size=1)
    rows = made.plan(availability, track, work, now=now, ids=zero, cells=zero, k=zero.astype(np.int32), n_examples=zero)
    booked = spent(rows, work, made, availability)
    row = {name: rows[name][0].item() for name in rows.dtype.names or ()}
    return row, {name: column[0].item() for name, column in vars(booked).items()}


@pytest.mark.parametrize(
    ("mode", "now", "train_s", "ends", "end_at", "outcome"),
    [
        # 4 s down, 5 s training, 2 s up, all on Wi-Fi in the first window.
        ("abort", 0, 5, (4, 9, 11), 11, REPORTS),
        ("pause", 0, 5, (4, 9, 11), 11, REPORTS),
        ("ignore", 0, 5, (4, 9, 11), 11, REPORTS),
        # The upload (4G, 20 bytes/s: 5 s) ends with the window, and a moment later.
        ("abort", 1, 10, (5, 15, 20), 20, REPORTS),
        ("abort", 1, 10.001, (5, 15.001, 20.001), 20, INTERRUPTED),
        ("pause", 1, 10, (5, 15, 20), 20, REPORTS),
        ("pause", 1, 11, (5, 16, 31), 31, REPORTS),
        ("ignore", 1, 11, (5, 16, 21), 21, INTERRUPTED),
        # Training over the gap: 9 s of 20 s are left at 20 s.
        ("abort", 5, 20, (9, 29, 34), 20, INTERRUPTED),
        ("pause", 5, 20, (9, 39, 46.6), 46.6, REPORTS),
        ("ignore", 5, 20, (9, 29, 34), 34, REPORTS),
        # The upload begins without a network and waits for it.
        ("abort", 30, 5, (38, 43, 47), 47, REPORTS),
    ],
)
def test_golden_trips(
    mode: str, now: float, train_s: float, ends: tuple[float, ...], end_at: float, outcome: int
) -> None:
    row, _ = trip(now=now, train_s=train_s, mode=mode)
    assert [row["download_end_at"], row["train_end_at"], row["upload_end_at"]] == pytest.approx(list(ends))
    assert (row["end_at"], row["outcome"]) == (pytest.approx(end_at), outcome)
    assert NETWORKS[row["network"]] == ("wifi" if now < 12 else "4g")


def test_connecting_comes_before_the_first_byte() -> None:
    row, booked = trip(now=0, train_s=5, network=network(connect_s=1.5))
    assert [row["download_end_at"], row["train_end_at"], row["upload_end_at"]] == [5.5, 10.5, 13.25]
    assert booked["download_s"] == 5.5  # the radio is on while it connects


def test_a_trip_that_fills_its_window_but_for_rounding_reports() -> None:
    """1.1 + 2.2 = 3.3000000000000003 in float64, which is no departure at 3.3."""
    assert 1.1 + 2.2 > 3.3
    traces = TraceSet.of([Events.of([(0, "charging", 1), (3.3, "charging", 0)])], period_s=10.0, is_local=False)
    windows = compile_rule(traces, Rule.parse("charging"), unknown="ineligible")
    availability = Availability(Fleet(traces, n_devices=1, seed=0, is_replay=True), windows)
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=22, upload_bytes=0, epochs=1, batch_size=1)
    for timeout_s, mode in ((None, "abort"), (3.3, "pause")):
        made = device(compute=FixedCompute(train_s=2.2), interruption=mode, session_timeout_s=timeout_s)
        rows = made.plan(
            availability, None, work, now=0.0, ids=zero, cells=zero, k=zero.astype(np.int32), n_examples=zero
        )
        assert rows["outcome"].tolist() == [REPORTS]


def test_a_session_times_out() -> None:
    assert trip(now=0, train_s=5, session_timeout_s=11.0)[0]["outcome"] == REPORTS  # 11 s in all
    row, booked = trip(now=0, train_s=5, session_timeout_s=10.0)
    assert (row["outcome"], row["end_at"]) == (TIMEOUT, 10.0)
    assert (booked["upload_s"], booked["upload_bytes"]) == (1.0, 50)
    late, _ = trip(now=5, train_s=20, mode="pause", session_timeout_s=30.0)
    assert (late["outcome"], late["end_at"]) == (TIMEOUT, 35.0)
    assert trip(now=5, train_s=20, session_timeout_s=15.0)[0]["outcome"] == INTERRUPTED  # at the same instant


@pytest.mark.parametrize("mode", ["pause", "ignore"])
def test_a_phone_that_is_never_on_a_network_is_given_up_after_thirty_days(mode: str) -> None:
    offline = Phone([(0, 60)], [(0, "none")], 100, 0)
    availability, track = fleet_of([offline])
    made, zero = device(interruption=mode), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=10, upload_bytes=10, epochs=1, batch_size=1)
    rows = made.plan(
        availability, track, work, now=50.0, ids=zero, cells=zero, k=zero.astype(np.int32), n_examples=zero
    )
    assert rows["outcome"].tolist() == [TIMEOUT]
    assert rows["end_at"].tolist() == [50.0 + 30 * DAY_S]
    assert np.isinf([rows[f"{phase}_end_at"][0] for phase in ("download", "train", "upload")]).all()
    booked = spent(rows, work, made, availability)
    assert (booked.download_bytes[0], booked.upload_bytes[0], booked.compute_s[0]) == (0, 0, 0.0)


# ------------------------------------------------------------------------------------------------- spent


@pytest.mark.parametrize(
    ("now", "train_s", "mode", "timeout_s", "wanted"),
    [
        # seconds down, training, up; bytes down, up
        (0, 5, "abort", None, (4, 5, 2, 400, 100)),
        (0, 5, "abort", 1.0, (1, 0, 0, 100, 0)),
        (0, 5, "abort", 4.0, (4, 0, 0, 400, 0)),
        (0, 5, "abort", 6.5, (4, 2.5, 0, 400, 0)),
        (0, 5, "abort", 10.5, (4, 5, 1.5, 400, 75)),
        (1, 13, "abort", None, (4, 13, 2, 400, 40)),  # 18–20 s of an upload that takes 18–23 s
        (18, 5, "pause", None, (8, 5, 6, 400, 100)),  # down 18–20, 30–36; training to 41; Wi-Fi awaited, up 45–47
        (18, 5, "pause", 14.0, (4, 0, 0, 200, 0)),  # 2 s before the gap and 2 s after it, of 8 s
        (5, 20, "pause", 26.0, (4, 12, 0, 400, 0)),  # 9–20 and 30–31
        (5, 20, "ignore", 20.0, (4, 16, 0, 400, 0)),  # work goes on while the device is away
    ],
)
def test_cut_phases_are_booked_in_part(
    now: float, train_s: float, mode: str, timeout_s: float | None, wanted: tuple[float, ...]
) -> None:
    _, booked = trip(now=now, train_s=train_s, mode=mode, session_timeout_s=timeout_s)
    names = ("download_s", "compute_s", "upload_s", "download_bytes", "upload_bytes")
    assert [booked[name] for name in names] == pytest.approx(list(wanted), abs=1e-6)
    assert booked["compute_j"] == pytest.approx(3.0 * wanted[1])
    assert booked["download_j"] == pytest.approx(0.5 * wanted[0])
    waited_s = 4 if (now, mode, timeout_s) == (18, "pause", None) else 0  # 41–45, the radio is off
    assert booked["upload_j"] == pytest.approx(1.25 * (wanted[2] - waited_s))


def test_a_session_that_is_told_before_its_upload_sends_nothing() -> None:
    """The server ends a row at its training's end (ABORTED): whole download and training, no upload."""
    availability, track = fleet_of([GOLDEN])
    made, zero = device(), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=400, upload_bytes=100, epochs=1, batch_size=1)
    rows = made.plan(availability, track, work, now=0.0, ids=zero, cells=zero, k=zero.astype(np.int32), n_examples=zero)
    rows["end_at"] = rows["train_end_at"]
    booked = spent(rows, work, made, availability)
    assert (booked.download_bytes[0], booked.compute_s[0], booked.upload_bytes[0]) == (400, 5.0, 0)
    assert booked.upload_s[0] == 0.0


# -------------------------------------------------------------------------------------------------- laws


def renewal_fleet(n: int, mean_s: float) -> Availability:
    """Stays and absences of exponential length; far from the start any instant is as good as another."""
    lengths_ms = np.random.default_rng(12).exponential(mean_s * 1000, (n, 60))
    edges = np.cumsum(np.maximum(np.rint(lengths_ms), 1).astype(np.int64), axis=1)
    windows = Windows(
        offsets=np.arange(0, 30 * n + 1, 30),
        start_ms=edges[:, 0::2].ravel(),
        end_ms=edges[:, 1::2].ravel(),
        period_ms=edges[:, -1] + 1000,
        trace_start_ms=np.zeros(n, dtype=np.int64),
        is_local=np.zeros(n, dtype=bool),
    )
    traces = TraceSet.of([Events.of([])] * n, period_s=(windows.period_ms / 1000).tolist(), is_local=False)
    return Availability(Fleet(traces, n_devices=n, seed=0, is_replay=True), windows)


@pytest.fixture(scope="module")
def renewal() -> Availability:
    return renewal_fleet(16_000, 600.0)


def outcomes(availability: Availability, now: float, **changes: Any) -> tuple[Sessions, dict[int, float]]:
    """Trips without transfers of all phones that are there, and the share of each outcome."""
    ids = np.flatnonzero(availability.at_cells(np.arange(availability.fleet.n_cells), now)[0])
    work = Work(download_bytes=0, upload_bytes=0, epochs=1, batch_size=1)
    rows = device(**changes).plan(
        availability, None, work, now=now, ids=ids, cells=ids, k=np.zeros(len(ids), dtype=np.int32),
        n_examples=np.ones(len(ids), dtype=np.int64),
    )  # fmt: skip
    return rows, {code: float((rows["outcome"] == code).mean()) for code in (REPORTS, INTERRUPTED, FAILED)}


@pytest.mark.parametrize("load", [0.3, 1.0, 2.5])
def test_exponential_stays_finish_by_their_law(renewal: Availability, load: float) -> None:
    """Stays of rate λ and fixed work w under abort: exp(−λw) finish."""
    rows, share = outcomes(renewal, 9000.0, compute=FixedCompute(train_s=load * 600))
    assert len(rows) > 7000
    wanted = math.exp(-load)
    assert share[REPORTS] == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / len(rows)))
    assert share[INTERRUPTED] == pytest.approx(1 - share[REPORTS])
    stays = (rows["end_at"] - 9000.0)[rows["outcome"] == INTERRUPTED]
    truncated = stats.truncexpon(b=load, scale=600)
    assert stats.kstest(stays, truncated.cdf).pvalue > 0.01


def test_crashes_and_departures_compete(renewal: Availability) -> None:
    """A share c crashes at a uniform moment of its trip, unless it left before: c (1 − e^−λw) / λw."""
    load, crash = 1.2, 0.4
    rows, share = outcomes(renewal, 9000.0, compute=FixedCompute(train_s=load * 600), crash_fraction=crash)
    stays = math.exp(-load)
    for code, wanted in ((REPORTS, stays * (1 - crash)), (FAILED, crash * (1 - stays) / load)):
        assert share[code] == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / len(rows)))


def test_crashes_strike_their_share_at_uniform_moments(renewal: Availability) -> None:
    rows, share = outcomes(
        renewal, 9000.0, compute=FixedCompute(train_s=50.0), crash_fraction=0.3, interruption="ignore"
    )
    n_struck = round(share[FAILED] * len(rows))
    assert share[FAILED] == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(rows)))
    moments = (rows["end_at"] - 9000.0)[rows["outcome"] == FAILED] / 50.0
    assert len(moments) == n_struck
    assert stats.kstest(moments, "uniform").pvalue > 0.01
    assert outcomes(renewal, 9000.0, compute=FixedCompute(train_s=50.0))[1][FAILED] == 0.0
    assert outcomes(renewal, 9000.0, crash_fraction=1.0, interruption="pause")[1][FAILED] == 1.0


# --------------------------------------------------------------------------------- rows and their columns


def varied_plan(order: IntArray) -> Sessions:
    """Devices that differ in everything a draw decides."""
    availability, track = fleet_of([GOLDEN] * 40)
    made = device(
        compute=LognormalCompute(seed=7, median_inference_ms=40, sigma=1.0, session_sigma=0.5, fixed_s_per_step=0.1),
        network=network(device_sigma=0.5, session_sigma=0.5),
        crash_fraction=0.3,
    )
    work = Work(download_bytes=400, upload_bytes=100, epochs=2, batch_size=4)
    return made.plan(
        availability, track, work, now=3.0, ids=order, cells=order, k=(order % 3).astype(np.int32),
        n_examples=order + 1,
    )  # fmt: skip


def test_a_row_does_not_depend_on_its_batch() -> None:
    together = varied_plan(np.arange(40))
    assert len(np.unique(together["upload_end_at"])) == 40
    order = np.random.default_rng(3).permutation(40)
    assert varied_plan(order).tobytes() == together[order].tobytes()
    alone = joined([varied_plan(np.array([i])) for i in range(40)])
    assert alone.tobytes() == together.tobytes()
    assert len(varied_plan(np.zeros(0, dtype=np.int64))) == 0


def test_columns_of_a_row() -> None:
    rows = varied_plan(np.array([5, 11]))
    assert rows["device_id"].tolist() == rows["cell"].tolist() == rows["base_trace"].tolist() == [5, 11]
    assert rows["participation"].tolist() == [2, 2]
    assert rows["n_examples"].tolist() == [6, 12]
    assert rows["assigned_at"].tolist() == [3.0, 3.0]
    assert rows["staleness"].tolist() == [-1, -1]
    assert np.isnan(rows["weight"]).all()


def test_a_session_trains_every_epoch_in_whole_batches() -> None:
    """3 × 10 ms × 2 epochs × 9 examples + 0.5 s × 2 × ⌈9 ÷ 4⌉ steps."""
    availability, track = fleet_of([GOLDEN])
    made = device(compute=LognormalCompute(seed=1, median_inference_ms=10, sigma=0.0, fixed_s_per_step=0.5))
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=1, upload_bytes=1, epochs=2, batch_size=4)
    rows = made.plan(
        availability, track, work, now=0.0, ids=zero, cells=zero, k=zero.astype(np.int32), n_examples=zero + 9
    )
    assert rows["train_s"].tolist() == pytest.approx([3 * 0.010 * 2 * 9 + 0.5 * 2 * 3])
    assert work.n_steps(np.array([0, 1, 4, 5, 8])).tolist() == [0, 2, 2, 4, 4]


CACHING: dict[str, Any] = {
    "download_bytes": 1000, "upload_bytes": 0, "epochs": 1, "batch_size": 1, "plan_bytes": 7, "assets_bytes": 200,
}  # fmt: skip


def test_downloads_take_and_book_the_bytes_that_are_fetched() -> None:
    availability, track = fleet_of([GOLDEN, GOLDEN])
    made, work, ids = device(), Work(**CACHING), np.arange(2)
    for fetched, wanted in ((None, [1207, 1207]), (np.array([100, 300]), [100, 300])):
        rows = made.plan(
            availability, track, work, now=0.0, ids=ids, cells=ids, k=ids.astype(np.int32), n_examples=ids,
            download_bytes=fetched,
        )  # fmt: skip
        assert rows["download_bytes"].tolist() == wanted
        if fetched is not None:
            assert rows["download_end_at"].tolist() == [1.0, 3.0]
            assert spent(rows, work, made, availability).download_bytes.tolist() == wanted


def test_parts_are_joined_in_order() -> None:
    parts = [varied_plan(np.arange(a, b)) for a, b in ((0, 3), (3, 3), (3, 9))]
    assert joined(parts).tobytes() == varied_plan(np.arange(9)).tobytes()
    assert len(joined([])) == 0


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interruption": "stop"}, "interruption is unknown: 'stop' .*abort, pause, ignore"),
        ({"crash_fraction": -0.1}, "crash_fraction .*-0.1"),
        ({"crash_fraction": 1.01}, "crash_fraction .*1.01"),
        ({"crash_fraction": math.nan}, "crash_fraction .*nan"),
        ({"thermal_after_s": -1.0}, "thermal_after_s .*-1.0"),
        ({"thermal_slowdown": 0.9}, "thermal_slowdown .*0.9"),
        ({"session_timeout_s": 0.0}, "session_timeout_s must be positive: 0.0"),
        ({"session_timeout_s": math.nan}, "session_timeout_s must be positive: nan"),
    ],
)
def test_a_bad_device_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        device(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"download_bytes": -1}, "download_bytes must not be negative: -1"),
        ({"upload_bytes": -1}, "upload_bytes must not be negative: -1"),
        ({"plan_bytes": -1}, "plan_bytes must not be negative: -1"),
        ({"assets_bytes": -1}, "assets_bytes must not be negative: -1"),
        ({"epochs": 0}, "epochs must be at least 1: 0"),
        ({"batch_size": 0}, "batch_size must be at least 1: 0"),
    ],
)
def test_bad_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Work(**({"download_bytes": 0, "upload_bytes": 0, "epochs": 1, "batch_size": 1} | changes))
