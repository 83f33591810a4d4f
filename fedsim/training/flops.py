"""What one training step of a model computes, touches and holds: counted, not timed.

Torch's own counter knows matrix products, convolutions and attention, but not the fused recurrent layers of the
CPU, and an embedding has no FLOPs at all. Here recurrent layers have their closed form, embeddings are counted in
bytes, and what is still without a rule is named. One multiply-add is two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fedsim.errors import InputError
from fedsim.training.loss import loss_named

DTYPES = {"float32": torch.float32, "int64": torch.int64}
FUNCTIONAL = "functional"  # kind of a layer whose products stand in a container's own code

_aten = torch.ops.aten
_Shape = Sequence[int]

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
_MOVES = frozenset(
    "_unsafe_view alias arange cat clone contiguous copy_ detach empty empty_like expand fill_ full full_like index "
    "index_select lift_fresh new_zeros ones ones_like select slice split_with_sizes stack _to_copy unsafe_split zero_ "
    "zeros zeros_like gather masked_fill flip roll pad constant_pad_nd repeat bernoulli_ empty_strided".split()
)


@dataclass(frozen=True)
class Layer:
    """One call of a module that computes, per example of the batch unless said otherwise.

    ``kind`` is the module's class, or :data:`FUNCTIONAL`. ``n_steps`` are the time steps that a recurrent module
    takes one after the other (0 elsewhere), ``n_parameters`` its own trained parameters, both per batch.
    """

    name: str
    kind: str
    forward_flops: float
    n_outputs: float
    n_parameters: int
    n_steps: int


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
    layers: tuple[Layer, ...]
    not_counted: dict[str, dict[str, float]]


def lstm_flops(*, n_inputs: int, n_hidden: int, n_steps: int) -> int:
    """Forward FLOPs of one LSTM layer in one direction for one sequence; four gates."""
    return recurrent_flops(n_gates=4, n_inputs=n_inputs, n_hidden=n_hidden, n_steps=n_steps)


def recurrent_flops(*, n_gates: int, n_inputs: int, n_hidden: int, n_steps: int) -> int:
    """Forward FLOPs of a recurrent layer in one direction for one sequence: 2 · gates · h · (in + h) a step.

    An LSTM has 4 gates, a GRU 3, a plain RNN 1. The backward pass takes twice as much (the gradients of weights
    and of inputs and states). Biases and the element-wise part are left out.
    """
    return 2 * n_gates * n_hidden * (n_inputs + n_hidden) * n_steps


def example_batch(model: nn.Module, *, shape: Sequence[int], dtype: str, batch_size: int) -> torch.Tensor:
    """Made-up inputs ``[batch_size, *shape]``: normal numbers, or ids that every embedding of the model holds.

    Counts do not depend on the values; times hardly do.
    """
    if dtype not in DTYPES:
        raise InputError("type of an example", value=dtype, allowed=", ".join(DTYPES))
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, *shape)
    if dtype == "float32":
        return torch.randn(size, generator=generator)
    rows = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return torch.randint(min(rows, default=1), size, generator=generator)


def batch_loss(outputs: Any, loss: str) -> torch.Tensor:
    """Mean loss of the outputs against labels of zero; counts and times do not depend on the labels."""
    if not isinstance(outputs, torch.Tensor):
        raise InputError("the model must return a tensor of logits", value=type(outputs).__name__)
    logits = outputs.flatten(0, -2) if outputs.dim() > 2 else outputs
    named = loss_named(loss)
    n_labels = logits.numel() if named.is_binary else logits.shape[0]
    return named.per_example(logits.flatten() if named.is_binary else logits, torch.zeros(n_labels).long()).mean()


def count_step(model: nn.Module, x: torch.Tensor, *, loss: str) -> StepCount:
    """Count one training step of ``model`` on the batch ``x`` with a loss of :data:`fedsim.training.loss.LOSSES`.

    The step is really computed once, forward and backward; parameters stay as they are.
    Raises :class:`InputError` if model, batch and loss do not fit together.
    """
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError("model has no parameter to train", value=type(model).__name__)
    kept = _Kept([*model.parameters(), *model.buffers(), x])
    with torch.random.fork_rng(devices=[]), _Watch(model) as watch:
        try:
            with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
                objective = batch_loss(model(x), loss)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = f"model {type(model).__name__} with loss {loss} does not fit its examples"
            raise InputError(f"{what} ({str(error).splitlines()[0]})", value=list(x.shape[1:])) from error
        forward_flops = watch.flops
        torch.autograd.grad(objective, trained, allow_unused=True)
        training_flops = watch.flops
    n = len(x)
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
        not_counted={kind: {op: size / n for op, size in ops.items()} for kind, ops in watch.not_counted.items()},
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


class _Watch(TorchDispatchMode):
    """Sees every operator of a step: adds FLOPs and bytes, and books them on the module that is running."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.lookup_bytes = 0
        self.layers: list[Layer] = []
        self.not_counted: dict[str, dict[str, float]] = {}
        self._counter = FlopCounterMode(display=False, custom_mapping=_RULES)
        self._names = {module: name for name, module in model.named_modules()}
        self._running: list[tuple[nn.Module, int, int]] = []  # module, FLOPs and bytes not its own so far
        self._exit = ExitStack()

    @property
    def flops(self) -> int:
        """Counted so far."""
        return self._counter.get_total_flops()

    def __enter__(self) -> Self:
        self._exit.enter_context(self._counter)
        for module in self._names:
            for hook in (module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._end)):
                self._exit.callback(hook.remove)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._exit.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in _LOOKUPS:
            table, ids = args[:2]
            self.lookup_bytes += ids.numel() * math.prod(table.shape[1:]) * table.itemsize
        elif packet not in self._counter.flop_registry and not func.is_view and packet.__name__ not in _MOVES:
            self._name(packet.__name__, out)
        return out

    def _name(self, operator: str, out: Any) -> None:
        """Remember an operator without a rule under the kind of module that runs it; backward ones run in none."""
        if not self._running or isinstance(self._running[-1][0], _RULED):
            return
        outputs = [tensor for tensor in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(tensor)]
        ops = self.not_counted.setdefault(type(self._running[-1][0]).__name__, {})
        ops[operator] = ops.get(operator, 0) + (outputs[0].numel() if outputs else 0)

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        self._running.append((module, self.flops, self.lookup_bytes))

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        _, flops, lookup_bytes = self._running.pop()
        own_flops, own_bytes = self.flops - flops, self.lookup_bytes - lookup_bytes
        if self._running:  # what a child did is not its parent's own
            parent, parent_flops, parent_bytes = self._running[-1]
            self._running[-1] = (parent, parent_flops + own_flops, parent_bytes + own_bytes)
        nested_flops = own_flops  # the parent's marks were moved on by the children's already
        if nested_flops or own_bytes:
            self.layers.append(_layer(module, self._names[module], nested_flops, inputs, output))


def _layer(module: nn.Module, name: str, flops: int, inputs: Any, output: Any) -> Layer:
    is_leaf = isinstance(module, _RULED) or not any(True for _ in module.children())
    values = output[0] if isinstance(output, tuple) else output
    n = len(inputs[0])
    return Layer(
        name=name,
        kind=type(module).__name__ if is_leaf else FUNCTIONAL,
        forward_flops=flops / n,
        n_outputs=values.numel() / n,
        n_parameters=sum(p.numel() for p in module.parameters(recurse=not is_leaf and False) if p.requires_grad),
        n_steps=_n_steps(module, inputs[0]),
    )
