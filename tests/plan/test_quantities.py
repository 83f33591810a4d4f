"""Quantities of a run against plain pandas over its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedsim.config.play import simulate
from fedsim.plan.basis import shipped_basis
from fedsim.plan.quantities import QUANTITIES, facts_of, quantity
from fedsim.plan.trials import extra
from fedsim.results.run import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    words = ("training=none", "fleet.n_devices=30000", "server.report_goal=30", "stop.max_steps=25", "report=false")
    return simulate(*words, folder=tmp_path_factory.mktemp("run") / "it")


@pytest.fixture(scope="module")
def sessions(run: Run) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(Path(run.folder, "sessions").glob("*.parquet"))])


def test_sessions_days_and_device_hours(run: Run, sessions: pd.DataFrame) -> None:
    values = facts_of(run, shipped_basis())["values"]
    device_s = sessions.end_at - sessions.assigned_at
    outcome = run.sessions(["outcome"]).outcome.astype(str).to_numpy()
    assert values["days"] == run.summary["simulated_s"] / 86_400
    assert values["device_hours"] == pytest.approx(device_s.sum() / 3600, rel=1e-9)
    useful = device_s.to_numpy()[outcome == "AGGREGATED"].sum()
    assert values["wasted_device_time_fraction"] == pytest.approx(1 - useful / device_s.sum(), rel=1e-9)
    lost = np.isin(outcome, ["INTERRUPTED", "TIMEOUT", "FAILED"])
    assert 0 < lost.sum() < len(lost) / 2
    assert values["dropout_fraction"] == pytest.approx(lost.mean(), rel=1e-9)
    assert extra(run)["updates"] == (outcome == "AGGREGATED").sum()
    assert extra(run)["steps"] == 25


def test_bytes_of_a_phone_and_month(run: Run, sessions: pd.DataFrame) -> None:
    values = facts_of(run, shipped_basis())["values"]
    each = (sessions.download_bytes + sessions.upload_bytes).groupby(sessions.device_id).sum()
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        expected = np.quantile(each, q, method="inverted_cdf")  # a campaign a month
        assert values[f"bytes_per_device_month.{name}"] == pytest.approx(expected, rel=1e-9)


def test_energy_of_sessions_as_a_share_of_a_battery(run: Run, sessions: pd.DataFrame) -> None:
    basis = shipped_basis()
    joules = sessions.download_j + sessions.compute_j + sessions.upload_j
    percent = joules / (basis.constants.battery_wh * 3600 / 100)
    values = facts_of(run, basis)["values"]
    assert values["battery_percent_per_participation.max"] == pytest.approx(percent.max(), rel=1e-5)
    p95 = np.quantile(percent, 0.95, method="inverted_cdf")
    assert values["battery_percent_per_participation.p95"] == pytest.approx(p95, rel=1e-5)


def test_what_was_not_measured_is_not_there(run: Run) -> None:
    facts = facts_of(run, shipped_basis())
    assert facts["curves"] == {}
    assert "epsilon" not in facts["values"]
    assert set(facts["values"]) <= set(QUANTITIES)


def test_names_of_quantities_follow_the_metrics() -> None:
    assert quantity("days_to.auc", ("auc",)) is not None
    assert quantity("auc.min_group", ("auc",)) is not None
    assert quantity("auc", ()) is None
    assert quantity("days_to.auc", ("log_loss",)) is None
