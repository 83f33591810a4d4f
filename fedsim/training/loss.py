"""The losses that local work minimises, and the scores on which metrics look.

A loss is a class with :class:`Loss`'s methods: one of the names below, or a class of the user's own by ``_target_``.
Labels are int64 ``[n]``, or ``[n, length]`` where an example has many (the next word at each position, the relevance
of each document of a list); of these -1 says that there is none.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from fedsim.errors import InputError

NO_LABEL = -1


class Loss(Protocol):
    """What is minimised: the mean of ``per_example`` over a batch."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of each example, float32[n], from the model's outputs ``[n, …]`` and the labels."""

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """What metrics look at, float64: probabilities ``[n, …, n_classes]``, of a binary label ``[n]``, or scores."""

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """Labels that suit these outputs whatever they are, to try a model or count its work."""

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse labels that these outputs cannot stand for with an :class:`InputError`."""


class CrossEntropy:
    """Of logits ``[n, n_classes]``, or ``[n, length, n_classes]``: then an example's loss is its known labels' mean."""

    name = "cross_entropy"

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Minus the logarithm of the label's probability, float32[n]."""
        if y.dim() == 1:
            return F.cross_entropy(outputs, y, reduction="none")
        each = F.cross_entropy(outputs.movedim(-1, 1), y, reduction="none", ignore_index=NO_LABEL)
        return each.sum(-1) / (y != NO_LABEL).sum(-1).clamp(min=1)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return outputs.double().softmax(-1)

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """The first class everywhere."""
        return torch.zeros(outputs.shape[:-1], dtype=torch.int64)

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        """Classes are 0 … n_classes - 1."""
        _check_shape(self, outputs.shape[:-1], y)
        _check_classes(y, outputs.shape[-1], is_optional=y.dim() > 1)


class BinaryCrossEntropy:
    """Of one logit for each example, ``[n]`` or ``[n, 1]``."""

    name = "binary_cross_entropy"

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Minus the logarithm of the label's probability, float32[n]."""
        return F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), y.to(outputs.dtype), reduction="none")

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probability of a 1, float64[n]."""
        return outputs.double().sigmoid().reshape(-1)

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """A 0 for each output."""
        return torch.zeros(outputs.numel(), dtype=torch.int64)

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        """Labels are 0 or 1."""
        _check_shape(self, (outputs.numel(),), y)
        _check_classes(y, 2, is_optional=False)


class ListNet:
    """Of a score for each document of a list, ``[n, length]``; labels are relevances, -1 where there is no document.

    Cross entropy between the distributions that softmax makes of relevances and of scores (Cao et al. 2007, top one).
    """

    name = "list_net"

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The cross entropy of each list, float32[n]."""
        is_there = y != NO_LABEL
        wanted = y.to(outputs.dtype).masked_fill(~is_there, -torch.inf).softmax(-1)
        log_share = outputs.masked_fill(~is_there, torch.finfo(outputs.dtype).min / 2).log_softmax(-1)
        return -(wanted * log_share.masked_fill(~is_there, 0.0)).sum(-1)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        return outputs.double()

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """Documents without relevance."""
        return torch.zeros(outputs.shape, dtype=torch.int64)

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        """A list has a document at least; relevance is not negative."""
        _check_shape(self, outputs.shape, y)
        if y.dim() != 2 or (y == NO_LABEL).all(dim=-1).any():
            raise InputError("labels of lists", value=list(y.shape), allowed="[n, length], a document or more in each")
        _check_classes(y, 32, is_optional=True)


class SquaredError:
    """Of one number for each example, ``[n]`` or ``[n, 1]``; labels are float32[n]."""

    name = "squared_error"

    def per_example(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The squared difference, float32[n]."""
        return (outputs.reshape(y.shape) - y.to(outputs.dtype)).square()

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The numbers, float64[n]."""
        return outputs.double().reshape(-1)

    def no_labels(self, outputs: torch.Tensor) -> torch.Tensor:
        """Zeros."""
        return torch.zeros(outputs.numel())

    def check(self, outputs: torch.Tensor, y: torch.Tensor) -> None:
        """One finite number for each output."""
        _check_shape(self, (outputs.numel(),), y)
        if not bool(y.double().isfinite().all()):
            raise InputError("label is not finite", value=float(y[~y.double().isfinite()][0]))


def _check_shape(loss: Loss, expected: tuple[int, ...], y: torch.Tensor) -> None:
    if tuple(y.shape) != tuple(expected):
        what = f"the model's outputs with loss {loss.name} do not fit the data: labels of shape"
        raise InputError(what, value=list(y.shape), allowed=list(expected))


def _check_classes(y: torch.Tensor, n_classes: int, *, is_optional: bool) -> None:
    if y.is_floating_point():
        raise InputError("labels are fractions", value=str(y.dtype), allowed="whole numbers with this loss")
    wrong = (y >= n_classes) | (y < (NO_LABEL if is_optional else 0))
    if bool(wrong.any()):
        raise InputError("label", value=int(y[wrong][0]), allowed=f"0 to {n_classes - 1} with this model and loss")


LOSSES: dict[str, Loss] = {
    loss.name: loss for loss in (CrossEntropy(), BinaryCrossEntropy(), ListNet(), SquaredError())
}


def loss_named(loss: str | Loss) -> Loss:
    """The loss of this name; one that is built already is given back."""
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise InputError("training.loss", value=loss, allowed=f"{', '.join(LOSSES)}, or _target_ of your own")
    return LOSSES[loss]
