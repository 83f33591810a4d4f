"""Step times fitted to measured steps: a fixed cost, and so much for every unit of work.

A step of a layer is timed with many sizes (:data:`fedsim.schema.PROFILES`). Its time is taken to be linear in what
the step does: one step, its FLOPs, the numbers it puts out, the parameters it updates, and the time steps that
cannot be run side by side. All coefficients are zero or more and minimise the relative error, so that small steps
count like large ones. Between measured sizes this interpolates; beyond them it is a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import nnls

from fedsim.errors import InputError
from fedsim.units import FloatArray

TERMS = ("steps", "flops", "outputs", "parameters", "time steps")
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}
LAYER_OPS = ("output", "embedding", *_GATES)


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


def between(phones_ms: FloatArray, known: Sequence[tuple[float, float]]) -> FloatArray:
    """Seconds at each latency from known pairs (latency in ms, seconds): straight in logarithms.

    Pairs of one latency count as their mean. Beyond the fastest and the slowest time goes with latency. NaN stays NaN.
    """
    ms, pair = np.unique([at for at, _ in known], return_inverse=True)
    seconds = np.bincount(pair, weights=[s for _, s in known]) / np.bincount(pair)
    inside = np.exp(np.interp(np.log(phones_ms), np.log(ms), np.log(seconds)))
    reach: FloatArray = phones_ms / np.clip(phones_ms, ms[0], ms[-1])
    return inside * reach


def _floats(rows: pa.Table, name: str) -> FloatArray:
    return np.asarray(rows.column(name).to_numpy(), dtype=np.float64)
