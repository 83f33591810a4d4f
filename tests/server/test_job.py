"""What both protocols share: when the model is evaluated, when a run ends, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim import rng
from fedsim.errors import InputError, SimulationError
from fedsim.fleet.fleet import Fleet
from fedsim.server.task import Evaluation, Stop
from fedsim.units import DAY_S
from tests.build import (
    ALWAYS,
    Counting,
    RecordingTrainer,
    Seconds,
    Sizes,
    Tables,
    always,
    buffered,
    by_device,
    device,
    phone,
    played,
    replay,
    simulation,
    sync,
)
from tests.hand import traces_of

EVERY_10_S = device(Seconds(lambda ids, k: np.full(len(ids), 10.0)))  # steps at 10, 20, 30 …


def steps_of_ten_seconds(folder: Path, **settings: Any) -> Tables:
    trainer = settings.pop("trainer", None) or RecordingTrainer()
    return played(simulation(sync(2), fleet=always(4), phone=EVERY_10_S, trainer=trainer, **settings), folder)


def evaluated(run: Tables) -> list[tuple[float, int, float]]:
    """(instant, version by the table, version by the trainer) of each evaluation."""
    columns = [run.evals.column(name).to_pylist() for name in ("at", "version", "value")]
    return list(zip(*columns, strict=True))


# ------------------------------------------------------------------------------------ evaluation


def test_by_default_the_first_and_the_last_version_are_evaluated(tmp_path: Path) -> None:
    run = steps_of_ten_seconds(tmp_path, max_steps=3)
    assert evaluated(run) == [(0.0, 0, 0.0), (30.0, 3, 3.0)]
    assert run.summary["metrics"] == {"version": 3.0}


def test_evaluation_by_steps(tmp_path: Path) -> None:
    run = steps_of_ten_seconds(tmp_path, max_steps=5, evaluation=Evaluation(every_steps=2, every_s=None))
    assert evaluated(run) == [(0.0, 0, 0.0), (20.0, 2, 2.0), (40.0, 4, 4.0), (50.0, 5, 5.0)]


def test_evaluation_by_time_sees_the_version_of_that_instant(tmp_path: Path) -> None:
    """Steps at 10, 20 and 30; at 20 the version is still the one before the step."""
    trainer = RecordingTrainer()
    run = steps_of_ten_seconds(
        tmp_path, max_steps=3, evaluation=Evaluation(every_steps=None, every_s=4.0), trainer=trainer
    )
    by_time = [(4.0 * i, v, float(v)) for i, v in enumerate([0, 0, 0, 1, 1, 1, 2, 2])]
    assert evaluated(run) == [*by_time, (30.0, 3, 3.0)]
    assert trainer.evaluated == [0, 1, 2, 3]  # a version is measured once


def test_evaluation_by_time_goes_on_to_the_end_of_the_run(tmp_path: Path) -> None:
    run = steps_of_ten_seconds(tmp_path, max_s=19.0, evaluation=Evaluation(every_steps=None, every_s=6.0))
    assert evaluated(run) == [(0.0, 0, 0.0), (6.0, 0, 0.0), (12.0, 1, 1.0), (18.0, 1, 1.0)]


def test_evaluation_by_both(tmp_path: Path) -> None:
    run = steps_of_ten_seconds(tmp_path, max_steps=1, evaluation=Evaluation(every_steps=1, every_s=10.0))
    assert evaluated(run) == [(0.0, 0, 0.0), (10.0, 0, 0.0), (10.0, 1, 1.0)]


def test_evaluation_between_ticks_of_the_buffered_protocol(tmp_path: Path) -> None:
    """Steps at 10.3, 20.6 …, ticks every 4 s, evaluations every 10.5 s."""
    run = played(
        simulation(
            buffered(1, 1, assignment_interval_s=4.0),
            fleet=always(1),
            phone=device(by_device(10.3)),  # starts at 0, 12, 24
            trainer=RecordingTrainer(),
            evaluation=Evaluation(every_steps=None, every_s=11.0),
            max_s=35.0,
        ),
        tmp_path,
    )
    np.testing.assert_allclose(run.step_column("closed_at"), [10.3, 22.3, 34.3])
    assert evaluated(run) == [(0, 0, 0), (11, 1, 1), (22, 1, 1), (33, 2, 2), (35, 3, 3)]


# ------------------------------------------------------------------------------------ what the trainer is promised


def test_updates_are_promised_in_order_of_arrival(tmp_path: Path) -> None:
    trainer = RecordingTrainer()
    parts = simulation(
        sync(3, weighting="examples"),
        fleet=replay(ALWAYS, ALWAYS, ALWAYS),
        phone=device(by_device(30, 10, 20)),
        clients=Sizes((1, 2, 3, 4)),
        trainer=trainer,
        max_steps=2,
        seed=7,
    )
    run = played(parts, tmp_path)
    for version, updates in enumerate(trainer.steps):
        rows = np.flatnonzero(run.column("version") == version)
        rows = rows[np.argsort(run.column("end_at")[rows])]
        assert run.column("device_id")[rows].tolist() == [1, 2, 0]
        for name, column in (("client_ids", "client_id"), ("versions", "version"), ("weights", "weight")):
            np.testing.assert_array_equal(getattr(updates, name), run.column(column)[rows])
        keys = rng.bits(7, "update", np.array([1, 2, 0]), np.full(3, version))
        np.testing.assert_array_equal(updates.seeds, keys)
        assert updates.weights.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(run.step_column("train_loss"), [1.0, 0.5])


# ------------------------------------------------------------------------------------ the end of a run


def test_stop_after_steps_or_time_whichever_is_first(tmp_path: Path) -> None:
    run = steps_of_ten_seconds(tmp_path / "a", max_steps=2, max_s=25.0)
    assert (run.summary["stop_reason"], run.summary["simulated_s"], run.summary["n_steps"]) == ("max_steps", 20.0, 2)
    run = steps_of_ten_seconds(tmp_path / "b", max_steps=3, max_s=25.0)
    assert (run.summary["stop_reason"], run.summary["simulated_s"], run.summary["n_steps"]) == ("max_s", 25.0, 2)
    assert run.outcomes.tolist().count("AGGREGATED") == 4
    assert run.outcomes.tolist().count("OPEN") == 2


def test_stop_when_the_metric_is_reached(tmp_path: Path) -> None:
    stop = Stop(max_steps=9, max_s=None, metric="version", metric_at_least=3.0)
    run = steps_of_ten_seconds(tmp_path, stop=stop, evaluation=Evaluation(every_steps=1, every_s=None))
    assert (run.summary["stop_reason"], run.summary["simulated_s"], run.summary["n_steps"]) == ("target", 30.0, 3)


def test_a_target_nobody_measures(tmp_path: Path) -> None:
    stop = Stop(max_steps=9, max_s=None, metric="auc", metric_at_least=0.9)
    with pytest.raises(InputError, match=r"stop\.metric is not evaluated: 'auc' \(allowed: version\)"):
        steps_of_ten_seconds(tmp_path, stop=stop)


@pytest.mark.parametrize("server", [sync(1), buffered(1, 1)])
def test_nobody_is_ever_eligible(server: Any) -> None:
    parts = simulation(server, fleet=replay([(0.0, 0.0)]), phone=EVERY_10_S, max_steps=1)
    with pytest.raises(SimulationError, match="no device of this fleet is ever eligible under its rule"):
        parts.run()


@pytest.mark.parametrize("server", [sync, lambda goal: buffered(goal, goal)])
@pytest.mark.parametrize("max_s", [3600.0, 7200.0])
def test_the_first_device_comes_after_the_end(server: Any, max_s: float) -> None:
    fleet = replay([(7200.0, 80_000.0)], [(7500.0, 80_000.0)])
    parts = simulation(server(1), fleet=fleet, phone=EVERY_10_S, max_s=max_s)
    with pytest.raises(SimulationError, match=r"before the run's end at [12] h: the first one would be at 2 h"):
        parts.run()


@pytest.mark.parametrize("server", [sync, lambda goal: buffered(goal, goal)])
def test_waits_for_the_first_device(server: Any, tmp_path: Path) -> None:
    fleet = replay([(7200.0, 80_000.0)], [(7500.0, 80_000.0)])
    run = played(simulation(server(1), fleet=fleet, phone=EVERY_10_S, max_s=7300.0, max_steps=1), tmp_path)
    assert run.column("assigned_at").tolist() == [7200.0]
    assert run.summary["simulated_s"] == 7210.0


@pytest.mark.parametrize("server", [sync, lambda goal: buffered(goal, goal)])
def test_nights_are_waited_out(server: Any, tmp_path: Path) -> None:
    """Eligible from 100 s to 115 s of each day: one session of 10 s a day, the second of the day is interrupted."""
    run = played(simulation(server(1), fleet=replay([(100.0, 115.0)]), phone=EVERY_10_S, max_s=200_000.0), tmp_path)
    assert run.column("assigned_at").tolist() == [100.0, 110.0, 86_500.0, 86_510.0, 172_900.0, 172_910.0]
    assert run.outcomes.tolist() == ["AGGREGATED", "INTERRUPTED"] * 3


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_steps": None, "max_s": None}, "must be given"),
        ({"max_steps": 0, "max_s": None}, "positive"),
        ({"max_steps": None, "max_s": 0.0}, "positive"),
        ({"max_steps": 1, "max_s": None, "metric": "auc"}, "go together"),
        ({"max_steps": 1, "max_s": None, "metric_at_least": 0.5}, "go together"),
    ],
)
def test_bad_stop(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Stop(**settings)


@pytest.mark.parametrize("settings", [(0, None), (None, 0.0), (None, -5.0)])
def test_bad_evaluation(settings: tuple[int | None, float | None]) -> None:
    with pytest.raises(InputError, match="evaluation"):
        Evaluation(*settings)


# ------------------------------------------------------------------------------------- cohorts of a large fleet


def test_nobody_is_looked_for_while_too_few_can_be_there(tmp_path: Path) -> None:
    """One of ten phones charges until 10,000 s, then a second: of 100,000 devices 10,000 and then 20,000."""
    phones = [phone((0.0, DAY_S)), phone((10_000.0, DAY_S)), *[phone() for _ in range(8)]]
    fleet = Fleet(traces_of(phones, period_s=DAY_S), n_devices=100_000, seed=1)
    counting, second = (
        Counting.plain(),
        device(Seconds(lambda ids, k: np.ones(len(ids)))),
    )
    run = played(simulation(sync(15_000), fleet=fleet, phone=second, max_steps=1, selector=counting), tmp_path)
    assert len(run.sessions) == 15_000
    (assigned_at,) = set(run.column("assigned_at").tolist())
    assert 10_000.0 <= assigned_at <= 10_060.0  # a third is lacking: looked at once a minute
    assert counting.asked == [assigned_at]


# ------------------------------------------------------------------------------------- metrics of any trainer


class Says(RecordingTrainer):
    """Answers an evaluation with what it was given."""

    said: Any = None

    def evaluate(self) -> Any:
        return self.said


def test_metrics_become_plain_numbers(tmp_path: Path) -> None:
    trainer = Says()
    trainer.said = {"auc": np.float32(0.75)}
    run = steps_of_ten_seconds(tmp_path, max_steps=1, trainer=trainer)
    assert json.dumps(run.summary["metrics"]) == '{"auc": 0.75}'


@pytest.mark.parametrize(
    ("said", "line"),
    [({"auc": float("nan")}, "metric auc of version 0 is nan"), ({"auc": "high"}, "no numbers"), (None, "no numbers")],
)
def test_what_is_no_number_ends_the_run_in_a_line(said: Any, line: str, tmp_path: Path) -> None:
    trainer = Says()
    trainer.said = said
    with pytest.raises(SimulationError, match=line):
        steps_of_ten_seconds(tmp_path, max_steps=1, trainer=trainer)


class Nobody:
    """A gate that lets nobody in, and does not say so before."""

    def admits(self, ids: Any, cells: Any, at: Any) -> Any:
        return np.zeros(len(ids), dtype=bool)

    def share(self, at: Any) -> float:
        return 0.7

    def share_by_trace(self, at: float) -> float:
        return 0.7


@pytest.mark.parametrize("server", [sync(1), buffered(1, 1)])
@pytest.mark.parametrize("spans", [ALWAYS, ((0.0, 300.0),)])
def test_nobody_is_admitted_is_not_nobody_is_eligible(server: Any, spans: Any) -> None:
    """Also where they leave before the run's end: they were eligible."""
    parts = simulation(server, fleet=replay(spans, spans), phone=EVERY_10_S, max_s=1000.0, gates=[Nobody()])
    with pytest.raises(SimulationError, match="devices are eligible, but none is admitted before the run's end"):
        parts.run()
