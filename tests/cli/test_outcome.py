"""How commands end: one line and an exit code for each kind of trouble, in the process itself and from outside."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.main import main
from fedsim.cli.outcome import EXIT_CODES, Terminated, ended
from fedsim.errors import FedsimError, InputError, NotReachedError, SimulationError, SweepError
from fedsim.results.run import open_run


def raising(error: BaseException) -> Any:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("x must be positive", value=-1), 2, "x must be positive: -1"),
        (SimulationError("nobody is there"), 3, "nobody is there"),
        (SweepError("2 jobs"), 8, "2 jobs"),
        (NotReachedError("auc"), 9, "auc"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "Permission denied: a/b"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "n" * 5000), 2, "No such file or directory: nnn"),
        (MemoryError("Unable to allocate 8 TiB"), 2, "not enough memory (Unable to allocate 8 TiB)"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted; what was written is incomplete"),
        (Terminated(), 143, "terminated; what was written is incomplete"),
        (ZeroDivisionError("by\nzero" + "!" * 900), 70, "ZeroDivisionError in test_outcome.py:"),
    ],
)
def test_every_kind_of_trouble_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(raising(error)) == code
    said = capsys.readouterr().err
    assert said.startswith(f"fedsim: {line}")
    assert (said.count("\n"), len(said) < 400) == (1, True)


def test_what_goes_well_says_nothing_and_a_closed_pipe_is_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: None) == 0
    assert ended(raising(BrokenPipeError())) == 0
    assert capsys.readouterr().err == ""


def test_where_a_fault_is_can_be_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_TRACEBACK", "1")
    assert ended(raising(ZeroDivisionError("zero"))) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_each_kind_of_error_has_its_exit_code_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert EXIT_CODES in capsys.readouterr().out
    codes = {kind.exit_code for kind in FedsimError.__subclasses__()}
    assert codes == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert all(f"\n  {code} " in EXIT_CODES for code in (*codes, 0, 70, 130, 143))


def test_a_disk_that_is_full_when_the_output_is_written() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-m", "fedsim", "tables"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (2, "fedsim: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_and_is_incomplete(number: int, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fedsim", "run", "training=none", "report=false", "server=buffered"]
    command += [
        "server.concurrency=3000",
        "stop.max_steps=null",
        "stop.max_s=86400000",
        f"hydra.run.dir={tmp_path}/run",
    ]

    def listen() -> None:  # a shell's background jobs ignore Ctrl-C, and so would their children
        signal.signal(signal.SIGINT, signal.default_int_handler)

    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "config.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2.0)
    os.kill(run.pid, number)
    _, said = run.communicate(timeout=60)
    lines = [line for line in said.splitlines() if "more on the disk" not in line]  # so long a run would not fit
    assert run.returncode == code
    assert len(lines) == 1 and lines[0].endswith("what was written is incomplete")
    assert not (tmp_path / "run" / "summary.json").exists()
    assert main(["report", str(tmp_path / "run")]) == 2
    with pytest.warns(UserWarning, match="run is not complete"):
        run = open_run(tmp_path / "run")
    told = ["session_id", "assigned_at", "end_at", "version", "outcome"]
    sessions, last_at = run.sessions(told), run.gauges["until"].max()
    assert not sessions["session_id"].duplicated().any()
    assert len(sessions) == run.summary["n_sessions"] > 0 < len(run.steps) == run.steps["version"].max()
    assert sessions["assigned_at"].max() <= last_at <= sessions["end_at"].max() + 600
    assert (sessions["outcome"] == "AGGREGATED").sum() == run.steps["n_aggregated"].sum()
    assert run.provenance["wall_s"] is None


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_run(tmp_path: Path) -> None:
    """As on a full disk, writing ends in the middle: files of this process may have 150 kB."""
    command = [sys.executable, "-m", "fedsim", "run", "training=none", "report=false", "stop.max_steps=800"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    ran = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path}/r"], stderr=subprocess.PIPE, text=True, preexec_fn=limit, check=False
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "r" / "summary.json").exists()
    assert main([*command[3:], "force=true", "stop.max_steps=1", f"hydra.run.dir={tmp_path}/r"]) == 0


@pytest.mark.parametrize(("folder", "line"), [("file", "File exists: "), ("n" * 300, "File name too long: ")])
def test_a_folder_that_cannot_be_made(
    folder: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "experiment=smoke", "training=none", "report=false", f"hydra.run.dir={tmp_path}/{folder}"]) == 2
    assert capsys.readouterr().err.startswith(f"fedsim: {line}")
