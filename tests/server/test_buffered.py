"""Buffered aggregation against a slow reading of the rules, and the rules' edges one by one."""

from __future__ import annotations

import heapq
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.device.session import AGGREGATED, REPORTS, STALE
from fedsim.server.buffered import BufferedCoordinator
from fedsim.simulation import Simulation
from tests.build import Tables, aggregator, buffered, played
from tests.server.small_fleets import SMALL_FLEETS, End, SmallFleet, check_devices, check_ends, end_after_close, run_of


def check_steps(run: Tables, parts: Simulation, *, service_s: float) -> None:
    """Walk through the planned reports in order of their ingestion, one by one."""
    server, plans = parts.coordinator, parts.device.planned  # type: ignore[attr-defined]
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
    while reports and len(closed_at) != parts.stop.max_steps:
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


@settings(max_examples=80)
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
