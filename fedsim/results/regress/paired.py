"""Same draws: runs of one seed are held against each other, and a change is judged by what does harm, not by zero.

Between seeds a curve moves by per cents, between two runs of one seed by nothing but the change itself; so three seeds
tell what hundreds would not without pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from fedsim.results.measures import Better
from fedsim.results.regress.baseline import Baseline, Played
from fedsim.results.regress.finding import LEAST_MARGIN, Finding, Verdict, rejected
from fedsim.results.regress.quantities import better_of
from fedsim.units import FloatArray

ALPHA = 0.05  # two-sided, over all quantities
MARGIN_SD = 0.1  # of the spread between seeds: so small a change does no harm


class _Pairs(NamedTuple):
    """Differences of one quantity, and how far they are beyond what does no harm."""

    quantity: str
    before: FloatArray
    d: FloatArray
    margin: float


def findings(baseline: Baseline, runs: Sequence[Played]) -> list[Finding]:
    """One for each quantity that both measured; ``runs`` are of seeds that the baseline has."""
    pairs = [each for each in (_pairs(baseline, runs, name) for name in _names(baseline, runs)) if each is not None]
    p_less, p_more = ([_p_beyond(sign * each.d, each.margin) for each in pairs] for sign in (-1.0, 1.0))
    is_less, is_more = (rejected(p, ALPHA / 2) for p in (p_less, p_more))
    return [
        _finding(each, min(less, more), is_less=falls, is_more=rises)
        for each, less, more, falls, rises in zip(pairs, p_less, p_more, is_less, is_more, strict=True)
    ]


def _names(baseline: Baseline, runs: Sequence[Played]) -> list[str]:
    return [name for name in baseline.runs[0].quantities if all(name in run.quantities for run in runs)]


def _pairs(baseline: Baseline, runs: Sequence[Played], name: str) -> _Pairs | None:
    recorded = {run.seed: run.quantities.get(name, math.nan) for run in baseline.runs}
    before = np.array([recorded[run.seed] for run in runs])
    after = np.array([run.quantities[name] for run in runs])
    is_known = ~np.isnan(before + after)
    if not is_known.any():
        return None
    spread = np.array([value for value in recorded.values() if not math.isnan(value)])
    sd = float(spread.std(ddof=1)) if len(spread) > 1 else 0.0
    margin = max(MARGIN_SD * sd, LEAST_MARGIN * float(np.abs(spread).mean()))
    return _Pairs(name, before[is_known], (after - before)[is_known], margin)


def _p_beyond(d: FloatArray, margin: float) -> float:
    """Of the hypothesis that the mean difference is at most the margin: one-sided Student's t."""
    if np.ptp(d) == 0:  # the same for all seeds, as is nothing at all
        return 0.0 if d[0] > margin and len(d) > 1 else 1.0
    return float(stats.ttest_1samp(d, margin, alternative="greater").pvalue)


def _finding(pairs: _Pairs, p_value: float, *, is_less: bool, is_more: bool) -> Finding:
    d, before = pairs.d, float(pairs.before.mean())
    low, high = _interval(d)
    is_inside = -pairs.margin <= low and high <= pairs.margin
    verdict: Verdict = "harmless" if is_inside else "undecided"
    if is_less or is_more:
        verdict = _judged(better_of(pairs.quantity), is_more=is_more)
    mean = float(d.mean())
    return Finding(pairs.quantity, before, before + mean, mean, low, high, pairs.margin, p_value, verdict)


def _interval(d: FloatArray) -> tuple[float, float]:
    mean = float(d.mean())
    if np.ptp(d) == 0:
        return (mean, mean) if len(d) > 1 or mean == 0 else (-math.inf, math.inf)
    half = float(stats.t.ppf(1 - ALPHA / 2, len(d) - 1) * stats.sem(d))
    return mean - half, mean + half


def _judged(better: Better | None, *, is_more: bool) -> Verdict:
    if better is None:
        return "changed"
    return "improved" if is_more == (better == "higher") else "regressed"
