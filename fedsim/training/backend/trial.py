"""What a model does in training, tried before the run: whether it can be trained at all, and many clients at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from fedsim.errors import InputError, one_line
from fedsim.training.algorithm.local import Tensors
from fedsim.training.backend.gradients import batch_gradients, padded, pooled_gradients, stacked_gradients
from fedsim.training.backend.learner import MISFITS, PROBED, Learner
from fedsim.training.backend.steps import first_memory, rate_of, step_of
from fedsim.training.flat import Layout
from fedsim.units import IntArray

# Known by name, so that the reason is a word. Whatever else does not fit in a stack is found by trying.
UNSUITABLE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RNNBase, nn.RNNCellBase)

SIZES = (3, PROBED - 3)  # the probe's examples belong to two clients
WIDTH = 4  # of their batches in a stack: both are padded
SHAKE = 0.1  # how far parameters are moved for a trial, of their size; zeros would hide what lies behind them
RELATIVE = 1e-4  # difference of two gradients that are the same, of each parameter's
NOISE = 1e-6  # and of the whole gradient: a parameter's own may be nothing but rounding
TRIES = 4  # each elsewhere: the kink of a ReLU may lie between two roundings of one number
CLIENTS_AT_ONCE = 65_536

Kept = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # the model's own tensor and a copy, by name


@contextmanager
def trial(learner: Learner) -> Iterator[Kept]:
    """Training mode, and draws that are no others'; what is written into the module meanwhile goes again."""
    model = learner.model
    kept = {name: (t, t.detach().clone()) for name, t in (*model.named_parameters(), *model.named_buffers())}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model.train()
        try:
            yield kept
        finally:
            with torch.no_grad():
                for tensor, value in kept.values():
                    tensor.copy_(value)


def check_trains(learner: Learner) -> None:
    """Refuse in one line what training would stop at, or what would pass from one client to the next."""
    with trial(learner) as kept:
        _check_batches(learner)
        _check_carries_nothing(learner, kept)


def _check_batches(learner: Learner) -> None:
    x, y = learner.probe
    name, local = type(learner.model).__name__, learner.local
    try:
        batch_gradients(learner, x, y)
    except MISFITS as error:
        raise InputError(f"model {name} with loss {learner.loss.name} cannot be trained ({error})") from error
    try:
        batch_gradients(learner, x[:1], y[:1])
    except MISFITS as error:
        client, n_examples = _batch_of_one(learner)
        if client is not None:
            what = f"model {name} cannot be trained on a batch of one example ({error})"
            what = f"{what}; client {client} has one, of its {n_examples} examples: training.local.batch_size"
            allowed = "another batch_size, or layers that do not mix examples (GroupNorm, LayerNorm for BatchNorm)"
            raise InputError(what, value=local.batch_size, allowed=allowed) from error


def _batch_of_one(learner: Learner) -> tuple[int | None, int]:
    """The first client one of whose batches is a single example, and how many examples it has; None if none is so."""
    data = learner.data
    for first in range(0, data.n_clients, CLIENTS_AT_ONCE):
        ids = np.arange(first, min(first + CLIENTS_AT_ONCE, data.n_clients), dtype=np.int64)
        n_examples = data.n_examples(ids)
        found = np.flatnonzero(learner.local.has_batch_of_one(n_examples))
        if len(found):
            return int(ids[found[0]]), int(n_examples[found[0]])
    return None, 0


def _check_carries_nothing(learner: Learner, kept: Kept) -> None:
    """One client is trained, then another, then the first again, which must not notice."""
    (x, y), layout, name = learner.probe, learner.layout, type(learner.model).__name__
    one, other = slice(SIZES[0]), slice(SIZES[0], None)
    start = layout.flatten()
    before = _trained(learner, x[one], y[one])
    _trained(learner, x[other], y[other])
    for tensor_name, tensor in _changed(learner.model, kept).items():
        if not any(tensor is travels for travels in layout.tensors):
            what = f"training changes {tensor_name} of model {name}, which would pass from one client to the next"
            raise InputError(what, allowed="buffers of float32 changed in place; BatchNorm with a momentum")
    layout.load(start)
    if not _agree(_trained(learner, x[one], y[one]), before):
        what = f"model {name} trains a client otherwise after another one: it remembers, or draws without torch"
        raise InputError(what, allowed="what it remembers in float32 buffers, changed in place; draws of torch")


def _trained(learner: Learner, x: torch.Tensor, y: torch.Tensor) -> Tensors:
    """All that a client leaves: gradients, loss, buffers and what is then evaluated, from the same seed each time."""
    torch.default_generator.manual_seed(0)
    gradients, loss = batch_gradients(learner, x, y)
    buffers = learner.layout.flatten()[learner.layout.n_parameters :]
    learner.model.eval()
    with torch.no_grad():
        outputs = learner.model(x)
    learner.model.train()
    left = {**gradients, " loss": loss, " buffers": buffers, " outputs": outputs}
    return {name: torch.nan_to_num(value) for name, value in left.items()}


def _changed(model: nn.Module, kept: Kept) -> dict[str, torch.Tensor]:
    """Tensors that are not what they were, but for BatchNorm's counters of batches where nothing depends on them."""
    now = dict((*model.named_parameters(), *model.named_buffers()))
    counters = {
        f"{name}.num_batches_tracked".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None
    }
    names = [name for name in kept if name in now and name not in counters]
    return {name: now[name] for name in names if not _is_same(now[name], kept[name][1])}


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def why_alone(learner: Learner) -> str | None:
    """Why clients of this model and algorithm cannot be trained many at once, None where they can.

    The gradients of two clients of unequal models, padded in a stack, must be those of each client's own batch; so must
    be those of both clients' examples in one pass; and the stacked step must be the step of each.
    """
    for module in learner.model.modules():
        if isinstance(module, UNSUITABLE) and getattr(module, "p", 1) > 0:
            return f"{type(module).__name__} cannot be stacked"
    with trial(learner) as kept:
        return _why_not_stacked(learner, kept)


