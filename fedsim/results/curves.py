"""Curves of a held-out metric over the seeds of an arm: their mean, and the band in which the mean lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedsim.results.numbers import MetricCurve, metric_curve
from fedsim.results.run import Run
from fedsim.results.statistics import LEVEL
from fedsim.units import FloatArray

N_POINTS = 200
Axis = Callable[[MetricCurve], FloatArray]


@dataclass(frozen=True)
class Band:
    """Mean of the curves and its 95 % interval, ``float64[n]`` each; without an interval if there is one curve."""

    label: str
    x: FloatArray
    mean: FloatArray
    low: FloatArray | None
    high: FloatArray | None


def band(label: str, runs: Sequence[Run], metric: str, axis: Axis) -> Band | None:
    """The curves of all runs against an axis, as far as all of them came; None if that is nowhere.

    Between two evaluations a curve is straight. The band is Student's t at each point by itself.
    """
    curves = [metric_curve(run, metric) for run in runs]
    curves = [curve for curve in curves if len(curve.value)]
    if not curves:
        return None
    low, high = max(axis(curve)[0] for curve in curves), min(axis(curve)[-1] for curve in curves)
    if not low < high:
        return None
    x = np.linspace(low, high, N_POINTS)
    values = np.array([np.interp(x, axis(curve), curve.value) for curve in curves])
    mean, n = values.mean(axis=0), len(values)
    if n < 2:
        return Band(label, x, mean, None, None)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(label, x, mean, mean - half, mean + half)
