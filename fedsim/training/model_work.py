"""What one training example asks of a phone's processor, counted from the model; input to the laws of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy.typing as npt

from fedsim.ranges import Bytes, Range

FLOAT_BYTES = 4  # of a parameter in training


@dataclass(frozen=True)
class ExampleKind:
    """What an example looks like: shape and type (float32 or int64), some real ones ``[n, *shape]`` if there are."""

    shape: tuple[int, ...]
    dtype: str
    rows: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class LayerWork:
    """One call of a module that computes; FLOPs (forward) and outputs are per example.

    ``kind`` is the module's class, ``name`` its place in the model. ``n_steps`` are the time steps that a recurrent
    module takes one after the other (0 elsewhere), ``n_parameters`` its own trained parameters, both per batch.
    """

    kind: str
    forward_flops: float
    n_outputs: float
    n_parameters: int
    n_steps: int
    name: str = ""


@dataclass(frozen=True)
class ModelWork:
    """A model's work; FLOPs and ``lookup_bytes`` (embedding rows read and written) are per example.

    ``name`` is that of the model in a table of profiles. ``depth`` counts the layers, and the time steps of recurrent
    ones, that follow one another in a step. ``trained_bytes`` are the parameters that a step updates.
    """

    name: str
    n_numbers: int  # float32 that a device downloads and uploads
    depth: int
    forward_flops: float
    training_flops: float
    lookup_bytes: float
    trained_bytes: int
    layers: Sequence[LayerWork]


@dataclass(frozen=True, kw_only=True)
class CostsAs:
    """What is paid for in place of the model that is trained: phones take its time, links carry its bytes.

    ``forward_flops`` are those of one example, ``activation_bytes`` what its forward pass keeps for the backward pass,
    ``depth`` as in :class:`ModelWork`; an example of the data counts as ``examples_each`` of this model's.
    """

    name: str
    n_parameters: Annotated[int, Range(1, 10_000_000_000)]
    forward_flops: Annotated[float, Range(0, 1e18)]
    activation_bytes: Bytes
    depth: Annotated[int, Range(1, 1_000_000)]
    examples_each: Annotated[int, Range(1, 1_000_000)] = 1

    def of_size(self, n_parameters: int) -> CostsAs:
        """A model of the same kind with so many parameters: FLOPs and activations in proportion, the same depth."""
        factor = n_parameters / self.n_parameters
        return replace(
            self,
            name=f"{self.name.removesuffix(_SCALED)}{_SCALED}",
            n_parameters=n_parameters,
            forward_flops=self.forward_flops * factor,
            activation_bytes=self.activation_bytes * factor,
        )

    def work(self) -> ModelWork:
        """As the laws of training time read it; a backward pass takes twice the forward one's FLOPs."""
        return ModelWork(
            name=self.name,
            n_numbers=self.n_parameters,
            depth=self.depth,
            forward_flops=self.forward_flops,
            training_flops=_TRAINING_PASSES * self.forward_flops,
            lookup_bytes=0.0,
            trained_bytes=FLOAT_BYTES * self.n_parameters,
            layers=(),
        )


_SCALED = " (scaled)"
_TRAINING_PASSES = 3  # forward, and backward for activations and for parameters
