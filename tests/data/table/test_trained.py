"""A LEAF file and a Parquet with string ids, trained from one YAML each; a table that changes is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedsim.cli.main import main
from fedsim.config.play import simulate

pytestmark = pytest.mark.slow
ASKED = ["experiment=smoke", "fleet.n_devices=5000", "server.report_goal=10", "stop.max_steps=12"]


def write_leaf(path: Path) -> None:
    draw = np.random.default_rng(2)
    users = {f"user-{n}": draw.normal(size=(draw.integers(4, 12), 3)) for n in range(60)}
    data = {name: {"x": x.tolist(), "y": (x.sum(1) > 0).astype(int).tolist()} for name, x in users.items()}
    path.write_text(json.dumps({"users": list(data), "user_data": data}))


def test_from_one_yaml_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_leaf(tmp_path / "leaf.json")
    told = json.loads((tmp_path / "leaf.json").read_text())["user_data"]
    rows = [(user, *x, y) for user, of in told.items() for x, y in zip(of["x"], of["y"], strict=True)]
    pd.DataFrame(rows, columns=["who", "a", "b", "c", "label"]).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "configs" / "data").mkdir(parents=True)
    head = "defaults: [table, _self_]\nheld_out: {by: last_fraction_of_client, value: 0.3}\n"
    leaf = f"path: {tmp_path}/leaf.json\nclient: user\nlabel: y\nfeatures: {{x: {{kind: numbers, column: x}}}}\n"
    table = f"path: {tmp_path}/rows.parquet\nclient: who\nlabel: label\n"
    table += "features: {x: {kind: numbers, column: [a, b, c]}}\n"
    (tmp_path / "configs" / "data" / "leaf.yaml").write_text(head + leaf)
    (tmp_path / "configs" / "data" / "mine.yaml").write_text(head + table)
    monkeypatch.setenv("FEDSIM_CONFIGS", str(tmp_path / "configs"))
    runs = [simulate(*ASKED, f"data={name}", folder=tmp_path / name) for name in ("leaf", "mine")]
    first, last = (runs[0].evals.query("metric == 'accuracy'")["value"].iloc[place] for place in (0, -1))
    assert last > first + 0.1
    assert runs[0].evals.equals(runs[1].evals)  # the same rows of the same people, in the order of their ids

    with (tmp_path / "leaf.json").open("r+") as file:
        changed = json.load(file)
        changed["user_data"]["user-3"]["x"][0][0] += 1
        file.seek(0)
        json.dump(changed, file)
        file.truncate()
    simulate(*ASKED, "data=leaf", folder=tmp_path / "after")
    assert main(["compare", str(tmp_path / "leaf"), str(tmp_path / "after"), "--out", str(tmp_path)]) == 0
    assert "the same configuration and seed, but data of another content" in capsys.readouterr().err
