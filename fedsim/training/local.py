"""The plan of local work: how many steps of which batches a client takes. No torch here, device time depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fedsim import rng
from fedsim.data import passes
from fedsim.errors import InputError
from fedsim.moved import names_of
from fedsim.ranges import BatchSize, Epochs, Steps
from fedsim.rng import UintArray
from fedsim.units import BoolArray, IntArray

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

NO_EXAMPLE = -1
_PADDING_KEY = np.uint64(2**64 - 1)
_S1 = np.uint64(1)
_FIXED = ("n_steps", "batches")


@dataclass(frozen=True, kw_only=True)
class LocalWork:
    """``epochs`` passes over the client's examples in batches of ``batch_size``, the last one smaller.

    With ``local_steps`` each client takes so many steps instead, pass after pass, however many examples it has.
    What a step does with its batch is the algorithm's (:mod:`fedsim.training.algorithm.sgd`). A subclass that plans
    other steps is an :class:`InputError`: devices take their time by these two numbers alone.
    """

    epochs: Epochs
    batch_size: BatchSize
    local_steps: Steps | None = None

    def __init_subclass__(cls) -> None:
        changed = [name for name in _FIXED if name in vars(cls)]
        if changed:
            allowed = "epochs and batch_size, by which devices take their time"
            raise InputError("local work plans steps of its own", value=f"{cls.__name__}.{changed[0]}", allowed=allowed)

    def __post_init__(self) -> None:
        self._check_positive("epochs", "batch_size")
        if self.local_steps is not None:
            self._check_positive("local_steps")

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the local work", value=getattr(self, name), allowed="> 0")

    @final
    def n_steps(self, n_examples: IntArray) -> IntArray:
        """Steps of clients with so many examples, ``int64[n]``."""
        steps: IntArray = passes.n_steps(n_examples, **self._plan)
        return steps

    @final
    def n_visits(self, n_examples: IntArray) -> IntArray:
        """Examples that clients with so many see, one as often as it is visited, ``int64[n]``."""
        visits: IntArray = passes.n_visits(n_examples, **self._plan)
        return visits

    @final
    def has_batch_of_one(self, n_examples: IntArray) -> BoolArray:
        """Whether a client with so many examples takes a step on a single one, ``bool[n]``."""
        has_one: BoolArray = passes.has_batch_of_one(n_examples, **self._plan)
        return has_one

    @property
    def _plan(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "batch_size": self.batch_size, "local_steps": self.local_steps}

    @final
    def batches(self, n_examples: IntArray, seeds: UintArray) -> IntArray:
        """Which examples each step of each client takes, ``int64[n, n_steps, batch]``, -1 where none.

        Positions count from the client's first example. Every epoch visits every example once, in an
        order that depends on the client's seed and the epoch only. ``n_steps`` is that of the largest
        client; steps ``e × n_steps / epochs`` and following are epoch ``e`` of every client, and a
        smaller client idles at its end. Within a step the examples come first. With ``local_steps`` there are so many,
        the client's own ones of pass after pass.
        """
        if self.local_steps is None:
            return self._passes(self.epochs, n_examples, seeds)
        a_pass = np.maximum(-(-n_examples // self.batch_size), 1)
        batches = self._passes(-(-self.local_steps // int(a_pass.min())), n_examples, seeds)
        is_idle = batches[:, :, 0] == NO_EXAMPLE
        own = np.argsort(is_idle, axis=1, kind="stable")[:, : self.local_steps, None]
        return np.take_along_axis(batches, own, axis=1)

    def _passes(self, n: int, n_examples: IntArray, seeds: UintArray) -> IntArray:
        return np.concatenate([self._epoch(epoch, n_examples, seeds) for epoch in range(n)], axis=1)

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
