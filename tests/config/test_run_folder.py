"""A run folder belongs to one run, whoever starts them, together or one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedsim.cli.main import main
from fedsim.config.run_folder import RUN_FILES, opened
from fedsim.errors import InputError
from fedsim.results.run import Run

QUICK = ("experiment=smoke", "training=none", "report=false", "stop.max_steps=2", "fleet.n_devices=20000")


def run(folder: Path, *overrides: str) -> int:
    return main(["run", *QUICK, *overrides, f"hydra.run.dir={folder}"])


@pytest.mark.slow
def test_a_used_folder_is_refused_and_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "k", "seed=3") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "k").rglob("*") if path.is_file()}
    assert run(tmp_path / "k", "seed=4") == 2
    assert "run folder holds a run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "k").rglob("*") if path.is_file()} == before


def test_an_incomplete_run_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    assert run(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.slow
def test_force_clears_a_run_wholly(tmp_path: Path) -> None:
    """Parts, page and leftovers of the older run do not stand beside the new one."""
    assert run(tmp_path / "k", "report=true") == 0
    (tmp_path / "k" / "sessions" / "part-00007.parquet").write_text("of a longer run")
    (tmp_path / "k" / "groups.parquet").write_text("of a run that asked for groups")
    (tmp_path / "k" / "model").mkdir()
    (tmp_path / "k" / "model" / "final.safetensors").write_text("of a run that trained")
    (tmp_path / "k" / ".summary.json.123.tmp").write_text("of a killed run")
    assert run(tmp_path / "k", "seed=4", "force=true") == 0
    assert Run.load(tmp_path / "k").summary["seed"] == 4
    assert {path.name for path in (tmp_path / "k").iterdir()} == {*RUN_FILES} - {
        "report.html",
        "groups.parquet",
        "model",
    }
    assert [path.name for path in (tmp_path / "k" / "sessions").iterdir()] == ["part-00000.parquet"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_run_is_never_touched(force: bool, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds what is no run's: 'thesis\.tex'"), opened(tmp_path, force=force):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "summary.json").exists()


def test_a_folder_that_another_run_is_writing_to(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from fedsim.config.run_folder import opened
try:
    with opened(Path({str(tmp_path)!r}), force=True): print("opened")
except Exception as error: print(error)
"""
    with opened(tmp_path, force=False):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert other.stdout.startswith("another run is writing to the run folder")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "opened\n"


@pytest.mark.slow
def test_two_runs_that_start_together(tmp_path: Path) -> None:
    """By default each has a folder of its own; of two that name one folder the second is refused."""
    command = [sys.executable, "-m", "fedsim", "run", *QUICK]
    own = [subprocess.Popen([*command, f"seed={seed}"], cwd=tmp_path) for seed in (1, 2)]
    assert [process.wait(timeout=100) for process in own] == [0, 0]
    folders = [file.parent for file in (tmp_path / "runs").rglob("summary.json")]
    assert sorted(Run.load(folder).summary["seed"] for folder in folders) == [1, 2]
    shared = [
        subprocess.Popen([*command, f"seed={seed}", "hydra.run.dir=one"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        for seed in (1, 2)
    ]
    assert sorted(process.wait(timeout=100) for process in shared) == [0, 2]
    found = Run.load(tmp_path / "one")
    assert found.config["seed"] == found.summary["seed"]
    assert found.totals.n.sum() == found.summary["n_sessions"]


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    assert run(tmp_path / "none", "seed=-1") == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_simulation_that_cannot_go_on_leaves_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "k", "server.deadline_s=-3") == 2
    assert run(tmp_path / "k", "device.crash_fraction=1.0", "stop.max_s=null", "server.report_goal=1000") == 3
    assert not (tmp_path / "k").exists()
