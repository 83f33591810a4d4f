"""Figures over time must not show a beat between their bins and the rounds."""

from pathlib import Path

import pytest

from fedsim.report.figures import BAR_BINS, few_rounds_s
from fedsim.results.numbers import display, headline
from fedsim.results.run import Run
from fedsim.schema import ELIGIBILITY, EVALS, SESSIONS, STEPS
from tests.report.fake_run import HAND_ELIGIBILITY, session, summary, table, write_run


@pytest.mark.parametrize("round_s", [97.0, 137.0, 431.0])
def test_bytes_of_even_rounds_are_even(tmp_path: Path, round_s: float) -> None:
    """Rounds of one length, each of which downloads in its first second: the rate is the same all day."""
    starts = [i * round_s for i in range(int(86_400 / round_s))]
    sessions = [
        session(
            session_id=i, device_id=i, assigned_at=at, download_end_at=at + 1, end_at=at + 60, outcome="INTERRUPTED",
            download_bytes=7000,
        )
        for i, at in enumerate(starts)
    ]  # fmt: skip
    steps = [
        {"step": i, "version": i + 1, "opened_at": at, "started_at": at, "closed_at": at + 60, "is_committed": True,
         "n_assigned": 1, "n_aggregated": 1}
        for i, at in enumerate(starts)
    ]  # fmt: skip
    rows = table(SESSIONS, sessions)
    told = summary(rows, simulated_s=86_400.0, n_steps=len(starts), n_versions=len(starts), protocol="sync")
    folder = write_run(
        tmp_path / "run", sessions=rows, steps=table(STEPS, steps), evals=table(EVALS, []),
        eligibility=table(ELIGIBILITY, HAND_ELIGIBILITY), summary=told,
    )  # fmt: skip
    run = Run.load(folder)
    at_least_s = few_rounds_s(run, headline(run))
    rates = display(run, run.totals.download_by_bin, n_bins=BAR_BINS, at_least_s=at_least_s).per_hour()[:-1]
    assert len(rates) >= 10
    assert rates.max() / rates.min() < 1.15
