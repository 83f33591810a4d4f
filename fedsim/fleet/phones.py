"""What is known of a fleet's phones: the words that compute, network and energy share, and phones without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.ranges import LatencyMs, Seed, Sigma
from fedsim.units import FloatArray, IntArray


class Phones(Protocol):
    """The phones behind devices: each is a row of a table of models, or of no row (−1)."""

    @property
    def models(self) -> Sequence[str | None]:
        """Name of the model in each row."""
        ...

    @property
    def compute_w(self) -> FloatArray:
        """Power of training in each row, NaN where unknown."""
        ...

    @property
    def bytes_per_s(self) -> FloatArray:
        """Network speed in each row, NaN where unknown."""
        ...

    def row_of(self, ids: IntArray) -> IntArray:
        """The row of each device, −1 for none."""
        ...

    def inference_ms(self, ids: IntArray) -> FloatArray:
        """Latency of the benchmark model on each device, in ms."""
        ...


def of_rows(column: FloatArray, otherwise: float) -> FloatArray:
    """A column with its gaps filled and one more entry behind, which row −1 reads."""
    return np.append(np.where(np.isnan(column), otherwise, column), otherwise)


class LognormalPhones:
    """Phones without a model: inference latency over the fleet is lognormal, given by its median and sigma.

    ``sigma`` is that of the logarithm.
    """

    models: Sequence[str | None] = ()
    compute_w: FloatArray = np.zeros(0)
    bytes_per_s: FloatArray = np.zeros(0)

    def __init__(self, *, seed: Seed, median_inference_ms: LatencyMs, sigma: Sigma) -> None:
        for name, value in (("median_inference_ms", median_inference_ms), ("sigma", sigma)):
            if not value >= 0:
                raise InputError(f"fleet.hardware.{name} must not be negative", value=value)
        self.seed, self.median_inference_ms, self.sigma = seed, median_inference_ms, sigma

    def row_of(self, ids: IntArray) -> IntArray:
        """No row, ``int64[n]``."""
        return np.full(len(ids), -1)

    def inference_ms(self, ids: IntArray) -> FloatArray:
        """Latency of the benchmark model on each device, in ms."""
        return rng.lognormal(self.seed, "compute/device", ids, median=self.median_inference_ms, sigma=self.sigma)

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's latency, ``float64[n]``."""
        return rng.normal(self.seed, "compute/device", ids)
