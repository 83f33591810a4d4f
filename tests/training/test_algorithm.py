"""Local algorithms: plain SGD, and own ones, which every backend calls."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsim import rng
from fedsim.config.simulation import build_simulation
from fedsim.data.clients import ArrayClients
from fedsim.errors import InputError
from fedsim.training.algorithm.local import Tensors
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend.cohort import CohortBackend
from fedsim.training.backend.learner import Backend, Learner
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.backend.steps import step_of
from fedsim.training.local import LocalWork
from fedsim.training.server import FederatedTrainer
from fedsim.training.trainer import Updates
from tests.smoke import composed
from tests.training.tasks import (
    UNEQUAL,
    FedProx,
    Mlp,
    Same,
    assert_same,
    clients,
    cohort,
    logistic,
    mlp,
    trainer,
    updates,
    walk,
)  # fmt: skip

pytestmark = pytest.mark.slow

BACKENDS = {"loop": LoopBackend, "cohort": cohort}
SGD: dict[str, Any] = {"learning_rate": 0.1, "epochs": 2, "batch_size": 4}


class Clipped(LocalSgd):
    """The gradient of each client, over all its parameters, is at most 0.3 long."""

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        norm = sum(gradient.square().sum() for gradient in gradients.values()).sqrt()
        scale = (0.3 / norm).clamp(max=1.0)
        return super().step(
            parameters, {name: scale * gradient for name, gradient in gradients.items()}, start, memory, rate
        )


class Still(LocalSgd):
    """Nothing is learnt."""

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        return start, memory


class Branching(LocalSgd):
    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        is_steep = gradients["output.bias"].norm() > 0.1
        return super().step(parameters, gradients, start, memory, rate) if is_steep else (start, memory)


class Noisy(LocalSgd):
    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        noisy = {name: gradient + torch.randn_like(gradient) for name, gradient in gradients.items()}
        return super().step(parameters, noisy, start, memory, rate)


class Listing(LocalSgd):
    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        return {name: torch.tensor(value.tolist()) for name, value in parameters.items()}, memory


class Forgetful(LocalSgd):
    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        return {"output.bias": parameters["output.bias"]}, memory


class Summing(LocalSgd):
    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        return {name: value.sum() for name, value in parameters.items()}, memory


class Plane(nn.Module):
    """Two weights, logit w · x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w


def trained(local: LocalSgd, backend: Any) -> FederatedTrainer:
    return trainer(mlp, clients(UNEQUAL), local=local, backend=backend)


