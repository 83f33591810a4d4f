"""Federated learning learns, close to the central baseline of the same code."""

from functools import partial

import numpy as np
import pytest

from fedsim.data.clients import ClientData, client_of
from fedsim.data.sources.digits import Digits
from fedsim.data.sources.synthetic import SyntheticClicks
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.central import train_central
from fedsim.training.server import FederatedTrainer
from fedsim.training.server_optimizer import FedAdam, FedAvg
from fedsim.training.tasks.models import ClickModel, Logistic, SmallCnn
from fedsim.training.trainer import StepResult, Updates
from tests.training.tasks import cohort

DIGITS = Digits(n_clients=100, alpha=1.0, test_fraction=0.25, seed=0)


def federated(found: FederatedTrainer, data: ClientData, *, n_steps: int, n_updates: int) -> dict[str, float]:
    """Steps of updates of random devices, each from the newest version."""
    same = np.full(n_updates, 1 / n_updates)
    for step in range(n_steps):
        devices = np.arange(n_updates) + step * n_updates
        found.step(
            Updates(
                client_ids=client_of(devices, n_clients=data.n_clients, seed=0),
                versions=np.full(n_updates, found.version),
                weights=same,
                seeds=devices.astype(np.uint64),
            )
        )
    return found.evaluate()


@pytest.mark.slow
def test_digits_are_learnt_by_federated_averaging() -> None:
    found = FederatedTrainer(
        model=partial(Logistic, n_inputs=64, n_classes=10),
        data=DIGITS,
        local=LocalSgd(learning_rate=0.5, epochs=5, batch_size=10),
        server_optimizer=FedAvg(),
        loss="cross_entropy",
        max_staleness=0,
        seed=0,
        metrics=("accuracy",),
        backend=cohort,
    )
    assert found.evaluate()["accuracy"] < 0.3
    assert federated(found, DIGITS, n_steps=80, n_updates=20)["accuracy"] > 0.93


@pytest.mark.slow
def test_clicks_are_ranked_clearly_better_than_by_chance() -> None:
    data = SyntheticClicks(
        n_clients=10**9,
        n_fields=8,
        values_per_field=100,
        examples_median=10.0,
        examples_sigma=1.0,
        max_examples=200,
        bias=-2.0,
        weight_sigma=0.6,
        client_bias_sigma=0.3,
        n_held_out_clients=1000,
        seed=0,
    )
    found = FederatedTrainer(
        model=partial(ClickModel, n_values=data.n_values, n_fields=8, n_factors=8, n_hidden=32),
        data=data,
        local=LocalSgd(learning_rate=0.1, epochs=1, batch_size=32),
        server_optimizer=FedAdam(learning_rate=0.01, beta1=0.9, beta2=0.99, epsilon=1e-4),
        loss="binary_cross_entropy",
        max_staleness=0,
        seed=0,
        metrics=("auc", "aupr", "log_loss"),
        backend=cohort,
    )
    rate = data.held_out()[1].mean()
    found_metrics = federated(found, data, n_steps=60, n_updates=100)
    assert found_metrics["auc"] > 0.75
    assert found_metrics["aupr"] > 1.8 * rate
    assert found_metrics["log_loss"] < -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)) - 0.05


def central_trainer(data: ClientData, *, kind: type[FederatedTrainer] = FederatedTrainer) -> FederatedTrainer:
    return kind(
        model=partial(Logistic, n_inputs=64, n_classes=10),
        data=data,
        local=LocalSgd(learning_rate=0.5, epochs=1, batch_size=20),
        backend=LoopBackend,
        server_optimizer=FedAvg(),
        loss="cross_entropy",
        max_staleness=0,
        seed=0,
        metrics=("accuracy",),
    )


def test_central_baseline_learns_epoch_by_epoch() -> None:
    results = train_central(central_trainer, DIGITS, epochs=8, seed=0)
    assert len(results) == 8
    assert results[-1]["accuracy"] > 0.95
    assert train_central(central_trainer, DIGITS, epochs=2, seed=0) == results[:2]


def test_central_epoch_is_one_step_of_one_client_with_all_examples() -> None:
    seen: list[tuple[Updates, ClientData]] = []

    class Recorder(FederatedTrainer):
        def step(self, updates: Updates) -> StepResult:
            seen.append((updates, self._learner.data))
            return super().step(updates)

    train_central(partial(central_trainer, kind=Recorder), DIGITS, epochs=2, seed=0)
    assert [updates.client_ids.tolist() for updates, _ in seen] == [[0], [0]]
    assert [updates.versions.tolist() for updates, _ in seen] == [[0], [1]]
    assert [updates.weights.tolist() for updates, _ in seen] == [[1.0], [1.0]]
    assert [int(data.n_examples(np.arange(1))[0]) for _, data in seen] == [1348, 1348]
    assert seen[0][0].seeds != seen[1][0].seeds  # shuffled anew


def test_shipped_models_have_the_documented_size() -> None:
    def size(model: object) -> int:
        return sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]

    assert size(Logistic(n_inputs=64, n_classes=10)) == 650
    assert size(SmallCnn(n_classes=10)) == 54_698
    assert size(ClickModel(n_values=100, n_fields=4, n_factors=8, n_hidden=16)) == 900 + 4 * 8 * 16 + 16 + 17
