"""A run in which nothing works ends and says so; one that goes on slowly does not end before its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsim.cli.main import main
from fedsim.errors import SimulationError
from fedsim.server.task import Stop
from fedsim.units import DAY_S
from tests.build import Seconds, always, buffered, device, played, replay, simulation, sync

SECOND = Seconds(lambda ids, k: np.ones(len(ids)))
FOR_EVER = Stop(max_steps=3, max_s=None)


@pytest.mark.slow
@pytest.mark.parametrize("server", [sync(50, quorum_fraction=0.2), buffered(100, 2)])
def test_sessions_that_all_come_to_nothing(server: object) -> None:
    phone = device(SECOND, crash_fraction=1.0)
    parts = simulation(server, fleet=always(1000), phone=phone, stop=FOR_EVER)  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match=r"nothing came of the last 100,\d\d\d sessions"):
        parts.run()


def test_a_round_that_can_never_begin() -> None:
    """Two phones that are never there together."""
    parts = simulation(sync(2), fleet=replay([(0.0, 3600.0)], [(7200.0, 9000.0)]), phone=device(SECOND), stop=FOR_EVER)
    with pytest.raises(SimulationError, match=r"nothing came of the last 0 sessions in 30 d"):
        parts.run()


def test_one_update_a_day_is_enough_to_go_on(tmp_path: Path) -> None:
    """Each day one session of two is done before the phone goes: three steps of twenty updates take sixty days."""
    fleet = replay([(100.0, 101.5)])
    run = played(simulation(buffered(1, 20), fleet=fleet, phone=device(SECOND), stop=FOR_EVER), tmp_path)
    assert run.summary["n_steps"] == 3
    assert run.summary["simulated_s"] == pytest.approx(59 * DAY_S + 101)


@pytest.mark.slow
def test_a_run_that_commits_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "experiment=smoke", "training=none", "report=false", "device.crash_fraction=1.0", "stop.max_s=7200"]
    assert main([*words, "stop.max_steps=null", f"hydra.run.dir={tmp_path}/r"]) == 0
    said = capsys.readouterr().err
    lost = "11 rounds were abandoned below their quorum; of 1,560 sessions"
    assert said.startswith(f"fedsim: nothing was committed: {lost}")
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("required", "code"), [("false", 0), ("true", 9)])
def test_a_metric_that_is_not_reached(
    required: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["stop.metric=accuracy", "stop.metric_at_least=0.99", f"stop.is_required={required}"]
    small = ["stop.max_steps=2", "server.report_goal=5", "report=false", f"hydra.run.dir={tmp_path}/r"]
    assert main(["run", "experiment=smoke", *target, *small]) == code
    assert "fedsim: accuracy came to 0." in capsys.readouterr().err
    assert (tmp_path / "r" / "summary.json").exists()
