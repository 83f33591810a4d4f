"""Knobs for a sensitivity: clients of the same sizes whose labels, or features, differ less or more than they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.units import FloatArray, IntArray

_BINS = 20  # of the features, within which labels are exchanged
_SAMPLED = 20_000  # rows that a principal direction is found from


def reskewed(
    owner: IntArray,
    label: npt.NDArray[Any],
    feature: FloatArray,
    *,
    label_factor: float,
    feature_factor: float,
    seed: int,
) -> IntArray:
    """Which row lies in whose place: a permutation int64[n] of rows, by which each client keeps its size.

    ``owner`` is whose each place is, ``feature`` one number for each row. Labels are exchanged between rows whose
    features are alike (twentieths), features between rows of one label: each knob leaves the other skew as it is, as
    far as that one number tells it. A factor below 1 lets that share of the rows stay and deals the others out at
    random; one above 1 gives so much more of the rows (2: all) to clients that hold their like already. 1 changes
    nothing.
    """
    rows = np.arange(len(owner))
    edges = np.quantile(feature, np.linspace(0, 1, _BINS + 1)[1:-1])
    values = label.astype(np.float64)
    for knob, factor, alike, values_of in (
        ("label", label_factor, np.searchsorted(edges, feature), values),
        ("feature", feature_factor, np.unique(label, return_inverse=True)[1], feature),
    ):
        if factor != 1.0:
            rows = rows[_exchanged(owner, alike[rows], values_of[rows], factor, f"{knob} skew", seed)]
    return rows


def _exchanged(owner: IntArray, alike: IntArray, value: FloatArray, factor: float, stream: str, seed: int) -> IntArray:
    """A permutation of places within groups of ``alike`` rows."""
    n = np.arange(len(owner))
    draw = rng.uniform(seed, stream, n, 0)
    chosen = np.flatnonzero(draw < abs(1.0 - factor))
    order = rng.uniform(seed, stream, chosen, 1)
    if factor < 1.0:
        givers = chosen[np.lexsort((order, alike[chosen]))]
        takers = chosen[np.argsort(alike[chosen], kind="stable")]
    else:
        mean = np.bincount(owner, weights=value) / np.maximum(np.bincount(owner), 1)
        givers = chosen[np.lexsort((order, value[chosen], alike[chosen]))]
        takers = chosen[np.lexsort((order, mean[owner[chosen]], alike[chosen]))]
    found = n.copy()
    found[takers] = givers
    return found


def coordinate(x: npt.NDArray[Any], *, seed: int) -> FloatArray:
    """One number for each row: of numbers the first principal coordinate, of ids a random projection."""
    flat = x.reshape(len(x), -1)
    if np.issubdtype(flat.dtype, np.integer):
        weight = rng.normal(seed, "id", np.arange(int(flat.max()) + 1))
        found: FloatArray = weight[flat].sum(axis=1)
        return found
    sample = flat[rng.integers(seed, "rows", np.arange(min(len(flat), _SAMPLED)), len(flat))].astype(np.float64)
    centred = sample - sample.mean(axis=0)
    direction = np.linalg.svd(centred.T @ centred)[0][:, 0]
    projected: FloatArray = flat @ direction.astype(flat.dtype)
    return projected.astype(np.float64)
