"""Headline numbers of a run in which no two rounds and no two sessions are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim.results.numbers import headline, outcome_rows, phase_rows
from fedsim.results.run import Run
from fedsim.schema import ELIGIBILITY, EVALS, SESSIONS, STEPS
from tests.report.fake_run import HAND_ELIGIBILITY, session, summary, table, write_run

WITHIN = 0.0061  # of the streaming quantiles


def uneven(folder: Path) -> Run:
    """21 rounds of 10, 20 … 210 s, one after the other; in each one session as long as its round.

    The first 7 are interrupted: 280 s of 2310. The other 14 are aggregated, 3 versions stale in the last round but
    one, 5 in the last, 1 elsewhere. A session takes a joule a second, an aggregated one three, and a percent of the
    battery for every ten seconds.
    """
    sessions: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    at = 0.0
    for i in range(21):
        seconds, is_useful = 10.0 * (i + 1), i >= 7
        ends = {"download_end_at": at, "train_end_at": at + seconds, "upload_end_at": at + seconds} if is_useful else {}
        kept = {"staleness": {19: 3, 20: 5}.get(i, 1), "weight": 1.0} if is_useful else {}
        sessions.append(
            session(
                session_id=i, device_id=i, assigned_at=at, end_at=at + seconds, **ends, **kept,
                outcome="AGGREGATED" if is_useful else "INTERRUPTED", compute_s=seconds,
                compute_j=seconds * (3.0 if is_useful else 1.0), battery_start_percent=90.0,
                battery_used_percent=seconds / 10.0,
            )
        )  # fmt: skip
        steps.append(
            {"step": i, "version": i + 1, "opened_at": at, "started_at": at, "closed_at": at + seconds,
             "is_committed": True, "n_assigned": 1, "n_aggregated": 1}
        )  # fmt: skip
        at += seconds
    rows = table(SESSIONS, sessions)
    return Run.load(
        write_run(
            folder,
            sessions=rows,
            steps=table(STEPS, steps),
            evals=table(EVALS, []),
            eligibility=table(ELIGIBILITY, HAND_ELIGIBILITY),
            summary=summary(rows, protocol="sync", simulated_s=at, n_steps=21, n_versions=21),
        )
    )


def test_waste_is_what_was_not_aggregated(tmp_path: Path) -> None:
    """10 + 20 … + 70 = 280 s were wasted of 2310; joules 280 of 280 + 3 × 2030."""
    run = uneven(tmp_path / "run")
    numbers = headline(run)
    assert numbers["device_s"] == 2310.0
    assert numbers["wasted_device_s"] == 280.0
    assert numbers["wasted_fraction"] == pytest.approx(280 / 2310)
    assert numbers["aggregated_fraction"] == pytest.approx(14 / 21)
    assert numbers["wasted_energy_fraction"] == pytest.approx(280 / (280 + 3 * 2030))
    assert {row.outcome: row.device_s for row in outcome_rows(run) if row.n} == {
        "AGGREGATED": 2030.0,
        "INTERRUPTED": 280.0,
    }


def test_medians_and_95_percent_of_21_that_differ(tmp_path: Path) -> None:
    """Of 10, 20 … 210 the 11th is 110, and the 20th, 200, is the least that 95 % do not exceed (90 %: 190)."""
    numbers = headline(uneven(tmp_path / "run"))
    assert (numbers["step_median_s"], numbers["step_p95_s"]) == pytest.approx((110.0, 200.0))
    assert numbers["session_median_s"] == pytest.approx(110.0, rel=WITHIN)
    assert numbers["session_p95_s"] == pytest.approx(200.0, rel=WITHIN)
    assert numbers["battery_used_median_percent"] == pytest.approx(11.0, rel=WITHIN)
    assert numbers["battery_used_p95_percent"] == pytest.approx(20.0, rel=WITHIN)
    assert (numbers["staleness_median"], numbers["staleness_p95"]) == (1, 5)  # of twelve 1, a 3 and a 5


def test_95_percent_of_the_phases_that_were_completed(tmp_path: Path) -> None:
    """Training ended in the aggregated sessions alone: of 80, 90 … 210 s the 14th, 210, is the one (90 %: 200)."""
    training = {row.phase: row for row in phase_rows(uneven(tmp_path / "run"))}["training"]
    assert training.n_completed == 14
    assert training.median_s == pytest.approx(140.0, rel=WITHIN)
    assert training.p95_s == pytest.approx(210.0, rel=WITHIN)
