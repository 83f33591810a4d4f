"""What one client does with its batches: the class from which local algorithms are made. No torch is imported here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.ranges import LearningRate, NotNegative, Positive
from fedsim.training.local import LocalWork
from fedsim.training.schedule import Schedule
from fedsim.units import FloatArray, IntArray

Tensors = Mapping[str, Any]  # torch.Tensor by name
STEP = ("parameters", "gradients", "start", "memory", "rate")


@dataclass(frozen=True, kw_only=True)
class LocalAlgorithm(LocalWork):
    """Steps along the gradients of batches; subclasses say how.

    A subclass overrides :meth:`gradient` (what is minimised besides the data's loss), or :meth:`step` (what is done
    with a gradient) and, if a step keeps something for the next one, :meth:`memory`; it is named by a YAML's
    ``_target_``, and settings of its own are further fields of the dataclass. Every backend calls these about one
    client at a time; one that trains many at once calls them under ``torch.func.vmap``. Where they cannot be batched
    (they branch on values or draw at random), one client is trained after the other.

    ``weight_decay`` adds its multiple of the parameters to the gradient, after the gradient of all parameters together
    was made at most ``clip_norm`` long (None: as it is). ``schedule`` multiplies the learning rate by a factor for each
    version of the server's model; a client's is that of the version which it downloaded.
    """

    learning_rate: LearningRate
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    schedule: Schedule | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in vars(cls) and not _takes_all(vars(cls)["step"]):
            allowed = f"step({', '.join(STEP)}), giving (parameters, memory); or gradient(parameters, gradients, start)"
            raise InputError(f"{cls.__name__}.step takes", value=_names(vars(cls)["step"]), allowed=allowed)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("learning_rate")

    def rates(self, versions: IntArray) -> FloatArray:
        """The learning rate of clients that downloaded these versions, ``float64[n]``."""
        if self.schedule is None:
            return np.full(len(versions), self.learning_rate)
        return self.learning_rate * np.asarray(self.schedule.factor(versions), dtype=np.float64)

    def gradient(self, parameters: Tensors, gradients: Tensors, start: Tensors) -> Tensors:
        """The gradient that a step follows; here the batch's mean loss alone.

        ``parameters`` are those before the step, ``start`` those that the client downloaded. Gives new tensors.
        """
        return gradients

    def memory(self, parameters: Tensors) -> Tensors:
        """What a client's first step finds in ``memory``: new tensors by name; here nothing."""
        return {}

    def step(
        self, parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any
    ) -> tuple[Tensors, Tensors]:
        """The parameters and the memory after one step, as new tensors of the same names and shapes.

        ``gradients`` are those of the batch's mean loss, ``rate`` is the learning rate (a number, or a tensor of one
        where there is a schedule).
        """
        raise NotImplementedError

    def followed(self, parameters: Tensors, gradients: Tensors, start: Tensors) -> Tensors:
        """The gradient after :meth:`gradient`, ``clip_norm`` and ``weight_decay``; for a :meth:`step` to begin with."""
        found = self.gradient(parameters, gradients, start)
        if self.clip_norm is not None:
            norm = sum(value.square().sum() for value in found.values()).sqrt()
            scale = (self.clip_norm / (norm + _CLIP_EPSILON)).clamp(max=1.0)
            found = {name: scale * value for name, value in found.items()}
        if self.weight_decay:
            found = {name: value + self.weight_decay * parameters[name] for name, value in found.items()}
        return found

    @property
    def is_plain(self) -> bool:
        """Whether steps are those of plain SGD, so that what is exact for it alone may stand in for :meth:`step`."""
        return False


_CLIP_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_


def moved(value: Any, rate: Any, along: Any) -> Any:
    """``value - rate · along``; with a number in one operation, as plain SGD in place does it."""
    return value.sub(along, alpha=rate) if isinstance(rate, float) else value - rate * along


def _names(function: Any) -> list[str]:
    try:
        return [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):
        return []


def _takes_all(function: Any) -> bool:
    try:
        inspect.signature(function).bind(*(None for _ in ("self", *STEP)))
    except TypeError:
        return False
    return True
