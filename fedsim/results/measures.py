"""What runs are compared by: one number a run for each measure, which may be known only to be larger than a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.compute as pc

from fedsim.errors import InputError
from fedsim.results.numbers import MetricCurve, metric_curve, metric_names, step_times, top_share
from fedsim.results.run import Run
from fedsim.results.sessions import AGGREGATED
from fedsim.units import HOUR_S, J_PER_KWH, FloatArray, IntArray

Better = Literal["higher", "lower"]
_HIGHER = ("auc", "accuracy", "top3_accuracy", "top5_accuracy", "ndcg5", "ndcg10", "aupr")
_LOWER = ("log_loss", "perplexity", "mean_squared_error")
DIRECTIONS: dict[str, Better] = {**dict.fromkeys(_HIGHER, "higher"), **dict.fromkeys(_LOWER, "lower")}


class Value(NamedTuple):
    """A number of one run (NaN: not measured); ``is_bound``: the run ended before it was reached, it is larger."""

    number: float
    is_bound: bool = False


@dataclass(frozen=True)
class Target:
    """A metric and the value at which it counts as reached, from below or, where lower is better, from above."""

    metric: str
    value: float

    @property
    def better(self) -> Better:
        """In which direction the metric is better; one that is not known is taken to be better when higher."""
        return DIRECTIONS.get(self.metric, "higher")

    def __str__(self) -> str:
        return f"{self.metric.replace('_', ' ')} {'≥' if self.better == 'higher' else '≤'} {self.value:g}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """``accuracy=0.9``."""
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise InputError("--target", value=text, allowed="METRIC=VALUE, as accuracy=0.9")
        return cls(name, value)


@dataclass(frozen=True)
class Measure:
    """Something that a run comes to: its name, its unit, which direction is better (None: neither), how it is found."""

    name: str
    unit: str  # fraction, s, h, bytes, kWh, count or number
    better: Better | None
    of: Callable[[Run], Value]


def measures(runs: Sequence[Run], targets: Sequence[Target]) -> list[Measure]:
    """Final metrics, what the targets cost, and what whole runs came to."""
    metrics = list(dict.fromkeys(name for run in runs for name in metric_names(run)))
    of_metrics = [
        Measure(f"final {name.replace('_', ' ')}", "number", DIRECTIONS.get(name), _final(name)) for name in metrics
    ]
    return [*of_metrics, *(each for target in targets for each in _to_target(target)), *_OF_RUNS]


def missing_metrics(runs: Sequence[Run], targets: Sequence[Target]) -> list[str]:
    """A line for each target whose metric some runs do not measure."""
    lines = []
    for target in targets:
        n = sum(target.metric not in metric_names(run) for run in runs)
        if n:
            known = sorted({name for run in runs for name in metric_names(run)})
            told = f"measured are {', '.join(known)}" if known else "nothing was evaluated"
            lines.append(f"{target.metric} is not measured in {n} of {len(runs)} runs; {told}")
    return lines


def common_target(runs: Sequence[Run]) -> list[Target]:
    """The target that all runs were to stop at, if it is one and the same."""
    stops = [run.config.get("stop") or {} for run in runs]
    asked = {(stop.get("metric"), stop.get("metric_at_least")) for stop in stops}
    metric, value = asked.pop()
    return [] if asked or metric is None or value is None else [Target(metric, float(value))]


def _final(name: str) -> Callable[[Run], Value]:
    return lambda run: Value(float(run.summary["metrics"].get(name, math.nan)))


def time_to(target: Target, run: Run) -> Value:
    """The instant of the first evaluation that meets the target; of the last, as a bound, if none does."""
    return _until(target, run, lambda curve: curve.at)


def _to_target(target: Target) -> list[Measure]:
    def spent(of: Callable[[MetricCurve], FloatArray]) -> Callable[[Run], Value]:
        return lambda run: _until(target, run, of)

    return [
        Measure(f"time to {target}", "s", "lower", spent(lambda curve: curve.at)),
        Measure(f"device-hours to {target}", "h", "lower", spent(lambda curve: curve.device_h)),
        Measure(f"bytes to {target}", "bytes", "lower", spent(lambda curve: curve.n_bytes)),
        Measure(f"energy to {target}", "kWh", "lower", _known_energy(spent(lambda curve: curve.kwh))),
    ]


def _until(target: Target, run: Run, of: Callable[[MetricCurve], FloatArray]) -> Value:
    """What was spent at the first evaluation that meets the target; until the last one, as a bound, if none does."""
    curve = metric_curve(run, target.metric)
    if not len(curve.value):
        return Value(math.nan)
    is_met = curve.value >= target.value if target.better == "higher" else curve.value <= target.value
    return Value(float(of(curve)[np.argmax(is_met)])) if is_met.any() else Value(float(of(curve)[-1]), is_bound=True)


def _known_energy(of: Callable[[Run], Value]) -> Callable[[Run], Value]:
    """A run that booked no joule had no energy model: not measured, instead of nothing."""
    return lambda run: of(run) if run.totals.joules.any() else Value(math.nan)


def _staleness(run: Run) -> float:
    counts = run.totals.staleness[0]
    return float((np.arange(len(counts)) * counts).sum() / counts.sum()) if counts.sum() else math.nan


def jain_index(nth_session: IntArray) -> float:
    """Jain's index of sessions over the devices that took part: 1 if all had equally many, 1/n if one had all.

    ``nth_session[k]`` is the number of devices with more than k sessions, so (2k + 1) of them add up to the sum of
    squares (Jain, Chiu and Hawe 1984).
    """
    if not nth_session.sum():
        return math.nan
    squares = ((2 * np.arange(len(nth_session)) + 1) * nth_session).sum()
    return float(nth_session.sum()) ** 2 / float(nth_session[0] * squares)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _plain(of: Callable[[Run], float | None]) -> Callable[[Run], Value]:
    def value(run: Run) -> Value:
        number = of(run)
        return Value(math.nan if number is None else float(number))

    return value


def _bytes(run: Run) -> int:
    return int(run.totals.download_bytes.sum() + run.totals.upload_bytes.sum())


def _most_in_flight(run: Run) -> float | None:
    most: int | None = pc.max(run.gauge_table.column("in_flight_max")).as_py()
    return most


def _mean_step_s(run: Run) -> float:
    seconds = step_times(run).seconds
    return float(seconds.mean()) if len(seconds) else math.nan


_OF_RUNS = (
    Measure("server steps", "count", None, _plain(lambda run: run.summary["n_steps"])),
    Measure("time per step", "s", "lower", _plain(_mean_step_s)),
    Measure("simulated time", "s", None, _plain(lambda run: run.summary["simulated_s"])),
    Measure("device-hours", "h", "lower", _plain(lambda run: run.totals.device_s.sum() / HOUR_S)),
    Measure("bytes", "bytes", "lower", _plain(_bytes)),
    Measure("energy", "kWh", "lower", _known_energy(_plain(lambda run: run.totals.joules.sum() / J_PER_KWH))),
    Measure("sessions", "count", None, _plain(lambda run: run.summary["n_sessions"])),
    Measure(
        "wasted device time", "fraction", "lower",
        _plain(lambda run: 1 - _share(run.totals.device_s[AGGREGATED], run.totals.device_s.sum())),
    ),
    Measure("mean staleness", "number", "lower", _plain(_staleness)),
    Measure("devices that took part", "count", None, _plain(lambda run: run.totals.nth_session[:1].sum())),
    Measure("Jain's index of sessions", "number", "higher", _plain(lambda run: jain_index(run.totals.nth_session))),
    Measure(
        "sessions of the busiest tenth", "fraction", "lower", _plain(lambda run: top_share(run.totals.nth_session, 0.1))
    ),
    Measure("most devices in flight", "count", None, _plain(_most_in_flight)),
)  # fmt: skip
