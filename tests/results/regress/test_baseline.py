"""Baselines as files: what is kept, how it is read, whose runs they take; and which configuration is another one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.results.measures import Target
from fedsim.results.regress.baseline import FORMAT, Baseline, played_again, read, recorded, text_of, write
from fedsim.results.regress.configuration import differences, require_same
from fedsim.results.regress.quantities import Curve, better_of, quantities, thinned
from fedsim.results.run import Run
from fedsim.results.runs import found_runs
from tests.report.fake_run import hand_made
from tests.results.many_runs import accuracy, written
from tests.results.regress.real import copied, played, with_column

TARGET = Target("accuracy", 0.2)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for seed in (0, 1, 2):
        played(folder / str(seed), f"seed={seed}")
    return folder


@pytest.fixture
def baseline(sweep: Path) -> Baseline:
    return recorded(found_runs([sweep]).arms, [TARGET])


# ------------------------------------------------------------------------------------ what is kept


def test_quantities_by_hand(tmp_path: Path) -> None:
    """Accuracy 0.1, 0.5, 0.9 of versions 0, 1, 2 at 0, 1800 and 5400 s.

    Over versions (0.3 + 0.7) / 2; over time (0.3 · 1800 + 0.7 · 3600) / 5400; 0.5 is reached after 1800 s. Sessions
    took 30, 60, 15, 15 and 60 minutes; three reports; rounds of 1200 and 1800 s.
    """
    found = quantities(Run.load(hand_made(tmp_path / "run", protocol="sync")), [Target("accuracy", 0.5)])
    assert found["accuracy over versions"] == pytest.approx(0.5)
    assert found["accuracy over time"] == pytest.approx((0.3 * 1800 + 0.7 * 3600) / 5400)
    assert found["log time to accuracy ≥ 0.5"] == pytest.approx(math.log(1800))
    assert (found["sessions"], found["reports"], found["device-seconds"]) == (5, 3, 10800)
    assert (found["bytes"], found["joules"]) == (21000 + 9600, 400)
    assert found["seconds per step"] == pytest.approx(1500)


def test_a_target_that_was_not_reached_counts_from_the_last_evaluation(tmp_path: Path) -> None:
    found = quantities(Run.load(hand_made(tmp_path / "run")), [Target("accuracy", 0.95), Target("auc", 0.5)])
    assert found["log time to accuracy ≥ 0.95"] == pytest.approx(math.log(5400))
    assert math.isnan(found["log time to auc ≥ 0.5"])


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("accuracy over versions", "higher"),
        ("log_loss over time", "lower"),
        ("surprise over time", None),
        ("bytes", "lower"),
        ("log time to accuracy ≥ 0.5", "lower"),
    ],
)
def test_which_way_is_better(name: str, better: str | None) -> None:
    assert better_of(name) == better


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    found = thinned(Curve(np.arange(1001), np.arange(1001) * 0.5))
    assert len(found.versions) == 40
    assert (found.versions[0], found.versions[-1], found.values[-1]) == (0, 1000, 500.0)
    assert len(thinned(Curve(np.arange(3), np.arange(3.0))).versions) == 3


@pytest.mark.slow
def test_a_file_says_it_again(baseline: Baseline, tmp_path: Path) -> None:
    write(tmp_path / "b.json", baseline)
    again = read(tmp_path / "b.json")
    assert (again.overrides, again.targets, again.config, again.seeds) == (
        baseline.overrides, (TARGET,), baseline.config, [0, 1, 2]
    )  # fmt: skip
    for before, after in zip(baseline.runs, again.runs, strict=True):
        assert (after.digests, after.draws) == (before.digests, before.draws)
        assert after.quantities == pytest.approx(before.quantities, rel=1e-11, nan_ok=True)
        for metric, curve in before.curves.items():
            assert after.curves[metric].versions.tolist() == curve.versions.tolist() == [0, 2, 4, 6]
            assert after.curves[metric].values == pytest.approx(curve.values, rel=1e-5)
    assert text_of(again) == (tmp_path / "b.json").read_text()


@pytest.mark.slow
def test_the_file_is_small_and_a_line_is_a_value_or_a_run(baseline: Baseline) -> None:
    lines = text_of(baseline).splitlines()
    assert sum(line.startswith('  {"seed"') for line in lines) == 3
    assert '  "server.report_goal": 9,' in lines
    assert '  "data.seed": 0,' in lines
    assert len(text_of(baseline)) + 17 * len(lines[-3]) < 40_000


def test_what_a_run_is_made_into_is_not_played_again() -> None:
    asked = ["experiment=smoke", "seed=3", "+x.seed=4", "report=true", "force=true", "hydra.searchpath=[here]"]
    assert played_again(asked) == ("experiment=smoke", "+x.seed=4", "hydra.searchpath=[here]")


# ------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "this is no baseline"),
        ('{"a": 1}', "this is no baseline"),
        ("{", "baseline is not valid JSON"),
        (
            '{"format": "fedsim baseline 2"}',
            f"baseline of another format: 'fedsim baseline 2' in .* .allowed: {FORMAT}",
        ),
        (json.dumps({"format": FORMAT}), "baseline cannot be read"),
        (
            json.dumps(
                {"format": FORMAT, "overrides": [], "targets": [], "content": {}, "config": {}, "runs": [{"seed": 1}]}
            ),
            "baseline cannot be read .KeyError",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(InputError, match=expected) as refused:
        read(tmp_path / "b.json")
    assert "b.json" in str(refused.value)


def test_runs_of_several_configurations_are_no_baseline(tmp_path: Path) -> None:
    for share in (0.3, 0.7):
        written(tmp_path / str(share), seed=0, asked={"server.share": share}, learned=accuracy(0.1, share))
    with pytest.raises(InputError, match=r"of several: 'share=0.3; share=0.7'"):
        recorded(found_runs([tmp_path]).arms, [])


@pytest.mark.slow
def test_a_run_that_contradicts_itself_is_no_baseline(run: Run, folder: Path) -> None:
    with_column(copied(run, folder), "sessions", "weight", lambda values: values * 0.95)
    with pytest.raises(InputError, match=r"contradicts itself .the weights of 6 steps add up to 0.95"):
        recorded(found_runs([folder]).arms, [])


@pytest.mark.slow
def test_a_target_that_is_not_measured_is_refused(sweep: Path) -> None:
    with pytest.raises(InputError, match=r"--target: the runs do not measure: 'auc' .allowed: accuracy, log_loss"):
        recorded(found_runs([sweep]).arms, [Target("auc", 0.5)])


# ------------------------------------------------------------------------------------ configurations

THEN = {"server.goal": 30, "model.layers": [64, 10], "old": 1.5}


@pytest.mark.parametrize(
    ("now", "defaults", "expected"),
    [
        (THEN, THEN, []),
        ({**THEN, "server.goal": 31}, THEN, ["server.goal: 30 in the baseline, 31 now"]),
        ({**THEN, "model.layers": (64, 10)}, THEN, []),  # as a file would hold it
        ({**THEN, "new": 0.1}, {**THEN, "new": 0.1}, []),  # a new key at its default
        ({**THEN, "new": 0.2}, {**THEN, "new": 0.1}, ["new: not there in the baseline, 0.2 now"]),
        ({**THEN, "new": 0.2}, THEN, ["new: not there in the baseline, 0.2 now"]),
        ({"server.goal": 30, "model.layers": [64, 10]}, {"server.goal": 30, "model.layers": [64, 10]}, []),  # gone
        (
            {"server.goal": 30, "model.layers": [64, 10]}, THEN,
            ["old: 1.5 in the baseline, not there now"],
        ),  # known today, and not there
        ({**THEN, "old": None}, THEN, ["old: 1.5 in the baseline, null now"]),
    ],
)  # fmt: skip
def test_which_configuration_is_another_one(now: dict[str, Any], defaults: dict[str, Any], expected: list[str]) -> None:
    assert differences(THEN, now, defaults) == expected


@pytest.mark.slow
def test_other_traces_are_another_configuration(baseline: Baseline, sweep: Path) -> None:
    (arm,) = found_runs([sweep]).arms
    require_same(baseline, arm, baseline.config)
    baseline.content["events_sha256"] = "feed"
    with pytest.raises(InputError, match=r"another configuration than the baseline's .events: other content"):
        require_same(baseline, arm, baseline.config)
