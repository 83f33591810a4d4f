"""Synchronous rounds against a slow reading of the rules, and the rules' edges one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.device.session import AGGREGATED, LATE, REPORTS, TIMEOUT
from fedsim.errors import InputError, SimulationError
from fedsim.server.sync import SyncCoordinator
from fedsim.simulation import Simulation
from tests.build import ALWAYS, Tables, aggregator, always, by_device, device, network, played, replay, simulation, sync
from tests.server.small_fleets import SMALL_FLEETS, WORK, End, SmallFleet, check_devices, check_ends, end_after_close

# ------------------------------------------------------------------------------------ a slow reading of the rules


def ingested_at(arrivals: list[float], service_s: float) -> float:
    """When a lone worker has taken in the last of these reports."""
    done = 0.0
    for at in arrivals:
        done = max(done, at) + service_s
    return done


def expected_round(
    plans: Any, server: SyncCoordinator, *, until: float, service_s: float
) -> tuple[dict[int, End], dict[str, Any] | None]:
    """Ends of a round's sessions, and its step row (None: the run ended before)."""
    started_at = plans["assigned_at"][0]
    deadline_at = started_at + server.deadline_s
    events = sorted(
        (float(plan["upload_end_at"]), row) for row, plan in enumerate(plans) if plan["outcome"] == REPORTS
    )
    accepted: list[int] = []
    close_at = deadline_at if np.isfinite(deadline_at) else float(plans["end_at"].max())
    for at, row in events:
        if at <= deadline_at and len(accepted) < server.goal:
            accepted.append(row)
            if len(accepted) == server.goal:
                close_at = at
    step_at = max(close_at, ingested_at([float(plans["upload_end_at"][row]) for row in accepted], service_s))
    ends = {int(plan["session_id"]): end_after_close(plan, min(close_at, until)) for plan in plans}
    if step_at > until:
        return ends, None
    is_committed = len(accepted) >= server.quorum
    for row in accepted:
        outcome = AGGREGATED if is_committed else TIMEOUT
        ends[int(plans["session_id"][row])] = End(float(plans["upload_end_at"][row]), outcome)
    step = {
        "started_at": started_at,
        "closed_at": step_at,
        "is_committed": is_committed,
        "n_assigned": len(plans),
        "n_aggregated": len(accepted) * is_committed,
    }
    return ends, step


def check_rounds(run: Tables, parts: Simulation, *, service_s: float) -> None:
    """The tables are what the rules say of the plans."""
    server, until = parts.coordinator, parts.stop.max_s
    assert isinstance(server, SyncCoordinator) and until is not None
    ends: dict[int, End] = {}
    steps: list[dict[str, Any]] = []
    n_assigned, version = 0, 0
    for plans in parts.device.plans:  # type: ignore[attr-defined]
        assert server.quorum <= len(plans) <= server.cohort
        plans["session_id"] = np.arange(n_assigned, n_assigned + len(plans))
        assert (run.column("version")[plans["session_id"]] == version).all()
        n_assigned += len(plans)
        if steps:
            assert plans["assigned_at"][0] >= steps[-1]["closed_at"] + server.server_step_s
        round_ends, step = expected_round(plans, server, until=until, service_s=service_s)
        ends |= round_ends
        if step is not None:
            version += step["is_committed"]
            steps.append(step | {"version": version, "step": len(steps)})
    check_ends(run, ends)
    found = [{name: row[name] for name in steps[0]} for row in run.steps.to_pylist()] if steps else []
    assert found == steps
    assert run.summary["simulated_s"] <= until


@settings(max_examples=80)
@given(
    small=SMALL_FLEETS,
    goal=st.integers(1, 4),
    over_selection=st.sampled_from([1.0, 1.5, 2.0]),
    quorum_fraction=st.sampled_from([0.5, 1.0]),
    deadline_s=st.sampled_from([None, 30.0, 60.0]),
    service_s=st.sampled_from([0.0, 7.0]),
    server_step_s=st.sampled_from([0.0, 5.0]),
    max_s=st.sampled_from([47.0, 700.0, 4000.0]),
)
def test_rounds_follow_the_rules(
    small: SmallFleet, service_s: float, max_s: float, goal: int, deadline_s: float | None, **server: Any
) -> None:
    coordinator = sync(goal, aggregator=aggregator(service_s), deadline_s=deadline_s, **server)
    parts = small.simulation(coordinator, max_s=max_s, max_steps=None)
    with tempfile.TemporaryDirectory() as folder:
        run = played(parts, Path(folder))
    check_rounds(run, parts, service_s=service_s)
    check_devices(run, small)
