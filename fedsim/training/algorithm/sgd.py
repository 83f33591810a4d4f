"""Stochastic gradient descent on a client, plain or with momentum. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedsim.ranges import Fraction
from fedsim.training.algorithm.local import LocalAlgorithm, Tensors, moved


@dataclass(frozen=True, kw_only=True)
class LocalSgd(LocalAlgorithm):
    """Each step goes against the gradient of its batch's mean loss (McMahan et al. 2017).

    With ``momentum`` against its running sum, ``v ← momentum · v + g``, which begins anew in each session.
    """

    momentum: Fraction = 0.0

    def memory(self, parameters: Tensors) -> Tensors:
        """The running sum, where there is momentum."""
        return {name: value.new_zeros(value.shape) for name, value in parameters.items()} if self.momentum else {}

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        """Against the gradient, or the running sum."""
        along = self.followed(parameters, gradients, start)
        if self.momentum:
            along = memory = {name: self.momentum * memory[name] + value for name, value in along.items()}
        return {name: moved(value, rate, along[name]) for name, value in parameters.items()}, memory

    @property
    def is_plain(self) -> bool:
        """Whether steps are those of plain SGD."""
        is_written = type(self).step is LocalSgd.step and type(self).gradient is LocalAlgorithm.gradient
        is_written &= type(self).memory is LocalSgd.memory and type(self).followed is LocalAlgorithm.followed
        return is_written and not self.momentum and not self.weight_decay and self.clip_norm is None
