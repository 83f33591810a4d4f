"""A model's numbers as one flat float32 vector, which is what versions keep and the server averages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fedsim import rng
from fedsim.errors import InputError

ModelFactory = Callable[[], nn.Module]


def build_model(factory: ModelFactory, *, seed: int) -> nn.Module:
    """The module that ``factory()`` builds, its initial parameters drawn from ``seed``.

    Torch's global generator is left as it was. A module that is built already is refused: its
    parameters were drawn from whatever state the generator had.
    """
    if isinstance(factory, nn.Module) or not callable(factory):
        raise InputError("model", value=type(factory).__name__, allowed="a factory (`_partial_: true` in its config)")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.stream_key(seed, "model")))
        model = factory()
    if not isinstance(model, nn.Module):
        raise InputError("model", value=type(model).__name__, allowed="a torch.nn.Module")
    return model


class Layout:
    """Where each tensor of a model lies in its flat vector: trained parameters first, then float buffers.

    Buffers (running statistics) travel and are averaged like parameters, but the server's optimiser
    leaves them alone. Frozen parameters and integer buffers stay as they were built.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._buffers = [b for b in model.buffers() if b.is_floating_point()]
        if not self.parameters:
            raise InputError("model has no parameter to train", value=type(model).__name__)
        wrong = [t.dtype for t in self.tensors if t.dtype != torch.float32]
        if wrong:
            raise InputError("type of a model's tensor", value=str(wrong[0]), allowed="torch.float32")
        self.n_parameters = sum(p.numel() for p in self.parameters.values())

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The model's own, in the order of the vector."""
        return [*self.parameters.values(), *self._buffers]

    def flatten(self) -> torch.Tensor:
        """The model's tensors as one new vector, float32[n]."""
        return torch.cat([t.detach().reshape(-1) for t in self.tensors])

    def load(self, vector: torch.Tensor) -> None:
        """Write a vector into the model's tensors."""
        sizes = [t.numel() for t in self.tensors]
        with torch.no_grad():
            for tensor, part in zip(self.tensors, torch.split(vector, sizes), strict=True):
                tensor.copy_(part.view_as(tensor))

    def split(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters in vectors [n, …]: views [n, *shape] by name."""
        sizes = [p.numel() for p in self.parameters.values()]
        parts = torch.split(vectors[:, : self.n_parameters], sizes, dim=1)
        named = zip(self.parameters.items(), parts, strict=True)
        return {name: part.view(-1, *p.shape) for (name, p), part in named}

    def views(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters in one vector: views [*shape] by name."""
        return {name: part[0] for name, part in self.split(vector[None]).items()}
