"""The gate as a command and as a fixture: verdict, exit code, files; faults of the code and faults of the call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

from fedsim import rng
from fedsim.cli.main import main
from fedsim.results.regress import unpaired
from fedsim.results.regress.baseline import read, write
from fedsim.server.protocol.sync import Rounds
from fedsim.training.algorithm.sgd import LocalSgd
from tests.results.many_runs import accuracy, written
from tests.results.regress.real import ASKED, played, with_column
from tests.smoke import small

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    for seed in SEEDS:
        played(folder / str(seed), f"seed={seed}")
    return folder


@pytest.fixture(scope="module")
def baseline(sweep: Path) -> Path:
    file = sweep.parent / "baseline.json"
    assert main(["baseline", "record", str(sweep), "--out", str(file), "--target", "accuracy=0.2"]) == 0
    return file


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def check(baseline: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Exit code and the one line of a check."""

    def said(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["check", "--baseline", str(baseline), *map(str, words)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return said


# ------------------------------------------------------------------------------------ the levels, in real runs


def test_unchanged_code_holds_by_its_bytes(check: Say, sweep: Path) -> None:
    assert check() == (0, "held: identical, 3 of 3 seeds\n")
    assert check(sweep) == (0, "held: identical, 4 of 4 seeds\n")
    assert check(sweep / "1") == (0, "held: identical, 1 of 1 seeds\n")


def test_a_learning_rate_that_is_wrong_by_a_tenth_regresses(check: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    slower = LocalSgd.__post_init__

    def wrong(self: LocalSgd) -> None:
        slower(self)
        object.__setattr__(self, "learning_rate", 0.9 * self.learning_rate)

    monkeypatch.setattr(LocalSgd, "__post_init__", wrong)
    code, line = check()
    assert code == 1
    assert line.startswith("fedsim: regressed: log_loss over versions +")
    assert "3 seeds" in line and len(line.splitlines()) == 1


def test_last_digits_do_no_harm(check: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = LocalSgd.__post_init__

    def nearly(self: LocalSgd) -> None:
        exact(self)
        object.__setattr__(self, "learning_rate", (1 + 3e-7) * self.learning_rate)

    monkeypatch.setattr(LocalSgd, "__post_init__", nearly)
    code, line = check("--strict")
    assert (code, line.partition(":")[0]) == (0, "held, changed by less than does harm")


def test_reports_that_are_lost_are_missed(check: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Rounds._step

    def loses(self: Rounds, now: float) -> float:
        self._reported = [rows[rng.uniform(1, "lost", rows["session_id"]) > 0.1] for rows in self._reported]
        return step(self, now)

    monkeypatch.setattr(Rounds, "_step", loses)
    code, line = check()
    assert code == 1
    assert "fedsim: regressed: seed 0: " in line and "sessions began and" in line


def test_other_draws_are_yellow(check: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = rng.normal
    monkeypatch.setattr(rng, "normal", lambda seed, name, *given: drawn(seed, name + "'", *given))
    tested, found = list[int](), unpaired.findings
    monkeypatch.setattr(unpaired, "findings", lambda *given: tested.append(len(given[1])) or found(*given))
    code, line = check()
    assert code == 0
    assert tested == [4]  # three were not enough to look at, and to look twice would alarm more often
    assert line.startswith("draws changed: no change of the accuracy course would be seen below ")
    assert "with 4 seeds against 4" in line
    assert check("--strict") == (7, f"fedsim: {line}")


# ------------------------------------------------------------------------------------ what is written


def test_files_for_machines_and_readers(check: Say, run_with_more_loss: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("c.xml", "c.json", "c.html")]
    code, line = check(run_with_more_loss, "--junit", files[0], "--json", files[1], "--html", files[2])
    assert code == 1
    suite = ElementTree.parse(files[0]).getroot()
    cases = {case.get("name"): case for case in suite}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(cases)), "3")
    failed = cases["log_loss over versions"].find("failure")
    assert failed is not None and str(failed.get("message")).startswith("regressed: ")
    assert cases["bytes"].find("failure") is None
    told = json.loads(files[1].read_text())
    assert (told["status"], told["level"], told["seeds"]) == ("regressed", "paired", [0, 1, 2])
    assert line == f"fedsim: {told['line']}\n"
    found = {each["quantity"]: each for each in told["findings"]}
    assert found["log_loss over versions"]["difference"] == pytest.approx(0.3)
    assert found["log_loss over versions"]["high"] == pytest.approx(0.3)
    page = files[2].read_text()
    assert page.count("<svg") == 2
    assert "outside the band at 4 of 4 versions" in page


@pytest.fixture
def run_with_more_loss(sweep: Path, tmp_path: Path) -> Path:
    """Three seeds whose log loss is 0.3 higher throughout."""
    for seed in (0, 1, 2):
        folder = tmp_path / "worse" / str(seed)
        shutil.copytree(sweep / str(seed), folder)
        with_column(folder, "evals", "value", lambda values: values + 0.3 * (values > 1))
    return tmp_path / "worse"


def test_a_broken_run_is_drawn_without_curves(check: Say, sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep / "1", tmp_path / "run")
    with_column(tmp_path / "run", "sessions", "weight", lambda values: values * 0.5)
    code, line = check(tmp_path / "run", "--html", tmp_path / "c.html", "--junit", tmp_path / "c.xml")
    assert (code, line) == (1, "fedsim: regressed: seed 1: the weights of 6 steps add up to 0.5 … 0.5, not to 1\n")
    assert "the weights of 6 steps" in (tmp_path / "c.html").read_text()
    assert ElementTree.parse(tmp_path / "c.xml").getroot().get("failures") == "2"


# ------------------------------------------------------------------------------------ bad input


def test_another_configuration_is_refused_with_what_differs(check: Say, tmp_path: Path) -> None:
    played(tmp_path / "run", "server.report_goal=10", "server.deadline_s=500")
    code, line = check(tmp_path / "run")
    assert code == 2
    assert "server.deadline_s: 600 in the baseline, 500 now; server.report_goal: 9 in the baseline, 10 now" in line


def test_a_new_key_at_its_default_is_no_difference(check: Say, baseline: Path, sweep: Path) -> None:
    told = read(baseline)
    del told.config["server.quorum_fraction"]
    told.config["server.of_long_ago"] = 3
    before = baseline.read_bytes()
    try:
        write(baseline, told)
        assert check(sweep / "0") == (0, "held: identical, 1 of 1 seeds\n")
    finally:
        baseline.write_bytes(before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "--baseline", "nowhere.json"], "baseline not found"),
        (["check", "--baseline", "0/summary.json"], "this is no baseline"),
        (["check", "--baseline", "{baseline}", "0/sessions"], "no run to read: no run is in 0/sessions"),
        (["check", "--baseline", "{baseline}", "seven"], "the baseline has no run of these seeds: [7]"),
        (["check", "--baseline", "{baseline}", "two"], "runs of several configurations cannot be checked"),
        (["check", "--baseline", "{baseline}", "--html", "0"], "a file is to be written, not a folder"),
        (["baseline", "record", "nowhere", "--out", "x"], "run directory not found"),
        (["baseline", "record", "0", "--out", "1"], "a file is to be written, not a folder"),
        (["baseline", "record", "two", "--out", "x"], "a baseline is of one configuration, these runs are of several"),
        (["baseline", "record", "0", "--out", "x", "--target", "auc=0.5"], "--target: the runs do not measure: 'auc'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], expected: str, sweep: Path, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(sweep, tmp_path / "here")
    shutil.copytree(sweep / "0", tmp_path / "here" / "seven")
    for name in ("summary.json", "provenance.json"):
        _with_seed(tmp_path / "here" / "seven" / name, 7)
    config = tmp_path / "here" / "seven" / "config.yaml"
    config.write_text(config.read_text().replace("\nseed: 0\n", "\nseed: 7\n").replace("seed: 0\n", "seed: 7\n", 1))
    for share in (0.3, 0.7):
        asked = {"server.share": share}
        written(tmp_path / "here" / "two" / str(share), seed=0, asked=asked, learned=accuracy(0.1, share))
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    assert main([word.format(baseline=baseline) for word in words]) == 2
    said = capsys.readouterr()
    assert expected in said.err and len(said.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def _with_seed(file: Path, seed: int) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": seed}))


def test_seeds_that_the_baseline_lacks_are_left_out_and_said(
    check: Say, sweep: Path, baseline: Path, tmp_path: Path
) -> None:
    some = tmp_path / "some.json"
    assert main(["baseline", "record", str(sweep / "0"), str(sweep / "2"), "--out", str(some)]) == 0
    code, said = check("--baseline", some, sweep)
    assert code == 0
    assert "the baseline has no run of seeds [1, 3]: they are left out" in said
    assert "held: identical, 2 of 2 seeds" in said


def test_runs_that_are_not_complete_are_left_out_and_said(check: Say, sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep, tmp_path / "here")
    (tmp_path / "here" / "3" / "summary.json").unlink()
    code, said = check(tmp_path / "here")
    assert code == 0
    assert "run is not complete" in said and "3 of 3 seeds" in said


def test_a_metric_that_is_not_measured_any_more_regresses(check: Say, sweep: Path, tmp_path: Path) -> None:
    shutil.copytree(sweep / "0", tmp_path / "run")
    file = tmp_path / "run" / "evals.parquet"
    table = pq.read_table(file)
    pq.write_table(table.filter([name == "accuracy" for name in table["metric"].to_pylist()]), file)
    code, line = check(tmp_path / "run")
    assert code == 1
    assert "seed 0: log_loss over versions is not measured any more" in line


# ------------------------------------------------------------------------------------ the fixture

TEST_FILE = """
import pytest
from fedsim.training.algorithm.sgd import LocalSgd

def test_unchanged(fedsim_check):
    assert fedsim_check({file!r}).line == "held: identical, 3 of 3 seeds"

def test_changed(fedsim_check, monkeypatch):
    before = LocalSgd.__post_init__
    def wrong(self):
        before(self)
        object.__setattr__(self, "learning_rate", 0.9 * self.learning_rate)
    monkeypatch.setattr(LocalSgd, "__post_init__", wrong)
    fedsim_check({file!r})
"""


def test_any_project_has_the_fixture(baseline: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST_FILE.format(file=str(baseline)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ran.returncode == 1
    assert "1 failed, 1 passed" in ran.stdout
    assert "regressed: log_loss over versions +" in ran.stdout


def test_the_fixture_costs_nothing_where_it_is_not_asked_for() -> None:
    code = "import sys, fedsim.cli.fixture; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "hydra", "pyarrow", "pandas"} & {name.partition(".")[0] for name in loaded}


def test_a_baseline_plays_what_its_overrides_say(baseline: Path) -> None:
    assert list(read(baseline).overrides) == small(list(ASKED))
