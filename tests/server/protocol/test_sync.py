"""Synchronous rounds against a slow reading of the rules, and the rules' edges one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.device.session import AGGREGATED, REPORTS, TIMEOUT
from fedsim.device.work import Work
from fedsim.errors import InputError, SimulationError
from fedsim.server.protocol.sync import SyncCoordinator
from fedsim.simulation import Simulation
from tests.build import (
    ALWAYS,
    Sizes,
    Span,
    Tables,
    aggregator,
    always,
    by_device,
    device,
    network,
    played,
    replay,
    simulation,
    sync,
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
    events = sorted((float(plan["upload_end_at"]), row) for row, plan in enumerate(plans) if plan["outcome"] == REPORTS)
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
    server, until = parts.coordinator, parts.task.stop.max_s
    assert isinstance(server, SyncCoordinator) and until is not None
    ends: dict[int, End] = {}
    steps: list[dict[str, Any]] = []
    n_assigned, version = 0, 0
    for plans in parts.world.plans:  # type: ignore[attr-defined]
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


@given(
    small=SMALL_FLEETS,
    goal=st.integers(1, 4),
    over_selection=st.sampled_from([1.0, 1.5, 2.0]),
    quorum_fraction=st.sampled_from([0.3, 1.0]),
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
    run = run_of(parts)
    if run is not None:
        check_rounds(run, parts, service_s=service_s)
        check_devices(run, small)


# ------------------------------------------------------------------------------------ the edges, one by one


def rounds(
    folder: Path, goal: int, *train_s: float, plugged: list[tuple[Span, ...]] | None = None, **changes: Any
) -> Tables:
    """Rounds of one device per training time, without transfers; simulation settings and server's are told apart."""
    names = ("max_steps", "max_s", "work", "clients", "min_separation_s", "gauge_interval_s")
    run = {name: changes.pop(name) for name in names if name in changes}
    phone = device(by_device(*train_s), link=network(down=10.0, up=10.0))
    fleet = replay(*(plugged or [ALWAYS] * len(train_s)))
    return played(simulation(sync(goal, **changes), fleet=fleet, phone=phone, **run), folder)


def test_a_report_exactly_at_the_deadline_counts(tmp_path: Path) -> None:
    run = rounds(tmp_path, 3, 10, 20, 60, deadline_s=60.0, max_steps=1)
    assert run.outcomes.tolist() == ["AGGREGATED"] * 3
    assert run.step_column("closed_at") == [60.0]


def test_a_report_after_the_deadline_is_late(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, epochs=1, batch_size=10)
    run = rounds(tmp_path, 2, 10, 30.5, deadline_s=60.0, quorum_fraction=0.5, max_steps=1, work=upload_of_30_s)
    outcome = dict(zip(run.column("device_id"), run.outcomes, strict=True))
    assert outcome == {0: "AGGREGATED", 1: "LATE"}
    assert run.column("end_at").max() == 60.5
    assert run.step_column("closed_at") == [60.0]


def test_a_device_that_asks_at_the_closing_instant_sends_nothing(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, epochs=1, batch_size=10)
    run = rounds(tmp_path, 1, 10, 40, 39.5, over_selection=3.0, max_steps=1, work=upload_of_30_s)
    ends = {
        int(phone): (outcome, float(end), int(sent))
        for phone, outcome, end, sent in zip(
            run.column("device_id"), run.outcomes, run.column("end_at"), run.column("upload_bytes"), strict=True
        )
    }
    assert ends == {0: ("AGGREGATED", 40.0, 300), 1: ("ABORTED", 40.0, 0), 2: ("LATE", 69.5, 300)}


def test_reports_that_tie_for_the_last_place_count_in_order_of_assignment(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, epochs=1, batch_size=10)
    run = rounds(tmp_path, 2, 10, 10, 10, over_selection=1.5, max_steps=1, work=upload_of_30_s)
    assert run.outcomes.tolist() == ["AGGREGATED", "AGGREGATED", "LATE"]


def test_the_cohort_is_goal_times_over_selection_rounded_up() -> None:
    assert [sync(goal, over_selection=1.3).cohort for goal in (1, 10, 11, 100, 1000)] == [2, 13, 15, 130, 1300]
    assert [sync(goal, quorum_fraction=0.8).quorum for goal in (1, 5, 10, 11)] == [1, 4, 8, 9]


def test_weights_by_examples_or_alike(tmp_path: Path) -> None:
    sizes = Sizes((10, 30))
    run = rounds(tmp_path / "a", 6, *range(1, 7), weighting="examples", max_steps=1, clients=sizes)
    n_examples = run.column("n_examples")
    assert set(n_examples) == {10, 30}
    np.testing.assert_allclose(run.column("weight"), n_examples / n_examples.sum())
    run = rounds(tmp_path / "b", 6, *range(1, 7), weighting="uniform", max_steps=1, clients=sizes)
    np.testing.assert_allclose(run.column("weight"), 1 / 6)


def test_without_deadline_a_round_that_cannot_reach_its_goal_ends_with_its_last_session(tmp_path: Path) -> None:
    """Devices 1 and 2 are unplugged at 50: the round waits for nobody else."""
    plugged = [ALWAYS, ((0.0, 50.0),), ((0.0, 50.0),)]
    run = rounds(tmp_path, 3, 10, 90, 90, plugged=plugged, quorum_fraction=0.3, max_steps=1)
    assert run.step_column("closed_at") == [50.0]
    assert run.step_column("n_aggregated") == [1]
    assert sorted(run.outcomes) == ["AGGREGATED", "INTERRUPTED", "INTERRUPTED"]


