"""The command: answers against a scan, differences against two runs, what stays when it is stopped, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import fedsim
from fedsim.cli.main import main
from fedsim.files import read_json

pytestmark = pytest.mark.slow

SMALL = ["fleet.n_devices=20000", "stop.max_s=43200"]
GOALS = [8, 9, 11, 12, 14, 17]
LIMIT = 0.035


def asked(out: Path, *words: str) -> dict[str, Any]:
    assert main(["plan", *words[: words.index("--")], "--runs", str(out / "runs"), "--out", str(out), "--cores", "1",
                 *words[words.index("--") :]]) == 0  # fmt: skip
    return json.loads((out / "plan.json").read_text())  # type: ignore[no-any-return]


def days_of(folder: Path, goal: int, seed: int) -> float:
    """By a run of its own, without the planner."""
    run = fedsim.simulate(
        "training=none", *SMALL, f"server.report_goal={goal}", f"stop.max_steps={-(-300 // goal)}", f"seed={seed}",
        folder=folder / f"{goal}-{seed}",
    )  # fmt: skip
    return float(run.summary["simulated_s"]) / 86_400


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("smallest")
    goals = ",".join(map(str, GOALS))
    words = (
        "--smallest",
        f"server.report_goal={goals}",
        "--updates",
        "300",
        "--require",
        f"days<={LIMIT}",
        "--seeds",
        "3",
    )
    return out, asked(out, *words, "--", *SMALL)


def test_bisection_finds_what_a_scan_finds(smallest: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, found = smallest
    days = {goal: [days_of(tmp_path, goal, seed) for seed in range(3)] for goal in GOALS}
    t = stats.t.ppf((1 + found["confidence"]["level_of_a_look"]) / 2, 2)
    least = min(goal for goal, each in days.items() if np.mean(each) + t * stats.sem(each) <= LIMIT)
    answer = [each for each in found["candidates"] if each["is_answer"]]
    for each in found["candidates"]:
        goal = each["values"]["server.report_goal"]
        assert each["figures"]["days"]["mean"] == pytest.approx(np.mean(days[goal]), rel=1e-12)
        assert each["binds"] == "days"
    assert [each["values"]["server.report_goal"] for each in answer] == [least]
    assert len(found["candidates"]) < len(GOALS) or least in (GOALS[0], GOALS[-1])
    assert found["check"]["seeds"] == [3, 4, 5]


def test_started_again_it_plays_nothing_and_writes_the_same_bytes(
    smallest: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, found = smallest
    page = (out / "plan.html").read_bytes()
    goals = ",".join(map(str, GOALS))
    words = (
        "--smallest",
        f"server.report_goal={goals}",
        "--updates",
        "300",
        "--require",
        f"days<={LIMIT}",
        "--seeds",
        "3",
    )
    assert asked(out, *words, "--", *SMALL) == found
    assert "0 runs were played now" in capsys.readouterr().err
    assert (out / "plan.html").read_bytes() == page
    text = page.decode()
    assert "<svg" in text
    assert "src=" not in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_what_if_is_the_difference_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--what-if", "server.over_selection=1.9", "--steps", "12", "--seeds", "3")
    found = asked(tmp_path, *words, "--", *SMALL, "server.report_goal=15")
    told = {each["figure"]: each for each in found["changes"]}
    common = ("training=none", *SMALL, "server.report_goal=15", "stop.max_steps=12")
    for seed_values, over in ((told["device_hours"]["before"], 1.3), (told["device_hours"]["after"], 1.9)):
        runs = [
            fedsim.simulate(*common, f"server.over_selection={over}", f"seed={seed}", folder=tmp_path / f"{over}{seed}")
            for seed in range(3)
        ]
        assert seed_values == pytest.approx(np.mean([run.summary["device_h"] for run in runs]), rel=1e-9)
    assert told["device_hours"]["verdict"] == "worse"
    assert told["days"]["verdict"] == "better"
    assert told["steps"]["difference"] == 0
    assert "| device_hours |" in capsys.readouterr().out


def test_a_launch_a_front_and_criteria(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--seeds", "3", "--steps", "8")
    base = ("--", *SMALL, "server.report_goal=10")
    launch = asked(tmp_path, "--launch", "2026-03-01", *few, *base)
    assert launch["start"]["date"] == "2026-02-28"
    assert launch["start"]["days"] > launch["start"]["mean_days"]
    vary = ("--vary", "server.report_goal=6,13", "--vary", "server.over_selection=1.2,1.7")
    front = asked(tmp_path, *vary, "--minimise", "days,device_hours", *few, "--", *SMALL)
    means = {
        tuple(each["values"].values()): (each["figures"]["days"]["mean"], each["figures"]["device_hours"]["mean"])
        for each in front["candidates"]
    }
    best = {a for a, x in means.items() if not any(y != x and y[0] <= x[0] and y[1] <= x[1] for y in means.values())}
    assert len(means) == 4
    assert {tuple(each["values"].values()) for each in front["candidates"] if each["is_answer"]} == best
    criteria = asked(tmp_path, "--criteria", "charging", "network == wifi", *few, *base)
    more = [each for each in criteria["changes"] if each["figure"] == "admitted_fraction.mean"]
    assert [each["arm"] for each in more] == ["without charging", "without network == wifi"]
    assert all(each["after"] > each["before"] for each in more)
    capsys.readouterr()


def test_a_budget_that_is_spent_is_told_and_the_next_start_goes_on(tmp_path: Path) -> None:
    spec = tmp_path / "plan.yaml"
    spec.write_text(
        "base: fleet.n_devices=20000 server.report_goal=10\nwork: {steps: 5}\nlaunch: 2026-03-01\n"
        "replications: {at_most: 3}\nplan: {fresh: 1}\nbudget: {cores: 1, runs: 3}\n"
    )
    words = ["plan", str(spec), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main(words) == 0
    first = read_json(tmp_path / "plan.json", "plan")
    assert (first["spent"], first["check"], first["n_runs"]) == ("3 runs", None, 3)
    assert main(words) == 0
    then = read_json(tmp_path / "plan.json", "plan")
    assert (then["spent"], then["check"]["seeds"], then["n_runs"]) == (None, [3], 4)


def test_a_metric_is_asked_of_runs_that_train(tmp_path: Path) -> None:
    words = (
        "--largest",
        "server.report_goal=5,7",
        "--require",
        "accuracy>=-1",
        "--require",
        "days<=1",
        "--steps",
        "2",
    )
    found = asked(tmp_path, *words, "--seeds", "3", "--", "experiment=smoke", "evaluation.every_steps=2")
    answer = next(each for each in found["candidates"] if each["is_answer"])
    assert answer["values"] == {"server.report_goal": 7}
    assert answer["is_trained"]
    assert {each["name"]: each["state"] for each in answer["requirements"]} == {"accuracy": "PASS", "days": "PASS"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--smallest", "server.report_goal=5,6", "--require", "days<=1"], "when a campaign is done is not told"),
        (["--smallest", "server.report_goal=5,6", "--steps", "3"], "requirements: 'none'"),
        (["--smallest", "server.goal=5,6", "--require", "days<=1", "--steps", "3"], "unknown key: 'server.goal'"),
        (["--what-if", "server.over=3"], "unknown key: 'server.over'"),
        (["nowhere.yaml"], "plan not found"),
        (["--launch", "2026-13-01", "--steps", "3"], "launch: '2026-13-01' (allowed: a date, as 2026-03-01)"),
        (["--launch", "2026-03-01", "--updates", "9", "--steps", "3"], "work: 'updates and steps'"),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_optuna_is_asked_for_where_it_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    spec = tmp_path / "plan.yaml"
    spec.write_text(
        "plan: {method: optuna}\nsearch: {server.report_goal: {from: 5, to: 50}}\nminimise: [days]\nwork: {steps: 3}\n"
    )
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 2
    assert "pip install 'fedsim-fleet[plan]'" in capsys.readouterr().err
