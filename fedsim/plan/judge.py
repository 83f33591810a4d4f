"""How one requirement is judged from the runs of a few seeds, and at which level of confidence.

A run is looked at up to three times, after 3, 5 and 10 seeds. Each look has a share of the error, so that stopping at
the first that decides keeps the level: a two-sided interval at 1 − α/3 errs on one side with α/6 at most, over three
looks with α/2. Among ``n`` candidates of which one has to pass the share is smaller by 2/n from the third on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from fedsim.plan.quantities import is_lower_better
from fedsim.plan.requirement import CENTRAL, Requirement
from fedsim.units import FloatArray

State = Literal["PASS", "FAIL", "UNDECIDED", "UNKNOWN"]
LOOKS = (3, 5, 10)
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """What seeds say of a requirement.

    ``estimate`` and its interval are NaN where nothing is known; ``is_fixed``: no seed changes it, so it has no
    interval. ``fails_surely``: its interval at the level of a no-go is on the bad side too. ``reached`` counts the runs
    that saw the target, where there is one.
    """

    requirement: Requirement
    state: State
    estimate: float
    low: float
    high: float
    n: int
    is_fixed: bool = False
    fails_surely: bool = False
    reached: int | None = None
    note: str = ""

    @property
    def room(self) -> float:
        """Distance to the limit in half-widths of the interval, positive on the good side; inf without interval."""
        distance = self.estimate - self.requirement.limit
        distance = distance if self.requirement.is_floor else -distance
        half = (self.high - self.low) / 2
        if math.isnan(distance):
            return math.nan
        if not half > 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / half

    @property
    def is_binding(self) -> bool:
        """Whether the limit is within the interval's half-width."""
        return abs(self.room) <= 1


def level_of(alpha: float, *, n_looks: int, n_candidates: int = 1) -> float:
    """Level of the two-sided interval of one look at one of so many candidates."""
    return 1 - alpha / n_looks * min(1.0, 2 / max(n_candidates, 1))


def level_of_fail(alpha: float, *, n_looks: int, n_musts: int) -> float:
    """Level at which a FAIL counts for a no-go, which any one of so many musts may bring."""
    return 1 - alpha / (n_looks * max(n_musts, 1))


def judge(
    requirement: Requirement, facts: Sequence[Facts], *, level: float, level_of_fail: float, is_fixed: bool = False
) -> Judged:
    """The state of a requirement from what runs of several seeds say; ``is_fixed``: no seed changes its value."""
    if requirement.is_duration_to:
        return _of_durations(requirement, facts, level, level_of_fail)
    found = [value_of(requirement, each) for each in facts]
    values = np.array([value for value in found if value is not None])
    if not len(values) or len(values) < len(found):
        return Judged(requirement, "UNKNOWN", math.nan, math.nan, math.nan, len(values), note="not measured")
    if is_fixed:
        return _fixed(requirement, float(values[0]))
    low, high = interval(values, level)
    state = _state(requirement, low, high, len(values))
    fails_surely = state == "FAIL" and _state(requirement, *interval(values, level_of_fail), len(values)) == "FAIL"
    return Judged(requirement, state, float(values.mean()), low, high, len(values), fails_surely=fails_surely)


def value_of(requirement: Requirement, facts: Facts) -> float | None:
    """The value that a run has to offer, or its difference from what it is compared to; None: not measured."""
    value: float | None = facts["values"].get(requirement.metric)
    if value is None or requirement.compared_to is None:
        return value
    source = facts["central"] if requirement.compared_to == CENTRAL else facts["values"]
    other = source.get(requirement.metric if requirement.compared_to == CENTRAL else requirement.compared_to)
    return None if other is None else float(value) - float(other)


def _fixed(requirement: Requirement, value: float) -> Judged:
    is_met = requirement.is_met(value)
    return Judged(
        requirement, "PASS" if is_met else "FAIL", value, value, value, 1, is_fixed=True, fails_surely=not is_met
    )


def interval(values: FloatArray, level: float) -> tuple[float, float]:
    """Student's t interval of the mean, NaN from one value; values that are all the same are their own interval."""
    if len(values) < 2:
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    mean = float(values.mean())
    return mean - half, mean + half


