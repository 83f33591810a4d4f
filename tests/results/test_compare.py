"""Arms held against each other: numbers by hand, targets, what is said of what cannot be answered."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim.errors import InputError
from fedsim.results.compare import Comparison, compare
from fedsim.results.curves import band
from fedsim.results.measures import Target, jain_index
from fedsim.results.runs import found_runs
from fedsim.schema import EVALS
from tests.results.many_runs import Learned, accuracy, written

# Accuracy each half hour; the second arm is 0.2, 0.3 and 0.1 better at the end, and reaches 0.6 two times of three.
CURVES = {
    0.3: (accuracy(0.1, 0.3, 0.5), accuracy(0.1, 0.2, 0.45), accuracy(0.1, 0.3, 0.4)),
    0.7: (accuracy(0.1, 0.6, 0.7), accuracy(0.1, 0.5, 0.75), accuracy(0.1, 0.4, 0.5)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for share, learned in CURVES.items():
        for seed, curve in enumerate(learned):
            written(tmp_path / f"{share}-{seed}", seed=seed, asked={"server.share": share}, learned=curve)
    return tmp_path


def compared(folder: Path, *targets: str, against: str | None = None) -> Comparison:
    return compare(found_runs([folder]), targets=[Target.parse(text) for text in targets], against=against)


def row(comparison: Comparison, measure: str, arm: str) -> dict[str, object]:
    rows = comparison.table().to_pylist()
    return next(each for each in rows if each["measure"] == measure and each["arm"] == arm)


def test_the_final_metric_and_its_paired_difference(folder: Path) -> None:
    """0.45 of the first arm, 0.65 of the second: 0.2, 0.3 and 0.1 more, so 0.2 ± 4.303 · 0.1 / √3."""
    comparison = compared(folder)
    first, second = (row(comparison, "final accuracy", f"share={share}") for share in (0.3, 0.7))
    assert (first["center"], second["center"]) == pytest.approx((0.45, 0.65))
    assert first["against"] is first["difference"] is first["verdict"] is None
    assert (second["difference"], second["difference_low"]) == pytest.approx((0.2, -0.04841), abs=1e-4)
    assert (second["against"], second["n_pairs"], second["seeds"]) == ("share=0.3", 3, [0, 1, 2])
    assert second["verdict"] == "cannot be told"
    assert row(compared(folder, against="0.7"), "final accuracy", "share=0.3")["difference"] == pytest.approx(-0.2)


def test_what_it_takes_to_reach_a_target(folder: Path) -> None:
    """0.4 is reached at 3600, 3600, 3600 s, and at 1800, 1800, 1800 s: half an hour earlier each time.

    By 1,800 s the first session has ended: half an hour, 9,000 bytes, 100 J.
    """
    comparison = compared(folder, "accuracy=0.4")
    slow, fast = (row(comparison, "time to accuracy ≥ 0.4", f"share={share}") for share in (0.3, 0.7))
    assert (slow["center"], fast["center"], fast["verdict"]) == (3600.0, 1800.0, "better")
    assert (fast["difference"], fast["difference_low"]) == (-1800.0, -1800.0)
    spent = [row(comparison, f"{what} to accuracy ≥ 0.4", "share=0.7") for what in ("device-hours", "bytes", "energy")]
    assert [each["center"] for each in spent] == pytest.approx([0.5, 9000.0, 100 / 3.6e6])


def test_a_target_that_was_not_always_reached_is_censored(folder: Path) -> None:
    comparison = compared(folder, "accuracy=0.6")
    never, mostly = (row(comparison, "time to accuracy ≥ 0.6", f"share={share}") for share in (0.3, 0.7))
    assert (never["n_reached"], never["center"], never["n_runs"]) == (0, math.inf, 3)
    assert (mostly["n_reached"], mostly["center"], mostly["method"]) == (2, 3600.0, "median")
    assert (mostly["difference_method"], mostly["n_pairs"], mostly["verdict"]) == ("signs", 2, "cannot be told")


def test_a_metric_of_which_less_is_better_is_reached_from_above(tmp_path: Path) -> None:
    losses: Learned = {"log_loss": [(0.0, 2.3), (900.0, 0.9), (1800.0, 0.7)]}
    written(tmp_path / "0", seed=0, asked={"a.b": 1}, learned=losses)
    comparison = compared(tmp_path, "log_loss=0.9")
    assert comparison.estimate(comparison.measures[1], comparison.arms[0]).center == 900.0
    assert comparison.measures[0].better == "lower"


def test_without_a_target_that_of_the_runs_is_taken(tmp_path: Path) -> None:
    stop = {"stop": {"metric": "accuracy", "metric_at_least": 0.3}}
    for number, goal in enumerate((3, 5)):
        written(
            tmp_path / str(number), seed=0, config=stop, asked={"server.goal": goal}, learned=accuracy(0.1, 0.2, 0.4)
        )
    assert compared(tmp_path).targets == (Target("accuracy", 0.3),)
    assert compared(tmp_path, "accuracy=0.2").targets == (Target("accuracy", 0.2),)


def test_arms_without_common_seeds_are_compared_unpaired(tmp_path: Path) -> None:
    for share, seeds in ((0.3, (0, 1, 2)), (0.7, (2, 3, 4, 5))):
        for seed in seeds:
            written(
                tmp_path / f"{share}-{seed}", seed=seed, asked={"server.share": share},
                learned=accuracy(0.1, share + 0.01 * seed),
            )  # fmt: skip
    found = row(compared(tmp_path), "final accuracy", "share=0.7")
    assert (found["difference_method"], found["verdict"], found["n_pairs"]) == ("welch", "better", 3)
    assert found["difference"] == pytest.approx(0.735 - 0.31)


def test_what_cannot_be_answered_is_said(tmp_path: Path) -> None:
    written(tmp_path / "0", seed=0, learned=accuracy(0.1, 0.5))
    comparison = compared(tmp_path, "auc=0.7")
    assert comparison.against is None
    assert comparison.remarks == (
        "one arm only: there is nothing to hold it against",
        "auc is not measured in 1 of 1 runs; measured are accuracy",
        "one seed only, which tells no interval: all runs",
    )
    assert not any("auc" in measure.name for measure in comparison.measures)
    assert row(comparison, "final accuracy", "all runs")["low"] is None


def test_runs_that_trained_nothing_are_compared_by_their_load(tmp_path: Path) -> None:
    for seed, goal in ((0, 3), (1, 3), (0, 5), (1, 5)):
        written(tmp_path / f"{goal}-{seed}", seed=seed, asked={"server.goal": goal}, learned={"accuracy": [(0.0, 0.1)]})
    for run in tmp_path.iterdir():
        _untrained(run)
    comparison = compared(tmp_path, "accuracy=0.5")
    assert "nothing was evaluated" in comparison.remarks[0]
    assert comparison.measures[0].name == "server steps"
    assert row(comparison, "bytes", "goal=5")["verdict"] == "equal"


def _untrained(run: Path) -> None:
    pq.write_table(EVALS.arrow().empty_table(), run / "evals.parquet")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"metrics": {}}))


@pytest.mark.parametrize(
    ("against", "expected"),
    [("share", "several arms have this in their names: 'share'"), ("goal=3", "no arm has this name: 'goal=3'")],
)
def test_an_arm_that_is_not_clear_is_refused(folder: Path, against: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as refused:
        compared(folder, against=against)
    assert "share=0.3; share=0.7" in str(refused.value)


@pytest.mark.parametrize("text", ["accuracy", "=0.9", "accuracy=much", "accuracy=nan", "accuracy=inf"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--target"):
        Target.parse(text)


def test_jains_index() -> None:
    """Three devices with 1, 1 and 4 sessions: (1 + 1 + 4)² / (3 · (1 + 1 + 16)) = 2/3."""
    assert jain_index(np.array([3, 1, 1, 1])) == pytest.approx(2 / 3)
    assert jain_index(np.array([7])) == 1.0
    assert math.isnan(jain_index(np.array([], dtype=np.int64)))


def test_a_band_goes_as_far_as_all_curves(tmp_path: Path) -> None:
    """At 900 s straight lines are at 0.2 and 0.4: mean 0.3, 12.706 · 0.1414 / √2 = 1.2706."""
    for seed, learned in enumerate((accuracy(0.1, 0.3, 0.9), accuracy(0.1, 0.7))):
        written(tmp_path / str(seed), seed=seed, learned=learned)
    (arm,) = found_runs([tmp_path]).arms
    found = band("", arm.runs, "accuracy", lambda curve: curve.at)
    assert found is not None and found.low is not None
    assert (found.x[0], found.x[-1]) == (0.0, 1800.0)
    assert np.interp(900.0, found.x, found.mean) == pytest.approx(0.3)
    assert np.interp(900.0, found.x, found.mean - found.low) == pytest.approx(1.2706, abs=1e-3)
    assert band("", arm.runs[:1], "accuracy", lambda curve: curve.at).low is None  # type: ignore[union-attr]
    assert band("", arm.runs, "auc", lambda curve: curve.at) is None
