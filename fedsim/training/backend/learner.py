"""The seam between the server half and the ways to train: what a backend is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from fedsim.data.arrival import arriving
from fedsim.data.clients import ClientData, Examples
from fedsim.training.algorithm.local import LocalAlgorithm
from fedsim.training.flat import Layout
from fedsim.training.loss import Loss
from fedsim.training.trainer import Updates
from fedsim.training.versions import Versions
from fedsim.units import FloatArray, IntArray

PROBED = 5  # examples to try a model on
MISFITS = (RuntimeError, IndexError, TypeError, ValueError)  # what a model raises that its input does not fit


@dataclass(frozen=True)
class Learner:
    """What is trained on clients. ``model`` holds whatever was loaded last; ``probe`` is examples to try it on."""

    model: nn.Module
    layout: Layout  # of the model
    loss: Loss
    local: LocalAlgorithm
    data: ClientData
    probe: tuple[torch.Tensor, torch.Tensor]

    def fetch(self, updates: Updates) -> Examples:
        """What each update trains on: all that its client has, or had by its time."""
        data = arriving(self.data)
        if data is None or updates.since is None or updates.at is None:
            return self.data.fetch(updates.client_ids)
        return data.fetch_between(updates.client_ids, updates.since, updates.at)

    def n_examples(self, updates: Updates) -> IntArray:
        """Examples of each update, ``int64[n]``."""
        data = arriving(self.data)
        if data is None or updates.since is None or updates.at is None:
            return self.data.n_examples(updates.client_ids)
        return data.n_between(updates.client_ids, updates.since, updates.at)


class Backend(Protocol):
    """Does the local work of promised updates, each from the version that was downloaded."""

    def train(self, updates: Updates, n_examples: IntArray, versions: Versions) -> tuple[torch.Tensor, FloatArray]:
        """Σ cᵢ Δᵢ as a flat vector, and each update's loss summed over its visited examples, float64[n].

        ``n_examples`` are those of each update's client, at least one; of its plan a client does ``updates.n_steps``
        (None: all), to which :meth:`fedsim.training.local.LocalWork.batches` cuts. A visit's loss is that of the data
        alone, before its step. What the user should know of the way in which it trains, a backend may say in
        ``remarks``, a tuple of lines.
        """
