"""How backends take the steps of a local algorithm: in place, for one model or for a stack of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import vmap

from fedsim.errors import InputError
from fedsim.training.algorithm.local import LocalAlgorithm, Tensors
from fedsim.training.backend.learner import Learner

# parameters (changed in place), gradients, start, memory (changed in place), learning rate: a number, or one for each
Step = Callable[[Tensors, Tensors, Tensors, Tensors, Any], None]


def step_of(local: LocalAlgorithm, *, is_stacked: bool) -> Step:
    """One step of the algorithm; plain SGD's makes no copy. ``is_stacked``: tensors are [n, *shape], client by client.

    To be called without gradients being recorded.
    """
    if local.is_plain:
        return _plain
    if not is_stacked:
        return lambda *given: _own(local.step, *given)
    alike, apart = vmap(local.step, in_dims=(0, 0, 0, 0, None)), vmap(local.step)
    return lambda *given: _own(alike if isinstance(given[-1], float) else apart, *given)


def first_memory(local: LocalAlgorithm, start: Tensors, *, is_stacked: bool) -> Tensors:
    """What the first step finds, for one model or for each of a stack."""
    if not is_stacked:
        return local.memory(start)
    if not local.memory({name: value[0] for name, value in start.items()}):
        return {}
    return {name: value.clone() for name, value in vmap(local.memory)(start).items()}


def rate_of(local: LocalAlgorithm, rates: Any) -> Any:
    """The rates of a stack's clients as steps take them: one number where there is no schedule."""
    return float(local.learning_rate) if local.schedule is None else torch.from_numpy(rates).float()


def _plain(parameters: Tensors, gradients: Tensors, start: Tensors, memory: Tensors, rate: Any) -> None:
    for name, value in parameters.items():
        if isinstance(rate, float):
            value.sub_(gradients[name], alpha=rate)
        else:
            value.sub_(rate.view(-1, *(1,) * (value.dim() - 1)) * gradients[name])


def _own(
    step: Callable[..., tuple[Tensors, Tensors]], parameters: Tensors, gradients: Tensors, start: Tensors,
    memory: Tensors, rate: Any,
) -> None:  # fmt: skip
    after, kept = step(parameters, gradients, start, memory, rate)
    for name, value in after.items():
        parameters[name].copy_(value)
    for name, value in kept.items():
        memory[name].copy_(value)


def check_step(learner: Learner) -> None:
    """Refuse a step that leaves a parameter out, or that changes what was downloaded, from which others start."""
    local, name = learner.local, type(learner.local).__name__
    now, start = (learner.layout.views(learner.layout.flatten()) for _ in range(2))
    with torch.no_grad():
        downloaded = {name: value.clone() for name, value in start.items()}
        memory = local.memory(now)
        taken = local.step(now, {name: torch.ones_like(value) for name, value in now.items()}, start, memory, 1e-3)
    if not (isinstance(taken, tuple) and len(taken) == 2):
        raise InputError(f"{name}.step gives", value=type(taken).__name__, allowed="(parameters, memory)")
    for what, found, expected in (("parameters", taken[0], now), ("memory", taken[1], memory)):
        if _shapes(found) != _shapes(expected):
            told = f"{name}.step gives {what} of other names or shapes"
            raise InputError(told, value=_shapes(found), allowed=_shapes(expected))
    if not all(torch.equal(start[each], value) for each, value in downloaded.items()):
        raise InputError(f"{name}.step changes start in place", allowed="new tensors")


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
