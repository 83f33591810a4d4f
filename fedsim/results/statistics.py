"""Means, paired differences and verdicts over a few seeds, with scipy's tests.

A target that a run did not reach is censored: the value is known to be larger than where the run ended. Then means are
not known, and medians, signs of pairs and their exact tests take their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from fedsim.results.measures import Better, Value
from fedsim.units import FloatArray

LEVEL, POWER = 0.95, 0.8
MANY_SEEDS = 1000  # nobody plays so many: a difference that needs more is told as that
_SKEWED, _ENOUGH_FOR_BOOTSTRAP = 1.0, 10
Method = Literal["none", "t", "bootstrap", "median", "welch", "signs"]
Verdict = Literal["better", "worse", "higher", "lower", "equal", "cannot be told", "not measured"]


class Estimate(NamedTuple):
    """Where the runs of an arm are: their mean or, under ``median``, their median (inf: not reached), 95 % interval.

    NaN is what cannot be known: an interval from one seed, a number that no run measured.
    """

    center: float
    low: float
    high: float
    method: Method
    n: int  # runs that measured it
    n_reached: int  # of these, those that are not bounds


class Difference(NamedTuple):
    """An arm minus another one: mean and 95 % interval, p value; what of it can be said, with how many seeds.

    Under ``signs`` (a target was not always reached) center, low and high are NaN. ``n_needed`` is how many seeds it
    would take to tell the difference that is seen with a chance of 80 % (None: it is told, or no number can be given).
    """

    center: float
    low: float
    high: float
    p_value: float
    n_pairs: int
    method: Method
    verdict: Verdict
    n_needed: int | None


def estimate(values: Sequence[Value]) -> Estimate:
    """Mean of one arm and its interval: Student's t, or a bootstrap (BCa) of ten and more skewed values."""
    known = [value for value in values if not math.isnan(value.number)]
    numbers = np.array([value.number for value in known])
    n, n_reached = len(known), sum(not value.is_bound for value in known)
    if not n:
        return Estimate(math.nan, math.nan, math.nan, "none", 0, 0)
    if n_reached < n:
        return Estimate(*_median(known), "median", n, n_reached)
    return Estimate(float(numbers.mean()), *_mean_interval(numbers), n, n_reached)


def _mean_interval(numbers: FloatArray) -> tuple[float, float, Method]:
    if len(numbers) < 2:
        return math.nan, math.nan, "none"
    if np.ptp(numbers) == 0:
        return float(numbers[0]), float(numbers[0]), "t"
    if len(numbers) >= _ENOUGH_FOR_BOOTSTRAP and abs(stats.skew(numbers)) > _SKEWED:
        drawn = stats.bootstrap((numbers,), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(0))
        return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high), "bootstrap"
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(numbers) - 1) * stats.sem(numbers))
    return float(numbers.mean()) - half, float(numbers.mean()) + half, "t"


def _median(values: Sequence[Value]) -> tuple[float, float, float]:
    """The median and an interval from order statistics, exact for any law; what was not reached is beyond all others.

    Simplification: a bound below the largest value that was reached counts as beyond it too.
    """
    ordered = np.sort([math.inf if value.is_bound else value.number for value in values])
    n = len(ordered)
    # Even n: the mean of the middle two, unless the upper one was not reached.
    middle = float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    rank = int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5))  # P(fewer than `rank` below the median) ≤ 2.5 %
    if rank < 1:
        return middle, math.nan, math.nan
    return middle, float(ordered[rank - 1]), float(ordered[n - rank])


def difference(
    values: Sequence[Value], others: Sequence[Value], *, is_paired: bool, better: Better | None
) -> Difference:
    """One arm minus another, and what can be said of it.

    Args:
        values: of the runs of the arm.
        others: of the runs of the arm it is held against; if ``is_paired`` of the same seeds in the same order.
        is_paired: whether runs share their draws by pairs; else Welch's test.
        better: which direction is better; None: neither.
    """
    if is_paired:
        pairs = [(a, b) for a, b in zip(values, others, strict=True) if not math.isnan(a.number + b.number)]
        values, others = [a for a, _ in pairs], [b for _, b in pairs]
    else:
        values, others = ([v for v in each if not math.isnan(v.number)] for each in (values, others))
    n = min(len(values), len(others))
    if not n:
        return Difference(math.nan, math.nan, math.nan, math.nan, 0, "none", "not measured", None)
    if any(value.is_bound for value in (*values, *others)):
        return _by_signs(values, others, better) if is_paired else _nothing_told(n)
    a, b = (np.array([value.number for value in each]) for each in (values, others))
    return _of_pairs(a - b, better) if is_paired else _welch(a, b, better)


