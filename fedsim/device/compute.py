"""How long a device trains: laws for three kinds of evidence, and a constant.

``inference``: a benchmark of inference is all there is. ``flops``: nothing was timed, or only the FLOPs are to count.
``measured`` (:mod:`fedsim.device.measured_compute`): steps were timed on some phones. Each says what so many examples
in so many steps take on a phone; a run asks for its sessions, ``fedsim cost`` for every kind of phone, and both get
the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.fleet.phones import Phones
from fedsim.ranges import DurationS, NotNegative, Positive, Range, Rate, Seed, Sigma, StepS
from fedsim.training.model_work import ModelWork
from fedsim.units import FloatArray, IntArray

BACKWARD_FACTOR = 3.0  # forward + backward pass in units of one inference; FedScale, Lai et al. 2022
_MS_PER_S = 1000.0
_UPDATE_PASSES = 3  # a step reads the gradient, reads and writes the parameter


class Compute(Protocol):
    """A law of training time."""

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds of device ``ids`` in its session number ``k``: ``n_samples`` seen in ``n_steps`` steps."""
        ...


class PhoneCompute:
    """What laws over phones share: sessions spread around the phone's time by a lognormal factor of median 1."""

    def __init__(self, *, seed: Seed, phones: Phones, session_sigma: Sigma) -> None:
        check_not_negative("session_sigma", session_sigma)
        self.seed, self.phones, self.session_sigma = seed, phones, session_sigma

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds without the spread, ``float64[n]``; NaN where the law cannot tell."""
        raise NotImplementedError

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds of training, ``float64[n]``."""
        seconds = self.median_s(ids, n_samples, n_steps)
        unknown = np.flatnonzero(np.isnan(seconds))
        if unknown.size:
            row = int(self.phones.row_of(ids[unknown[:1]])[0])
            model = None if row < 0 else self.phones.models[row]
            raise InputError(
                "device.compute cannot tell how long a phone trains",
                value=model,
                allowed="phones that were timed, or device.compute.inference_ms of a phone that was",
            )
        if self.session_sigma:
            seconds *= rng.lognormal(self.seed, "compute/session", ids, k, median=1.0, sigma=self.session_sigma)
        return seconds


class InferenceCompute(PhoneCompute):
    """3 × inference latency × samples × relative cost, and in each step a share of the latency for every layer.

    The first part is the convention of FedScale (Lai et al. 2022), there with a relative cost of 1 and nothing else. A
    relative cost of None is ``flops_factor`` × the model's forward FLOPs per example ÷ ``benchmark_flops`` of the model
    behind the latency. A step takes ``latencies_per_layer`` × latency for each of the layers and time steps that follow
    one another (:attr:`ModelWork.depth`), so that it is slow on slow phones, and ``fixed_s_per_step`` on all.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        phones: Phones,
        model: Callable[[], ModelWork],
        forward_flops: Callable[[], float],
        relative_cost: Annotated[float, Range(0, 1e9)] | None,
        benchmark_flops: Positive,
        flops_factor: Positive,
        latencies_per_layer: NotNegative,
        fixed_s_per_step: StepS,
        session_sigma: Sigma,
    ) -> None:
        super().__init__(seed=seed, phones=phones, session_sigma=session_sigma)
        check_positive("benchmark_flops", benchmark_flops)
        check_positive("flops_factor", flops_factor)
        check_not_negative("latencies_per_layer", latencies_per_layer)
        check_not_negative("fixed_s_per_step", fixed_s_per_step)
        if relative_cost is None:
            relative_cost = flops_factor * forward_flops() / benchmark_flops
        check_not_negative("relative_cost", relative_cost)
        self.relative_cost, self.fixed_s_per_step = relative_cost, fixed_s_per_step
        self._latencies_per_step = latencies_per_layer * model().depth if latencies_per_layer else 0.0

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds without the spread, ``float64[n]``."""
        latency_s = self.phones.inference_ms(ids) / _MS_PER_S
        latencies = BACKWARD_FACTOR * self.relative_cost * n_samples + self._latencies_per_step * n_steps
        seconds: FloatArray = latency_s * latencies + self.fixed_s_per_step * n_steps
        return seconds


class FlopsCompute(PhoneCompute):
    """Counted FLOPs ÷ the phone's FLOP/s, bytes touched ÷ its memory rate, and in each step a cost for every layer.

    ``flops_per_s`` holds for all phones; None: each phone's own rate in the benchmark (``benchmark_flops`` ÷ latency)
    times ``efficiency``. Touched are embedding rows, and the trained parameters in every update. Layers cost as in
    :class:`InferenceCompute`; at a rate of all phones, of the latency that the benchmark has there.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        phones: Phones,
        model: Callable[[], ModelWork],
        flops_per_s: Positive | None,
        benchmark_flops: Positive,
        efficiency: Positive,
        memory_bytes_per_s: Rate,
        latencies_per_layer: NotNegative,
        fixed_s_per_step: StepS,
        session_sigma: Sigma,
    ) -> None:
        super().__init__(seed=seed, phones=phones, session_sigma=session_sigma)
        if flops_per_s is not None:
            check_positive("flops_per_s", flops_per_s)
        check_positive("benchmark_flops", benchmark_flops)
        check_positive("efficiency", efficiency)
        check_positive("memory_bytes_per_s", memory_bytes_per_s)
        check_not_negative("latencies_per_layer", latencies_per_layer)
        check_not_negative("fixed_s_per_step", fixed_s_per_step)
        work = model()
        self._flops, self._flops_per_s = work.training_flops, flops_per_s
        self._benchmark_flops, self._efficiency = benchmark_flops, efficiency
        self._s_per_sample = work.lookup_bytes / memory_bytes_per_s
        self._s_per_step = _UPDATE_PASSES * work.trained_bytes / memory_bytes_per_s + fixed_s_per_step
        self._latencies_per_step = latencies_per_layer * work.depth

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds without the spread, ``float64[n]``; NaN without a rate and a latency."""
        if self._flops_per_s is None:
            latency_s = self.phones.inference_ms(ids) / _MS_PER_S
            per_flop_s = latency_s / (self._efficiency * self._benchmark_flops)
        else:
            latency_s = np.full(len(ids), self._benchmark_flops / self._flops_per_s)
            per_flop_s = np.full(len(ids), 1.0 / self._flops_per_s)
        seconds: FloatArray = (self._flops * per_flop_s + self._s_per_sample) * n_samples
        return seconds + (self._s_per_step + self._latencies_per_step * latency_s) * n_steps


class FixedCompute:
    """The same training time for every device and session; for planning without a model of phones."""

    def __init__(self, *, train_s: DurationS) -> None:
        check_not_negative("train_s", train_s)
        self.seconds = train_s

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """The configured seconds, whatever the work."""
        return np.full(len(ids), self.seconds)

    def train_s(self, ids: IntArray, k: npt.NDArray[np.int32], n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """The configured seconds, whatever the work."""
        return np.full(len(ids), self.seconds)


def check_positive(name: str, value: float) -> None:
    """Refuse a setting of ``device.compute`` that is not above zero."""
    if not 0 < value < float("inf"):
        raise InputError(f"device.compute.{name}", value=value, allowed="> 0")


def check_not_negative(name: str, value: float) -> None:
    """Refuse a setting of ``device.compute`` that is below zero."""
    if not 0 <= value < float("inf"):
        raise InputError(f"device.compute.{name}", value=value, allowed="0 or more")
