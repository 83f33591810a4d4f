"""Server optimisers: what the server does with the aggregated direction Σ cᵢ Δᵢ (Reddi et al., ICLR 2021).

Each works in place on a flat float32 vector and keeps its own state between steps.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from fedsim.errors import InputError
from fedsim.ranges import Fraction, LearningRate, Positive
from fedsim.training.schedule import Schedule


class ServerOptimizer(Protocol):
    """Moves the parameters along the aggregated direction."""

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Change ``parameters`` (float32[n]) in place; ``direction`` points where they should go."""


class _Rate:
    """The server's learning rate of now: times the factor of a schedule, which counts the steps."""

    def __init__(self, learning_rate: float, schedule: Schedule | None) -> None:
        self._learning_rate, self._schedule = _positive("learning_rate", learning_rate), schedule
        self._n_steps = 0

    def next(self) -> float:
        """Of the step that is taken now."""
        version = np.array([self._n_steps])
        self._n_steps += 1
        factor = 1.0 if self._schedule is None else float(self._schedule.factor(version)[0])
        return self._learning_rate * factor


class FedAvg:
    """``w ← w + learning_rate · d``; at 1.0 the plain average of McMahan et al. 2017."""

    def __init__(self, *, learning_rate: LearningRate = 1.0, schedule: Schedule | None = None) -> None:
        self._rate = _Rate(learning_rate, schedule)

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the direction."""
        parameters.add_(direction, alpha=self._rate.next())


class FedAvgM:
    """Momentum: ``m ← momentum · m + d``, ``w ← w + learning_rate · m`` (Hsu et al. 2019)."""

    def __init__(self, *, learning_rate: LearningRate, momentum: Fraction, schedule: Schedule | None = None) -> None:
        self._rate, self.momentum = _Rate(learning_rate, schedule), _fraction("momentum", momentum)
        self._velocity: torch.Tensor | None = None

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the running sum of directions."""
        if self._velocity is None:
            self._velocity = torch.zeros_like(parameters)
        self._velocity.mul_(self.momentum).add_(direction)
        parameters.add_(self._velocity, alpha=self._rate.next())


class _Adaptive:
    """``m ← β₁m + (1-β₁)d``, v by the kind, ``w ← w + learning_rate · m / (√v + ε)``.

    As in Reddi et al. 2021 (algorithm 2) without bias correction; ``epsilon`` is their τ and v starts at τ².
    """

    def __init__(
        self, *, learning_rate: LearningRate, beta1: Fraction, epsilon: Positive, schedule: Schedule | None = None
    ) -> None:
        self._rate, self.beta1 = _Rate(learning_rate, schedule), _fraction("beta1", beta1)
        self.epsilon = _positive("epsilon", epsilon)
        self._moments: tuple[torch.Tensor, torch.Tensor] | None = None

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the running mean, scaled by the root of what ``v`` keeps of each coordinate's squares."""
        if self._moments is None:
            self._moments = torch.zeros_like(parameters), torch.full_like(parameters, self.epsilon**2)
        first, second = self._moments
        first.mul_(self.beta1).add_(direction, alpha=1 - self.beta1)
        self._add_squares(second, direction)
        parameters.addcdiv_(first, second.sqrt().add_(self.epsilon), value=self._rate.next())

    def _add_squares(self, second: torch.Tensor, direction: torch.Tensor) -> None:
        """Change v in place."""
        raise NotImplementedError


class FedAdagrad(_Adaptive):
    """Adaptive with ``v ← v + d²``: coordinates that have moved much move less from then on (Reddi et al. 2021)."""

    def _add_squares(self, second: torch.Tensor, direction: torch.Tensor) -> None:
        second.addcmul_(direction, direction)


class FedAdam(_Adaptive):
    """Adaptive with ``v ← β₂v + (1-β₂)d²`` (Reddi et al. 2021)."""

    def __init__(
        self, *, learning_rate: LearningRate, beta1: Fraction, beta2: Fraction, epsilon: Positive,
        schedule: Schedule | None = None,
    ) -> None:  # fmt: skip
        super().__init__(learning_rate=learning_rate, beta1=beta1, epsilon=epsilon, schedule=schedule)
        self.beta2 = _fraction("beta2", beta2)

    def _add_squares(self, second: torch.Tensor, direction: torch.Tensor) -> None:
        second.mul_(self.beta2).addcmul_(direction, direction, value=1 - self.beta2)


class FedYogi(FedAdam):
    """Adaptive with ``v ← v - (1-β₂) d² sign(v - d²)``: v goes down slowly (Reddi et al. 2021)."""

    def _add_squares(self, second: torch.Tensor, direction: torch.Tensor) -> None:
        squares = direction.square()
        second.addcmul_(squares, torch.sign(second - squares), value=self.beta2 - 1)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name} of the server optimiser", value=value, allowed="> 0")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"{name} of the server optimiser", value=value, allowed="0 to below 1")
    return value
