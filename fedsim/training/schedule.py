"""Learning rates that change as the server's version goes up: a factor for each version. No torch here.

A client's rate is that of the version which it downloaded, the server's that of the version which it moves on from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim.errors import InputError
from fedsim.ranges import Share01, Steps
from fedsim.units import FloatArray, IntArray


class Schedule(Protocol):
    """By what a learning rate is multiplied."""

    def factor(self, version: IntArray) -> FloatArray:
        """At each of these versions, ``float64[n]``, above 0."""


@dataclass(frozen=True)
class Exponential:
    """Half as large every ``halved_every_steps`` versions."""

    halved_every_steps: Steps

    def factor(self, version: IntArray) -> FloatArray:
        """``0.5 ** (version / halved_every_steps)``."""
        return np.asarray(0.5 ** (version / self.halved_every_steps), dtype=np.float64)


@dataclass(frozen=True)
class Cosine:
    """Down half a wave of a cosine in ``n_steps`` versions, to ``floor_fraction``, and stays (Loshchilov 2017)."""

    n_steps: Steps
    floor_fraction: Share01

    def __post_init__(self) -> None:
        if not self.floor_fraction > 0:
            raise InputError("floor_fraction of the schedule", value=self.floor_fraction, allowed="above 0")

    def factor(self, version: IntArray) -> FloatArray:
        """From 1 to ``floor_fraction``."""
        done = np.minimum(version / self.n_steps, 1.0)
        found: FloatArray = self.floor_fraction + (1 - self.floor_fraction) * (1 + np.cos(np.pi * done)) / 2
        return found


@dataclass(frozen=True)
class Warmup:
    """Up evenly in the first ``n_steps`` versions, then as it is (Goyal et al. 2017)."""

    n_steps: Steps

    def factor(self, version: IntArray) -> FloatArray:
        """``(version + 1) / n_steps``, at most 1."""
        return np.asarray(np.minimum((version + 1) / self.n_steps, 1.0), dtype=np.float64)
