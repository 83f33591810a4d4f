"""Step times fitted to measured steps: a fixed cost, and so much for every unit of work.

A step of a layer is timed with many sizes (:data:`fedsim.schema.PROFILES`). Its time is taken to be linear in what
the step does: one step, its FLOPs, the numbers it puts out, the parameters it updates, and the time steps that
cannot be run side by side. All coefficients are zero or more and minimise the relative error, so that small steps
count like large ones. Between measured sizes this interpolates; beyond them it is a straight line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import nnls

from fedsim.errors import InputError
from fedsim.files import read_table
from fedsim.schema import PROFILES
from fedsim.training.model_work import ModelWork
from fedsim.units import FloatArray

TERMS = ("steps", "flops", "outputs", "parameters", "time steps")
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
LAYER_OPS = ("output", "embedding", *_GATES)


@dataclass(frozen=True)
class Profiles:
    """Timed steps (rows of :data:`fedsim.schema.PROFILES`) of some devices."""

    rows: pa.Table

    @classmethod
    def load(cls, path: Path | str) -> Profiles:
        """The steps of a Parquet file, or of the ``profiles.parquet`` of a folder."""
        path = Path(path)
        return cls(read_table(path / "profiles.parquet" if path.is_dir() else path, PROFILES))

    @property
    def devices(self) -> list[str]:
        """Names of the timed devices, sorted."""
        return sorted(pc.unique(self.rows.column("device")).to_pylist())

    def unit_s(self, model: ModelWork, layer_ops: Mapping[str, str]) -> dict[str, tuple[float, float]]:
        """Seconds of one step and of one sample of the model, for each device that was timed on all it needs.

        A model that was timed as a whole uses those rows; any other is the sum of its layers, each looked up under
        the op of :data:`LAYER_OPS` that ``layer_ops`` gives for its class.

        Raises:
            InputError: a layer without an op, an unknown op, or no device that was timed on all layers.
        """
        _check_ops(layer_ops)
        timed_ops = pc.unique(self.rows.column("op")).to_pylist()
        if model.name in timed_ops:
            found = {device: self._whole(model, device) for device in self.devices}
        else:
            ops = [_op(layer.kind, layer_ops) for layer in model.layers]
            found = {device: self._layers(model, device, ops) for device in self.devices}
        timed = {device: unit_s for device, unit_s in found.items() if unit_s is not None}
        if not timed:
            allowed = ", ".join(sorted(timed_ops))
            raise InputError("no device was timed on all layers of the model", value=model.name, allowed=allowed)
        return timed

    def _whole(self, model: ModelWork, device: str) -> tuple[float, float] | None:
        unit_s = fit_device(self.rows, device, model.name, flops_per_example=model.training_flops)
        return None if unit_s is None else (float(unit_s[0]), float(unit_s[1]) * model.training_flops)

    def _layers(self, model: ModelWork, device: str, ops: list[str]) -> tuple[float, float] | None:
        unit_s = {op: fit_device(self.rows, device, op) for op in set(ops)}
        step_s = sample_s = 0.0
        for layer, op in zip(model.layers, ops, strict=True):
            found = unit_s[op]
            if found is None:
                return None
            step_s += float(found @ np.array([1.0, 0.0, 0.0, layer.n_parameters, layer.n_steps]))
            sample_s += float(found @ np.array([0.0, layer.forward_flops, layer.n_outputs, 0.0, 0.0]))
        return step_s, sample_s


def _check_ops(layer_ops: Mapping[str, str]) -> None:
    wrong = [op for op in layer_ops.values() if op not in LAYER_OPS]
    if wrong:
        raise InputError("device.compute.layer_ops names an unknown op", value=wrong[0], allowed=", ".join(LAYER_OPS))


def _op(kind: str, layer_ops: Mapping[str, str]) -> str:
    if kind not in layer_ops:
        allowed = f"one of {', '.join(LAYER_OPS)} under device.compute.layer_ops.{kind}"
        raise InputError("no op is named for layers of the class", value=kind, allowed=allowed)
    return layer_ops[kind]


def layer_terms(rows: pa.Table, op: str) -> FloatArray:
    """The work of timed layers ``float64[n, len(TERMS)]`` from their sizes; an op of :data:`LAYER_OPS`."""
    n_in, n_out, batch_size = (_floats(rows, name) for name in ("in_size", "out_size", "batch_size"))
    n_times = np.nan_to_num(_floats(rows, "seq_len"), nan=1.0)
    if op in _GATES:
        n_parameters, multiplies = _GATES[op] * n_out * (n_in + n_out), True
    else:
        n_parameters, multiplies = n_in * n_out, op == "output"
    n_rows = batch_size * n_times
    columns = (
        np.ones(len(n_in)),
        2 * n_rows * n_parameters * multiplies,
        n_rows * n_out,
        n_parameters,
        n_times * (op in _GATES),
    )
    return np.stack(columns, axis=1)


def model_terms(rows: pa.Table, *, flops_per_example: float) -> FloatArray:
    """The work of a model timed as a whole: a step, and its FLOPs by batch size."""
    terms = np.zeros((rows.num_rows, len(TERMS)))
    terms[:, 0], terms[:, 1] = 1.0, _floats(rows, "batch_size") * flops_per_example
    return terms


def fit_steps(terms: FloatArray, step_s: FloatArray, *, what: str) -> FloatArray:
    """Seconds for one unit of each term, ``float64[len(TERMS)]``.

    Raises:
        InputError: naming ``what`` was timed, with fewer than two sizes of the step.
    """
    if len(np.unique(terms, axis=0)) < 2:
        raise InputError(f"{what} was timed in one size only", allowed="two or more, to tell the fixed cost of a step")
    relative = terms / step_s[:, None]
    scale = relative.max(axis=0)
    is_used = scale > 0
    found = np.zeros(terms.shape[1])
    found[is_used] = nnls(relative[:, is_used] / scale[is_used], np.ones(len(step_s)))[0] / scale[is_used]
    return found


def fit_device(
    profiles: pa.Table, device: str, op: str, *, flops_per_example: float | None = None
) -> FloatArray | None:
    """Coefficients of one device and op, None if it was not timed there; with FLOPs the op is a whole model."""
    is_asked = pc.and_(pc.equal(profiles.column("device"), device), pc.equal(profiles.column("op"), op))
    rows = profiles.filter(pc.and_(is_asked, pc.equal(profiles.column("kind"), "train_step")))
    if not rows.num_rows:
        return None
    if flops_per_example is None:
        terms = layer_terms(rows, op)
    else:
        terms = model_terms(rows, flops_per_example=flops_per_example)
    is_known = ~np.isnan(terms).any(axis=1)
    return fit_steps(terms[is_known], _floats(rows, "step_s")[is_known], what=f"{op} on {device}")


def _floats(rows: pa.Table, name: str) -> FloatArray:
    return np.asarray(rows.column(name).to_numpy(), dtype=np.float64)
