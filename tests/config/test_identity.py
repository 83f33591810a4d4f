"""The identity of a run: equal for what must have the same bytes, different for what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.main import main
from fedsim.config.identity import identity
from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.results.run import Run
from tests.smoke import composed


def of(*overrides: str, traces: str = "t", data: str = "d") -> dict[str, str]:
    return identity(composed(list(overrides)), traces_sha256=[traces], data_sha256=data)


@pytest.mark.parametrize(
    "overrides",
    [
        ["stop.max_steps=7"],
        ["report=false", "force=true", "objective=simulated_s"],
        ["paths.datasets=/elsewhere", "paths.local_traces=/there"],
        ["data=mnist_by_writer", "paths.datasets=/elsewhere"],
        ["traces.folder=/the/same/set/elsewhere"],
    ],
)
def test_what_does_not_change_a_run_does_not_change_its_identity(overrides: list[str]) -> None:
    same = [text for text in overrides if text.startswith("data=")]
    assert of(*overrides) == of(*same)


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ["server.report_goal=7"]},
        {"overrides": ["model.plan_bytes=1"]},
        {"traces": "other"},
        {"data": "other"},
    ],
)
def test_what_changes_a_run_changes_identity_and_arm(change: dict[str, Any]) -> None:
    other, one = of(*change.pop("overrides", []), **change), of()
    assert other["run"] != one["run"]
    assert other["arm"] != one["arm"]


def test_arms_are_the_same_but_for_the_seed() -> None:
    assert of("seed=1")["arm"] == of("seed=2")["arm"]
    assert of("seed=1")["run"] != of("seed=2")["run"]


def test_a_run_has_its_identity_and_a_folder_of_another_schema_is_one_line(tmp_path: Path) -> None:
    quick = ["experiment=smoke", "training=none", "report=false", "stop.max_steps=1", f"hydra.run.dir={tmp_path}/r"]
    assert main(["run", *quick]) == 0
    file = tmp_path / "r" / "provenance.json"
    told = read_json(file, "provenance")
    assert set(told["identity"]) == {"run", "arm"}
    Run.load(tmp_path / "r")
    write_json(file, told | {"schema": 4, "versions": {"fedsim-fleet": "9.1"}})
    with pytest.raises(InputError, match=r"fedsim 9\.1 wrote it and reads it: 4 in .* \(allowed: 3\)"):
        Run.load(tmp_path / "r")
    write_json(file, {key: value for key, value in told.items() if key != "schema"})  # before schemas had numbers
    with pytest.raises(InputError, match=r"has another schema.*: 1 in "):
        Run.load(tmp_path / "r")
