"""What one client does with its batches: plain SGD, from which own algorithms are made. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedsim.ranges import LearningRate
from fedsim.training.local import LocalWork

Tensors = Mapping[str, Any]  # torch.Tensor by the parameter's name


@dataclass(frozen=True, kw_only=True)
class LocalSgd(LocalWork):
    """Plain SGD: each step goes against the gradient of its batch's mean loss (McMahan et al. 2017).

    An algorithm of your own is a subclass that overrides :meth:`step`, named by a YAML's ``_target_``; settings
    beside these are further fields of the dataclass.
    """

    learning_rate: LearningRate

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("learning_rate")

    def step(self, parameters: Tensors, gradients: Tensors, start: Tensors) -> Tensors:
        """The parameters after one step, as new tensors of the same names and shapes.

        ``parameters`` are those before it, ``gradients`` those of the batch's mean loss, ``start`` the parameters that
        the client downloaded. Every call is about one client. A backend that trains many at once calls it under
        ``torch.func.vmap``; where the step cannot be batched (it branches on values or draws at random), one client is
        trained after the other. Simplification: a step keeps nothing for the next one (no local momentum).
        """
        return {name: value.sub(gradients[name], alpha=self.learning_rate) for name, value in parameters.items()}

    @property
    def is_plain(self) -> bool:
        """Whether steps are those of plain SGD, so that what is exact for it alone may stand in for :meth:`step`."""
        return type(self).step is LocalSgd.step
