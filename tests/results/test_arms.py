"""What differs between runs is found by itself: seeds make no arm, everything else does, in the words of the asker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim.results.arms import Arm
from fedsim.results.runs import found_runs
from tests.results.many_runs import written


def arms(folder: Path, *runs: Mapping[str, Any]) -> list[Arm]:
    for number, run in enumerate(runs):
        written(folder / str(number), **run)
    return list(found_runs([folder]).arms)


def labels(folder: Path, *runs: Mapping[str, Any]) -> dict[str, list[int]]:
    return {arm.label: arm.seeds for arm in arms(folder, *runs)}


def test_runs_that_differ_in_their_seed_alone_are_one_arm(tmp_path: Path) -> None:
    found = labels(tmp_path, {"seed": 3}, {"seed": 0}, {"seed": 7})
    assert found == {"all runs": [0, 3, 7]}


def test_a_seed_that_is_not_the_runs_makes_an_arm(tmp_path: Path) -> None:
    found = labels(tmp_path, {"seed": 3}, {"seed": 3, "asked": {"data.seed": 4}})
    assert found == {"data.seed=${seed}": [3], "data.seed=4": [3]}


def test_a_seed_that_equals_the_runs_by_chance_makes_no_arm(tmp_path: Path) -> None:
    """Data of seed 0 for all runs, of which one has seed 0 too; beside them an arm whose data follow the seed."""
    fixed = [{"seed": seed, "asked": {"data.seed": 0}} for seed in (0, 1, 2)]
    assert labels(tmp_path / "fixed", *fixed) == {"all runs": [0, 1, 2]}
    follows = [{"seed": seed} for seed in (1, 2)]
    found = labels(tmp_path / "both", *fixed[1:], *follows)
    assert found == {"data.seed=0": [1, 2], "data.seed=${seed}": [1, 2]}
    found = labels(tmp_path / "two", *fixed[1:], {"seed": 0}, {"seed": 1})  # seed 0 is of those that follow
    assert found == {"data.seed=0": [1, 2], "data.seed=${seed}": [0, 1]}


def test_an_arm_without_the_override_has_the_value_of_its_configuration(tmp_path: Path) -> None:
    plain = {"server": {"over_selection": 1.3, "report_goal": 30}}
    asked = {"server.over_selection": 1.0}
    found = labels(
        tmp_path, {"seed": 0, "config": plain},
        {"seed": 0, "config": {"server": {"report_goal": 30}}, "asked": asked},
    )  # fmt: skip
    assert found == {"over_selection=1.3": [0], "over_selection=1.0": [0]}


def test_what_all_were_asked_tells_nothing(tmp_path: Path) -> None:
    both = {"fleet.n_devices": 500}
    found = arms(tmp_path, {"seed": 0, "asked": both | {"a.b": 1}}, {"seed": 0, "asked": both | {"a.b": None}})
    assert [arm.values for arm in found] == [{"b": 1}, {"b": None}]
    assert [arm.label for arm in found] == ["b=1", "b=null"]


def test_a_group_is_told_as_it_was_chosen(tmp_path: Path) -> None:
    written(tmp_path / "0", seed=0, config={"server": {"_target_": "Sync", "goal": 3}})
    written(
        tmp_path / "1", seed=0, config={"server": {"_target_": "Buffered", "size": 5}}, asked={"server": "buffered"}
    )
    (tmp_path / "1" / "config.yaml").write_text(
        "seed: 0\ndata: {seed: 0, alpha: 0.3}\nserver: {_target_: B, size: 5}\n"
    )
    assert [arm.label for arm in found_runs([tmp_path]).arms] == ["server=default", "server=buffered"]


def test_names_that_end_alike_are_told_whole(tmp_path: Path) -> None:
    found = arms(
        tmp_path, {"seed": 0, "asked": {"a.rate": 1, "b.rate": 2}}, {"seed": 0, "asked": {"a.rate": 2, "b.rate": 3}}
    )
    assert found[0].values == {"a.rate": 1, "b.rate": 2}


def test_what_was_not_asked_for_tells_arms_apart_where_nothing_else_does(tmp_path: Path) -> None:
    found = labels(tmp_path, {"seed": 0, "config": {"x": {"y": 1}}}, {"seed": 0, "config": {"x": {"y": 2}}})
    assert found == {"y=1": [0], "y=2": [0]}


def test_one_configuration_played_by_two_commits_is_two_arms(tmp_path: Path) -> None:
    found = labels(
        tmp_path, {"seed": 0, "commit": "aaaa"}, {"seed": 1, "commit": "aaaa"},
        {"seed": 0, "commit": "bbbb"}, {"seed": 1, "commit": "bbbb"},
    )  # fmt: skip
    assert found == {"commit=aaaa": [0, 1], "commit=bbbb": [0, 1]}


def test_seeds_played_by_different_commits_are_one_arm_if_none_is_repeated(tmp_path: Path) -> None:
    assert labels(tmp_path, {"seed": 0, "commit": "aaaa"}, {"seed": 1, "commit": "bbbb"}) == {"all runs": [0, 1]}


def test_where_files_are_makes_no_arm(tmp_path: Path) -> None:
    asked = ({"report": True, "paths.datasets": "here"}, {"report": False, "paths.datasets": "there"})
    found = labels(tmp_path, {"seed": 0, "asked": asked[0]}, {"seed": 1, "asked": asked[1]})
    assert found == {"all runs": [0, 1]}


def test_a_colleagues_machine_makes_no_arm(tmp_path: Path) -> None:
    def on(machine: str) -> dict[str, Any]:
        paths = {"datasets": f"/{machine}/sets", "local_traces": f"/{machine}/traces"}
        traces = {"folder": f"/{machine}/traces/flash", "mixture": None}
        return {"paths": paths, "traces": traces, "data": {"path": f"/{machine}/sets/clicks", "seed": 5}}

    found = arms(tmp_path, {"seed": 0, "config": on("here")}, {"seed": 1, "config": on("there")})
    assert [(arm.label, arm.seeds) for arm in found] == [("all runs", [0, 1])]
    assert found[0].flat["data.path"] == "<datasets>/clicks"
    assert found[0].flat["traces.folder"] is None
