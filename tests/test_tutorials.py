"""Every tutorial runs as it stands, from an empty folder, and shows what it speaks of."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.py"))


def first_run(names: dict[str, Any], folder: Path) -> None:
    assert len(list(folder.glob("runs/*/*/summary.json"))) == 3
    assert len(names["by_hour"]) == 24
    assert names["costs"].loc["AGGREGATED", "n"] == 30 * 20
    assert names["accuracy"].iloc[-1].min() > names["accuracy"].iloc[0].max()


def comparing_runs(names: dict[str, Any], folder: Path) -> None:
    assert [arm.label for arm in names["runs"].arms] == ["over_selection=1.1", "over_selection=1.5"]
    row = names["told"].set_index("measure").loc["device-hours"]
    by_hand = names["hours"][1.5] - names["hours"][1.1]
    assert row["difference"] == pytest.approx(by_hand.mean(), rel=1e-6)  # the summary's whole microseconds
    assert row["verdict"] == "worse"
    assert names["late"].groupby("over_selection").size()[1.5] > 0


def own_model_and_table(names: dict[str, Any], folder: Path) -> None:
    assert names["auc"].iloc[-1] > names["auc"].iloc[0] + 0.2
    assert abs(names["auc"].iloc[-1] - names["central"]) < 0.03
    assert set(names["of_groups"].index) >= {"few examples", "slow phones"}
    accuracy = names["own"].evals.query("metric == 'accuracy'")["value"]
    assert accuracy.iloc[-1] > 0.7


def own_local_algorithm(names: dict[str, Any], folder: Path) -> None:
    assert names["accuracy"].iloc[-1].min() > 0.5
    assert len({run.summary["device_h"] for run in names["runs"].values()}) == 1
    norms = [run.steps["update_norm"].iloc[0] for run in names["runs"].values()]
    assert len({round(norm, 3) for norm in norms}) == 3


SHOWN: Mapping[str, Callable[[dict[str, Any], Path], None]] = {
    "first_run": first_run,
    "comparing_runs": comparing_runs,
    "own_model_and_table": own_model_and_table,
    "own_local_algorithm": own_local_algorithm,
}


@pytest.mark.slow
@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_it_runs_and_shows_what_it_speaks_of(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(file))
    if file.stem in SHOWN:
        SHOWN[file.stem](names, tmp_path)