def _why_not_stacked(learner: Learner, kept: Kept) -> str | None:
    for _ in range(TRIES):
        vectors = [_shaken(learner.layout) for _ in SIZES]
        alone = [_alone(learner, vector, part) for vector, part in zip(vectors, _parts(), strict=True)]
        changed = [name for name in _changed(learner.model, kept) if name not in learner.layout.parameters]
        if changed:
            return f"training changes its {changed[0]}, of which there is one for all clients"
        if not all(bool(value.isfinite().all()) for gradients, _ in alone for value in gradients.values()):
            return "its gradients are not finite at the start"
        try:
            is_apart = _is_stack_apart(learner, vectors, alone) and _is_pool_apart(learner, vectors[0])
        except Exception as error:  # whatever the model's own code raises there: alone it does not
            return f"it cannot be stacked ({one_line(error)})"
        if is_apart:
            return _why_no_stacked_step(learner, vectors, [gradients for gradients, _ in alone])
    return "it mixes the examples of a batch"


def _parts() -> list[slice]:
    ends = np.cumsum(SIZES).tolist()
    return [slice(end - size, end) for end, size in zip(ends, SIZES, strict=True)]


def _shaken(layout: Layout) -> torch.Tensor:
    """The model's vector, its parameters moved at random, each tensor in proportion to what it is or might be."""
    vector = layout.flatten()
    for value in layout.views(vector).values():
        n_inputs = value.numel() / len(value) if value.dim() and len(value) else 1.0
        size = max(float(value.square().mean().sqrt()), n_inputs**-0.5) if value.numel() else 0.0
        value.add_(torch.randn_like(value), alpha=SHAKE * size)
    return vector


def _alone(learner: Learner, vector: torch.Tensor, part: slice) -> tuple[Tensors, torch.Tensor]:
    """Gradients and loss of one client at these parameters."""
    x, y = learner.probe
    learner.layout.load(vector)
    return batch_gradients(learner, x[part], y[part])


def _is_stack_apart(learner: Learner, vectors: list[torch.Tensor], alone: list[tuple[Tensors, torch.Tensor]]) -> bool:
    """Whether padding and the clients beside it change nothing for a client in a stack."""
    x, y = learner.probe
    batch, share = padded(*_rows())
    gradients, losses = stacked_gradients(learner)(
        learner.layout.split(torch.stack(vectors)), x[batch], y[batch], share
    )
    return all(
        _agree({name: stack[i] for name, stack in gradients.items()}, expected) and _agree_on(losses[i], loss)
        for i, (expected, loss) in enumerate(alone)
    )


def _rows() -> tuple[IntArray, IntArray]:
    """The two clients' rows of the probe [n, batch], and how many of each count."""
    first = np.array([part.start for part in _parts()])
    return first[:, None] + np.arange(WIDTH), np.array(SIZES)


def _is_pool_apart(learner: Learner, vector: torch.Tensor) -> bool:
    """Whether the examples of both clients in one pass give the sum of what each gives alone."""
    (x, y), weights = learner.probe, (0.25, 0.75)
    alone = [_alone(learner, vector, part) for part in _parts()]
    share = np.repeat(np.divide(weights, SIZES), SIZES).astype(np.float32)
    gradients, losses = pooled_gradients(learner, x, y, torch.from_numpy(share))
    expected = {name: sum(w * each[name] for w, (each, _) in zip(weights, alone, strict=True)) for name in gradients}
    means = [losses[part].mean() for part in _parts()]
    return _agree(gradients, expected) and all(
        _agree_on(mean, loss) for mean, (_, loss) in zip(means, alone, strict=True)
    )


def _why_no_stacked_step(learner: Learner, vectors: list[torch.Tensor], gradients: list[Tensors]) -> str | None:
    """Lets both clients take two steps, each having downloaded what the other has now; None if these are their own."""
    local = learner.local
    if local.is_plain:
        return None
    layout, step, rates = learner.layout, f"step of {type(local).__name__}", local.rates(np.arange(len(vectors)))
    together, apart = torch.stack(vectors), torch.stack(vectors)
    start = torch.stack(vectors[::-1])
    stacked = {name: torch.stack([each[name] for each in gradients]) for name in gradients[0]}
    try:
        with torch.no_grad():
            memory = first_memory(local, layout.split(start), is_stacked=True)
            for _ in range(2):
                given = layout.split(start), memory, rate_of(local, rates)
                step_of(local, is_stacked=True)(layout.split(together), stacked, *given)
            for i, each in enumerate(gradients):
                memory = first_memory(local, layout.views(start[i]), is_stacked=False)
                for _ in range(2):
                    given = layout.views(start[i]), memory, float(rates[i])
                    step_of(local, is_stacked=False)(layout.views(apart[i]), each, *given)
    except Exception as error:  # whatever the algorithm's own code raises there
        return f"{step} cannot be stacked ({one_line(error)})"
    return None if _agree(layout.split(together), layout.split(apart)) else f"{step} differs in a stack"


def _agree(found: Tensors, expected: Tensors) -> bool:
    """Whether tensors are the same up to rounding."""
    whole = sum(float(value.detach().norm()) for value in expected.values())
    return all(
        bool((found[name] - value).norm() <= RELATIVE * value.norm() + NOISE * whole)
        for name, value in expected.items()
    )


def _agree_on(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return _agree({"": found}, {"": expected})
