"""Closed forms that a simulation must meet, whatever its code looks like.

The published ratios come from the literature of queues and order statistics: FedBuff's closed loop
(Nguyen et al. 2022), over-selection (Bonawitz et al. 2019), Erlang C, and the FLASH phones (Yang et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.schema import OUTCOMES
from fedsim.server.aggregator import Aggregator
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Windows, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S, HOUR_S, FloatArray
from tests.build import Seconds, aggregator, always, buffered, device, network, played, replay, simulation, sync


@dataclass(frozen=True)
class Law:
    """A law of training time with median or scale 1."""

    cdf: Callable[[FloatArray], FloatArray]
    quantile: Callable[[FloatArray], FloatArray]
    mean: float

    def compute(self, *, scale_s: float, seed: int = 5) -> Seconds:
        """Independent draws for every session of every device."""
        return Seconds(lambda ids, k: scale_s * self.quantile(rng.uniform(seed, "law", ids, k)))

    def kth_of(self, k: int, n: int) -> tuple[float, float]:
        """Mean and standard deviation of the k-th smallest of n draws, from P(X₍ₖ₎ > x)."""
        x = np.concatenate([[0.0], np.geomspace(1e-4, 1e5, 200_000)])
        tail = special.betainc(n - k + 1, k, 1 - self.cdf(x))
        mean, square = integrate.trapezoid(tail, x), integrate.trapezoid(2 * x * tail, x)
        return mean, (square - mean**2) ** 0.5


def lognormal(sigma: float) -> Law:
    return Law(
        cdf=lambda x: special.ndtr(np.log(np.maximum(x, 1e-300)) / sigma),
        quantile=lambda u: np.exp(sigma * special.ndtri(u)),
        mean=float(np.exp(sigma**2 / 2)),
    )


LAWS = {
    "half-normal": Law(
        cdf=lambda x: special.erf(x / 2**0.5),
        quantile=lambda u: special.ndtri((1 + u) / 2),
        mean=(2 / np.pi) ** 0.5,
    ),
    "exponential": Law(cdf=lambda x: -np.expm1(-x), quantile=lambda u: -np.log1p(-u), mean=1.0),
    "lognormal 0.6": lognormal(0.6),
    "lognormal 1.0": lognormal(1.0),
    "lognormal 1.2": lognormal(1.2),
}


# ------------------------------------------------------------------------- 1. closed loop of buffered training

CONCURRENCY, BUFFER, MEAN_S, TICK_S, WARM_UP_S, LOOP_S = 200, 20, 100.0, 2.0, 600.0, 3600.0


def closed_loop(law: str) -> Seconds:
    if law == "fixed":  # devices begin out of step, as one that has run for long
        return Seconds(lambda ids, k: np.where(k == 0, MEAN_S * (1 + rng.uniform(5, "law", ids)), MEAN_S))
    return LAWS[law].compute(scale_s=MEAN_S / LAWS[law].mean)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["fixed", "exponential", "lognormal 0.6", "lognormal 1.0"])
def test_closed_loop_of_buffered_training(law: str, tmp_path: Path) -> None:
    """Reports/s = C/E[T], steps/s = C/(K E[T]), mean staleness = (C - 1)/K, by Little's law.

    A device waits half a tick on average before it is assigned again (the fixed law ends on a tick).
    """
    run = played(
        simulation(
            buffered(CONCURRENCY, BUFFER, assignment_interval_s=TICK_S),
            fleet=always(CONCURRENCY if law == "fixed" else 100_000),
            phone=device(closed_loop(law)),
            max_s=LOOP_S,
        ),
        tmp_path,
    )
    cycle_s = MEAN_S + (0 if law == "fixed" else TICK_S / 2)
    is_steady = run.step_column("closed_at") > WARM_UP_S
    rate = CONCURRENCY / cycle_s
    n_reports = run.step_column("n_aggregated")[is_steady].sum()
    # renewal theory: the variance of a count is its mean times the squared coefficient of variation, here up to 1.7
    assert n_reports == pytest.approx(rate * (LOOP_S - WARM_UP_S), rel=0.03)
    assert is_steady.sum() == pytest.approx(rate / BUFFER * (LOOP_S - WARM_UP_S), rel=0.03)
    n_in_flight = CONCURRENCY * MEAN_S / cycle_s
    staleness = run.step_column("mean_staleness")[is_steady].mean()
    assert staleness == pytest.approx((n_in_flight - 1) / BUFFER, rel=0.01)
    assert (run.gauges.column("in_flight_mean").to_numpy()[1:-1].mean()) == pytest.approx(n_in_flight, rel=0.01)


# ------------------------------------------------------------------------- 2. a round is an order statistic

GOAL = 1000
PUBLISHED = {  # mean round ÷ mean session: all of 1,000 must finish; the first 1,000 of 1,300
    "half-normal": (4.3, 1.5),
    "exponential": (7.4, 1.47),
    "lognormal 0.6": (5.9, 1.30),
    "lognormal 1.0": (16.6, 1.27),
    "lognormal 1.2": (25.7, 1.18),
}


@pytest.mark.slow
@pytest.mark.parametrize("over_selection", [1.0, 1.3])
@pytest.mark.parametrize("law", PUBLISHED)
def test_sync_round_is_an_order_statistic(law: str, over_selection: float) -> None:
    n_rounds = 200 if over_selection == 1 else 40
    cohort = round(over_selection * GOAL)
    parts = simulation(
        sync(GOAL, over_selection=over_selection),
        fleet=always(10_000_000),
        phone=device(LAWS[law].compute(scale_s=60.0)),
        max_steps=n_rounds,
        gauge_interval_s=8e6,
    )
    summary = parts.run().summary
    assert summary["n_sessions"] == n_rounds * cohort
    mean, sd = LAWS[law].kth_of(GOAL, cohort)
    round_s = summary["simulated_s"] / 60.0 / n_rounds
    assert abs(round_s - mean) < 4 * sd / n_rounds**0.5
    published = PUBLISHED[law][over_selection > 1]
    assert mean / LAWS[law].mean == pytest.approx(published, rel=0.03)  # itself a quick Monte Carlo


# ------------------------------------------------------------------------- 3. over-selection and its waste


@pytest.mark.parametrize("law", PUBLISHED)
def test_over_selection_wastes_the_same_share_whatever_the_speeds(law: str) -> None:
    parts = simulation(
        sync(100, over_selection=1.3),
        fleet=always(1_000_000),
        phone=device(LAWS[law].compute(scale_s=60.0), link=network(down=10.0, up=5.0)),
        work=Work(download_bytes=100, upload_bytes=100, passes=Passes(1, 10)),
        max_steps=20,
    )
    outcomes = parts.run().summary["outcomes"]
    assert outcomes["AGGREGATED"] / sum(outcomes.values()) == 100 / 130
    assert outcomes["LATE"] + outcomes["ABORTED"] + outcomes["OPEN"] == 20 * 30
    assert outcomes["OPEN"] < 60  # of the last rounds alone


def test_shares_with_two_percent_of_crashes() -> None:
    """Bonawitz et al. saw 75 % aggregated, 22 % aborted or late, 2 % dropped out."""
    parts = simulation(
        sync(1000, over_selection=1.3),
        fleet=always(10_000_000),
        phone=device(LAWS["lognormal 0.6"].compute(scale_s=60.0), crash_fraction=0.02),
        max_steps=40,
    )
    outcomes = parts.run().summary["outcomes"]
    n = sum(outcomes.values())
    assert outcomes["AGGREGATED"] / n == 1000 / 1300
    assert outcomes["FAILED"] / n == pytest.approx(0.02, abs=4 * (0.02 * 0.98 / n) ** 0.5)
    assert sum(outcomes[name] for name in ("FAILED", "ABORTED", "LATE", "OPEN")) == n - 40_000


# ------------------------------------------------------------------------- 4. queues, and books that balance


def erlang_c_wait_s(*, load: float, n_workers: int, service_s: float) -> float:
    """Mean wait in M/M/c at ``load`` busy workers."""
    busy = load**n_workers / factorial(n_workers) * n_workers / (n_workers - load)
    p_wait = busy / (sum(load**i / factorial(i) for i in range(n_workers)) + busy)
    return p_wait * service_s / (n_workers - load)


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_aggregator_is_m_m_c(n_workers: int) -> None:
    n, n_batches, service_s = 400_000, 40, 0.5
    load = 0.7 * n_workers
    gaps = np.random.default_rng(n_workers).exponential(service_s / load, n)
    arrivals = np.cumsum(gaps)
    queue = Aggregator(
        seed=2, n_workers=n_workers, service_s=service_s, bytes_per_s=None, service="exponential"
    ).start()
    sojourn = np.concatenate([queue.serve(part, 0)[1] - part for part in np.array_split(arrivals, 100)])
    batches = sojourn.reshape(n_batches, -1).mean(axis=1)  # long against the correlation of waits
    expected = service_s + erlang_c_wait_s(load=load, n_workers=n_workers, service_s=service_s)
    assert abs(batches.mean() - expected) < 4 * batches.std(ddof=1) / n_batches**0.5
    assert batches.std(ddof=1) / n_batches**0.5 < 0.03 * expected


def test_waiting_reports_follow_littles_law(tmp_path: Path) -> None:
    """Reports that wait = reports a second × mean wait, exactly, between two instants at which nobody waits.

    200 phones of 40 s and more before 3 workers of 0.5 s each: more than they can serve, so that a line builds up.
    """
    run = played(
        simulation(
            buffered(
                200, 10, assignment_interval_s=5.0, aggregator=aggregator(0.5, n_workers=3, service="exponential")
            ),
            fleet=always(10_000),
            phone=device(Seconds(lambda ids, k: 40.0 + 20.0 * rng.uniform(5, "law", ids, k))),
            max_s=1_000.0,
            gauge_interval_s=1_000.0,
        ),
        tmp_path,
    )
    arrived, started = run.column("upload_end_at"), np.nan_to_num(run.column("ingest_start_at"), nan=1_000.0)
    wait_s = np.where(np.isnan(arrived), 0.0, started - arrived)
    assert wait_s.sum() / 1_000.0 > 0.5
    np.testing.assert_allclose(run.gauges.column("waiting_mean"), [wait_s.sum() / 1_000.0])


@pytest.mark.parametrize("protocol", ["sync", "buffered"])
@pytest.mark.parametrize("interruption", ["abort", "pause", "ignore"])
def test_books_balance(protocol: str, interruption: str, tmp_path: Path) -> None:
    """Every session ends once, and what it spent adds up."""
    draw = np.random.default_rng(3)
    starts = draw.uniform(0, DAY_S - 2000, (60, 12))
    fleet = replay(*[[(at, at + length) for at, length in merged(row, draw)] for row in starts])
    coordinator = sync(8, over_selection=1.5, quorum_fraction=0.3, deadline_s=400.0)
    if protocol == "buffered":
        coordinator = buffered(20, 4, max_staleness=3)  # type: ignore[assignment]
    phone = device(
        LAWS["lognormal 0.6"].compute(scale_s=100.0),
        link=network(down=10.0, up=5.0, connect_s=1.0),
        interruption=interruption,  # type: ignore[arg-type]
        crash_fraction=0.1,
        session_timeout_s=700.0,
    )
    work = Work(download_bytes=200, upload_bytes=300, passes=Passes(1, 10))
    run = played(simulation(coordinator, fleet=fleet, phone=phone, work=work, max_s=4 * HOUR_S), tmp_path)
    outcomes, end = run.outcomes, run.column("end_at")
    counts = {name: int((outcomes == name).sum()) for name in OUTCOMES}
    assert run.summary["outcomes"] == counts
    assert run.summary["n_sessions"] == sum(counts.values()) == len(end) == run.column("session_id")[-1] + 1
    assert counts["AGGREGATED"] == run.step_column("n_aggregated").sum() > 50
    assert run.step_column("n_assigned").sum() <= len(end)
    for direction in ("download", "upload"):
        size, spent = getattr(work, f"{direction}_bytes"), run.column(f"{direction}_bytes")
        assert run.summary[f"{direction}_bytes"] == spent.sum()
        is_whole = np.isfinite(run.column(f"{direction}_end_at"))
        assert (spent[is_whole] == size).all()
        assert ((spent[~is_whole] >= 0) & (spent[~is_whole] <= size)).all()
    for outcome in ("AGGREGATED", "LATE", "STALE"):
        assert (run.column("upload_bytes")[outcomes == outcome] == work.upload_bytes).all()
    assert not run.column("upload_bytes")[outcomes == "ABORTED"].any()
    np.testing.assert_allclose(run.column("compute_j"), 2.0 * run.column("compute_s"))
    if interruption != "pause":  # else a phase lasts longer than the work in it
        cut = {name: np.nan_to_num(run.column(f"{name}_end_at"), nan=np.inf) for name in ("download", "train")}
        download_s = np.minimum(end, cut["download"]) - run.column("assigned_at")
        upload_s = np.maximum(end - cut["train"], 0.0)
        np.testing.assert_allclose(run.column("download_j"), 1.0 * download_s, atol=1e-6)
        np.testing.assert_allclose(run.column("upload_j"), 3.0 * upload_s, atol=1e-6)
        train_s = np.maximum(np.minimum(end, cut["train"]) - cut["download"], 0.0)
        np.testing.assert_allclose(run.column("compute_s"), train_s, atol=1e-6)


def merged(starts: FloatArray, draw: np.random.Generator) -> list[tuple[float, float]]:
    """Windows of a few hundred seconds at these starts, those too close to the one before left out."""
    spans: list[tuple[float, float]] = []
    for at in np.sort(starts):
        if not spans or at > spans[-1][0] + spans[-1][1] + 1:
            spans.append((float(at), float(draw.uniform(50, 1500))))
    return spans


# ------------------------------------------------------------------------- 5. the FLASH rule on real phones

FLASH_RULE = "charging & network == wifi & locked"


@pytest.fixture(scope="module")
def flash(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TraceSet:
    folder = tmp_path_factory.mktemp("flash") / "set"
    import_flash(shared_data / "raw/flash/state_traces.first100.json", folder)
    return load_traces(folder)


@pytest.fixture(scope="module")
def lock_rule(flash: TraceSet) -> Windows:
    return compile_rule(flash, Rule.parse(FLASH_RULE), unknown="ineligible")


def shares_by_hour(windows: Windows) -> FloatArray:
    """Eligible share of each phone in each hour of day, minute by minute: ``float64[n, 24]``."""
    shares = np.zeros((windows.n, 24))
    for phone in range(windows.n):
        some = slice(windows.offsets[phone], windows.offsets[phone + 1])
        at_ms = np.arange(30_000, windows.period_ms[phone], 60_000)
        n_begun = np.searchsorted(windows.start_ms[some], at_ms, side="right")
        n_ended = np.searchsorted(windows.end_ms[some], at_ms, side="right")
        hour = (at_ms + windows.trace_start_ms[phone]) // 3_600_000 % 24
        shares[phone] = np.bincount(hour, n_begun - n_ended, 24) / np.bincount(hour, minlength=24)
    return shares


def test_flash_rule_by_hour_of_day(lock_rule: Windows) -> None:
    """The published row weighs every recorded day alike, so a phone with a long log counts more."""
    by_hour = np.average(shares_by_hour(lock_rule), axis=0, weights=lock_rule.period_ms)
    assert round(float(by_hour.mean()), 3) == 0.059
    assert (round(float(by_hour[2]), 3), round(float(by_hour[10]), 3)) == (0.083, 0.032)
    assert (lock_rule.open_ms == 0).sum() == 32


@pytest.mark.slow
def test_a_fleet_of_a_million_keeps_the_rhythm_of_the_flash_phones(flash: TraceSet, lock_rule: Windows) -> None:
    """A fleet weighs every phone alike: 0.061, the published mean over devices."""
    expected = shares_by_hour(lock_rule).mean(axis=0)
    fleet = Fleet(flash, n_devices=1_000_000, seed=4)
    availability = Availability(fleet, lock_rule)
    minutes = np.array([availability.eligible_fraction(60.0 * minute + 30) for minute in range(24 * 60)])
    by_hour = minutes.reshape(24, 60).mean(axis=1)
    np.testing.assert_allclose(by_hour, expected, atol=1e-3)  # logs begin inside a minute
    assert round(float(by_hour.mean()), 3) == 0.061
    ids = np.arange(0, 1_000_000, 5)
    for hour in (2, 10):  # the devices themselves, not the expectation over cells
        is_eligible = np.mean([availability.at(ids, hour * HOUR_S + 300.0 * i)[0].mean() for i in range(12)])
        assert is_eligible == pytest.approx(expected[hour], abs=0.002)
    is_open, until = availability.at(ids, 0.0)
    is_never = ~is_open & np.isinf(until)
    assert is_never.mean() == pytest.approx(0.32, abs=0.004)
    assert np.unique(fleet.trace_of(ids[is_never])).size == 32


@pytest.mark.slow
def test_phones_of_flash_check_in_in_the_evening(flash: TraceSet, lock_rule: Windows) -> None:
    """28.7 openings a second and million phones, 67 at 18 h: check-ins follow plugging in, not the night."""
    availability = Availability(Fleet(flash, n_devices=1_000_000, seed=4), lock_rule)
    per_s = 1e6 * availability.openings_per_device(HOUR_S * np.arange(25.0)) / HOUR_S
    assert round(float(per_s.mean()), 1) == 28.7
    assert (int(per_s.argmax()), round(float(per_s.max()))) == (18, 67)


@pytest.mark.slow
def test_gauges_of_a_run_over_the_flash_phones(flash: TraceSet, lock_rule: Windows, tmp_path: Path) -> None:
    parts = simulation(
        buffered(10, 10, assignment_interval_s=60.0),
        fleet=Fleet(flash, n_devices=1_000_000, seed=4),
        phone=device(LAWS["exponential"].compute(scale_s=600.0)),
        rule=FLASH_RULE,
        max_s=float(DAY_S),
        gauge_interval_s=300.0,
    )
    run = played(parts, tmp_path)
    eligible = run.gauges.column("eligible_fraction_mean").to_numpy()
    assert len(eligible) == DAY_S / 300
    assert round(float(eligible.mean()), 3) == 0.061
    share_of_trace = lock_rule.open_ms / lock_rule.period_ms
    assert share_of_trace[np.unique(run.column("base_trace"))].min() > 0
