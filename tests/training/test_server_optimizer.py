"""Two steps of each optimiser, computed by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedsim.errors import InputError
from fedsim.training.schedule import Exponential, Schedule
from fedsim.training.server_optimizer import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi, ServerOptimizer

DIRECTIONS = ([1.0, -2.0], [0.5, 0.0])


def walk(optimizer: ServerOptimizer) -> list[list[float]]:
    parameters = torch.tensor([10.0, 20.0])
    places = []
    for direction in DIRECTIONS:
        optimizer.step(parameters, torch.tensor(direction))
        places.append(parameters.tolist())
    return places


def test_fedavg_moves_along_the_direction() -> None:
    assert walk(FedAvg()) == [[11.0, 18.0], [11.5, 18.0]]
    assert walk(FedAvg(learning_rate=0.5)) == [[10.5, 19.0], [10.75, 19.0]]


def test_momentum_goes_on() -> None:
    # m: (1, -2), then 0.5 · (1, -2) + (0.5, 0) = (1, -1)
    assert walk(FedAvgM(learning_rate=1.0, momentum=0.5)) == [[11.0, 18.0], [12.0, 17.0]]


def test_adam_scales_each_coordinate() -> None:
    # β₁ = 0.5, β₂ = 0.75, ε = 2: v starts at 4
    # step 1: m = (0.5, -1), v = 0.75·4 + 0.25·(1, 4) = (3.25, 4)
    # step 2: m = (0.5, -0.5), v = 0.75·(3.25, 4) + 0.25·(0.25, 0) = (2.5, 3)
    first = [10 + 0.5 / (3.25**0.5 + 2), 20 - 1 / (4**0.5 + 2)]
    second = [first[0] + 0.5 / (2.5**0.5 + 2), first[1] - 0.5 / (3**0.5 + 2)]
    places = walk(FedAdam(learning_rate=1.0, beta1=0.5, beta2=0.75, epsilon=2.0))
    assert places[0] == pytest.approx(first)
    assert places[1] == pytest.approx(second)


def by_the_paper(kind: str, directions: np.ndarray, *, rate: float, beta1: float, beta2: float, tau: float) -> list:
    """Algorithm 2 of Reddi et al. 2021, line by line."""
    x, m, v, places = np.zeros(3), np.zeros(3), np.full(3, tau**2), []
    for delta in directions:
        m = beta1 * m + (1 - beta1) * delta
        if kind == "adagrad":
            v = v + delta**2
        elif kind == "yogi":
            v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        else:
            v = beta2 * v + (1 - beta2) * delta**2
        x = x + rate * m / (np.sqrt(v) + tau)
        places.append(x.tolist())
    return places


@pytest.mark.parametrize("kind", ["adagrad", "adam", "yogi"])
def test_adaptive_ones_are_the_papers_algorithm(kind: str) -> None:
    directions = np.random.default_rng(4).normal(scale=[0.01, 1.0, 30.0], size=(12, 3))
    numbers = {"learning_rate": 0.3, "beta1": 0.6, "epsilon": 0.2}
    made: ServerOptimizer = {
        "adagrad": lambda: FedAdagrad(**numbers),
        "adam": lambda: FedAdam(**numbers, beta2=0.8),
        "yogi": lambda: FedYogi(**numbers, beta2=0.8),
    }[kind]()
    parameters, places = torch.zeros(3, dtype=torch.float64), []
    for direction in directions:
        made.step(parameters, torch.from_numpy(direction))
        places.append(parameters.tolist())
    expected = by_the_paper(kind, directions, rate=0.3, beta1=0.6, beta2=0.8, tau=0.2)
    assert np.array(places) == pytest.approx(np.array(expected), rel=1e-10)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda schedule: FedAvg(learning_rate=0.8, schedule=schedule),
        lambda schedule: FedAvgM(learning_rate=0.8, momentum=0.0, schedule=schedule),
        lambda schedule: FedYogi(learning_rate=0.8, beta1=0.0, beta2=0.0, epsilon=1e-9, schedule=schedule),
    ],
)
def test_a_schedule_counts_the_steps(optimizer: Callable[[Schedule], ServerOptimizer]) -> None:
    made, parameters = optimizer(Exponential(halved_every_steps=2)), torch.zeros(1)
    for _ in range(3):
        made.step(parameters, torch.ones(1))
    assert parameters.item() == pytest.approx(0.8 * (1 + 0.5**0.5 + 0.5), rel=1e-5)


def test_direction_is_left_alone() -> None:
    direction = torch.tensor([1.0, 2.0])
    for optimizer in (FedAvg(), FedAvgM(learning_rate=1.0, momentum=0.9)):
        optimizer.step(torch.zeros(2), direction)
        optimizer.step(torch.zeros(2), direction)
    assert direction.tolist() == [1.0, 2.0]


def test_bad_numbers() -> None:
    with pytest.raises(InputError, match="learning_rate of the server optimiser: -1"):
        FedAvg(learning_rate=-1)
    with pytest.raises(InputError, match=r"momentum of the server optimiser: 1\.0 \(allowed: 0 to below 1\)"):
        FedAvgM(learning_rate=1.0, momentum=1.0)
    with pytest.raises(InputError, match="beta2 of the server optimiser: 1"):
        FedAdam(learning_rate=1.0, beta1=0.9, beta2=1, epsilon=1e-3)
    with pytest.raises(InputError, match="epsilon of the server optimiser: 0"):
        FedAdam(learning_rate=1.0, beta1=0.9, beta2=0.9, epsilon=0)
