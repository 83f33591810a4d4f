"""A trainer, a backend and a local algorithm of another package: a class and a YAML each, no edit here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.config.simulation import build_simulation
from fedsim.config.trainer import central_metrics
from fedsim.errors import InputError
from tests.smoke import composed
from tests.training.tasks import updates

MODULE = """
from dataclasses import dataclass

import numpy as np

from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.trainer import StepResult


@dataclass(frozen=True, kw_only=True)
class FedProx(LocalSgd):
    mu: float

    def step(self, parameters, gradients, start, memory, rate):
        pull = rate * self.mu
        stepped, memory = super().step(parameters, gradients, start, memory, rate)
        return {name: (value + pull * start[name]) / (1 + pull) for name, value in stepped.items()}, memory


class Halved(LoopBackend):
    def __init__(self, learner, *, share: float):
        super().__init__(learner)
        self.share = share

    def train(self, updates, n_examples, versions):
        direction, losses = super().train(updates, n_examples, versions)
        return direction * self.share, losses


class Means:
    is_training = True
    made = []

    def __init__(self, *, data, local, n_parameters, max_staleness, seed, loss, model, slope: float):
        self.given = dict(data=data, local=local, max_staleness=max_staleness, seed=seed, loss=loss, model=model)
        self.n_parameters, self.slope, self.version, self.asked = n_parameters, slope, 0, []
        self.made.append(self)

    def step(self, updates):
        self.version += 1
        self.asked.append(updates.client_ids.tolist())
        losses = np.full(len(updates), self.slope * self.version)
        return StepResult(train_loss=float(losses.mean()), update_norm=0.5, losses=losses)

    def evaluate(self):
        return {"accuracy": 0.25 * self.version}
"""
FILES = {
    "training/means.yaml": "defaults: [task, _self_]\n_target_: MODULE.Means\nslope: 0.125\n",
    "training/halved.yaml": """
defaults: [task, _self_]
_target_: fedsim.training.server.FederatedTrainer
backend: {_target_: MODULE.Halved, share: 0.5}
""",
    "training/bare.yaml": "_target_: MODULE.Means\nslope: 0.125\n",
    "training/local/prox.yaml": "defaults: [sgd, _self_]\n_target_: MODULE.FedProx\nmu: 1.0e+9\n",
}
SMALL = ("fleet.n_devices=20_000", "server.report_goal=6", "stop.max_steps=3", "evaluation.every_steps=1")

Own = Callable[..., dict[str, Any]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """Values composed with the options of a package that lies elsewhere."""
    name = f"own_{tmp_path.name}"  # a module is imported once in a process
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for path, text in FILES.items():
        file = tmp_path / "configs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("MODULE", name))
    search = f"hydra.searchpath=[file://{tmp_path / 'configs'}]"
    return lambda *overrides: composed([search, *SMALL, *overrides])


def first_norm(values: dict[str, Any]) -> float:
    norm = build_simulation(values).task.trainer().step(updates([0, 1, 2, 3, 4, 5, 6, 7, 8])).update_norm
    assert norm is not None
    return norm


def test_a_trainer_is_given_what_it_asks_for_and_trains(own: Own, tmp_path: Path) -> None:
    simulation = build_simulation(own("training=means", "training.slope=0.5", "training.local.epochs=3", "seed=4"))
    means: Any = simulation.task.trainer()
    assert {key: means.given[key] for key in ("seed", "loss", "max_staleness")} == {
        "seed": 4, "loss": "cross_entropy", "max_staleness": 0,
    }  # fmt: skip
    assert means.given["data"] is simulation.task.clients and means.given["local"].epochs == 3
    assert sum(p.numel() for p in means.given["model"]().parameters()) == means.n_parameters == 650
    summary = simulation.run(tmp_path / "run").summary
    assert (len(means.made), means.version) == (2, 0)  # each run gets its own
    means = means.made[-1]
    assert means.version == len(means.asked) == 3
    assert [len(asked) for asked in means.asked] == [6, 6, 6]
    assert summary["metrics"] == {"accuracy": 0.75}


@pytest.mark.slow
@pytest.mark.parametrize("training", ["cohort", "loop"])
def test_a_local_algorithm_is_called_by_every_backend(own: Own, training: str) -> None:
    assert first_norm(own(f"training={training}")) > 0.01
    assert first_norm(own(f"training={training}", "training/local=prox", "training.local.mu=0")) > 0.01
    assert first_norm(own(f"training={training}", "training/local=prox")) < 1e-6


def test_a_local_algorithm_takes_its_time_where_nothing_is_trained(own: Own) -> None:
    simulation = build_simulation(own("training=none", "training/local=prox", "training.local.epochs=4"))
    assert not simulation.task.trainer().is_training
    assert simulation.task.work.passes.epochs == 4


@pytest.mark.slow
def test_a_backend_is_given_the_learner_and_its_own_settings(own: Own) -> None:
    whole, half = first_norm(own("training=loop")), first_norm(own("training=halved"))
    assert half == pytest.approx(whole / 2, rel=1e-5)
    assert first_norm(own("training=halved", "training.backend.share=0.125")) == pytest.approx(whole / 8, rel=1e-5)


def test_the_central_baseline_is_trained_by_the_own_trainer(own: Own) -> None:
    values = own("training=means", "training/local=prox", "training.central.epochs=2")
    assert central_metrics(values, build_simulation(values).task.clients) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training=means", "+training.slop=1"), r"unknown key: 'training\.slop' .*slope"),
        (("training=means", "training.slope=steep"), r"training\.slope has the wrong type: 'steep'"),
        (("training=means", "+training.data=1"), r"unknown key: 'training\.data'"),
        (("training=halved", "training.seed=first"), r"training\.seed has the wrong type: 'first'"),
        (("training=halved", "+training.backend.learner=1"), r"unknown key: 'training\.backend\.learner'"),
        (("training=halved", "~training.backend"), r"training\.backend must be a group of values: .*: keys, each"),
        (("experiment=null", "training=bare"), r"training\.local must be given .*allowed: defaults: \[task, _self_\]"),
        (("training=loop", "training._target_=fedsim.training.server.Nothing"), r"training\._target_ cannot be found"),
    ],
)
def test_what_does_not_fit_is_one_line(own: Own, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        build_simulation(own(*overrides))
    assert "\n" not in str(refused.value)
