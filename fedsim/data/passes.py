"""How many optimiser steps local work takes, and how many examples they see: in passes, or a fixed number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.units import BoolArray, FloatArray, IntArray

_DIGITS = 9  # of steps: 0.7 × 10 are 7 of them


@dataclass(frozen=True)
class Passes:
    """The plan of a session's local work.

    ``epochs`` passes over a client's examples in batches of ``batch_size``, each pass ending with its rest; of a part
    of a pass the first batches, rounded up. ``local_steps`` are so many steps instead, pass after pass, whatever the
    examples. ``max_steps`` bounds them; ``max_examples`` are what a pass takes at most of a client's examples, in the
    random order of the pass. ``max_s`` are seconds after which a device begins no other step: how many it has done by
    then depends on the device (:meth:`fedsim.device.session.Device.training`), so no number here knows of it.
    """

    epochs: float
    batch_size: int
    local_steps: int | None = None
    max_steps: int | None = None
    max_examples: int | None = None
    max_s: float | None = None

    def of_a_pass(self, n_examples: IntArray) -> IntArray:
        """Examples that a whole pass of clients with so many takes, ``int64[n]``."""
        return n_examples if self.max_examples is None else np.minimum(n_examples, self.max_examples)

    def n_steps(self, n_examples: IntArray) -> IntArray:
        """Steps of clients with so many examples, ``int64[n]``; none without examples."""
        n = self.of_a_pass(n_examples)
        if self.local_steps is None:
            whole = np.round(self.epochs * -(-n // self.batch_size), _DIGITS)
            steps: IntArray = np.ceil(whole).astype(np.int64)
        else:
            steps = self.local_steps * (n > 0)
        return steps if self.max_steps is None else np.minimum(steps, self.max_steps)

    def n_visits(self, n_examples: IntArray, n_steps: IntArray | None = None) -> IntArray:
        """Examples that the first ``n_steps`` (None: all) see, one as often as it is visited, ``int64[n]``."""
        n, steps = self.of_a_pass(n_examples), self.n_steps(n_examples) if n_steps is None else n_steps
        a_pass = np.maximum(-(-n // self.batch_size), 1)
        visits: IntArray = steps // a_pass * n + np.minimum(steps % a_pass * self.batch_size, n)
        return visits

    def has_batch_of_one(self, n_examples: IntArray) -> BoolArray:
        """Whether a step of clients with so many takes a single example, the rest of a pass, ``bool[n]``."""
        n, steps = self.of_a_pass(n_examples), self.n_steps(n_examples)
        leaves_one = (n > 0) & ((n - 1) % self.batch_size == 0)
        a_pass = 1 if self.batch_size == 1 else -(-n // self.batch_size)
        has_one: BoolArray = leaves_one & (steps >= a_pass)
        return has_one


def finished_steps(n_steps: IntArray, whole_s: FloatArray, after_s: FloatArray | float) -> IntArray:
    """Of ``n_steps`` that take ``whole_s`` together and equally long each, those finished ``after_s`` seconds."""
    share = np.divide(after_s, whole_s, out=np.ones(len(whole_s)), where=whole_s > after_s)
    finished: IntArray = np.floor(np.round(n_steps * share, _DIGITS)).astype(np.int64)
    return finished
