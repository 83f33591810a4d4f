"""What one training step of a model computes, touches and holds: counted, not timed.

Torch's own counter knows matrix products and convolutions, but not the fused recurrent layers and attention of the
CPU, and an embedding has no FLOPs at all. Here these have closed forms, embeddings are counted in bytes, and what is
still without a rule is named. One multiply-add is two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fedsim.errors import InputError
from fedsim.moved import names_of
from fedsim.training.flop_rules import LOOKUPS, RULES
from fedsim.training.loss import Loss, loss_named
from fedsim.training.model_work import LayerWork

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

DTYPES = {"float32": torch.float32, "int64": torch.int64}
FUNCTIONAL = "functional"  # kind of a layer whose products stand in a container's own code

# Element-wise work inside these is left out as is the custom; everywhere else an uncounted operator is named.
_RULED = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
)
# Moves, copies and constants: no arithmetic.
_MOVES = frozenset((
    "_to_copy", "_unsafe_view", "alias", "arange", "cat", "clone", "constant_pad_nd", "copy_", "detach", "empty",
    "empty_like", "fill_", "flip", "full", "full_like", "gather", "index", "index_select", "lift_fresh", "masked_fill",
    "new_zeros", "ones", "ones_like", "repeat", "roll", "select", "slice", "split_with_sizes", "stack", "unsafe_split",
    "zero_", "zeros", "zeros_like",
))  # fmt: skip


@dataclass(frozen=True)
class StepCount:
    """One training step on a batch.

    FLOPs and ``lookup_bytes`` (embedding rows read forward and written backward) are per example.
    ``activation_bytes`` are what the batch's forward pass keeps for the backward pass. ``not_counted`` names the
    operators without a rule by the module they stand in, with the numbers per example that they put out.
    """

    batch_size: int
    forward_flops: float
    training_flops: float
    lookup_bytes: float
    n_parameters: int
    n_trained: int
    parameter_bytes: int
    input_bytes: int
    activation_bytes: int
    layers: tuple[LayerWork, ...]
    not_counted: dict[str, dict[str, float]]


def example_batch(
    model: nn.Module, *, shape: Sequence[int], dtype: str, batch_size: int, rows: npt.NDArray[Any] | None = None
) -> torch.Tensor:
    """Inputs ``[batch_size, *shape]``: real ``rows``, or made up: normal numbers, or ids that all embeddings hold.

    Counts do not depend on the values; times hardly do.
    """
    if rows is not None:
        return torch.from_numpy(rows[np.arange(batch_size) % len(rows)])
    if dtype not in DTYPES:
        raise InputError("type of an example", value=dtype, allowed=", ".join(DTYPES))
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, *shape)
    if dtype == "float32":
        return torch.randn(size, generator=generator)
    n_ids = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return torch.randint(min(n_ids, default=1), size, generator=generator)


def batch_loss(outputs: Any, loss: str | Loss) -> torch.Tensor:
    """Mean loss of the outputs against labels of zero; counts and times do not depend on the labels."""
    if not isinstance(outputs, torch.Tensor):
        raise InputError("the model must return a tensor of logits", value=type(outputs).__name__)
    named = loss_named(loss)
    return named.per_example(outputs, named.no_labels(outputs)).mean()


def count_step(model: nn.Module, x: torch.Tensor, *, loss: str | Loss) -> StepCount:
    """Count one training step of ``model`` on the batch ``x`` with a loss of :data:`fedsim.training.loss.LOSSES`.

    The step is really computed once, forward and backward; parameters stay as they are.
    Raises :class:`InputError` if model, batch and loss do not fit together.
    """
    model.train()
    n = len(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError("model has no parameter to train", value=type(model).__name__)
    kept = _Kept([*model.parameters(), *model.buffers(), x])
    watch = _Watch(model, batch_size=n)
    with torch.random.fork_rng(devices=[]), watch.watching():
        try:
            with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
                objective = batch_loss(model(x), loss)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = f"model {type(model).__name__} with loss {loss_named(loss).name} does not fit its examples"
            raise InputError(f"{what} ({str(error).splitlines()[0]})", value=list(x.shape[1:])) from error
        forward_flops = watch.flops
        torch.autograd.grad(objective, trained, allow_unused=True)
        training_flops = watch.flops
    return StepCount(
        batch_size=n,
        forward_flops=forward_flops / n,
        training_flops=training_flops / n,
        lookup_bytes=2 * watch.lookup_bytes / n,
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_trained=sum(p.numel() for p in trained),
        parameter_bytes=sum(t.nbytes for t in (*model.parameters(), *model.buffers())),
        input_bytes=x.nbytes,
        activation_bytes=kept.total_bytes,
        layers=tuple(watch.layers),
        not_counted=watch.not_counted,
    )


class _Kept:
    """Sizes of the storages that autograd keeps, each once, without those that exist anyway."""

    def __init__(self, existing: Sequence[torch.Tensor]) -> None:
        self._existing = {tensor.untyped_storage().data_ptr() for tensor in existing}
        self._sizes: dict[int, int] = {}

    @property
    def total_bytes(self) -> int:
        return sum(self._sizes.values())

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._existing:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


@dataclass
class _Call:
    """A module that is running, and what its children did so far."""

    module: nn.Module
    flops_before: int
    bytes_before: int
    flops_of_children: int = 0
    bytes_of_children: int = 0


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees every operator of a step: adds FLOPs and bytes, and books them on the module that is running."""

    def __init__(self, model: nn.Module, *, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lookup_bytes = 0
        self.layers: list[LayerWork] = []
        self.not_counted: dict[str, dict[str, float]] = {}
        self._batch_size = batch_size
        self._counter = FlopCounterMode(display=False, custom_mapping=RULES)
        self._names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self._calls: list[_Call] = []

    @property
    def flops(self) -> int:
        """Counted so far."""
        return self._counter.get_total_flops()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Counts what runs in the block."""
        with ExitStack() as stack:
            stack.enter_context(self._counter)
            for module in self._names:
                stack.callback(module.register_forward_pre_hook(self._begin).remove)
                stack.callback(module.register_forward_hook(self._end).remove)
            stack.enter_context(self)
            yield

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in LOOKUPS:
            table, ids = args[:2]
            self.lookup_bytes += ids.numel() * math.prod(table.shape[1:]) * table.itemsize
        elif packet not in self._counter.flop_registry and not func.is_view and packet.__name__ not in _MOVES:
            self._name(packet.__name__, out, is_pointwise=torch.Tag.pointwise in func.tags)
        return out

    def _name(self, operator: str, out: Any, *, is_pointwise: bool) -> None:
        """Remember an operator without a rule under the class of the module that runs it (backward: none does)."""
        if not self._calls or (is_pointwise and isinstance(self._calls[-1].module, _RULED)):
            return
        first = out[0] if isinstance(out, tuple | list) else out
        n_numbers = first.numel() if isinstance(first, torch.Tensor) else 0
        operators = self.not_counted.setdefault(type(self._calls[-1].module).__name__, {})
        operators[operator] = operators.get(operator, 0.0) + n_numbers / self._batch_size

    def _begin(self, module: nn.Module, _inputs: Any) -> None:
        self._calls.append(_Call(module, self.flops, self.lookup_bytes))

    def _end(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        call = self._calls.pop()
        flops, lookup_bytes = self.flops - call.flops_before, self.lookup_bytes - call.bytes_before
        if self._calls:
            self._calls[-1].flops_of_children += flops
            self._calls[-1].bytes_of_children += lookup_bytes
        own_flops = flops - call.flops_of_children
        if own_flops or lookup_bytes > call.bytes_of_children:
            self.layers.append(self._layer(module, own_flops, output))

    def _layer(self, module: nn.Module, flops: int, output: Any) -> LayerWork:
        is_own = isinstance(module, _RULED) or not any(True for _ in module.children())
        values = output
        while isinstance(values, tuple):  # a recurrent module's output and states, or a packed sequence
            values = values[0]
        return LayerWork(
            name=self._names[module],
            kind=type(module).__name__ if is_own else FUNCTIONAL,
            forward_flops=flops / self._batch_size,
            n_outputs=values.numel() / self._batch_size,
            n_parameters=sum(p.numel() for p in module.parameters(recurse=is_own) if p.requires_grad),
            n_steps=_n_steps(module, output),
        )


def _n_steps(module: nn.Module, output: Any) -> int:
    """Time steps one after the other: those of the sequence, for every layer and direction."""
    if isinstance(module, nn.RNNCellBase):
        return 1
    if not isinstance(module, nn.RNNBase):
        return 0
    states = output[0]
    if isinstance(states, PackedSequence):
        length = len(states.batch_sizes)
    else:
        length = states.shape[1 if module.batch_first and states.dim() == 3 else 0]
    return int(length) * module.num_layers * (2 if module.bidirectional else 1)