def _nothing_told(n: int) -> Difference:
    return Difference(math.nan, math.nan, math.nan, math.nan, n, "none", "cannot be told", None)


def _of_pairs(d: FloatArray, better: Better | None) -> Difference:
    """Student's t of the differences of pairs."""
    n, mean = len(d), float(d.mean())
    if not d.any():
        return Difference(0.0, 0.0, 0.0, 1.0, n, "t", "equal", None)
    if n < 2:
        return Difference(mean, math.nan, math.nan, math.nan, n, "none", "cannot be told", None)
    if np.ptp(d) <= 1e-12 * abs(mean):  # the same difference for every seed
        return Difference(mean, mean, mean, 0.0, n, "t", _direction(mean, better), None)
    low, high, method = _mean_interval(d)
    p_value = float(stats.ttest_1samp(d, 0.0).pvalue)
    if low > 0 or high < 0:
        return Difference(mean, low, high, p_value, n, method, _direction(mean, better), None)
    needed = seeds_needed(mean / float(d.std(ddof=1)))
    return Difference(mean, low, high, p_value, n, method, "cannot be told", needed)


def _welch(a: FloatArray, b: FloatArray, better: Better | None) -> Difference:
    """Welch's test of arms that have no draws in common."""
    n, mean = min(len(a), len(b)), float(a.mean() - b.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, math.nan, n, "none", "cannot be told", None)
    if np.ptp(a) == np.ptp(b) == 0:
        told: Verdict = _direction(mean, better) if mean else "equal"
        return Difference(mean, mean, mean, 0.0 if mean else 1.0, n, "welch", told, None)
    test = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    low, high = float(interval.low), float(interval.high)
    is_told = low > 0 or high < 0
    pooled_sd = math.sqrt(a.var(ddof=1) + b.var(ddof=1))
    return Difference(
        mean, low, high, float(test.pvalue), n, "welch",
        _direction(mean, better) if is_told else "cannot be told",
        None if is_told else seeds_needed(mean / pooled_sd),
    )  # fmt: skip


def _by_signs(values: Sequence[Value], others: Sequence[Value], better: Better | None) -> Difference:
    """An exact sign test on the pairs of which it is known who is first."""
    signs = [sign for sign in map(_sign, values, others) if sign]
    n_larger = sum(sign > 0 for sign in signs)
    if not signs:
        return _nothing_told(len(values))
    p_value = float(stats.binomtest(n_larger, len(signs)).pvalue)
    is_told = p_value <= 1 - LEVEL
    larger = n_larger / len(signs)
    return Difference(
        math.nan, math.nan, math.nan, p_value, len(signs), "signs",
        _direction(larger - 0.5, better) if is_told else "cannot be told",
        None if is_told else _pairs_needed(max(larger, 1 - larger), of=len(signs) / len(values)),
    )  # fmt: skip


def _sign(a: Value, b: Value) -> int:
    """Whether a is larger (1) or smaller (-1); 0 if that is not known or neither."""
    if a.is_bound and b.is_bound:
        return 0
    if a.is_bound:
        return 1 if a.number >= b.number else 0
    if b.is_bound:
        return -1 if b.number >= a.number else 0
    return int(np.sign(a.number - b.number))


def _pairs_needed(share: float, *, of: float) -> int | None:
    """Seeds for a sign test to tell, if so large a share of the pairs points one way, and only ``of`` them point."""
    for n in range(6, MANY_SEEDS + 1):  # five pairs that agree are too few: 2 / 2⁵ > 5 %
        lowest = int(stats.binom.isf((1 - LEVEL) / 2, n, 0.5)) + 1
        if stats.binom.sf(lowest - 1, n, share) >= POWER:
            return math.ceil(n / of)
    return None


def _direction(mean: float, better: Better | None) -> Verdict:
    if better is None:
        return "higher" if mean > 0 else "lower"
    return "better" if (mean > 0) == (better == "higher") else "worse"


def seeds_needed(effect: float) -> int:
    """Fewest pairs with which a t test tells a difference of ``effect`` standard deviations with a chance of 80 %.

    ``MANY_SEEDS`` + 1 stands for more than that.
    """
    low, high = 2, MANY_SEEDS + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _t_power(effect, middle) >= POWER else (middle + 1, high)
    return low


def _t_power(effect: float, n: int) -> float:
    """Chance that a two-sided t test of n pairs tells the effect: noncentral t."""
    critical = stats.t.ppf((1 + LEVEL) / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, abs(effect) * math.sqrt(n)))
