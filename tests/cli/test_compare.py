"""The command: files, Markdown, remarks, refusals; and one paired difference of real runs checked by other means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from scipy import stats

from fedsim.cli.main import main
from fedsim.results.runs import open_runs
from fedsim.schema import COMPARISON
from tests.results.many_runs import accuracy, written
from tests.smoke import small


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for share, end in ((0.3, 0.5), (0.7, 0.8)):
        for seed in range(3):
            learned = accuracy(0.1, 0.4, end + 0.01 * seed)
            written(tmp_path / "sweep" / f"{share}-{seed}", seed=seed, asked={"server.share": share}, learned=learned)
    return tmp_path / "sweep"


def test_it_writes_a_table_a_page_and_markdown(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(sweep), "--target", "accuracy=0.6", "--against", "0.3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "| final accuracy | 0.510 ± 0.025 | 0.810 ± 0.025 |" in said.out
    assert "| final accuracy | better: +0.3 |" in said.out
    assert "| time to accuracy ≥ 0.6 | never reached | 60 min |" in said.out
    assert "The same in all runs: server steps 2, " in said.out
    assert "Against share=0.3, seed by seed" in said.out
    table = pq.read_table(out / "compare.parquet")
    assert table.schema.names == [column.name for column in COMPARISON.columns]
    page = (out / "compare.html").read_text()
    assert page.count("<svg") == 1
    assert "Arms that differ in share" in page
    before = page, (out / "compare.parquet").read_bytes()
    assert main(["compare", str(sweep), "--target", "accuracy=0.6", "--against", "0.3", "--out", str(out)]) == 0
    assert ((out / "compare.html").read_text(), (out / "compare.parquet").read_bytes()) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "run directory not found"),
        ([".", "--target", "accuracy"], "--target: 'accuracy' (allowed: METRIC=VALUE"),
        ([".", "--against", "x"], "no arm has this name: 'x' (allowed: share=0.3; share=0.7)"),
        (["empty"], "no run to read: no run is in empty"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], expected: str, sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "empty").mkdir()
    monkeypatch.chdir(sweep)
    before = sorted(sweep.rglob("*"))
    assert main(["compare", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert expected in said.err and len(said.err.splitlines()) == 1
    assert sorted(sweep.rglob("*")) == before


def test_what_is_left_out_is_said_and_the_rest_compared(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "0.3-2" / "summary.json").unlink()
    (sweep / "0.7-1" / "provenance.json").write_text('{"schema": 1}')
    assert main(["compare", str(sweep), "--out", str(sweep.parent)]) == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 2
    assert "run is not complete" in said.err and "another schema" in said.err
    assert "Runs of each arm: share=0.3: 2, share=0.7: 2." in said.out


def test_one_arm_is_told_without_differences(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *(str(sweep / f"0.3-{seed}") for seed in (0, 2)), "--out", str(sweep.parent)]) == 0
    said = capsys.readouterr()
    assert said.err == "fedsim: one arm only: there is nothing to hold it against\n"
    assert "| final accuracy | 0.51 ± 0.13 |" in said.out
    assert "Against" not in said.out


@pytest.mark.slow
def test_a_paired_difference_of_real_runs_is_what_the_tables_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Device-hours from the raw sessions, subtracted seed by seed, against what the comparison says."""
    asked = ["training=none", "fleet.n_devices=3000", "stop.max_steps=4", "server.report_goal=10", "report=false"]
    swept = ["seed=0,1,2", "server.over_selection=1.3,1.7", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert main(["run", "-m", *small(asked), *swept]) == 0
    assert main(["compare", str(tmp_path / "sweep"), "--out", str(tmp_path)]) == 0
    row = pq.read_table(tmp_path / "compare.parquet", filters=[("measure", "=", "device-hours")]).to_pylist()[1]
    hours = {}
    for run in open_runs(tmp_path / "sweep"):
        rows = ds.dataset(run.folder / "sessions").to_table(columns=["assigned_at", "end_at"]).to_pandas()
        key = (run.config["server"]["over_selection"], run.config["seed"])
        hours[key] = (rows["end_at"] - rows["assigned_at"]).sum() / 3600
    d = np.array([hours[1.7, seed] - hours[1.3, seed] for seed in range(3)])
    assert row["arm"] == "over_selection=1.7"
    assert row["difference"] == pytest.approx(d.mean(), rel=1e-9)
    low, high = stats.ttest_1samp(d, 0).confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high), rel=1e-9)
    assert row["verdict"] == "worse"
    share = 100 * d.mean() / np.mean([hours[1.3, seed] for seed in range(3)])
    assert f"| device-hours | worse: +{share:.3g} % (" in capsys.readouterr().out
