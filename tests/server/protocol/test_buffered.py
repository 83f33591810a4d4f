"""Buffered aggregation against a slow reading of the rules, and the rules' edges one by one."""

from __future__ import annotations

import heapq
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.device.session import AGGREGATED, REPORTS, STALE
from fedsim.errors import InputError
from fedsim.server.protocol.buffered import BufferedCoordinator
from fedsim.server.task import Evaluation, Stop
from fedsim.simulation import Simulation
from tests.build import (
    ALWAYS,
    Counting,
    RecordingTrainer,
    Seconds,
    Sizes,
    Tables,
    aggregator,
    always,
    buffered,
    by_device,
    device,
    played,
    replay,
    simulation,
)
from tests.server.small_fleets import (
    SMALL_FLEETS,
    End,
    SmallFleet,
    check_devices,
    check_ends,
    end_after_close,
    run_of,
)

# ------------------------------------------------------------------------------------ a slow reading of the rules


def check_steps(run: Tables, parts: Simulation, *, service_s: float) -> None:
    """Walk through the planned reports in order of their ingestion, one by one."""
    server, plans = parts.coordinator, parts.world.planned  # type: ignore[attr-defined]
    assert isinstance(server, BufferedCoordinator)
    plans["session_id"] = np.arange(len(plans))
    end_of_run, examples = run.summary["simulated_s"], run.column("n_examples")
    reports = [(float(p["end_at"]), int(p["session_id"])) for p in plans if p["outcome"] == REPORTS]
    heapq.heapify(reports)
    closed_at: list[float] = []
    buffer: list[tuple[int, int]] = []
    ends = {int(plan["session_id"]): end_after_close(plan, end_of_run) for plan in plans}
    weights: dict[int, float] = {}
    staleness: dict[int, int] = {}
    free_at = 0.0
    while reports and len(closed_at) != parts.task.stop.max_steps:
        arrival, session = heapq.heappop(reports)
        at = free_at = max(arrival, free_at) + service_s
        if at > end_of_run:
            break
        version = sum(step <= plans["assigned_at"][session] for step in closed_at)
        tau = len(closed_at) - version
        assert run.column("version")[session] == version
        if tau > server.max_staleness:
            ends[session], staleness[session] = End(arrival, STALE), tau
            continue
        buffer.append((session, tau))
        if len(buffer) == server.buffer_size:
            closed_at.append(at)
            for session, tau in buffer:
                ends[session] = End(float(plans["end_at"][session]), AGGREGATED)
                staleness[session] = tau
            weights |= expected_weights(server, buffer, examples)
            buffer = []
    check_ends(run, ends)
    np.testing.assert_array_equal(run.step_column("closed_at"), closed_at)
    assert (run.step_column("n_aggregated") == server.buffer_size).all()
    np.testing.assert_array_equal(run.step_column("version"), np.arange(1, len(closed_at) + 1))
    found = {int(s["session_id"]): s["staleness"] for s in run.sessions.to_pylist() if s["staleness"] is not None}
    assert found == staleness
    found = {int(s["session_id"]): s["weight"] for s in run.sessions.to_pylist() if s["weight"] is not None}
    assert found == pytest.approx(weights)
    assert max(staleness.values(), default=0) <= server.max_staleness or STALE in run.column("outcome")


def expected_weights(server: BufferedCoordinator, buffer: list[tuple[int, int]], examples: Any) -> dict[int, float]:
    """w · s(τ) ÷ Σ w, or ÷ Σ w · s(τ)."""
    raw = {session: float(examples[session]) if server.weighting == "examples" else 1.0 for session, _ in buffer}
    discount = {
        session: 1 / sqrt(1 + tau) if server.staleness_weight == "inverse_sqrt" else 1.0 for session, tau in buffer
    }
    total = sum(raw[s] * (discount[s] if server.divisor == "weight_sum" else 1.0) for s in raw)
    return {s: raw[s] * discount[s] / total for s in raw}


def check_concurrency(run: Tables, concurrency: int) -> None:
    """Never more devices in flight than asked for."""
    begin, end = run.column("assigned_at"), run.column("end_at")
    in_flight = ((begin[None, :] <= begin[:, None]) & (begin[:, None] < end[None, :])).sum(axis=1)
    assert in_flight.max(initial=0) <= concurrency


@given(
    small=SMALL_FLEETS,
    concurrency=st.integers(1, 12),
    buffer_size=st.integers(1, 5),
    max_staleness=st.sampled_from([0, 1, 3, 1000]),
    staleness_weight=st.sampled_from(["inverse_sqrt", "constant"]),
    divisor=st.sampled_from(["buffer_size", "weight_sum"]),
    weighting=st.sampled_from(["examples", "uniform"]),
    assignment_interval_s=st.sampled_from([1.0, 4.0, 0.7]),
    service_s=st.sampled_from([0.0, 7.0]),
    max_steps=st.sampled_from([None, 3]),
    max_s=st.sampled_from([47.0, 700.0, 4000.0]),
)
def test_steps_follow_the_rules(
    small: SmallFleet,
    service_s: float,
    max_s: float,
    max_steps: int | None,
    concurrency: int,
    buffer_size: int,
    **server: Any,
) -> None:
    coordinator = buffered(concurrency, buffer_size, aggregator=aggregator(service_s), **server)
    parts = small.simulation(coordinator, max_s=max_s, max_steps=max_steps)
    run = run_of(parts)
    if run is not None:
        check_steps(run, parts, service_s=service_s)
        check_concurrency(run, concurrency)
        check_devices(run, small)


