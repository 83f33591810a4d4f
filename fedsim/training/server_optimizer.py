"""Server optimisers: what the server does with the aggregated direction Σ cᵢ Δᵢ (Reddi et al., ICLR 2021).

Each works in place on a flat float32 vector and keeps its own state between steps.
"""

from __future__ import annotations

from typing import Protocol

import torch

from fedsim.errors import InputError
from fedsim.ranges import Fraction, LearningRate, Positive


class ServerOptimizer(Protocol):
    """Moves the parameters along the aggregated direction."""

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Change ``parameters`` (float32[n]) in place; ``direction`` points where they should go."""


class FedAvg:
    """``w ← w + learning_rate · d``; at 1.0 the plain average of McMahan et al. 2017."""

    def __init__(self, *, learning_rate: LearningRate = 1.0) -> None:
        self.learning_rate = _positive("learning_rate", learning_rate)

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the direction."""
        parameters.add_(direction, alpha=self.learning_rate)


class FedAvgM:
    """Momentum: ``m ← momentum · m + d``, ``w ← w + learning_rate · m`` (Hsu et al. 2019)."""

    def __init__(self, *, learning_rate: LearningRate, momentum: Fraction) -> None:
        self.learning_rate = _positive("learning_rate", learning_rate)
        self.momentum = _fraction("momentum", momentum)
        self._velocity: torch.Tensor | None = None

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the running sum of directions."""
        if self._velocity is None:
            self._velocity = torch.zeros_like(parameters)
        self._velocity.mul_(self.momentum).add_(direction)
        parameters.add_(self._velocity, alpha=self.learning_rate)


class FedAdam:
    """``m ← β₁m + (1-β₁)d``, ``v ← β₂v + (1-β₂)d²``, ``w ← w + learning_rate · m / (√v + ε)``.

    As in Reddi et al. 2021 (algorithm 2) without bias correction; ``epsilon`` is their τ and v
    starts at τ².
    """

    def __init__(self, *, learning_rate: LearningRate, beta1: Fraction, beta2: Fraction, epsilon: Positive) -> None:
        self.learning_rate = _positive("learning_rate", learning_rate)
        self.beta1 = _fraction("beta1", beta1)
        self.beta2 = _fraction("beta2", beta2)
        self.epsilon = _positive("epsilon", epsilon)
        self._moments: tuple[torch.Tensor, torch.Tensor] | None = None

    def step(self, parameters: torch.Tensor, direction: torch.Tensor) -> None:
        """Move along the running mean, scaled by the running root mean square of each coordinate."""
        if self._moments is None:
            self._moments = torch.zeros_like(parameters), torch.full_like(parameters, self.epsilon**2)
        first, second = self._moments
        first.mul_(self.beta1).add_(direction, alpha=1 - self.beta1)
        second.mul_(self.beta2).addcmul_(direction, direction, value=1 - self.beta2)
        parameters.addcdiv_(first, second.sqrt().add_(self.epsilon), value=self.learning_rate)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name} of the server optimiser", value=value, allowed="> 0")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"{name} of the server optimiser", value=value, allowed="0 to below 1")
    return value
