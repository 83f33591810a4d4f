"""Metrics by groups of phones: who is in a group, and which examples count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedsim.config.play import simulate
from fedsim.errors import InputError
from fedsim.results.run import Run
from fedsim.server.groups import _held_out_rows, _thirds
from tests.smoke import small

pytestmark = pytest.mark.slow


def test_examples_count_as_often_as_devices_hold_them() -> None:
    whose = np.array([2, -1, 0, 2, 0, -1])
    assert _held_out_rows(whose, np.array([0, 2, 1, 0]), 3).tolist() == [2, 4, 0, 3, 2, 4]


def test_equal_values_stay_in_one_third() -> None:
    groups = dict(_thirds(np.array([1.0, 5.0, 1.0, 2.0, 9.0, 1.0]), ("a", "b", "c")))
    assert {name: places.tolist() for name, places in groups.items()} == {"a": [0, 2, 5], "b": [3], "c": [1, 4]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Users u of a table, whose label is always right for u < 30 and a coin for the others, more rows for even ones."""
    folder = tmp_path_factory.mktemp("groups")
    draw = np.random.default_rng(1)
    user = np.repeat(np.arange(90), np.where(np.arange(90) % 2, 4, 12))
    x = draw.integers(0, 2, len(user))
    y = np.where(user < 30, x, draw.integers(0, 2, len(user)))
    pd.DataFrame({"user": user, "x": x.astype(float), "y": y}).to_parquet(folder / "rows.parquet")
    return simulate(
        *small(
            [
                "data=table", f"data.path={folder}/rows.parquet", "data.client=user", "data.label=y",
                "data.features={x: {kind: numbers, column: x}}",
                "data.held_out={by: last_fraction_of_client, value: 0.5}", "training.central.epochs=3",
                "evaluation.groups=[tier,region,activity,size,participation]", "fleet.n_devices=4000",
                "+fleet.regions={utc: {share: 0.7}, east: {share: 0.3, utc_offset_hours: 6.0}}",
                "server.report_goal=20", "stop.max_steps=12",
            ]
        ),
        folder=folder / "run",
    )  # fmt: skip


def test_every_grouping_has_the_whole_sample(run: Run) -> None:
    accuracy = run.groups[run.groups["metric"] == "accuracy"]
    n_devices = accuracy.groupby("grouping")["n_devices"].sum()
    assert n_devices.to_dict() == dict.fromkeys(["tier", "region", "activity", "size", "participation"], 4000)
    n_examples = accuracy.groupby("grouping")["n_examples"].sum()
    assert n_examples.nunique() == 1


def test_groups_are_what_they_are_called(run: Run) -> None:
    accuracy = run.groups[run.groups["metric"] == "accuracy"].set_index("group")
    assert accuracy.loc["east", "n_devices"] / 4000 == pytest.approx(0.3, abs=0.03)
    aggregated = run.sessions(["device_id", "outcome"])
    took_part = aggregated[aggregated["outcome"] == "AGGREGATED"]["device_id"].nunique()
    assert accuracy.loc["took part", "n_devices"] == took_part
    per_device = accuracy["n_examples"] / accuracy["n_devices"]
    assert per_device["few examples"] == pytest.approx(2.0) and per_device["middling number of examples"] > 2
    # the same mean over a partition of the sample, weighed by examples
    by_size = accuracy[accuracy["grouping"] == "size"]
    by_tier = accuracy[accuracy["grouping"] == "tier"]
    whole = [np.average(part["value"], weights=part["n_examples"]) for part in (by_size, by_tier)]
    assert whole[0] == pytest.approx(whole[1])
    assert by_size["central_value"].notna().all()


def test_data_that_does_not_know_whose_examples_are_held_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation\.groups: it is not known of which client .*'Digits'"):
        simulate(*small(["evaluation.groups=[size]"]), folder=tmp_path / "run")


def test_no_groups_no_table(tmp_path: Path) -> None:
    run = simulate(*small(["stop.max_steps=2", "fleet.n_devices=3000"]), folder=tmp_path / "run")
    assert run.groups.empty and not (run.folder / "groups.parquet").exists()
