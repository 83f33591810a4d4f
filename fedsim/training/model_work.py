"""What one training example asks of a phone's processor, counted from the model; input to the laws of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT_BYTES = 4  # of a parameter in training


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

    ``name`` is that of the model in a table of profiles. ``trained_bytes`` are the parameters that a step updates.
    """

    name: str
    forward_flops: float
    training_flops: float
    lookup_bytes: float
    trained_bytes: int
    layers: Sequence[LayerWork]