def _state(requirement: Requirement, low: float, high: float, n: int) -> State:
    if n < LOOKS[0] or math.isnan(low + high):
        return "UNDECIDED"
    if requirement.is_met(low) and requirement.is_met(high):
        return "PASS"
    return "UNDECIDED" if requirement.is_met(low) or requirement.is_met(high) else "FAIL"


# Time until a target


def days_to(requirement: Requirement, facts: Facts) -> tuple[float, bool] | None:
    """Days until a run saw the target, or (how long it went on, False); None: it did not measure the metric.

    The first evaluation at or beyond the target counts.
    """
    curve = facts["curves"].get(requirement.measured)
    if requirement.target is None or curve is None or not curve["value"]:
        return None
    goal = requirement.target.of(facts["central"].get(requirement.measured))
    if math.isnan(goal):
        return None
    place = first_at(curve["value"], goal, requirement.measured)
    return (facts["horizon_days"], False) if place is None else (curve["days"][place], True)


def first_at(values: Sequence[float], goal: float, metric: str) -> int | None:
    """Where a metric is first at its goal; None: nowhere."""
    from_above = is_lower_better(metric)
    return next((n for n, value in enumerate(values) if (value <= goal if from_above else value >= goal)), None)


def _of_durations(requirement: Requirement, facts: Sequence[Facts], level: float, level_of_fail: float) -> Judged:
    found = [days_to(requirement, each) for each in facts]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return Judged(requirement, "UNKNOWN", math.nan, math.nan, math.nan, len(known), note="not measured")
    days, is_seen = np.array([each[0] for each in known]), np.array([each[1] for each in known])
    n_seen = int(is_seen.sum())
    if n_seen == len(known):
        return _of_log_days(requirement, days, level, level_of_fail)
    if 2 * n_seen >= len(known):
        return _of_median(requirement, days, is_seen, level)
    return _mostly_not_seen(requirement, days, is_seen)


def _of_log_days(requirement: Requirement, days: FloatArray, level: float, level_of_fail: float) -> Judged:
    """Durations are spread by factors: their interval is that of the logarithm's mean."""
    logs = np.log(np.maximum(days, 1e-9))
    low, high = (math.exp(each) for each in interval(logs, level))
    state = _state(requirement, low, high, len(days))
    surely = [math.exp(each) for each in interval(logs, level_of_fail)]
    fails_surely = state == "FAIL" and _state(requirement, surely[0], surely[1], len(days)) == "FAIL"
    mean = float(np.exp(logs.mean()))
    return Judged(requirement, state, mean, low, high, len(days), fails_surely=fails_surely, reached=len(days))


def _of_median(requirement: Requirement, days: FloatArray, is_seen: np.ndarray, level: float) -> Judged:
    """Kaplan and Meier's median with Greenwood's interval, where some runs ended before the target."""
    survival = stats.ecdf(stats.CensoredData(uncensored=days[is_seen], right=days[~is_seen])).sf
    band = survival.confidence_interval(level, method="log-log")
    at = survival.quantiles
    median, low, high = (
        _crossing(at, each) for each in (survival.probabilities, band.low.probabilities, band.high.probabilities)
    )
    low = float(at[0]) if math.isnan(low) else low
    state = _state(requirement, low, high, len(days))
    note = f"{int(is_seen.sum())} of {len(days)} runs reached it: median"
    return Judged(requirement, state, median, low, high, len(days), reached=int(is_seen.sum()), note=note)


def _crossing(at: FloatArray, probability: FloatArray) -> float:
    """Where survival falls to a half; inf: nowhere."""
    below = np.flatnonzero(np.nan_to_num(probability, nan=1.0) <= 0.5)
    return float(at[below[0]]) if len(below) else math.inf


def _mostly_not_seen(requirement: Requirement, days: FloatArray, is_seen: np.ndarray) -> Judged:
    """Most runs did not reach the target: that is a failure if they went on for longer than is allowed."""
    longest, n = float(days[~is_seen].min()), len(days)
    has_failed = longest >= requirement.limit and n >= LOOKS[0]
    note = f"not within {longest:.3g} days in {int((~is_seen).sum())} of {n} runs"
    return Judged(
        requirement, "FAIL" if has_failed else "UNDECIDED", math.inf, longest, math.inf, n,
        fails_surely=has_failed, reached=int(is_seen.sum()), note=note,
    )  # fmt: skip
