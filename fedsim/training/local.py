"""Local work: how many steps of which batches a client takes. No torch here, device time depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.rng import UintArray
from fedsim.units import IntArray

NO_EXAMPLE = -1
_PADDING_KEY = np.uint64(2**64 - 1)
_S1 = np.uint64(1)


@dataclass(frozen=True)
class LocalSgd:
    """Plain SGD over the client's examples: ``epochs`` passes in batches of ``batch_size``, the last one smaller.

    The gradient of a batch is that of its mean loss (McMahan et al. 2017).
    """

    learning_rate: float
    epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the local SGD", value=getattr(self, name), allowed="> 0")

    def n_steps(self, n_examples: IntArray) -> IntArray:
        """SGD steps of clients with so many examples, ``int64[n]``."""
        return self.epochs * -(-n_examples // self.batch_size)

    def batches(self, n_examples: IntArray, seeds: UintArray) -> IntArray:
        """Which examples each step of each client takes, ``int64[n, n_steps, batch]``, -1 where none.

        Positions count from the client's first example. Every epoch visits every example once, in an
        order that depends on the client's seed and the epoch only. ``n_steps`` is that of the largest
        client; steps ``e × n_steps / epochs`` and following are epoch ``e`` of every client, and a
        smaller client idles at its end. Within a step the examples come first.
        """
        return np.concatenate([self._epoch(epoch, n_examples, seeds) for epoch in range(self.epochs)], axis=1)

    def _epoch(self, epoch: int, n_examples: IntArray, seeds: UintArray) -> IntArray:
        """One epoch's ``int64[n, steps, batch]``: positions in the order of their hash."""
        n, width = len(n_examples), int(n_examples.max())
        position = np.arange(width)
        counter = np.tile(epoch * 2**32 + position, n)
        key = (rng.bits(0, "batches", np.repeat(seeds, width), counter) >> _S1).reshape(n, width)
        key[position >= n_examples[:, None]] = _PADDING_KEY
        order = np.argsort(key, axis=1)
        order[position >= n_examples[:, None]] = NO_EXAMPLE
        n_steps = -(-width // self.batch_size)
        padding = np.full((n, n_steps * self.batch_size - width), NO_EXAMPLE)
        return np.concatenate([order, padding], axis=1).reshape(n, n_steps, self.batch_size)
