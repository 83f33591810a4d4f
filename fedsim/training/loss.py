"""The losses that local work minimises and the probabilities that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fedsim.errors import InputError

TensorPair = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """``per_example(outputs, y) → float[n]`` and ``probabilities(outputs)`` for the metrics."""

    name: str
    per_example: TensorPair
    probabilities: Callable[[torch.Tensor], torch.Tensor]
    is_binary: bool


def _cross_entropy(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, y, reduction="none")


def _binary_cross_entropy(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), y.to(outputs.dtype), reduction="none")


LOSSES = {
    "cross_entropy": Loss("cross_entropy", _cross_entropy, lambda z: z.double().softmax(-1), is_binary=False),
    "binary_cross_entropy": Loss(
        "binary_cross_entropy", _binary_cross_entropy, lambda z: z.double().sigmoid().reshape(-1), is_binary=True
    ),
}


def loss_named(name: str) -> Loss:
    """The loss of this name; model outputs are logits, ``[n, n_classes]`` or, if binary, ``[n]``."""
    if name not in LOSSES:
        raise InputError("training.loss", value=name, allowed=", ".join(LOSSES))
    return LOSSES[name]
