"""The plan of local work: how many steps of which batches a client takes. No torch here, device time depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.errors import InputError
from fedsim.moved import names_of
from fedsim.ranges import BatchSize, Epochs, SomeTimeS, Steps
from fedsim.rng import UintArray
from fedsim.units import BoolArray, IntArray

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

NO_EXAMPLE = -1
_PADDING_KEY = np.uint64(2**64 - 1)
_S1 = np.uint64(1)
_FIXED = ("passes", "n_steps", "n_visits", "has_batch_of_one", "batches")
_BOUNDS = ("local_steps", "max_steps", "max_examples", "max_s")


@dataclass(frozen=True, kw_only=True)
class LocalWork:
    """The local work of a session, as :class:`fedsim.data.passes.Passes` plans it.

    What a step does with its batch is the algorithm's (:mod:`fedsim.training.algorithm.sgd`). A subclass that plans
    other steps is an :class:`InputError`: devices take their time by these numbers alone.
    """

    epochs: Epochs
    batch_size: BatchSize
    local_steps: Steps | None = None
    max_steps: Steps | None = None
    max_examples: Steps | None = None
    max_s: SomeTimeS | None = None

    def __init_subclass__(cls) -> None:
        changed = [name for name in _FIXED if name in vars(cls)]
        if changed:
            allowed = "epochs and batch_size, by which devices take their time"
            raise InputError("local work plans steps of its own", value=f"{cls.__name__}.{changed[0]}", allowed=allowed)

    def __post_init__(self) -> None:
        self._check_positive("epochs", "batch_size")
        self._check_positive(*(name for name in _BOUNDS if getattr(self, name) is not None))

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the local work", value=getattr(self, name), allowed="> 0")

    @final
    @property
    def passes(self) -> Passes:
        """The plan in numbers."""
        return Passes(self.epochs, self.batch_size, **{name: getattr(self, name) for name in _BOUNDS})

    @final
    def n_steps(self, n_examples: IntArray) -> IntArray:
        """Steps of clients with so many examples, ``int64[n]``."""
        return self.passes.n_steps(n_examples)

    @final
    def n_visits(self, n_examples: IntArray, n_steps: IntArray | None = None) -> IntArray:
        """Examples that clients with so many see in ``n_steps`` (None: all), one as often as it is visited."""
        return self.passes.n_visits(n_examples, n_steps)

    @final
    def has_batch_of_one(self, n_examples: IntArray) -> BoolArray:
        """Whether a client with so many examples takes a step on a single one, ``bool[n]``."""
        return self.passes.has_batch_of_one(n_examples)

    @final
    def batches(self, n_examples: IntArray, seeds: UintArray, n_steps: IntArray | None = None) -> IntArray:
        """Which examples each step of each client takes, ``int64[n, most steps, batch]``, -1 where none.

        Positions count from the client's first example. Every pass visits every example once, or ``max_examples`` of
        them, in an order that depends on the client's seed and the pass only. A client does the first ``n_steps`` of
        its plan (None: all). Whole passes of all clients begin together, and a smaller client idles at the end of each;
        where steps are bounded or cut, or passes are not whole, a client takes its own steps one after the other, and
        idles at the end. Within a step the examples come first.
        """
        of_a_pass, planned = self.passes.of_a_pass(n_examples), self.n_steps(n_examples)
        steps = planned if n_steps is None else n_steps
        is_whole = self.local_steps is None and self.max_steps is None and self.epochs == int(self.epochs)
        if is_whole and np.array_equal(steps, planned):
            return self._passes(int(self.epochs), n_examples, of_a_pass, seeds)
        a_pass = np.maximum(-(-of_a_pass // self.batch_size), 1)
        batches = self._passes(int((-(-steps // a_pass)).max()), n_examples, of_a_pass, seeds)
        is_idle = batches[:, :, 0] == NO_EXAMPLE
        own = np.argsort(is_idle, axis=1, kind="stable")[:, : steps.max(), None]
        batches = np.take_along_axis(batches, own, axis=1)
        batches[np.arange(batches.shape[1]) >= steps[:, None]] = NO_EXAMPLE
        return batches

    def _passes(self, n: int, n_examples: IntArray, of_a_pass: IntArray, seeds: UintArray) -> IntArray:
        return np.concatenate([self._epoch(epoch, n_examples, of_a_pass, seeds) for epoch in range(n)], axis=1)

    def _epoch(self, epoch: int, n_examples: IntArray, of_a_pass: IntArray, seeds: UintArray) -> IntArray:
        """One pass's ``int64[n, steps, batch]``: positions in the order of their hash, the first ``of_a_pass``."""
        n, width = len(n_examples), int(n_examples.max())
        position = np.arange(width)
        counter = np.tile(epoch * 2**32 + position, n)
        key = (rng.bits(0, "batches", np.repeat(seeds, width), counter) >> _S1).reshape(n, width)
        key[position >= n_examples[:, None]] = _PADDING_KEY
        width = int(of_a_pass.max())
        order = np.argsort(key, axis=1)[:, :width]
        order[position[:width] >= of_a_pass[:, None]] = NO_EXAMPLE
        n_steps = -(-width // self.batch_size)
        padding = np.full((n, n_steps * self.batch_size - width), NO_EXAMPLE)
        return np.concatenate([order, padding], axis=1).reshape(n, n_steps, self.batch_size)
