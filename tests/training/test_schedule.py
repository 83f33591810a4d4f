"""Schedules of learning rates: known answers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsim.config.play import simulate
from fedsim.errors import InputError
from fedsim.training.schedule import Cosine, Exponential, Schedule, Warmup
from tests.smoke import small

AT = np.array([0, 1, 4, 8, 100])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Exponential(halved_every_steps=4), [1.0, 0.5**0.25, 0.5, 0.25, 0.5**25]),
        (Cosine(n_steps=8, floor_fraction=0.1), [1.0, 0.1 + 0.9 * (1 + np.cos(np.pi / 8)) / 2, 0.55, 0.1, 0.1]),
        (Warmup(n_steps=5), [0.2, 0.4, 1.0, 1.0, 1.0]),
    ],
)
def test_known_answers(schedule: Schedule, expected: list[float]) -> None:
    assert schedule.factor(AT).tolist() == pytest.approx(expected)


class Half:
    """A schedule of one's own."""

    def factor(self, version: np.ndarray) -> np.ndarray:
        return np.full(len(version), 0.5)


@pytest.mark.slow
def test_one_of_ones_own(tmp_path: Path) -> None:
    asked = ["fleet.n_devices=3000", "server.report_goal=20", "stop.max_steps=1"]
    own = f"{{_target_: {__name__}.Half}}"
    whole = simulate(*small(asked), folder=tmp_path / "whole")
    client = simulate(*small([*asked, f"training.local.schedule={own}"]), folder=tmp_path / "client")
    lower = simulate(*small([*asked, "training.local.learning_rate=0.05"]), folder=tmp_path / "lower")
    first = [run.steps["update_norm"].iloc[0] for run in (whole, client, lower)]
    assert first[1] == pytest.approx(first[2], rel=1e-6) and first[1] < first[0]
    server = simulate(*small([*asked, f"training.server_optimizer.schedule={own}"]), folder=tmp_path / "server")
    slower = simulate(*small([*asked, "training.server_optimizer.learning_rate=0.5"]), folder=tmp_path / "slower")
    assert server.summary["metrics"] == slower.summary["metrics"] != whole.summary["metrics"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.local.schedule={_target_: fedsim.training.schedule.Cosine, n_steps: 4}",
            "floor_fraction must be given",
        ),
        ("training.local.schedule={_target_: fedsim.training.loss.ListNet}", "training.local.schedule is no schedule"),
        (
            "training.server_optimizer.schedule={n_steps: 3}",
            "schedule._target_ must be given",
        ),
        ("training.local.schedule=cosine", "training.local.schedule must be a group of values: 'cosine'"),
        ("training.local.momentum=1.5", "training.local.momentum"),
    ],
)
def test_bad_input(override: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        simulate(*small([override]), folder=tmp_path / "run")
    assert expected in str(refused.value) and "\n" not in str(refused.value)
