"""Synchronous rounds: the edges of their rules, one by one (all of them together: tests/test_alone.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.data.passes import Passes
from fedsim.device.work import Work
from fedsim.errors import InputError, SimulationError
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

# ------------------------------------------------------------------------------------ the edges, one by one


def rounds(
    folder: Path, goal: int, *train_s: float, plugged: list[tuple[Span, ...]] | None = None, **changes: Any
) -> Tables:
    """Rounds of one device per training time, without transfers; simulation settings and server's are told apart."""
    names = ("max_steps", "max_s", "work", "clients", "min_between_participations_s", "gauge_interval_s")
    run = {name: changes.pop(name) for name in names if name in changes}
    phone = device(by_device(*train_s), link=network(down=10.0, up=10.0))
    fleet = replay(*(plugged or [ALWAYS] * len(train_s)))
    return played(simulation(sync(goal, **changes), fleet=fleet, phone=phone, **run), folder)


def test_a_report_exactly_at_the_deadline_counts(tmp_path: Path) -> None:
    run = rounds(tmp_path, 3, 10, 20, 60, deadline_s=60.0, max_steps=1)
    assert run.outcomes.tolist() == ["AGGREGATED"] * 3
    assert run.step_column("closed_at") == [60.0]


def test_a_report_after_the_deadline_is_late(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(tmp_path, 2, 10, 30.5, deadline_s=60.0, quorum_fraction=0.5, max_steps=2, work=upload_of_30_s)
    outcome = dict(zip(run.column("device_id")[:2], run.outcomes[:2], strict=True))
    assert outcome == {0: "AGGREGATED", 1: "LATE"}
    assert run.column("end_at")[:2].max() == 60.5
    assert run.step_column("closed_at")[0] == 60.0


def test_a_late_report_keeps_a_worker_of_the_aggregator_busy(tmp_path: Path) -> None:
    """20 s of service. Round 1 closes at 40 and steps at 60; device 1's report comes at 65 and is served until 85.
    Round 2 begins at 60 with device 0 alone, reports at 100; without the late one in between nothing is delayed,
    but a report at 70 waits until 85."""
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(
        tmp_path, 1, 10, 35, over_selection=2.0, quorum_fraction=1.0, aggregator=aggregator(20.0), max_steps=2,
        work=upload_of_30_s, server_step_s=0.0,
    )  # fmt: skip
    late = int(np.flatnonzero(run.outcomes == "LATE")[0])
    assert (run.column("device_id")[late], run.column("end_at")[late]) == (1, 65.0)
    assert (run.column("ingest_start_at")[late], run.column("ingested_at")[late]) == (65.0, 85.0)
    assert run.step_column("closed_at").tolist() == [60.0, 120.0]


def test_a_report_waits_behind_a_late_one(tmp_path: Path) -> None:
    """As above with 60 s of service: the late report holds the worker from 100 to 160, the next one from then on."""
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(
        tmp_path, 1, 10, 35, over_selection=2.0, quorum_fraction=1.0, aggregator=aggregator(60.0), max_steps=2,
        work=upload_of_30_s, server_step_s=0.0,
    )  # fmt: skip
    assert run.column("ingest_start_at")[run.outcomes == "LATE"].tolist() == [100.0]
    assert run.step_column("started_at").tolist() == [0.0, 100.0]
    assert run.step_column("closed_at").tolist() == [100.0, 220.0]  # 140, behind the late one until 160, and 60


def test_a_device_that_asks_at_the_closing_instant_sends_nothing(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(tmp_path, 1, 10, 40, 39.5, over_selection=3.0, max_s=75.0, server_step_s=35.0, work=upload_of_30_s)
    ends = {
        int(phone): (outcome, float(end), int(sent))
        for phone, outcome, end, sent in zip(
            run.column("device_id"), run.outcomes, run.column("end_at"), run.column("upload_bytes"), strict=True
        )
    }
    assert ends == {0: ("AGGREGATED", 40.0, 300), 1: ("ABORTED", 40.0, 0), 2: ("LATE", 69.5, 300)}


def test_reports_that_tie_for_the_last_place_count_in_order_of_assignment(tmp_path: Path) -> None:
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(
        tmp_path, 2, 10, 10, 10, over_selection=1.5, max_s=45.0, server_step_s=9.0, work=upload_of_30_s
    )  # fmt: skip
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


@pytest.mark.parametrize(
    ("server", "closed_at"),
    [
        ({"deadline_s": None}, 20.0),
        ({"deadline_s": 600.0}, 600.0),
        ({"deadline_s": 600.0, "short_round": "last_report"}, 20.0),
        ({"deadline_s": 15.0, "short_round": "last_report"}, 10.0),
    ],
)
def test_a_round_that_cannot_reach_its_goal_does_not_wait_for_lost_sessions(
    tmp_path: Path, server: dict[str, Any], closed_at: float
) -> None:
    """Devices 0 and 3 report at 10 and 20; the other two train on until they are unplugged at 500."""
    plugged = [ALWAYS, ((0.0, 500.0),), ((0.0, 500.0),), ALWAYS]
    run = rounds(tmp_path, 4, 10, 900, 900, 20, plugged=plugged, quorum_fraction=0.25, max_steps=1, **server)
    assert run.step_column("closed_at") == [closed_at]
    assert run.step_column("n_aggregated") == [1 if closed_at == 10.0 else 2]


def test_a_round_without_any_report_closes_with_its_last_session(tmp_path: Path) -> None:
    """Without a deadline nothing else could close it: both are unplugged, at 50 and at 70."""
    plugged = [((0.0, 50.0), (80.0, 200.0)), ((0.0, 70.0), (80.0, 200.0))]
    run = rounds(tmp_path, 2, 90, 90, plugged=plugged, max_s=100.0)
    assert run.steps.to_pylist()[0]["closed_at"] == 70.0
    assert run.outcomes.tolist() == ["INTERRUPTED", "INTERRUPTED", "OPEN", "OPEN"]


@pytest.mark.parametrize(("stragglers", "begun_at"), [("busy", [0.0, 45.0]), ("free", [0.0, 40.0])])
def test_stragglers_are_busy_until_they_end_or_free_at_the_close(
    tmp_path: Path, stragglers: str, begun_at: list[float]
) -> None:
    """Both devices are wanted. Round 1 closes at 40; device 1 trains until 45 and is told then."""
    upload_of_30_s = Work(download_bytes=0, upload_bytes=300, passes=Passes(1, 10))
    run = rounds(
        tmp_path, 1, 10, 45, over_selection=2.0, selection_timeout_s=600.0, max_steps=2, work=upload_of_30_s,
        stragglers=stragglers,
    )  # fmt: skip
    assert run.step_column("started_at").tolist() == begun_at


def test_a_queue_before_the_aggregator_delays_the_step_and_the_next_round(tmp_path: Path) -> None:
    """Reports at 10, 11, 12 and 30, 4 s of service each: taken in at 14, 18, 22 and 34."""
    run = rounds(
        tmp_path, 4, 10, 11, 12, 30, aggregator=aggregator(4.0), max_steps=2, server_step_s=6.0, gauge_interval_s=15.5
    )
    np.testing.assert_array_equal(run.step_column("closed_at"), [34.0, 74.0])  # 34 + 6 + 30 + 4
    np.testing.assert_array_equal(run.step_column("started_at"), [0.0, 40.0])
    assert run.summary["simulated_s"] == 74.0  # the server step after the last version is no part of the run
    # one waits from 11 to 12, two until 14, one until 18: 1 + 2 × 2 + 1.5 s up to 15.5, and 2.5 s after
    np.testing.assert_allclose(run.gauges.column("waiting_mean").to_pylist()[:3], [6.5 / 15.5, 2.5 / 15.5, 0.0])
    assert run.gauges.column("waiting_max").to_pylist()[:3] == [2, 1, 0]


def test_devices_are_told_when_the_round_closes_not_when_the_queue_is_empty(tmp_path: Path) -> None:
    """The round closes at 20; the aggregator takes until 60, beyond the end of the run at 50."""
    upload_of_5_s = Work(download_bytes=0, upload_bytes=50, passes=Passes(1, 10))
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
    assert ends == {0: ("OPEN", 10.0), 1: ("OPEN", 20.0), 2: ("ABORTED", 30.0)}
    assert run.steps.num_rows == 0
    np.testing.assert_allclose(run.gauges.column("in_flight_mean"), [60.0 / 32.0, 0.0])
    assert run.gauges.column("in_flight_max").to_pylist() == [3, 0]


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
        ({"short_round": "soon"}, "deadline, last_report"),
        ({"stragglers": "gone"}, "busy, free"),
    ],
)
def test_bad_input(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sync(**{"goal": 3} | {("goal" if k == "report_goal" else k): v for k, v in changes.items()})
