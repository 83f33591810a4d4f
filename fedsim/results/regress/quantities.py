"""What a regression shows in: the course of each metric, and what the run asked of phones, network and server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.results.measures import DIRECTIONS, Better, Target
from fedsim.results.numbers import metric_names, step_times
from fedsim.results.run import Run
from fedsim.units import FloatArray, IntArray

MAX_VERSIONS = 40  # of a curve that a baseline keeps
_BY_VERSION, _BY_TIME = " over versions", " over time"


class Curve(NamedTuple):
    """A metric at versions of the model: ``int64[n]`` ascending, ``float64[n]``."""

    versions: IntArray
    values: FloatArray


def better_of(quantity: str) -> Better | None:
    """Which direction of a quantity is better; of loads less; None of a metric that is not known."""
    if quantity.endswith((_BY_VERSION, _BY_TIME)):
        return DIRECTIONS.get(quantity.removesuffix(_BY_VERSION).removesuffix(_BY_TIME))
    return "lower"


def quantities(run: Run, targets: Sequence[Target]) -> dict[str, float]:
    """One number of a run for each quantity; NaN where it was not measured.

    Means of curves are areas under them: on the version axis what was learned, on the time axis how fast. A target that
    was not reached counts as reached at the last evaluation, which is early: the run is at least so slow.
    """
    found = {}
    for metric in metric_names(run):
        at, _, value = _evaluations(run, metric)
        curve = curve_of(run, metric)
        found[metric + _BY_VERSION] = _mean(curve.versions.astype(np.float64), curve.values)
        found[metric + _BY_TIME] = _mean(at, value)
    found |= {f"log time to {target}": _log_time_to(run, target) for target in targets}
    return found | _loads(run)


def curve_of(run: Run, metric: str) -> Curve:
    """The metric at each version that was evaluated; of several evaluations of one version the last."""
    _, version, value = _evaluations(run, metric)
    last = np.append(np.diff(version) > 0, True)[: len(version)]
    return Curve(version[last], value[last])


def thinned(curve: Curve) -> Curve:
    """At most 40 versions of it, evenly taken, the first and the last among them, to six digits.

    Those of a file and those of a run are then the same numbers.
    """
    n = len(curve.versions)
    kept = np.unique(np.linspace(0, n - 1, min(n, MAX_VERSIONS)).round().astype(np.int64))
    return Curve(curve.versions[kept], np.array([float(f"{value:.6g}") for value in curve.values[kept].tolist()]))


def _evaluations(run: Run, metric: str) -> tuple[FloatArray, IntArray, FloatArray]:
    """Instants, versions and values, in order of time."""
    rows = run.eval_table.filter(pc.field("metric") == pa.scalar(metric))
    at, version, value = (rows.column(name).to_numpy() for name in ("at", "version", "value"))
    return at, version, value


def _mean(x: FloatArray, y: FloatArray) -> float:
    """Area under straight lines ÷ length of the axis; of one point its value."""
    if not len(x):
        return math.nan
    return float(np.trapezoid(y, x) / (x[-1] - x[0])) if x[-1] > x[0] else float(y[-1])


def _log_time_to(run: Run, target: Target) -> float:
    at, _, value = _evaluations(run, target.metric)
    if not len(at):
        return math.nan
    is_met = value >= target.value if target.better == "higher" else value <= target.value
    reached_at = float(at[np.argmax(is_met)] if is_met.any() else at[-1])
    return math.log(reached_at) if reached_at > 0 else math.nan


def _loads(run: Run) -> dict[str, float]:
    """Reports, device-seconds, bytes, joules and the time of a step."""
    t, seconds = run.totals, step_times(run).seconds
    joules = float(t.joules.sum())
    return {
        "sessions": float(t.n.sum()),
        "reports": float(t.n_reached[-1]),
        "device-seconds": float(t.device_s.sum()),
        "bytes": float(t.download_bytes.sum() + t.upload_bytes.sum()),
        "joules": joules if joules else math.nan,
        "seconds per step": float(seconds.mean()) if len(seconds) else math.nan,
    }
