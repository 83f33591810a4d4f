"""Adam on a client. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedsim.ranges import Fraction, Positive
from fedsim.training.algorithm.local import LocalAlgorithm, Tensors

_N_STEPS = " steps"  # no parameter's name
_SECOND = " second of "


@dataclass(frozen=True, kw_only=True)
class LocalAdam(LocalAlgorithm):
    """Adam with bias correction (Kingma and Ba 2015), as torch.optim.Adam; both moments begin anew in each session."""

    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8

    def memory(self, parameters: Tensors) -> Tensors:
        """Both moments of each parameter, and the number of steps."""
        zeros = {name: value.new_zeros(value.shape) for name, value in parameters.items()}
        second = {_SECOND + name: value.new_zeros(value.shape) for name, value in parameters.items()}
        return {**zeros, **second, _N_STEPS: next(iter(parameters.values())).new_zeros(())}

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        """Against the running mean, scaled by the running root mean square of each coordinate."""
        n = memory[_N_STEPS] + 1
        kept, after = {_N_STEPS: n}, {}
        for name, gradient in self.followed(parameters, gradients, start).items():
            first = self.beta1 * memory[name] + (1 - self.beta1) * gradient
            second = self.beta2 * memory[_SECOND + name] + (1 - self.beta2) * gradient.square()
            kept |= {name: first, _SECOND + name: second}
            root = (second / (1 - self.beta2**n)).sqrt() + self.epsilon
            after[name] = parameters[name] - rate / (1 - self.beta1**n) * first / root
        return after, kept
