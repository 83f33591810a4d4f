"""The cohort trainer gives what the loop gives, however the clients are cut into blocks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedsim.errors import InputError
from fedsim.training import cohort
from fedsim.training.cohort import CohortTrainer
from fedsim.training.local import LocalSgd
from fedsim.training.loop import LoopTrainer
from fedsim.training.server_optimizer import FedAdam
from fedsim.training.trainer import StepResult
from tests.training.tasks import UNEQUAL, Convolution, click_model, clients, logistic, mlp, trainer, updates

PLENTY = 10**8
TASKS: dict[str, dict[str, Any]] = {
    "logistic": {"model": logistic, "data": clients(UNEQUAL)},
    "mlp": {"model": mlp, "data": clients(UNEQUAL)},
    "convolution": {"model": Convolution, "data": clients(UNEQUAL, picture=True)},
    "clicks": {"model": click_model, "data": clients(UNEQUAL, ids=True), "loss": "binary_cross_entropy"},
}
EVERYBODY = [*range(32), 3, 11]  # two clients are asked twice


def walk(found: LoopTrainer) -> list[StepResult]:
    """Three steps of everybody, each from one of the versions still kept."""
    return [
        found.step(updates(EVERYBODY, [max(0, step - i % 3) for i in range(len(EVERYBODY))], seed=step))
        for step in range(3)
    ]


def assert_same(one: LoopTrainer, other: LoopTrainer) -> None:
    for result, expected in zip(walk(one), walk(other), strict=True):
        assert result.losses == pytest.approx(expected.losses, abs=1e-5)
        assert result.train_loss == pytest.approx(expected.train_loss, abs=1e-6)
        assert result.update_norm == pytest.approx(expected.update_norm, abs=1e-5)
    assert (one.versions.newest - other.versions.newest).abs().max() < 1e-5
    assert (one.versions.newest - one.versions.get(0)).abs().max() > 0.01  # something was learnt


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("epochs", [1, 3])
def test_cohort_equals_loop(task: str, epochs: int) -> None:
    local = LocalSgd(learning_rate=0.1, epochs=epochs, batch_size=4)
    options = {**TASKS[task], "local": local}
    assert_same(trainer(kind=CohortTrainer, memory_budget_bytes=PLENTY, **options), trainer(**options))


@pytest.mark.slow
@pytest.mark.parametrize("memory_budget_bytes", [1, 30_000, 100_000])
def test_any_memory_budget_gives_the_same(memory_budget_bytes: int) -> None:
    tight = trainer(mlp, clients(UNEQUAL), kind=CohortTrainer, memory_budget_bytes=memory_budget_bytes)
    assert_same(tight, trainer(mlp, clients(UNEQUAL)))


def test_any_server_optimiser_gives_the_same() -> None:
    def options() -> dict[str, Any]:
        return {"server_optimizer": FedAdam(learning_rate=0.01, beta1=0.9, beta2=0.99, epsilon=1e-3)}

    one = trainer(mlp, clients(UNEQUAL), kind=CohortTrainer, memory_budget_bytes=PLENTY, **options())
    assert_same(one, trainer(mlp, clients(UNEQUAL), **options()))


def test_frozen_parameters_and_constant_buffers_stay() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0]))
            self.frozen, self.output = nn.Linear(12, 9).requires_grad_(False), nn.Linear(9, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.output(torch.relu(self.frozen(x * self.scale)))  # type: ignore[no-any-return, operator]

    found = trainer(Scaled, clients(UNEQUAL), kind=CohortTrainer, memory_budget_bytes=PLENTY)
    assert_same(found, trainer(Scaled, clients(UNEQUAL)))
    assert found.versions.newest[-1] == 2.0


def refuse(*_: object) -> None:
    raise AssertionError("a client was trained by the loop")


def test_clients_of_similar_size_are_trained_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopTrainer, "_train_client", refuse)
    found = trainer(mlp, clients([9] * 20), kind=CohortTrainer, memory_budget_bytes=PLENTY)
    found.step(updates(list(range(20))))
    with pytest.raises(AssertionError, match="by the loop"):
        found.step(updates(list(range(7)), seed=1))


def test_clients_of_one_step_need_no_model_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopTrainer, "_train_client", refuse)
    monkeypatch.setattr(CohortTrainer, "_block", refuse)
    local = LocalSgd(learning_rate=0.1, epochs=1, batch_size=9)
    trainer(mlp, clients([9, 1, 4]), kind=CohortTrainer, local=local, memory_budget_bytes=PLENTY).step(
        updates([0, 1, 2])
    )


def test_large_models_are_trained_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    monkeypatch.setattr(LoopTrainer, "_train_client", lambda _, ids, __: alone.append(int(ids[0])) or 0.0)
    monkeypatch.setattr(cohort, "BLOCK_PARAMETERS", 1000)
    large = trainer(mlp, clients([9] * 20), kind=CohortTrainer, memory_budget_bytes=PLENTY)
    large.step(updates(list(range(20))))
    assert alone == list(range(20))


def test_the_last_few_of_a_block_go_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    whole = CohortTrainer._steps_together

    def seen(self: CohortTrainer, *columns: Any) -> Any:
        together.append(len(columns[3]))
        return whole(self, *columns)

    monkeypatch.setattr(CohortTrainer, "_steps_together", seen)
    local = LocalSgd(learning_rate=0.1, epochs=2, batch_size=4)
    sizes = [40] + [9] * 5 + [6] * 6 + [3]
    found = trainer(mlp, clients(sizes), kind=CohortTrainer, local=local, memory_budget_bytes=PLENTY)
    found.step(updates(list(range(13))))
    assert together == [13, 12, 13, 12]  # two batches of each epoch; then six clients, then one


def test_blocks_stay_within_the_memory_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    whole = CohortTrainer._block

    def seen(self: CohortTrainer, one: Any, n_examples: Any, direction: Any) -> Any:
        sizes.append((len(one), int(n_examples.sum())))
        return whole(self, one, n_examples, direction)

    monkeypatch.setattr(CohortTrainer, "_block", seen)
    budget = 60_000
    found = trainer(mlp, clients([9] * 100), kind=CohortTrainer, memory_budget_bytes=budget)
    assert isinstance(found, CohortTrainer)
    found.step(updates(list(range(100))))
    used = [n * found._model_bytes + examples * found._example_bytes for n, examples in sizes]
    assert len(sizes) > 2
    assert max(used) <= budget
    assert max(used) > 0.8 * budget


def run_bytes() -> bytes:
    found = trainer(mlp, clients(UNEQUAL), kind=CohortTrainer, memory_budget_bytes=PLENTY)
    walk(found)
    return found.versions.newest.numpy().tobytes()


def test_same_seed_gives_the_same_bytes() -> None:
    assert run_bytes() == run_bytes()


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x + torch.rand_like(x))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.output = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.cell(x.unsqueeze(2))[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (lambda: nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.1)), r"module '1' \(Dropout\)"),
        (lambda: nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 3)), r"module '0' \(BatchNorm1d\)"),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(12, track_running_stats=False), nn.Linear(12, 3)),
            r"module '0' \(BatchNorm1d\)",
        ),
        (Recurrent, r"module 'cell' \(LSTM\)"),
        (Noise, "model Noise cannot be trained by the cohort trainer"),
    ],
)
def test_what_cannot_be_stacked_is_refused_and_the_loop_takes_it(model: Callable[[], nn.Module], name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.*allowed: trainer: loop"):
        trainer(model, clients([4]), kind=CohortTrainer, memory_budget_bytes=PLENTY)
    trainer(model, clients([4])).step(updates([0]))


def test_dropout_that_never_drops_is_taken() -> None:
    idle = lambda: nn.Sequential(nn.Dropout(0.0), nn.Linear(12, 3))  # noqa: E731
    trainer(idle, clients([9] * 9), kind=CohortTrainer, memory_budget_bytes=PLENTY).step(updates(list(range(9))))


def test_memory_budget_must_be_positive() -> None:
    with pytest.raises(InputError, match="memory_budget_bytes: 0"):
        trainer(mlp, clients([4]), kind=CohortTrainer, memory_budget_bytes=0)
