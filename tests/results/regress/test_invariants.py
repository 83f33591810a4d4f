"""What must hold: it does in real runs of every kind, and each thing that is broken is said by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.config.play import simulate
from fedsim.results.regress.invariants import violations
from fedsim.results.run import Run
from fedsim.schema import OUTCOMES
from tests.results.regress.real import copied, played, with_column, with_rows, with_summary
from tests.smoke import small
from tests.test_baselines import RUNS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", RUNS)
def test_it_holds_in_runs_of_every_kind(name: str, tmp_path: Path) -> None:
    assert violations(simulate(*small(RUNS[name]), folder=tmp_path / "run")) == []


def at(place: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The value at one place of those that are known."""

    def change(values: np.ndarray) -> np.ndarray:
        values[np.flatnonzero(~np.isnan(values))[place]] = value
        return values

    return change


def one_step_less(table: pa.Table) -> pa.Table:
    return table.slice(0, table.num_rows - 1)


def a_row_less(table: pa.Table) -> pa.Table:
    return table.slice(1)


BUFFERED = ("server=buffered", "server.concurrency=20", "server.buffer_size=5", "fleet.n_devices=3000")
BROKEN: dict[str, tuple[str, str, Callable[[np.ndarray], Any], str]] = {
    "a phase ends before it begins": ("sessions", "train_end_at", at(0, 0.0), "sessions whose train_end_at is before"),
    "a phase ends after the session": (
        "sessions",
        "end_at",
        at(0, 0.0),
        "sessions whose upload_end_at is after their end_at",
    ),
    "a number is twice there": ("sessions", "session_id", lambda v: np.maximum(v, 1), "77 of them have a row"),
    "bytes are negative": ("sessions", "upload_bytes", at(0, -5.0), "sessions whose upload_bytes is negative"),
    "bytes are not the summary's": ("sessions", "download_bytes", lambda v: v + 1, "download_bytes in the sessions"),
    "joules are not the summary's": ("sessions", "compute_j", lambda v: v * 1.5, "joules in the sessions"),
    "parts exceed the download": ("sessions", "plan_bytes", lambda v: v + 9999, "parts of the download exceed it"),
    "a weight is missing": ("sessions", "weight", at(0, np.nan), "sessions with a weight that were not aggregated"),
    "weights do not add up": ("sessions", "weight", lambda v: v * 0.95, "add up to 0.95 … 0.95, not to 1"),
    "an update is stale in a round": (
        "sessions",
        "staleness",
        at(0, 1.0),
        "staleness of aggregated updates from 0 to 1",
    ),
    "a step counts what is not there": ("steps", "n_aggregated", at(0, 10.0), "steps aggregated 55 updates"),
    "a step says another staleness": ("steps", "mean_staleness", at(0, 0.5), "the mean staleness of steps"),
    "a step closes before it starts": ("steps", "closed_at", at(1, 0.0), "steps that were closed too early"),
    "versions have a gap": ("steps", "version", at(-1, 9.0), "the committed steps are not the versions 1 to 6"),
    "an older version is evaluated": ("evals", "version", at(-1, 0.0), "evaluations of an older version"),
    "a version that does not exist": ("evals", "version", at(-1, 7.0), "evaluations of versions that do not exist"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_said(case: str, run: Run, folder: Path) -> None:
    table, column, change, expected = BROKEN[case]
    found = violations(Run.load(with_column(copied(run, folder), table, column, change)))
    assert any(expected in line for line in found), found


def test_a_report_that_is_lost_is_said(run: Run, folder: Path) -> None:
    def lost(values: np.ndarray) -> np.ndarray:
        values[np.flatnonzero(values == OUTCOMES.index("LATE"))[0]] = OUTCOMES.index("FAILED")
        return values

    found = violations(Run.load(with_column(copied(run, folder), "sessions", "outcome", lost)))
    assert "1 reports that arrived and were neither aggregated, late, stale nor open" in found
    assert any("rows of outcome FAILED" in line for line in found)


def test_a_report_that_timed_out_though_no_round_was_abandoned(run: Run, folder: Path) -> None:
    def late(values: np.ndarray) -> np.ndarray:
        values[np.flatnonzero(values == OUTCOMES.index("LATE"))[0]] = OUTCOMES.index("TIMEOUT")
        return values

    found = violations(Run.load(with_column(copied(run, folder), "sessions", "outcome", late)))
    assert "1 reports timed out though no round was abandoned" in found


def test_rows_that_are_missing_are_said(run: Run, folder: Path) -> None:
    found = violations(Run.load(with_rows(copied(run, folder), "sessions", a_row_less)))
    assert "78 sessions began and 77 of them have a row" in found
    found = violations(Run.load(with_rows(folder, "steps", one_step_less)))
    assert "5 committed steps, 6 in the summary" in found
    assert any("allowed" not in line for line in violations(Run.load(with_summary(folder, n_steps=4))))


def test_a_buffer_that_divides_by_its_size_may_weigh_less(tmp_path: Path) -> None:
    asked = ["server=buffered", "server.concurrency=20", "server.buffer_size=5", "server.divisor=buffer_size"]
    run = simulate(
        *small(["fleet.n_devices=3000", "stop.max_steps=9", "training=none", *asked]), folder=tmp_path / "run"
    )
    weights = run.sessions(["weight", "version", "staleness"]).dropna()
    assert weights.groupby(weights["version"] + weights["staleness"])["weight"].sum().min() < 0.999
    assert violations(run) == []
    heavy = with_column(copied(run, tmp_path / "copy"), "sessions", "weight", lambda values: values * 1.5)
    assert any("add up to" in line for line in violations(Run.load(heavy)))


def test_a_stale_update_beyond_the_bound(tmp_path: Path) -> None:
    asked = ["server=buffered", "server.concurrency=20", "server.buffer_size=5", "server.max_staleness=4"]
    run = simulate(
        *small(["fleet.n_devices=3000", "stop.max_steps=9", "training=none", *asked]), folder=tmp_path / "run"
    )
    assert violations(run) == []
    stale = with_column(copied(run, tmp_path / "copy"), "sessions", "staleness", at(-1, 5.0))
    assert any("allowed 0 to 4" in line for line in violations(Run.load(stale)))


def test_played_twice_it_is_the_same(run: Run, tmp_path: Path) -> None:
    assert violations(played(tmp_path / "again")) == violations(run) == []
