"""The workflow of ``experiments/ci``, step by step: what it would run is run here, on this code and on a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STEPS: list[dict[str, Any]] = yaml.safe_load((ROOT / "experiments/ci/regression.yml").read_text())["jobs"]["check"][
    "steps"
]
RUN = {step["name"]: step["run"] for step in STEPS if "run" in step}
BREAKS = """
from fedsim.training.algorithm.sgd import LocalSgd
before = LocalSgd.__post_init__
def slower(self):
    before(self)
    object.__setattr__(self, "learning_rate", 0.98 * self.learning_rate)
LocalSgd.__post_init__ = slower
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    return tmp_path


def step(name: str, checkout: Path, **environment: str) -> int:
    """The step as the workflow has it, with the interpreter at hand for an installed one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    summary = str(checkout / "summary.md")
    given = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": summary, **environment}
    return subprocess.run(["bash", "-e", "-c", RUN[name]], cwd=checkout, env=given).returncode


def test_every_step_runs_and_the_code_holds(checkout: Path) -> None:
    assert list(RUN) == ["Install", "Check", "Say it where the reviewer looks"]
    assert RUN["Install"] == "pip install fedsim-fleet"
    assert step("Check", checkout) == 0
    assert step("Say it where the reviewer looks", checkout) == 0
    assert (checkout / "summary.md").read_text().startswith("held")
    kept = next(each for each in STEPS if each.get("name") == "Keep the curves")["with"]["path"].split()
    assert all((checkout / name).stat().st_size > 100 for name in kept)


def test_a_code_that_learns_two_per_cent_slower_fails(checkout: Path) -> None:
    (checkout / "sitecustomize.py").write_text(BREAKS)  # Python imports it when it starts
    assert step("Check", checkout, PYTHONPATH=str(checkout)) == 1
    assert step("Say it where the reviewer looks", checkout) == 0
    line = (checkout / "summary.md").read_text()
    assert line.startswith("regressed: log_loss over versions +")
    assert json.loads((checkout / "check.json").read_text())["seeds"] == [0, 1, 2]


def test_the_baseline_is_small_enough_to_be_read() -> None:
    file = ROOT / "experiments/ci/baseline.json"
    assert file.stat().st_size < 40_000
    assert max(map(len, file.read_text().splitlines())) < 2_500
