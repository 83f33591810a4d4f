"""What one training example asks of a phone's processor, counted from the model; input to the laws of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerWork:
    """One layer of the model that is trained. FLOPs (forward) and outputs are per example.

    ``kind`` is the class of the module. ``n_steps`` are time steps one after the other, 0 if there are none.
    """

    kind: str
    forward_flops: float
    n_outputs: float
    n_parameters: int
    n_steps: int


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
