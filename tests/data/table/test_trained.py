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


SMALL = ["fleet.n_devices=5000", "server.report_goal=10", "stop.max_steps=40"]


def test_from_the_command_line_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CSV whose rows say train and test, and LEAF's two files."""
    draw = np.random.default_rng(4)
    rows = pd.DataFrame({"client": [f"u{n}" for n in draw.integers(0, 50, 900)], "f0": draw.normal(size=900)})
    rows["shop"] = draw.choice(["red", "blue"], 900)
    rows["label"] = (rows["f0"] + (rows["shop"] == "red") > 0.4).astype(int)
    rows["split"] = np.where(draw.random(900) < 0.7, "train", "test")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = ["run", "experiment=table", *SMALL, "report=false"]
    asked = ["data.client=client", "data.label=label", "data.split=split", f"data.path={tmp_path}/rows.csv"]
    assert main([*words, *asked, f"hydra.run.dir={tmp_path}/csv"]) == 0
    assert "data.features is null: f0 as numbers; shop as category" in capsys.readouterr().err
    for name in ("train", "test"):
        write_leaf(tmp_path / f"{name}.json")
    files = [f"data.{name}={tmp_path}/{name}.json" for name in ("train", "test")]
    assert main([*words, "data=leaf", *files, f"hydra.run.dir={tmp_path}/leaf"]) == 0
    for name in ("csv", "leaf"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["metrics"]["accuracy"] > 0.8 and summary["central_metrics"]["accuracy"] > 0.8


def test_a_file_is_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["run", "data=rows.csv"], ["run", "-m", "data=rows.csv", f"hydra.sweep.dir={tmp_path}/m"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "data is no file: 'rows.csv' (allowed: data=table data.path=FILE" in said
        assert len(said.splitlines()) == 1
    assert main(["run", "server=nothing"]) == 2
    assert "Could not find 'server/nothing' Available options in 'server': buffered sync" in capsys.readouterr().err


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
    (tmp_path / "configs" / "data" / "my_leaf.yaml").write_text(head + leaf)
    (tmp_path / "configs" / "data" / "mine.yaml").write_text(head + table)
    monkeypatch.setenv("FEDSIM_CONFIGS", str(tmp_path / "configs"))
    runs = [simulate(*ASKED, f"data={name}", folder=tmp_path / name) for name in ("my_leaf", "mine")]
    first, last = (runs[0].evals.query("metric == 'accuracy'")["value"].iloc[place] for place in (0, -1))
    assert last > first + 0.1
    assert runs[0].evals.equals(runs[1].evals)  # the same rows of the same people, in the order of their ids

    with (tmp_path / "leaf.json").open("r+") as file:
        changed = json.load(file)
        changed["user_data"]["user-3"]["x"][0][0] += 1
        file.seek(0)
        json.dump(changed, file)
        file.truncate()
    simulate(*ASKED, "data=my_leaf", folder=tmp_path / "after")
    assert main(["compare", str(tmp_path / "my_leaf"), str(tmp_path / "after"), "--out", str(tmp_path)]) == 0
    assert "the same configuration and seed, but data of another content" in capsys.readouterr().err
