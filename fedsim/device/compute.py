"""How long a device trains: seconds per session from its hardware."""

from __future__ import annotations

from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.fleet.hardware import Hardware
from fedsim.units import FloatArray, IntArray

BACKWARD_FACTOR = 3.0  # forward + backward pass in units of one inference; FedScale, Lai et al. 2022


class Compute(Protocol):
    """A law of training time."""

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds of device ``ids`` in its session number ``k``: ``n_samples`` seen in ``n_steps`` steps."""
        ...

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's slowness in the fleet, for coupling it with data."""
        ...


class _InferenceCompute:
    """Training time from an inference benchmark: 3 × ms × samples + a fixed cost per step, spread by session.

    ``relative_cost`` is the cost of one sample of the trained model in units of the benchmark's model.
    """

    def __init__(self, *, seed: int, fixed_s_per_step: float, session_sigma: float, relative_cost: float) -> None:
        for name, value in (
            ("fixed_s_per_step", fixed_s_per_step),
            ("session_sigma", session_sigma),
            ("relative_cost", relative_cost),
        ):
            if not value >= 0:
                raise InputError(f"compute.{name} must not be negative", value=value)
        self.seed, self.fixed_s_per_step = seed, fixed_s_per_step
        self.session_sigma, self.relative_cost = session_sigma, relative_cost

    def inference_s(self, ids: IntArray) -> FloatArray:
        """Seconds for one inference of the benchmark's model on each device."""
        raise NotImplementedError

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds of training, ``float64[n]``."""
        seconds = self.inference_s(ids) * (BACKWARD_FACTOR * self.relative_cost * n_samples)
        seconds += self.fixed_s_per_step * n_steps
        if self.session_sigma:
            seconds *= rng.lognormal(self.seed, "compute/session", ids, k, median=1.0, sigma=self.session_sigma)
        return seconds


class LognormalCompute(_InferenceCompute):
    """Inference latency over the fleet is lognormal, given by its median and the sigma of its logarithm."""

    def __init__(
        self,
        *,
        seed: int,
        median_inference_ms: float,
        sigma: float,
        fixed_s_per_step: float = 0.0,
        session_sigma: float = 0.0,
        relative_cost: float = 1.0,
    ) -> None:
        super().__init__(
            seed=seed, fixed_s_per_step=fixed_s_per_step, session_sigma=session_sigma, relative_cost=relative_cost
        )
        if not (median_inference_ms >= 0 and sigma >= 0):
            raise InputError(
                "compute.median_inference_ms and sigma must not be negative", value=(median_inference_ms, sigma)
            )
        self.median_s, self.sigma = median_inference_ms / 1000, sigma

    def inference_s(self, ids: IntArray) -> FloatArray:
        """Seconds for one inference of the benchmark's model on each device."""
        return rng.lognormal(self.seed, "compute/device", ids, median=self.median_s, sigma=self.sigma)

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's latency, ``float64[n]``."""
        return rng.normal(self.seed, "compute/device", ids)


class HardwareCompute(_InferenceCompute):
    """Inference latency of the device's row in the fleet's hardware table."""

    def __init__(
        self,
        *,
        seed: int,
        hardware: Hardware | None,
        fixed_s_per_step: float = 0.0,
        session_sigma: float = 0.0,
        relative_cost: float = 1.0,
    ) -> None:
        super().__init__(
            seed=seed, fixed_s_per_step=fixed_s_per_step, session_sigma=session_sigma, relative_cost=relative_cost
        )
        if hardware is None:
            raise InputError("device/compute=hardware needs a hardware table", value="fleet/hardware=none")
        self._hardware = hardware
        self._slowness = _normal_ranks(hardware.inference_s, hardware.share_of_rows())

    def inference_s(self, ids: IntArray) -> FloatArray:
        """Seconds for one inference of the benchmark's model on each device."""
        seconds: FloatArray = self._hardware.inference_s[self._hardware.row_of(ids)]
        return seconds

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's latency; phones of one row share theirs."""
        z: FloatArray = self._slowness[self._hardware.row_of(ids)]
        return z


def _normal_ranks(values: FloatArray, share: FloatArray) -> FloatArray:
    """Normal scores of values that occur with the given shares: Φ⁻¹ of the middle of each one's rank."""
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(share[order]) - share[order] / 2
    scores = np.empty(len(values))
    scores[order] = [NormalDist().inv_cdf(min(max(p, 1e-9), 1 - 1e-9)) for p in middle / share.sum()]
    return scores


class FixedCompute:
    """The same training time for every device and session; for planning without a hardware table."""

    def __init__(self, *, train_s: float) -> None:
        if not train_s >= 0:
            raise InputError("compute.train_s must not be negative", value=train_s)
        self.seconds = train_s

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """The configured seconds, whatever the work."""
        return np.full(len(ids), self.seconds)

    def slowness(self, ids: IntArray) -> FloatArray:
        """Not defined where all phones are alike."""
        raise InputError("device/compute=fixed knows no slow phones to couple data with")