def by_hand(x: Any, y: Any, order: Any, *, learning_rate: float, mu: float) -> Any:
    """Steps on one example each: w = 0 at first, gradient (σ(w · x) - y) x, then pulled back to 0."""
    w = np.zeros(2)
    for i in order:
        gradient = (1 / (1 + np.exp(-w @ x[i])) - y[i]) * x[i]
        w = (w - learning_rate * gradient) / (1 + learning_rate * mu)
    return w


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_proximal_step_by_hand(backend: str) -> None:
    x, y = np.array([[1.0, 2.0], [3.0, -1.0]], dtype=np.float32), np.array([1, 0])
    data = ArrayClients(
        np.tile(x, (9, 1)), np.tile(y, 9), order=np.arange(18), offsets=np.arange(0, 20, 2), held_out=(x, y)
    )  # nine alike, so that the cohort stacks them
    local = FedProx(learning_rate=0.5, epochs=1, batch_size=1, mu=3.0)
    found = trainer(Plane, data, loss="binary_cross_entropy", local=local, backend=BACKENDS[backend])
    promised = updates(list(range(9)))
    found.step(promised)
    orders = local.batches(np.full(9, 2), promised.seeds)[:, :, 0]
    each = [by_hand(x, y, order, learning_rate=0.5, mu=3.0) for order in orders]
    assert found.versions.newest.tolist() == pytest.approx(promised.weights @ each, abs=1e-6)
    first_step_is_example_0 = [0.5 * 0.5 * 1 / 2.5, 0.5 * 0.5 * 2 / 2.5]
    assert by_hand(x, y, [0], learning_rate=0.5, mu=3.0) == pytest.approx(first_step_is_example_0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_pull_the_proximal_step_is_plain_sgd(backend: str) -> None:
    prox, plain = trained(FedProx(**SGD, mu=0.0), BACKENDS[backend]), trained(LocalSgd(**SGD), BACKENDS[backend])
    walk(prox), walk(plain)
    assert (prox.versions.newest - plain.versions.newest).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_stronger_the_pull_the_less_is_learnt(backend: str) -> None:
    norms = [walk(trained(FedProx(**SGD, mu=mu), BACKENDS[backend]))[0].update_norm for mu in (0, 1, 10, 1000, 1e9)]
    assert norms == sorted(norms, reverse=True)
    assert norms[1] < 0.95 * norms[0]
    assert norms[-1] < 1e-6 < norms[0]


@pytest.mark.parametrize("local", [FedProx(**SGD, mu=2.0), Clipped(**SGD), Same(**SGD)], ids=lambda o: type(o).__name__)
def test_an_own_step_gives_the_same_in_a_stack_and_in_the_loop(local: LocalSgd) -> None:
    assert_same(trained(local, cohort), trained(local, LoopBackend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_stands_in_for_plain_sgd_is_the_step_that_is_written(backend: str) -> None:
    assert LocalSgd(**SGD).is_plain and not Same(**SGD).is_plain
    assert_same(trained(LocalSgd(**SGD), BACKENDS[backend]), trained(Same(**SGD), BACKENDS[backend]))


def test_in_place_steps_are_the_written_one_to_the_last_bit() -> None:
    draws = torch.Generator().manual_seed(0)
    now, gradients = ({"w": torch.randn(1000, generator=draws)} for _ in range(2))
    written = LocalSgd(**SGD).step(now, gradients, now, {}, 0.1)[0]["w"]
    step_of(LocalSgd(**SGD), is_stacked=False)(now, gradients, {}, {}, 0.1)
    assert torch.equal(now["w"], written)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [3, 20])
def test_clients_of_one_step_take_their_own_step(backend: str, n: int) -> None:
    data = clients([3] * n)
    found = trainer(mlp, data, local=Still(learning_rate=0.1, epochs=1, batch_size=3), backend=BACKENDS[backend])
    assert found.step(updates(list(range(n)))).update_norm == 0.0


def test_every_step_of_every_client_is_asked_of_the_algorithm() -> None:
    calls: list[int] = []

    class Counting(Same):
        def step(
            self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
        ) -> tuple[Tensors, Tensors]:
            calls.append(1)
            return super().step(parameters, gradients, start, memory, rate)

    found = trainer(logistic, clients([9, 4]), local=Counting(**SGD))
    calls.clear()
    found.step(updates([0, 1]))
    assert len(calls) == 2 * 3 + 2 * 1


@pytest.mark.parametrize("algorithm", [Branching, Noisy, Listing])
def test_a_step_that_cannot_be_batched_is_taken_one_client_after_the_other(algorithm: type[LocalSgd]) -> None:
    found, expected = trained(algorithm(**SGD), cohort), trained(algorithm(**SGD), LoopBackend)
    (line,) = found.remarks
    told = f"model Mlp is trained one client after the other: step of {algorithm.__name__} cannot be stacked ("
    assert line.startswith(told) and "\n" not in line
    walk(found), walk(expected)
    assert torch.equal(found.versions.newest, expected.versions.newest)


class Drawing(LocalSgd):
    """Noise that vmap does not see: in a stack all clients would be given the same."""

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        noise = float(np.random.default_rng().normal())
        return super().step(
            parameters, {name: gradient + noise for name, gradient in gradients.items()}, start, memory, rate
        )


def test_a_step_that_is_another_one_in_a_stack_is_taken_one_client_after_the_other() -> None:
    (line,) = trained(Drawing(**SGD), cohort).remarks
    assert line.endswith("step of Drawing differs in a stack")
    assert trained(FedProx(**SGD, mu=2.0), cohort).remarks == ()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("algorithm", [Forgetful, Summing])
def test_a_step_must_give_back_every_parameter(algorithm: type[LocalSgd], backend: str) -> None:
    with pytest.raises(InputError, match=rf"^{algorithm.__name__}\.step gives parameters of other names or shapes: "):
        trained(algorithm(**SGD), BACKENDS[backend])


def test_local_work_without_a_step_is_refused() -> None:
    with pytest.raises(InputError, match=r"training\.local has no step: 'LocalWork' .allowed: a subclass of"):
        trainer(mlp, clients([4]), local=LocalWork(epochs=1, batch_size=4))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["n_steps", "batches"])
def test_the_plan_that_device_time_follows_cannot_be_changed(name: str) -> None:
    with pytest.raises(InputError, match=rf"local work plans steps of its own: 'Short\.{name}'"):
        type("Short", (LocalSgd,), {name: lambda self, *_: np.array([1])})


def test_a_backend_is_given_what_is_trained() -> None:
    given: list[Learner] = []

    def backend(learner: Learner) -> Backend:
        given.append(learner)
        return CohortBackend(learner, memory_budget_bytes=10**8)

    local = LocalSgd(**SGD)
    found = trainer(mlp, clients([4, 4]), local=local, backend=backend)
    found.step(updates([0, 1]))
    assert len(given) == 1
    assert given[0].local is local and isinstance(given[0].model, Mlp)
    assert given[0].layout.n_parameters == found.n_parameters


class ChangesStart(LocalSgd):
    """Moves the downloaded model, from which other clients start."""

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        for name, value in start.items():
            value.sub_(gradients[name])
        return super().step(parameters, gradients, start, memory, rate)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_changes_what_was_downloaded_is_refused(backend: str) -> None:
    with pytest.raises(InputError, match=r"^ChangesStart\.step changes start in place \(allowed: new tensors\)$"):
        trained(ChangesStart(**SGD), BACKENDS[backend])


def test_a_fixed_number_of_steps_is_trained_alike_one_by_one_and_together() -> None:
    """Clients of different sizes that take five steps each, over and again through what they have."""
    values = {}
    for kind in ("loop", "cohort"):
        parts = build_simulation(
            composed(
                [f"training={kind}", "training.local.local_steps=5", "training.local.batch_size=7", "report=false"]
            )
        )
        trainer = parts.task.trainer()
        ids = np.arange(24)
        n = len(ids)
        result = trainer.step(Updates(ids, np.zeros(n, dtype=np.int64), np.full(n, 1 / n), rng.bits(0, "x", ids)))
        values[kind] = (result.train_loss, result.update_norm)
    assert values["loop"] == pytest.approx(values["cohort"], rel=1e-5)
