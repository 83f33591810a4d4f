"""The cohort trainer gives what the loop gives, however the clients are cut into blocks."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fedsim.errors import InputError
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend import cohort as cohort_module
from fedsim.training.backend.cohort import CohortBackend
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.server import FederatedTrainer
from fedsim.training.server_optimizer import FedAdam
from tests.training.tasks import (
    UNEQUAL,
    Convolution,
    FedProx,
    Mlp,
    assert_same,
    click_model,
    clients,
    cohort,
    logistic,
    mlp,
    trainer,
    updates,
    walk,
)  # fmt: skip

TASKS: dict[str, dict[str, Any]] = {
    "logistic": {"model": logistic, "data": clients(UNEQUAL)},
    "mlp": {"model": mlp, "data": clients(UNEQUAL)},
    "convolution": {"model": Convolution, "data": clients(UNEQUAL, picture=True)},
    "clicks": {"model": click_model, "data": clients(UNEQUAL, ids=True), "loss": "binary_cross_entropy"},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("epochs", [1, 3])
def test_cohort_equals_loop(task: str, epochs: int) -> None:
    local = LocalSgd(learning_rate=0.1, epochs=epochs, batch_size=4)
    options = {**TASKS[task], "local": local}
    assert_same(trainer(backend=cohort, **options), trainer(**options))


@pytest.mark.parametrize("epochs", [1, 3])
def test_cohort_equals_loop_where_clients_do_parts_of_their_work(epochs: int) -> None:
    """Small clients do more steps than some large ones, and the mean loss is that over the visits made."""
    local, n = LocalSgd(learning_rate=0.1, epochs=epochs, batch_size=4), len(UNEQUAL)
    data, ids = clients(UNEQUAL), np.arange(n)
    planned = local.n_steps(data.n_examples(ids))
    cut = replace(updates(ids.tolist()), n_steps=1 + ids * 7 % planned)
    assert (cut.n_steps < planned).any()
    together, alone = (trainer(mlp, data, local=local, backend=backend) for backend in (cohort, LoopBackend))
    found, expected = together.step(cut), alone.step(cut)
    assert found.losses == pytest.approx(expected.losses, abs=1e-5)
    assert found.train_loss == pytest.approx(expected.train_loss, abs=1e-6)
    assert (together.versions.newest - alone.versions.newest).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("memory_budget_bytes", [1, 30_000, 100_000])
def test_any_memory_budget_gives_the_same(memory_budget_bytes: int) -> None:
    tight = trainer(mlp, clients(UNEQUAL), backend=partial(CohortBackend, memory_budget_bytes=memory_budget_bytes))
    assert_same(tight, trainer(mlp, clients(UNEQUAL)))


def test_any_server_optimiser_gives_the_same() -> None:
    def options() -> dict[str, Any]:
        return {"server_optimizer": FedAdam(learning_rate=0.01, beta1=0.9, beta2=0.99, epsilon=1e-3)}

    one = trainer(mlp, clients(UNEQUAL), backend=cohort, **options())
    assert_same(one, trainer(mlp, clients(UNEQUAL), **options()))


def test_frozen_parameters_and_constant_buffers_stay() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0]))
            self.frozen, self.output = nn.Linear(12, 9).requires_grad_(False), nn.Linear(9, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.output(torch.relu(self.frozen(x * self.scale)))  # type: ignore[no-any-return, operator]

    found = trainer(Scaled, clients(UNEQUAL), backend=cohort)
    assert_same(found, trainer(Scaled, clients(UNEQUAL)))
    assert found.versions.newest[-1] == 2.0


def refuse(*_: object) -> None:
    raise AssertionError("a client was trained by the loop")


def test_clients_of_similar_size_are_trained_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopBackend, "_train_client", refuse)
    found = trainer(mlp, clients([9] * 20), backend=cohort)
    found.step(updates(list(range(20))))
    with pytest.raises(AssertionError, match="by the loop"):
        found.step(updates(list(range(7)), seed=1))


def test_clients_of_one_step_need_no_model_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopBackend, "_train_client", refuse)
    monkeypatch.setattr(CohortBackend, "_block", refuse)
    local = LocalSgd(learning_rate=0.1, epochs=1, batch_size=9)
    trainer(mlp, clients([9, 1, 4]), backend=cohort, local=local).step(updates([0, 1, 2]))


def test_large_models_are_trained_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    monkeypatch.setattr(
        LoopBackend, "_train_client", lambda _, update, *__: alone.append(int(update.client_ids[0])) or 0.0
    )
    monkeypatch.setattr(cohort_module, "BLOCK_PARAMETERS", 1000)
    large = trainer(mlp, clients([9] * 20), backend=cohort)
    large.step(updates(list(range(20))))
    assert alone == list(range(20))


def test_the_last_few_of_a_block_go_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    whole = CohortBackend._steps_together

    def seen(self: CohortBackend, *columns: Any) -> Any:
        together.append(len(columns[1]))
        return whole(self, *columns)

    monkeypatch.setattr(CohortBackend, "_steps_together", seen)
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=4)
    sizes = [40] + [9] * 5 + [6] * 6 + [3]
    found = trainer(mlp, clients(sizes), backend=cohort, local=local)
    found.step(updates(list(range(13))))
    assert together == [13, 12, 13, 12]  # two batches of each epoch; then six clients, then one


def peak_bytes(found: FederatedTrainer, n: int) -> int:
    """What torch holds at most during a step of the first ``n`` clients, by its own count of allocations."""
    promised = updates(list(range(n)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found.step(promised)
    held = peak = 0
    events = (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


WIDE = partial(Mlp, n_inputs=12, n_hidden=200, n_classes=3)  # nearly all of a client's memory are its models
NARROW = partial(Mlp, n_inputs=12, n_hidden=2, n_classes=3)  # here it is its examples


@pytest.mark.parametrize(
    ("model", "n_examples", "local"),
    [
        (WIDE, 9, LocalSgd(learning_rate=0.1, epochs=1, batch_size=4)),
        (WIDE, 9, FedProx(learning_rate=0.1, epochs=1, batch_size=4, mu=1.0)),
        (NARROW, 50, LocalSgd(learning_rate=0.1, epochs=1, batch_size=50)),  # one step: no model of their own
    ],
    ids=["blocks", "blocks with a step of their own", "one-step clients"],
)
def test_training_stays_within_the_memory_budget(model: Any, n_examples: int, local: LocalSgd) -> None:
    def peak(budget: int) -> int:
        backend = partial(CohortBackend, memory_budget_bytes=budget)
        return peak_bytes(trainer(model, clients([n_examples] * 100), local=local, backend=backend), 100)

    plenty = peak(10**9)
    for budget in (plenty // 2, plenty // 3):
        assert 0.15 * budget < peak(budget) <= budget


def run_bytes() -> bytes:
    found = trainer(mlp, clients(UNEQUAL), backend=cohort)
    walk(found)
    return found.versions.newest.numpy().tobytes()


def test_same_seed_gives_the_same_bytes() -> None:
    assert run_bytes() == run_bytes()


def test_memory_budget_must_be_positive() -> None:
    with pytest.raises(InputError, match=r"training\.backend\.memory_budget_bytes: 0"):
        trainer(mlp, clients([4]), backend=partial(CohortBackend, memory_budget_bytes=0))
