"""The ways to take gradients: of one batch, of many clients' examples in one pass, of many clients in a stack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap

from fedsim.training.algorithm.local import Tensors
from fedsim.training.backend.learner import Learner
from fedsim.units import IntArray

GradientsAndLosses = tuple[Tensors, torch.Tensor]
Stacked = Callable[[Tensors, torch.Tensor, torch.Tensor, torch.Tensor], GradientsAndLosses]


def batch_gradients(learner: Learner, x: torch.Tensor, y: torch.Tensor) -> GradientsAndLosses:
    """By parameter, of the batch's mean loss where the module stands; and that loss."""
    loss = learner.loss.per_example(learner.model(x), y).mean()
    return _gradients(learner, loss), loss.detach()


def pooled_gradients(learner: Learner, x: torch.Tensor, y: torch.Tensor, share: torch.Tensor) -> GradientsAndLosses:
    """By parameter, of the examples' losses weighted by ``share``, all in one pass; and the loss of each example."""
    losses = learner.loss.per_example(learner.model(x), y)
    return _gradients(learner, losses @ share), losses.detach()


def _gradients(learner: Learner, objective: torch.Tensor) -> Tensors:
    parameters = learner.layout.parameters
    gradients = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


def stacked_gradients(learner: Learner) -> Stacked:
    """Of clients that lie in a stack, each at its own parameters: gradients [n, *shape] by parameter, losses [n].

    To be called with the parameters, x and y [n, batch, …] and ``share`` [n, batch]: 1 / batch size, 0 for padding.
    """

    def batch_loss(parameters: Tensors, x: torch.Tensor, y: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(learner.model, dict(parameters), (x,))
        return (learner.loss.per_example(outputs, y) * share).sum()

    return vmap(grad_and_value(batch_loss))


def padded(rows: IntArray, n_batch: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of examples [n, batch], the first ``n_batch`` of each, and their shares; padding repeats the first."""
    is_example = np.arange(rows.shape[1]) < n_batch[:, None]
    share = (is_example / n_batch[:, None]).astype(np.float32)
    return torch.from_numpy(np.where(is_example, rows, rows[:, :1])), torch.from_numpy(share)