# ------------------------------------------------------------------------------------ the edges, one by one


def loop(folder: Path, concurrency: int, buffer_size: int, *train_s: float, **changes: Any) -> Tables:
    """One always eligible device per training time, without transfers; run settings and server's are told apart."""
    names = ("max_steps", "max_s", "clients", "min_separation_s", "gauge_interval_s", "stop", "evaluation", "trainer")
    run = {name: changes.pop(name) for name in names if name in changes}
    parts = simulation(
        buffered(concurrency, buffer_size, **changes),
        fleet=replay(*[ALWAYS] * len(train_s)),
        phone=device(by_device(*train_s)),
        **run,
    )
    return played(parts, folder)


def test_a_device_is_assigned_again_on_the_next_tick(tmp_path: Path) -> None:
    """Sessions of 10 s with ticks of 4 s start at 0, 12, 24 …"""
    run = loop(tmp_path, 1, 1, 10, assignment_interval_s=4.0, max_s=40.0)
    np.testing.assert_array_equal(run.column("assigned_at"), [0, 12, 24, 36])
    np.testing.assert_array_equal(run.step_column("closed_at"), [10, 22, 34])  # not the ticks


def test_versions_count_from_the_tick(tmp_path: Path) -> None:
    """The step at 10 is known to whoever is assigned on the tick at 12, and to a report at the same tick."""
    run = loop(tmp_path, 2, 1, 10, 12, assignment_interval_s=4.0, max_s=13.0)
    assert run.column("version").tolist() == [0, 0, 2, 2]
    by_phone = dict(zip(run.column("device_id")[:2], run.column("staleness")[:2], strict=True))
    assert by_phone == {0: 0.0, 1: 1.0}


def test_a_fleet_smaller_than_the_concurrency_never_idles(tmp_path: Path) -> None:
    """Ten devices, wanted 20, sessions of 10 s: a report a second, though no window of the fleet changes."""
    run = loop(tmp_path, 20, 5, *[10] * 10, max_s=600.0)
    assert run.summary["outcomes"]["AGGREGATED"] == 600


def test_a_free_device_is_found_within_a_minute_when_nothing_else_happens(tmp_path: Path) -> None:
    """The only device reports at 10 and may participate again 100 s later."""
    run = loop(tmp_path, 1, 1, 10, min_separation_s=100.0, max_s=300.0)
    begun = run.column("assigned_at")
    assert begun[0] == 0
    assert 110 <= begun[1] <= 170


def test_no_device_is_aggregated_twice_within_the_separation_even_while_its_report_waits(tmp_path: Path) -> None:
    """A buffer that fills slowly: 4 devices of 10 s, 8 to a buffer, 300 s between participations: it never fills."""
    run = loop(tmp_path / "apart", 4, 8, *[10] * 4, min_separation_s=300.0, max_s=280.0)
    assert run.outcomes.tolist() == ["LATE"] * 4
    run = loop(tmp_path / "at will", 4, 8, *[10] * 4, max_s=280.0)
    assert run.summary["outcomes"]["AGGREGATED"] == 112  # without separation each one fills its share of every buffer


def test_a_refused_device_may_try_again(tmp_path: Path) -> None:
    """Device 1 is refused at 25 (two steps since it began); it did not participate, so it starts again at once."""
    run = loop(tmp_path, 3, 1, 10, 25, 20, max_staleness=1, min_separation_s=1000.0, max_s=26.0)
    outcome = dict(zip(run.column("device_id")[:3], run.outcomes[:3], strict=True))
    assert outcome == {0: "AGGREGATED", 1: "STALE", 2: "AGGREGATED"}
    assert run.column("device_id")[3:].tolist() == [1]
    assert run.column("assigned_at")[3:].tolist() == [25.0]


def test_a_buffer_of_one_is_fedasync(tmp_path: Path) -> None:
    run = loop(tmp_path, 3, 1, 10, 11, 12, max_steps=3)
    np.testing.assert_array_equal(run.step_column("closed_at"), [10, 11, 12])
    np.testing.assert_allclose(np.sort(run.column("weight")[:3]), [1 / sqrt(3), 1 / sqrt(2), 1])


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        # device 0 reports at 4, 8 (step) and, from version 1, at 12; device 1, from version 0, at 15 (step)
        ({"divisor": "buffer_size"}, [1 / 2, 1 / 2, 1 / 2, 1 / 2 / sqrt(2)]),
        ({"divisor": "weight_sum"}, [1 / 2, 1 / 2, sqrt(2) / (1 + sqrt(2)), 1 / (1 + sqrt(2))]),
        ({"divisor": "buffer_size", "staleness_weight": "constant"}, [1 / 2] * 4),
    ],
)
def test_weights_of_a_step(tmp_path: Path, server: dict[str, Any], expected: list[float]) -> None:
    run = loop(tmp_path, 2, 2, 4, 15, max_steps=2, **server)
    rows = np.lexsort((run.column("end_at"),))[:4]
    assert run.column("end_at")[rows].tolist() == [4, 8, 12, 15]
    np.testing.assert_allclose(run.column("weight")[rows], expected)


