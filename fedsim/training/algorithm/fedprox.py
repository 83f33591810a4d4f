"""FedProx: local work that is held to the model it began with. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from fedsim.ranges import NotNegative
from fedsim.training.algorithm.local import Tensors
from fedsim.training.algorithm.sgd import LocalSgd


@dataclass(frozen=True, kw_only=True)
class LocalFedProx(LocalSgd):
    """SGD on the loss plus ``mu / 2 · |w - w₀|²``, w₀ the downloaded model (Li et al. 2020); mu 0 is SGD."""

    mu: NotNegative

    def gradient(self, parameters: Tensors, gradients: Tensors, start: Tensors) -> Tensors:
        """Of the loss, and the pull towards the downloaded model."""
        return {name: value + self.mu * (parameters[name] - start[name]) for name, value in gradients.items()}
