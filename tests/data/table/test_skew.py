"""Knobs of skew: sizes stay, one skew changes, the other stays about as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedsim.data.proxy.measures import icc
from fedsim.data.table.table import TableClients
from fedsim.errors import InputError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clients with a leaning to a label and a leaning of a feature, independent of each other."""
    draw = np.random.default_rng(3)
    who = np.repeat(np.arange(120), draw.integers(10, 40, 120))
    label = (draw.random(len(who)) < draw.beta(1.2, 1.8, 120)[who]).astype(int)
    x = draw.normal(size=120)[who] + draw.normal(size=len(who))
    rows = pd.DataFrame({"who": who, "x": x, "z": draw.normal(size=len(who)) / 10, "y": label})
    path: Path = tmp_path_factory.mktemp("skew") / "rows.parquet"
    rows.to_parquet(path)
    return path


FEATURE = {"kind": "numbers", "column": ["x", "z"], "standardise": False}


def skews(table: Path, **knobs: float) -> tuple[list[int], float, float]:
    """Sizes, label ICC and feature ICC."""
    data = TableClients(
        path=str(table), client="who", label="y", features={"x": FEATURE},
        held_out={"by": "fraction", "value": 0.05}, seed=0, **knobs,
    )  # fmt: skip
    n = data.n_examples(np.arange(data.n_clients))
    examples = data.fetch(np.arange(data.n_clients))
    client = np.repeat(np.arange(data.n_clients), n)
    return n.tolist(), icc(client, examples.y[:, None].astype(float)), icc(client, examples.x[:, :1].astype(float))


def test_knobs_change_one_skew_each(table: Path) -> None:
    n, label, feature = skews(table)
    assert label > 0.15 and feature > 0.3
    less = skews(table, label_skew_factor=0.5)
    assert less[0] == n and less[1] == pytest.approx(label / 4, abs=0.04)  # both of a pair stay with a chance of a half
    assert less[2] == pytest.approx(feature, abs=0.04)
    other = skews(table, feature_skew_factor=0.5)
    assert other[0] == n and other[2] == pytest.approx(feature / 4, abs=0.06)
    assert other[1] == pytest.approx(label, abs=0.001)  # within a label nobody's labels change
    more = skews(table, label_skew_factor=1.5, feature_skew_factor=1.5)
    assert more[0] == n and more[1] > label + 0.1 and more[2] > feature + 0.1


def test_no_skew_is_chance(table: Path) -> None:
    _, label, feature = skews(table, label_skew_factor=0.0, feature_skew_factor=0.0)
    assert abs(label) < 0.03 and abs(feature) < 0.06


def test_factors_follow_one_another(table: Path) -> None:
    found = [skews(table, label_skew_factor=factor)[1] for factor in (0.0, 0.3, 0.7, 1.0, 1.3, 2.0)]
    assert found == sorted(found)


def test_where_it_cannot_be(table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.label_skew_factor, data\.feature_skew_factor .allowed: 1\.0 where"):
        knobs: dict[str, Any] = {"label_skew_factor": 0.5, "folder": str(tmp_path)}
        skews(table, **knobs)
