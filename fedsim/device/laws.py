"""How long a phone trains: three laws, to be chosen by name, for three kinds of evidence.

``inference``: a benchmark of inference is all there is. ``measured``: steps were timed on some phones. ``flops``:
nothing was timed, or only the FLOPs are to count. They agree on what is asked (:class:`TaskWork`), not on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.device.compute import BACKWARD_FACTOR
from fedsim.device.cost import Phones, TaskWork
from fedsim.device.profiles import LAYER_OPS, between, fit_device
from fedsim.errors import InputError
from fedsim.files import read_table
from fedsim.schema import PROFILES
from fedsim.units import FloatArray

_MS_PER_S = 1000.0
_UPDATE_PASSES = 3  # a step reads the gradient, reads and writes the parameter


class InferenceLaw:
    """3 × inference latency × examples × epochs, scaled by FLOPs, and a fixed cost per step.

    The convention of FedScale (Lai et al. 2022), there without a scale and a fixed cost. The scale is the task model's
    forward FLOPs per example ÷ ``benchmark_flops`` of the model behind the latency.
    """

    def __init__(self, *, benchmark_flops: float, fixed_s_per_step: float) -> None:
        _check_positive("benchmark_flops", benchmark_flops)
        _check_not_negative("fixed_s_per_step", fixed_s_per_step)
        self.benchmark_flops, self.fixed_s_per_step = benchmark_flops, fixed_s_per_step

    def train_s(self, task: TaskWork, phones: Phones) -> FloatArray:
        """Seconds of all epochs on each class, ``float64[n]``."""
        relative_cost = task.forward_flops / self.benchmark_flops
        seconds: FloatArray = phones.inference_ms * (BACKWARD_FACTOR * relative_cost * task.n_visits / _MS_PER_S)
        return seconds + self.fixed_s_per_step * task.n_steps


class FlopsLaw:
    """Counted FLOPs ÷ the phone's FLOP/s, bytes touched ÷ its memory rate, and a fixed cost per step.

    ``flops_per_s`` holds for all phones; None: each phone's own rate in the benchmark (``benchmark_flops`` ÷ latency)
    times ``efficiency``. Touched are embedding rows, and the trained parameters in every update.
    """

    def __init__(
        self,
        *,
        flops_per_s: float | None,
        benchmark_flops: float,
        efficiency: float,
        memory_bytes_per_s: float,
        fixed_s_per_step: float,
    ) -> None:
        if flops_per_s is not None:
            _check_positive("flops_per_s", flops_per_s)
        _check_positive("benchmark_flops", benchmark_flops)
        _check_positive("efficiency", efficiency)
        _check_positive("memory_bytes_per_s", memory_bytes_per_s)
        _check_not_negative("fixed_s_per_step", fixed_s_per_step)
        self.flops_per_s, self.benchmark_flops, self.efficiency = flops_per_s, benchmark_flops, efficiency
        self.memory_bytes_per_s, self.fixed_s_per_step = memory_bytes_per_s, fixed_s_per_step

    def train_s(self, task: TaskWork, phones: Phones) -> FloatArray:
        """Seconds of all epochs on each class, ``float64[n]``."""
        if self.flops_per_s is None:
            rate = self.efficiency * self.benchmark_flops / (phones.inference_ms / _MS_PER_S)
        else:
            rate = np.full(len(phones.share), self.flops_per_s)
        touched_bytes = task.lookup_bytes * task.n_visits + _UPDATE_PASSES * task.trained_bytes * task.n_steps
        seconds: FloatArray = task.training_flops * task.n_visits / rate
        return seconds + touched_bytes / self.memory_bytes_per_s + self.fixed_s_per_step * task.n_steps


class MeasuredLaw:
    """Steps timed on real devices (:data:`fedsim.schema.PROFILES`), fitted and added up over the task's layers.

    A task whose model was timed as a whole uses those rows; any other is the sum of its layers, each looked up under
    the op that ``layer_ops`` gives for the module's class. A phone that was timed has its own time. Others lie
    between the timed ones by their inference latency; ``inference_ms`` tells that of the timed devices. Where
    neither is known the time is unknown.
    """

    def __init__(
        self, *, profiles: Path | str | pa.Table, inference_ms: Mapping[str, float], layer_ops: Mapping[str, str]
    ) -> None:
        if isinstance(profiles, pa.Table):
            self.profiles = profiles
        else:
            folder = Path(profiles)
            self.profiles = read_table(folder / "profiles.parquet" if folder.is_dir() else folder, PROFILES)
        for name, latency_ms in inference_ms.items():
            _check_positive(f"inference_ms.{name}", latency_ms)
        wrong = [op for op in layer_ops.values() if op not in LAYER_OPS]
        if wrong:
            raise InputError("cost.law.layer_ops names an unknown op", value=wrong[0], allowed=", ".join(LAYER_OPS))
        self.inference_ms, self.layer_ops = dict(inference_ms), dict(layer_ops)

    def phones(self) -> Phones:
        """The timed devices themselves, as classes of equal share."""
        names = sorted(pc.unique(self.profiles.column("device")).to_pylist())
        return Phones.named(names, [self.inference_ms.get(name, np.nan) for name in names])

    def train_s(self, task: TaskWork, phones: Phones) -> FloatArray:
        """Seconds of all epochs on each class, ``float64[n]``; NaN where no timed device tells."""
        timed = self._timed_s(task)
        placed = [(self.inference_ms[name], seconds) for name, seconds in timed.items() if name in self.inference_ms]
        seconds = between(phones.inference_ms, placed) if placed else np.full(len(phones.share), np.nan)
        own = [timed.get(str(model), np.nan) for model in phones.model]
        return np.where(np.isnan(own), seconds, own)

    def _timed_s(self, task: TaskWork) -> dict[str, float]:
        """Seconds of the task on each device that was timed on all it needs."""
        devices = sorted(pc.unique(self.profiles.column("device")).to_pylist())
        if task.model in pc.unique(self.profiles.column("op")).to_pylist():
            found = {device: self._whole_s(task, device) for device in devices}
        else:
            ops = [self._op(layer.kind) for layer in task.layers]
            found = {device: self._layers_s(task, device, ops) for device in devices}
        timed = {device: seconds for device, seconds in found.items() if seconds is not None}
        if not timed:
            raise InputError("no device was timed on all layers of the model", value=task.model, allowed=self._ops())
        return timed

    def _whole_s(self, task: TaskWork, device: str) -> float | None:
        unit_s = fit_device(self.profiles, device, task.model, flops_per_example=task.training_flops)
        if unit_s is None:
            return None
        return float(unit_s[0] * task.n_steps + unit_s[1] * task.training_flops * task.n_visits)

    def _layers_s(self, task: TaskWork, device: str, ops: list[str]) -> float | None:
        unit_s = {op: fit_device(self.profiles, device, op) for op in set(ops)}
        total = 0.0
        for layer, op in zip(task.layers, ops, strict=True):
            found = unit_s[op]
            if found is None:
                return None
            per_step = np.array([1.0, 0.0, 0.0, layer.n_parameters, layer.n_steps])
            per_example = np.array([0.0, layer.forward_flops, layer.n_outputs, 0.0, 0.0])
            total += float(found @ (per_step * task.n_steps + per_example * task.n_visits))
        return total

    def _op(self, kind: str) -> str:
        if kind not in self.layer_ops:
            allowed = f"one of {', '.join(LAYER_OPS)} under cost.law.layer_ops.{kind}"
            raise InputError("no op is named for layers of the class", value=kind, allowed=allowed)
        return self.layer_ops[kind]

    def _ops(self) -> str:
        return ", ".join(sorted(pc.unique(self.profiles.column("op")).to_pylist()))


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise InputError(f"cost.law.{name}", value=value, allowed="> 0")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise InputError(f"cost.law.{name}", value=value, allowed="0 or more")
