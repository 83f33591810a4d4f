"""Other draws: what is left is to hold many seeds against many, which sees little, and says how little."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fedsim.results.measures import DIRECTIONS, Better
from fedsim.results.regress.baseline import Baseline, Played
from fedsim.results.regress.finding import LEAST_MARGIN, Finding, Verdict, rejected
from fedsim.results.regress.quantities import better_of
from fedsim.units import BoolArray, FloatArray

ALPHA = 0.01  # two-sided, over all quantities
POWER = 0.8
N_PERMUTATIONS = 9999
_COURSE = " course"


def findings(baseline: Baseline, runs: Sequence[Played]) -> list[Finding]:
    """The course of each metric by a permutation test, every quantity by Welch's test; Holm over all of them."""
    found = [each for name in baseline.runs[0].curves if (each := _course(baseline, runs, name)) is not None]
    found += [each for name in baseline.runs[0].quantities if (each := _scalar(baseline, runs, name)) is not None]
    alarms = rejected([each.p_value for each in found], ALPHA)
    n_tests = sum(each.p_value < 1 for each in found)
    return [
        each._replace(margin=_smallest_seen(each.margin, n_tests), verdict=_judged(each, is_alarm=is_alarm))
        for each, is_alarm in zip(found, alarms, strict=True)
    ]


def _judged(finding: Finding, *, is_alarm: bool) -> Verdict:
    if not is_alarm:
        return "undecided"
    better = _better(finding.quantity)
    if better is None:
        return "changed"
    return "improved" if (finding.difference > 0) == (better == "higher") else "regressed"


def _better(quantity: str) -> Better | None:
    if quantity.endswith(_COURSE):
        return DIRECTIONS.get(quantity.removesuffix(_COURSE))
    return better_of(quantity)


def _smallest_seen(standard_error: float, n_tests: int) -> float:
    """The change that is found with a chance of 80 %, by the normal law."""
    return float(stats.norm.ppf(1 - ALPHA / 2 / max(n_tests, 1)) + stats.norm.ppf(POWER)) * standard_error


def _scalar(baseline: Baseline, runs: Sequence[Played], name: str) -> Finding | None:
    before, after = (np.array([run.quantities.get(name, math.nan) for run in each]) for each in (baseline.runs, runs))
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    if min(len(before), len(after)) < 2:
        return None
    difference = float(after.mean() - before.mean())
    if np.ptp(before) == np.ptp(after) == 0:
        p_value, low, high = float(difference == 0), difference, difference
    else:
        test = stats.ttest_ind(after, before, equal_var=False)
        interval = test.confidence_interval(1 - ALPHA)
        p_value, low, high = float(test.pvalue), float(interval.low), float(interval.high)
    # From the baseline's spread, as the candidate's may be what changed.
    standard_error = float(before.std(ddof=1)) * math.sqrt(1 / len(before) + 1 / len(after))
    means = float(before.mean()), float(after.mean())
    return Finding(name, *means, difference, low, high, standard_error, p_value, "undecided")


def _course(baseline: Baseline, runs: Sequence[Played], metric: str) -> Finding | None:
    """The largest distance of the mean curves in standard errors, against that of shuffled seeds (max-T).

    The curves are compared at the versions that all of them have.
    """
    played = [run for run in (*baseline.runs, *runs) if metric in run.curves]
    n_before, n = sum(metric in run.curves for run in baseline.runs), len(played)
    if min(n_before, n - n_before) < 2:
        return None
    versions = set.intersection(*(set(run.curves[metric].versions.tolist()) for run in played))
    if not versions:
        return None
    values = np.array([_at(run, metric, versions) for run in played])
    is_after = np.arange(n) >= n_before
    observed = _max_t(values, is_after[None])[0]
    shuffled = np.random.default_rng(0).permuted(np.tile(is_after, (N_PERMUTATIONS, 1)), axis=1)
    n_larger = int(np.count_nonzero(_max_t(values, shuffled) >= observed * (1 - 1e-12)))
    before, after = values[:n_before], values[n_before:]
    difference = after.mean() - before.mean()
    spread = float(before.mean(axis=1).std(ddof=1)) * math.sqrt(1 / n_before + 1 / (n - n_before))
    return Finding(
        metric + _COURSE, float(before.mean()), float(after.mean()), float(difference), math.nan, math.nan, spread,
        (n_larger + 1) / (N_PERMUTATIONS + 1), "undecided",
    )  # fmt: skip


def _at(run: Played, metric: str, versions: set[int]) -> FloatArray:
    curve = run.curves[metric]
    return curve.values[np.isin(curve.versions, list(versions))]


def _max_t(values: FloatArray, is_after: BoolArray) -> FloatArray:
    """Welch's |t| at each version, the largest of each labelling; values ``[run, version]``, labels ``[m, run]``."""
    after, before = is_after.astype(np.float64), (~is_after).astype(np.float64)
    means, errors = [], []
    for label in (before, after):
        n = label.sum(axis=1, keepdims=True)
        mean = label @ values / n
        variance = np.maximum(label @ values**2 / n - mean**2, 0.0) * n / (n - 1)
        means.append(mean)
        errors.append(variance / n)
    distance, error = np.abs(means[1] - means[0]), np.sqrt(errors[0] + errors[1])
    # A version at which runs differ by their last digits alone tells nothing: all start from the same model.
    t = np.divide(distance, error, out=np.zeros_like(distance), where=error > LEAST_MARGIN * np.abs(means[0]))
    largest: FloatArray = t.max(axis=1)
    return largest
