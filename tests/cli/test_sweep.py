"""Sweeps: a job that fails is named under every launcher; what a sweeper optimises is a number in every mode."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.main import main
from fedsim.config.objective import NUMBERS, objectives, value_of
from fedsim.config.simulation import build_simulation
from fedsim.errors import InputError
from tests.smoke import composed

QUICK = ("experiment=smoke", "report=false", "training=none", "stop.max_steps=2", "fleet.n_devices=20000")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_that_fails_is_named_and_the_others_go_on(
    launcher: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = ["run", "-m", *QUICK, f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path}"]
    assert main([*sweep, "seed=0,-1,2"]) == 8
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fedsim: ")]
    assert len(lines) == 2
    assert "job 1 (" in lines[0] and "seed=-1): seed: -1 (allowed: a whole number 0 …" in lines[0]
    assert lines[1] == "fedsim: 1 of the sweep's jobs failed"
    assert sorted(file.parent.name for file in tmp_path.glob("*/summary.json")) == ["0", "2"]


@pytest.mark.slow
def test_failures_of_an_earlier_sweep_are_forgotten(tmp_path: Path) -> None:
    sweep = ["run", "-m", *QUICK, f"hydra.sweep.dir={tmp_path}"]
    assert main([*sweep, "seed=-1"]) == 8
    assert main([*sweep, "seed=5"]) == 0


@pytest.mark.slow
def test_a_fault_of_a_class_of_ones_own_is_a_failed_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["run", "-m", *QUICK, f"hydra.sweep.dir={tmp_path}", "data.n_clients=100,100000"]
    assert main(sweep) == 8
    assert "job 1 (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], ["metrics.accuracy"]),
        (["training=none"], ["simulated_s"]),
        (["objective=wasted_device_h"], ["wasted_device_h"]),
        (["objective=[metrics.log_loss,outcomes.LATE]"], ["metrics.log_loss", "outcomes.LATE"]),
    ],
)
def test_objectives(overrides: list[str], wanted: list[str]) -> None:
    assert objectives(composed(overrides)) == wanted


@pytest.mark.parametrize(
    "given", ["objective=speed", "objective=[]", "objective=metrics.auc", "objective=[simulated_s,5]"]
)
def test_an_objective_that_no_run_has_is_refused_before_it(given: str) -> None:
    with pytest.raises(InputError, match="objective"):
        objectives(composed([f"objective={given}"]))


def test_every_objective_is_a_number_of_the_summary() -> None:
    summary: dict[str, Any] = build_simulation(composed([*QUICK])).run().summary
    assert all(math.isfinite(value_of(summary, name)) for name in NUMBERS)
    assert math.isnan(value_of(summary, "metrics.accuracy"))
    assert summary["wasted_device_h"] < summary["device_h"]
    assert summary["wasted_energy_kwh"] < summary["energy_kwh"]
