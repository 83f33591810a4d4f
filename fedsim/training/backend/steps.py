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
    """Refuse a step that leaves a parameter out, or that changes what was downloaded, from which others start."""
    local, now, start = learner.local, *(learner.layout.views(learner.layout.flatten()) for _ in range(2))
    with torch.no_grad():
        downloaded = {name: value.clone() for name, value in start.items()}
        moved = local.step(now, {name: torch.ones_like(value) for name, value in now.items()}, start)
    if _shapes(moved) != _shapes(now):
        what = f"{type(local).__name__}.step gives parameters of other names or shapes"
        raise InputError(what, value=_shapes(moved), allowed=_shapes(now))
    if not all(torch.equal(start[name], value) for name, value in downloaded.items()):
        raise InputError(f"{type(local).__name__}.step changes start in place", allowed="new tensors")


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
