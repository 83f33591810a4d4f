"""Small tasks and promised updates for the tests of training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsim.data.clients import Array, ArrayClients
from fedsim.data.partition import ends
from fedsim.training.algorithm.local import Tensors
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend.cohort import CohortBackend
from fedsim.training.backend.learner import Backend, Learner
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.server import FederatedTrainer
from fedsim.training.server_optimizer import FedAvg, ServerOptimizer
from fedsim.training.tasks.models import ClickModel, Logistic
from fedsim.training.trainer import StepResult, Updates


class Same(LocalSgd):
    """Plain SGD by a step of its own: no backend may take its shortcuts."""

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        return super().step(parameters, gradients, start, memory, rate)


@dataclass(frozen=True, kw_only=True)
class FedProx(LocalSgd):
    """Each step is drawn back to the downloaded model: ``mu / 2 · |w - w₀|²`` is added to the loss (Li et al. 2020).

    The added part is minimised exactly in each step (a proximal step), so that any ``mu`` is stable.
    """

    mu: float

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        pull = rate * self.mu
        stepped, memory = super().step(parameters, gradients, start, memory, rate)
        return {name: (value + pull * start[name]) / (1 + pull) for name, value in stepped.items()}, memory


UNEQUAL = [1, 2, 3, 90, 31, 4, *(4 + 7 * i % 13 for i in range(26))]  # 32 clients


def clients(sizes: list[int], *, ids: bool = False, picture: bool = False) -> ArrayClients:
    """Random examples: 12 features, 8×8 pictures or 5 fields of 6 ids; 3 classes (2 for ids)."""
    rng = np.random.default_rng(0)
    total = sum(sizes) + 20
    if ids:
        x: Array = rng.integers(0, 6, (total, 5)) + 6 * np.arange(5)
    else:
        x = rng.normal(size=(total, 8, 8) if picture else (total, 12)).astype(np.float32)
    y = rng.integers(0, 2 if ids else 3, total)
    order, held_out = np.arange(sum(sizes)), (x[-20:], y[-20:])
    return ArrayClients(x, y, order=order, offsets=ends(np.array(sizes)), held_out=held_out)


class Convolution(nn.Module):
    """8×8 pictures, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 4, 3, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.output = nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.norm(self.maps(x.unsqueeze(1)))).flatten(1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """One hidden layer with ReLU."""

    def __init__(self, *, n_inputs: int, n_hidden: int, n_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_inputs, n_hidden)
        self.output = nn.Linear(n_hidden, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


class Slope(nn.Module):
    """One weight, logit w · x: simple enough to compute by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] * self.w


def two_clients() -> ArrayClients:
    """Client 0: x = 2, y = 1. Client 1: x = 1 and 3, y = 0."""
    x = np.array([[2], [1], [3]], dtype=np.float32)
    y = np.array([1, 0, 0])
    return ArrayClients(x, y, order=np.arange(3), offsets=np.array([0, 1, 3]), held_out=(x, y))


logistic = partial(Logistic, n_inputs=12, n_classes=3)
mlp = partial(Mlp, n_inputs=12, n_hidden=9, n_classes=3)
click_model = partial(ClickModel, n_values=30, n_fields=5, n_factors=3, n_hidden=7)
cohort = partial(CohortBackend, memory_budget_bytes=10**8)


def trainer(
    model: Callable[[], nn.Module],
    data: ArrayClients,
    *,
    backend: Callable[[Learner], Backend] = LoopBackend,
    loss: str = "cross_entropy",
    local: LocalSgd | None = None,
    server_optimizer: ServerOptimizer | None = None,
    metrics: tuple[str, ...] = ("accuracy",),
    max_staleness: int = 3,
    seed: int = 1,
    n_threads: int = 1,
) -> FederatedTrainer:
    """A trainer with settings that most tests share."""
    return FederatedTrainer(
        model=model,
        n_threads=n_threads,
        data=data,
        local=local or LocalSgd(learning_rate=0.1, epochs=2, batch_size=4),
        server_optimizer=server_optimizer or FedAvg(),
        loss=loss,
        max_staleness=max_staleness,
        seed=seed,
        metrics=metrics,
        backend=backend,
    )


def updates(client_ids: list[int], versions: list[int] | None = None, *, seed: int = 0) -> Updates:
    """Updates of these clients with unequal weights that sum to one, and seeds of their own."""
    n = len(client_ids)
    weights = np.arange(1.0, n + 1)
    return Updates(
        client_ids=np.array(client_ids, dtype=np.int64),
        versions=np.array(versions or [0] * n, dtype=np.int64),
        weights=weights / weights.sum(),
        seeds=np.arange(n, dtype=np.uint64) + np.uint64(1000 * seed),
    )


EVERYBODY = [*range(32), 3, 11]  # two clients are asked twice


def walk(found: FederatedTrainer) -> list[StepResult]:
    """Three steps of everybody, each from one of the versions still kept."""
    return [
        found.step(updates(EVERYBODY, [max(0, step - i % 3) for i in range(len(EVERYBODY))], seed=step))
        for step in range(3)
    ]


def assert_same(one: FederatedTrainer, other: FederatedTrainer) -> None:
    for result, expected in zip(walk(one), walk(other), strict=True):
        assert result.losses == pytest.approx(expected.losses, abs=1e-5)
        assert result.train_loss == pytest.approx(expected.train_loss, abs=1e-6)
        assert result.update_norm == pytest.approx(expected.update_norm, abs=1e-5)
    assert (one.versions.newest - other.versions.newest).abs().max() < 1e-5
    assert (one.versions.newest - one.versions.get(0)).abs().max() > 0.01  # something was learnt