def test_weights_by_examples(tmp_path: Path) -> None:
    """w · s(τ) ÷ Σ w: examples weigh, staleness discounts what it weighs."""
    run = loop(tmp_path, 6, 3, *range(10, 16), weighting="examples", clients=Sizes((10, 30)), max_steps=2)
    rows = np.lexsort((run.column("end_at"),))[:6]
    n_examples = run.column("n_examples")[rows].astype(float)
    assert set(n_examples) == {10.0, 30.0}
    share = np.concatenate([n_examples[:3] / n_examples[:3].sum(), n_examples[3:] / n_examples[3:].sum()])
    np.testing.assert_allclose(run.column("weight")[rows], share / np.sqrt([1, 1, 1, 2, 2, 2]))


def test_a_queue_before_the_aggregator_delays_steps_and_ages_updates(tmp_path: Path) -> None:
    """Reports at 10, 11, 12; 5 s each to take in: steps at 15, 20, 25, staleness 0, 1, 2."""
    run = loop(tmp_path, 3, 1, 10, 11, 12, aggregator=aggregator(5.0), max_steps=3, gauge_interval_s=12.5)
    np.testing.assert_array_equal(run.step_column("closed_at"), [15, 20, 25])
    np.testing.assert_array_equal(run.step_column("mean_staleness"), [0, 1, 2])
    assert run.gauges.column("n_waiting").to_pylist()[1] == 2  # at 12.5: one is served, two wait


def test_reports_at_one_instant_are_taken_in_order_of_assignment(tmp_path: Path) -> None:
    run = loop(tmp_path, 4, 2, *[10] * 4, max_steps=2)
    assert run.column("session_id")[run.column("staleness") == 0].tolist() == [0, 1]
    assert run.column("session_id")[run.column("staleness") == 1].tolist() == [2, 3]


def test_the_run_ends_with_the_step_that_ends_it(tmp_path: Path) -> None:
    """The second step is at 20.5; devices that ask from then on are told, those that reported are late."""
    run = loop(tmp_path, 3, 1, 10.1, 20.5, 20.7, max_steps=2, assignment_interval_s=5.0)
    assert run.summary["simulated_s"] == 20.5
    assert run.summary["stop_reason"] == "max_steps"
    assert run.outcomes.tolist().count("AGGREGATED") == 2
    assert run.outcomes.tolist().count("ABORTED") == 2  # device 2 at 20.7, device 0 a second time


def test_the_run_ends_with_the_step_that_meets_the_target(tmp_path: Path) -> None:
    run = loop(
        tmp_path,
        1,
        1,
        10.3,
        trainer=RecordingTrainer(),
        stop=Stop(max_steps=None, max_s=1000.0, metric="version", metric_at_least=2.0),
        evaluation=Evaluation(every_steps=1, every_s=None),
    )
    assert (run.summary["stop_reason"], run.summary["n_steps"]) == ("target", 2)
    assert run.summary["simulated_s"] == pytest.approx(11 + 10.3)


def test_end_of_run_off_the_tick(tmp_path: Path) -> None:
    """A report between the last tick and the end is still aggregated; nobody is assigned at the end."""
    run = loop(tmp_path, 1, 1, 10.2, max_s=10.5)
    assert run.outcomes.tolist() == ["AGGREGATED"]
    assert run.summary["simulated_s"] == 10.5


def test_ticks_are_skipped_while_nothing_can_happen() -> None:
    """A thousand times longer sessions take no more selections."""
    calls = []
    for scale in (1.0, 1000.0):
        counting = Counting(seed=0, min_separation_s=0.0)
        simulation(
            buffered(2, 1),
            fleet=always(10),
            phone=device(Seconds(lambda ids, k, s=scale: np.full(len(ids), 10.0 * s))),
            max_s=100.0 * scale,
            selector=counting,
        ).run()
        calls.append(len(counting.asked))
    assert calls[0] == calls[1] == 10


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"buffer_size": 0}, "buffer_size"),
        ({"max_staleness": -1}, "max_staleness"),
        ({"staleness_weight": "linear"}, "inverse_sqrt, constant"),
        ({"divisor": "half"}, "buffer_size, weight_sum"),
        ({"assignment_interval_s": 0.0}, "assignment_interval_s"),
    ],
)
def test_bad_input(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        buffered(**{"concurrency": 2, "buffer_size": 2} | changes)
