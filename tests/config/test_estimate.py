"""What a run will take, told before it: exact where all of it was played, in proportion where its beginning was."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from fedsim.cli.main import main
from fedsim.config.estimate import BYTES_PER_DEVICE, BYTES_PER_SESSION, Estimate, estimate, warn_of_disk
from fedsim.config.simulation import build_simulation
from fedsim.server.task import Stop
from fedsim.simulation import Progress
from tests.smoke import composed

QUICK = ("experiment=smoke", "training=none", "report=false", "fleet.n_devices=70_000")
Usage = namedtuple("Usage", "total used free")


def test_a_run_that_is_played_whole_is_told_exactly() -> None:
    simulation = build_simulation(composed([*QUICK, "stop.max_steps=7"]))
    told = estimate(simulation, played_s=100.0)
    assert told.is_whole
    assert told.n_sessions == simulation.run().summary["n_sessions"] == 7 * 130


def test_the_beginning_stands_for_the_rest() -> None:
    """Rounds are alike: a few of forty tell the whole within a tenth."""
    told = estimate(build_simulation(composed([*QUICK, "stop.max_steps=40"])), played_s=0.0)
    assert not told.is_whole
    assert told.n_sessions == pytest.approx(40 * 130, rel=0.1)


def progress(n_sessions: int, version: int, *, of: int = 10) -> Progress:
    return Progress(now=60.0, version=version, n_sessions=n_sessions, metrics={}, stop=Stop(max_steps=of, max_s=None))


def test_what_follows_from_the_share_that_was_played() -> None:
    told = Estimate(progress(3000, 3), wall_s=6.0, n_devices=4000, rss_bytes=10**8)
    assert told.n_sessions == pytest.approx(10_000)
    assert told.disk_bytes == pytest.approx(10_000 * BYTES_PER_SESSION)
    assert told.memory_bytes == pytest.approx(10**8 + 4000 * BYTES_PER_DEVICE)  # no more devices than there are
    assert "about 20.0 s (measured over 6.0 s, 30 % of the run)" in told.text(Path("runs"))


def test_nothing_is_told_of_a_run_whose_beginning_has_no_step() -> None:
    told = Estimate(progress(0, 0), wall_s=5.0, n_devices=4000, rss_bytes=10**8)
    assert (told.n_sessions, told.disk_bytes, told.memory_bytes) == (None, None, None)
    assert told.text(Path(".")).count("unknown: no step came") == 4


def test_a_disk_that_is_too_small(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 100_000))
    told = Estimate(progress(3000, 3), wall_s=6.0, n_devices=4000, rss_bytes=10**8)
    assert told.text(Path(".")).endswith("the run would not fit on the disk")
    heard: list[Progress] = []
    watch = warn_of_disk(Path("."), heard.append)
    for n in (500, 1500, 3000):  # too early to say, said, said already
        watch(progress(n, max(1, n // 1000)))
    said = capsys.readouterr().err
    assert said.count("fedsim: the run needs about 1.1 MB more on the disk, 100.0 kB are free") == said.count("\n") == 1
    assert len(heard) == 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))
    warn_of_disk(Path("."), None)(progress(1500, 1))
    assert capsys.readouterr().err == ""


def test_an_estimate_runs_nothing_and_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "estimate=true", *QUICK, "stop.max_steps=3", f"hydra.run.dir={tmp_path}/r"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["sessions", "time", "memory", "disk"]
    assert not (tmp_path / "r").exists()
