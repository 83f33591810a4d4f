"""How backends take the steps of a local algorithm: in place, for one model or for a stack of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.func import vmap

from fedsim.errors import InputError
from fedsim.training.algorithm.sgd import LocalSgd, Tensors
from fedsim.training.backend.learner import Learner

Step = Callable[[Tensors, Tensors, Tensors], None]  # parameters (changed in place), gradients, start


def step_of(local: LocalSgd, *, is_stacked: bool) -> Step:
    """One step of the algorithm; plain SGD's makes no copy. ``is_stacked``: tensors are [n, *shape], client by client.

    To be called without gradients being recorded.
    """
    if local.is_plain:
        return partial(_plain, local.learning_rate)
    return partial(_own, vmap(local.step) if is_stacked else local.step)


def _plain(learning_rate: float, parameters: Tensors, gradients: Tensors, start: Tensors) -> None:
    for name, value in parameters.items():
        value.sub_(gradients[name], alpha=learning_rate)


def _own(step: Callable[..., Tensors], parameters: Tensors, gradients: Tensors, start: Tensors) -> None:
    for name, value in step(parameters, gradients, start).items():
        parameters[name].copy_(value)


def check_step(learner: Learner) -> None:
    """Refuse a step that does not give back every parameter in its shape: what it leaves out would stay as it is."""
    local, now = learner.local, learner.layout.views(learner.layout.flatten())
    with torch.no_grad():
        moved = local.step(now, {name: torch.zeros_like(value) for name, value in now.items()}, now)
    if _shapes(moved) != _shapes(now):
        what = f"{type(local).__name__}.step gives parameters of other names or shapes"
        raise InputError(what, value=_shapes(moved), allowed=_shapes(now))


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