def test_a_queue_before_the_aggregator_delays_the_step_and_the_next_round(tmp_path: Path) -> None:
    """Reports at 10, 11, 12 and 30, 4 s of service each: taken in at 14, 18, 22 and 34."""
    run = rounds(
        tmp_path, 4, 10, 11, 12, 30, aggregator=aggregator(4.0), max_steps=2, server_step_s=6.0, gauge_interval_s=15.5
    )
    np.testing.assert_array_equal(run.step_column("closed_at"), [34.0, 74.0])  # 34 + 6 + 30 + 4
    np.testing.assert_array_equal(run.step_column("started_at"), [0.0, 40.0])
    assert run.summary["simulated_s"] == 80.0
    # at 15.5 the report of 11 s is served (from 14 on) and that of 12 s waits; at 31, 46.5, 77.5 nobody does
    assert run.gauges.column("n_waiting").to_pylist()[:4] == [0, 1, 0, 0]


def test_devices_are_told_when_the_round_closes_not_when_the_queue_is_empty(tmp_path: Path) -> None:
    """The round closes at 20; the aggregator takes until 60, beyond the end of the run at 50."""
    upload_of_5_s = Work(download_bytes=0, upload_bytes=50, epochs=1, batch_size=10)
    run = rounds(
        tmp_path,
        2,
        5,
        15,
        30,
        over_selection=1.5,
        aggregator=aggregator(25.0),
        max_s=50.0,
        work=upload_of_5_s,
        gauge_interval_s=32.0,
    )
    ends = dict(zip(run.column("device_id"), zip(run.outcomes, run.column("end_at"), strict=True), strict=True))
    assert ends == {0: ("LATE", 10.0), 1: ("LATE", 20.0), 2: ("ABORTED", 30.0)}
    assert run.steps.num_rows == 0
    assert run.gauges.column("in_flight").to_pylist() == [0, 0]  # before the first round, and at 32


def test_a_step_at_the_very_end_of_the_run_counts(tmp_path: Path) -> None:
    run = rounds(tmp_path, 1, 10, max_s=10.0)
    assert run.outcomes.tolist() == ["AGGREGATED"]
    assert (run.summary["simulated_s"], run.summary["stop_reason"]) == (10.0, "max_s")


def test_the_server_step_does_not_outlast_the_run(tmp_path: Path) -> None:
    assert rounds(tmp_path, 1, 10, max_s=15.0, server_step_s=60.0).summary["simulated_s"] == 15.0


@pytest.mark.parametrize("selection_timeout_s", [0.0, 7.0, 600.0])
def test_a_round_starts_with_a_quorum_when_its_patience_is_over(tmp_path: Path, selection_timeout_s: float) -> None:
    """Two of the three devices there; the third is plugged in at 300."""
    plugged = [ALWAYS, ALWAYS, ((300.0, 80_000.0),)]
    run = rounds(
        tmp_path,
        3,
        10,
        10,
        10,
        plugged=plugged,
        quorum_fraction=0.6,
        selection_timeout_s=selection_timeout_s,
        max_steps=2,
    )
    first = min(selection_timeout_s, 300.0)
    n_assigned = 2 if selection_timeout_s < 300 else 3
    second = first + 10 + (selection_timeout_s if n_assigned == 2 else 0)
    assert run.step_column("started_at").tolist() == [first, second]
    assert run.step_column("n_assigned").tolist() == [n_assigned, n_assigned]


def test_a_round_starts_as_soon_as_a_straggler_is_free(tmp_path: Path) -> None:
    """Both devices are wanted. Round 1 closes at 40, device 1 is told at 45 that it need not upload: round 2 opens."""
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, epochs=1, batch_size=10)
    run = rounds(
        tmp_path, 1, 10, 45, over_selection=2.0, selection_timeout_s=600.0, max_steps=2, work=upload_of_30_s
    )  # fmt: skip
    assert run.step_column("started_at").tolist() == [0.0, 45.0]


def test_rounds_follow_each_other_at_the_very_instant(tmp_path: Path) -> None:
    """The clock adds 1.1 and 6.8 − 1.1 up to less than 6.8; the device is free at 6.8 and the round begins then."""
    assert 1.1 + (6.8 - 1.1) < 6.8
    phone = device(by_device(5.7), interruption="pause")
    run = played(simulation(sync(1), fleet=replay([(1.1, 80_000.0)]), phone=phone, max_steps=2), tmp_path)
    assert run.step_column("started_at").tolist() == [1.1, 6.8]


def test_more_devices_than_the_fleet_has_is_refused() -> None:
    parts = simulation(sync(5, quorum_fraction=0.8), fleet=always(3), phone=device(by_device(1)), max_steps=1)
    with pytest.raises(SimulationError, match="a round needs 4 devices at one instant; the fleet has 3"):
        parts.run()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"report_goal": 0}, "report_goal"),
        ({"over_selection": 0.9}, "over_selection"),
        ({"quorum_fraction": 0.0}, "quorum_fraction"),
        ({"quorum_fraction": 1.1}, "quorum_fraction"),
        ({"deadline_s": 0.0}, "deadline_s"),
        ({"selection_timeout_s": -1.0}, "selection_timeout_s"),
        ({"assignment_interval_s": 0.0}, "assignment_interval_s"),
        ({"server_step_s": -1.0}, "server_step_s"),
    ],
)
def test_bad_input(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sync(**{"goal": 3} | {("goal" if k == "report_goal" else k): v for k, v in changes.items()})
