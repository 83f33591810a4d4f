"""SGD with momentum, decay and clipping, Adam, FedProx: against torch's own and against algebra, in every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsim.config.play import simulate
from fedsim.data.clients import ArrayClients
from fedsim.errors import InputError
from fedsim.training.algorithm.adam import LocalAdam
from fedsim.training.algorithm.fedprox import LocalFedProx
from fedsim.training.algorithm.local import LocalAlgorithm
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.schedule import Exponential
from tests.smoke import small
from tests.training.tasks import UNEQUAL, assert_same, clients, cohort, mlp, trainer, updates, walk

pytestmark = pytest.mark.slow

BACKENDS = {"loop": LoopBackend, "cohort": cohort}
WORK: dict[str, Any] = {"epochs": 3, "batch_size": 4}
ALGORITHMS = {
    "momentum": LocalSgd(**WORK, learning_rate=0.1, momentum=0.7),
    "decay": LocalSgd(**WORK, learning_rate=0.1, weight_decay=0.3),
    "clipped": LocalSgd(**WORK, learning_rate=0.3, clip_norm=0.2),
    "all of it": LocalSgd(**WORK, learning_rate=0.1, momentum=0.7, weight_decay=0.3, clip_norm=0.2),
    "adam": LocalAdam(**WORK, learning_rate=0.02, beta1=0.8, beta2=0.95, weight_decay=0.1),
    "fedprox": LocalFedProx(**WORK, learning_rate=0.1, mu=2.0, momentum=0.5),
    "scheduled": LocalAdam(**WORK, learning_rate=0.02, schedule=Exponential(halved_every_steps=2)),
    "scheduled sgd": LocalSgd(**WORK, learning_rate=0.1, schedule=Exponential(halved_every_steps=2)),
}


def torchs(local: LocalAlgorithm, model: nn.Module) -> torch.optim.Optimizer:
    """Torch's own optimiser with these settings."""
    if isinstance(local, LocalAdam):
        betas = (local.beta1, local.beta2)
        return torch.optim.Adam(
            model.parameters(), lr=local.learning_rate, betas=betas, eps=local.epsilon, weight_decay=local.weight_decay
        )
    assert isinstance(local, LocalSgd)
    return torch.optim.SGD(
        model.parameters(), lr=local.learning_rate, momentum=local.momentum, weight_decay=local.weight_decay
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["momentum", "decay", "clipped", "all of it", "adam"])
def test_it_is_what_torch_does(name: str, backend: str) -> None:
    """Nine clients alike, so that the cohort stacks them; each takes the steps of torch's optimiser."""
    local, data = ALGORITHMS[name], clients([11] * 9)
    found = trainer(mlp, data, local=local, backend=BACKENDS[backend])
    start, model, learner = found.versions.newest.clone(), found._learner.model, found._learner
    promised = updates(list(range(9)))
    result = found.step(promised)
    expected = torch.zeros_like(start)
    for row, order in enumerate(local.batches(np.full(9, 11), promised.seeds)):
        learner.layout.load(start)
        examples = data.fetch(promised.client_ids[row : row + 1])
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        optimizer = torchs(local, model)
        for batch in order:
            rows = torch.from_numpy(batch[batch >= 0])
            optimizer.zero_grad()
            learner.loss.per_example(model(x[rows]), y[rows]).mean().backward()
            if local.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), local.clip_norm)
            optimizer.step()
        expected += float(promised.weights[row]) * (learner.layout.flatten() - start)
    assert result.update_norm == pytest.approx(float(expected.norm()), rel=1e-5)
    assert (found.versions.newest - start - expected).abs().max() < 1e-6


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_is_the_same_in_a_stack_and_in_the_loop(name: str) -> None:
    together = trainer(mlp, clients(UNEQUAL), local=ALGORITHMS[name], backend=cohort)
    assert together.remarks == ()
    assert_same(together, trainer(mlp, clients(UNEQUAL), local=ALGORITHMS[name], backend=LoopBackend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_begins_anew_in_each_session(backend: str) -> None:
    """The same client twice in a step does the same twice: its momentum is not handed on."""
    data = clients([9] * 9)
    once, twice = (trainer(mlp, data, local=ALGORITHMS["momentum"], backend=BACKENDS[backend]) for _ in range(2))
    seeds = np.full(9, 5, dtype=np.uint64)
    norms = []
    for found, ids in ((once, list(range(9))), (twice, [3] * 9)):
        promised = updates(ids)
        norms.append(found.step(type(promised)(promised.client_ids, promised.versions, promised.weights, seeds)))
    assert norms[1].losses == pytest.approx([norms[1].losses[0]] * 9)  # type: ignore[index]
    assert norms[0].losses[3] == pytest.approx(norms[1].losses[0], rel=1e-5)  # type: ignore[index]


class Line(nn.Module):
    """One weight w, output w: with a squared loss a quadratic whose minimum is the label."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w.expand(len(x))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mu", [0.0, 0.5, 6.0])
def test_fedprox_stops_where_loss_and_pull_balance(backend: str, mu: float) -> None:
    """(w - 5)² + mu/2 (w - 1)²: least at (2·5 + mu·1) / (2 + mu)."""
    x, y = np.zeros((9, 1), dtype=np.float32), np.full(9, 5.0, dtype=np.float32)
    data = ArrayClients(x, y, order=np.arange(9), offsets=np.arange(10), held_out=(x, y))
    local = LocalFedProx(learning_rate=0.1, epochs=200, batch_size=1, mu=mu)
    found = trainer(
        Line, data, loss="squared_error", metrics=["mean_squared_error"], local=local, backend=BACKENDS[backend]
    )
    promised = updates(list(range(9)))
    found.step(promised)
    least = (2 * 5 + mu * 1) / (2 + mu)
    assert found.versions.newest.item() == pytest.approx(1 + promised.weights.sum() * (least - 1), rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_pull_fedprox_is_sgd(backend: str) -> None:
    prox, sgd = (
        trainer(mlp, clients(UNEQUAL), local=local, backend=BACKENDS[backend])
        for local in (LocalFedProx(**WORK, learning_rate=0.1, mu=0.0), LocalSgd(**WORK, learning_rate=0.1))
    )
    walk(prox), walk(sgd)
    assert (prox.versions.newest - sgd.versions.newest).abs().max() < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_client_trains_at_the_rate_of_the_version_it_downloaded(backend: str) -> None:
    local = LocalSgd(learning_rate=0.2, epochs=1, batch_size=4, schedule=Exponential(halved_every_steps=1))
    found = trainer(mlp, clients([4] * 20), local=local, backend=BACKENDS[backend], max_staleness=3)
    still = updates([0])
    for _ in range(2):  # two versions that are equal: nothing is learnt with a weight of 0
        found.step(type(still)(still.client_ids, still.versions, np.zeros(1), still.seeds))
    ids = np.arange(20)
    promised = updates(ids.tolist())
    norms = []
    for version in (0, 2):
        given = type(promised)(promised.client_ids, np.full(20, version), promised.weights, promised.seeds)
        found._advance = lambda direction: None  # type: ignore[method-assign]
        norms.append(found.step(given).update_norm)
    assert norms[1] == pytest.approx(norms[0] / 4, rel=1e-5)


def test_a_step_of_the_former_form_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        type("Former", (LocalSgd,), {"step": lambda self, parameters, gradients, start: parameters})
    assert str(refused.value) == (
        "Former.step takes: ['parameters', 'gradients', 'start'] (allowed: step(parameters, gradients, start, memory, "
        "rate), giving (parameters, memory); or gradient(parameters, gradients, start))"
    )


class Forgets(LocalSgd):
    """Gives back less than it was given to remember."""

    def step(self, parameters: Any, gradients: Any, start: Any, memory: Any, rate: Any) -> Any:
        return parameters, {}


class Bare(LocalSgd):
    """Gives the parameters alone."""

    def step(self, parameters: Any, gradients: Any, start: Any, memory: Any, rate: Any) -> Any:
        return parameters


@pytest.mark.parametrize(
    ("local", "message"),
    [
        (Forgets(**WORK, learning_rate=0.1, momentum=0.5), r"Forgets\.step gives memory of other names or shapes"),
        (Bare(**WORK, learning_rate=0.1), r"Bare\.step gives: 'dict' .allowed: \(parameters, memory\)"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_step_must_give(local: LocalAlgorithm, message: str, backend: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(mlp, clients([4]), local=local, backend=BACKENDS[backend])


@pytest.mark.parametrize("training", ["cohort", "loop"])
def test_by_their_yaml(training: str, tmp_path: Path) -> None:
    asked = [f"training={training}", "fleet.n_devices=3000", "server.report_goal=20", "stop.max_steps=4"]
    asked += ["training.server_optimizer.learning_rate=1.0"]
    norms = {}
    for name, more in {
        "sgd": [], "adam": ["training/local=adam"], "fedprox": ["training/local=fedprox", "training.local.mu=30"],
        "cosine": ["+training/schedule@training.local.schedule=cosine", "training.local.schedule.n_steps=4"],
    }.items():  # fmt: skip
        run = simulate(*small([*asked, *more]), folder=tmp_path / name)
        norms[name] = run.steps["update_norm"].tolist()
    assert norms["fedprox"][0] < norms["sgd"][0] != norms["adam"][0]
    assert norms["cosine"][0] == pytest.approx(norms["sgd"][0], rel=1e-6)  # version 0 trains at the whole rate
    assert norms["cosine"][3] < 0.5 * norms["sgd"][3]
