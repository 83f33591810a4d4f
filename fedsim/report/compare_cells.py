"""The numbers of a comparison as words, for the terminal and for the page alike."""

from __future__ import annotations

import math
from typing import NamedTuple

from fedsim.report.amounts import amount, with_half_width
from fedsim.results.arms import Arm
from fedsim.results.compare import Comparison
from fedsim.results.measures import Measure
from fedsim.results.statistics import MANY_SEEDS, Difference, Estimate

_AMOUNTS = ("s", "h", "bytes", "kWh", "count")
_MINUS = "\u2212"


class Grid(NamedTuple):
    """A table as text."""

    header: list[str]
    rows: list[list[str]]


def values(comparison: Comparison) -> Grid:
    """What each arm came to: a row per measure, a column per arm; measures that are the same in all are left out."""
    arms = comparison.arms
    rows = [
        [measure.name, *(_estimated(comparison.estimate(measure, arm), measure.unit) for arm in arms)]
        for measure in comparison.measures
        if not is_same(comparison, measure)
    ]
    return Grid(["", *(arm.label for arm in arms)], rows)


def is_same(comparison: Comparison, measure: Measure) -> bool:
    """Whether all runs of all arms came to one and the same."""
    found = [comparison.estimate(measure, arm) for arm in comparison.arms]
    return all(each[:3] == (found[0].center,) * 3 for each in found)


def same(comparison: Comparison) -> str:
    """What all runs have in common, in one sentence; empty if there is nothing."""
    told = [
        f"{measure.name} {amount(comparison.estimate(measure, comparison.arms[0]).center, measure.unit)}"
        for measure in comparison.measures
        if is_same(comparison, measure)
    ]
    return f"The same in all runs: {', '.join(told)}." if told else ""


def differences(comparison: Comparison) -> Grid:
    """How each other arm differs from the one it is held against, with its verdict; no rows for one arm."""
    against = comparison.against
    if against is None:
        return Grid([], [])
    others = [arm for arm in comparison.arms if arm is not against]
    rows = [
        [measure.name, *(_told(comparison, measure, arm) for arm in others)]
        for measure in comparison.measures
        if not is_same(comparison, measure)
    ]
    return Grid(["", *(arm.label for arm in others)], rows)


def _told(comparison: Comparison, measure: Measure, arm: Arm) -> str:
    found = comparison.difference(measure, arm)
    if found is None or comparison.against is None:
        return ""
    other = comparison.estimate(measure, comparison.against)
    return f"{verdict(found)}{_how_much(found, other, measure.unit)}"


def verdict(found: Difference) -> str:
    """What can be said, and of what cannot be told how many seeds it would take."""
    if found.verdict != "cannot be told":
        return found.verdict
    if found.n_needed is None:
        return "cannot be told"
    n = f"more than {MANY_SEEDS:,}" if found.n_needed > MANY_SEEDS else f"about {found.n_needed:,}"
    return f"cannot be told ({n} seeds would)"


def _how_much(found: Difference, other: Estimate, unit: str) -> str:
    """Of an amount as a share of the other arm's mean, of shares in points, of other numbers as it is."""
    if math.isnan(found.center) or found.verdict == "equal":
        return ""
    numbers, end = [found.center, found.low, found.high], ""
    if unit in _AMOUNTS and other.method in ("t", "bootstrap", "none") and other.center > 0:
        numbers, end = [100 * number / other.center for number in numbers], "\u00a0%"
    elif unit == "fraction":
        numbers, end = [100 * number for number in numbers], "\u00a0points"
    elif unit in _AMOUNTS:
        end = f"\u00a0{unit}"
    center, low, high = (_signed(number) for number in numbers)
    return f": {center}{end}" + ("" if math.isnan(found.low) or found.low == found.high else f" ({low} … {high})")


def _signed(number: float) -> str:
    text = f"{abs(number):.3g}"
    if "e" in text and abs(number) >= 1:
        text = f"{abs(number):,.0f}"
    return text if not number else ("+" if number > 0 else _MINUS) + text


def _estimated(found: Estimate, unit: str) -> str:
    if not found.n:
        return "not measured"
    if found.method == "t" and found.high > found.low:
        return with_half_width(found.center, (found.high - found.low) / 2, unit)
    ends = (amount(found.low, unit), amount(found.high, unit))
    interval = "" if math.isnan(found.low) or found.low == found.high else f" ({ends[0]} … {ends[1]})"
    if found.method != "median":
        return f"{amount(found.center, unit)}{interval}"
    reached = f"{found.n_reached} of {found.n} reached"
    if math.isinf(found.center):
        return f"not reached by half: {reached}" if found.n_reached else "never reached"
    return f"median {amount(found.center, unit)}{interval}, {reached}"
