"""Arms beside each other: what each came to, and how it differs from one of them, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from fedsim.errors import InputError
from fedsim.results.arms import Arm
from fedsim.results.measures import Measure, Target, Value, common_target, measures, missing_metrics
from fedsim.results.runs import Runs
from fedsim.results.statistics import Difference, Estimate, difference, estimate
from fedsim.schema import COMPARISON


@dataclass(frozen=True)
class Comparison:
    """Arms, what they are compared by, and the arm that the others are held against (None: there is one arm only)."""

    arms: tuple[Arm, ...]
    against: Arm | None
    targets: tuple[Target, ...]
    remarks: tuple[str, ...]  # what could not be answered, a line each

    @cached_property
    def measures(self) -> list[Measure]:
        """What is compared, but for what no run measured."""
        runs = [run for arm in self.arms for run in arm.runs]
        found = measures(runs, self.targets)
        return [m for m in found if any(not math.isnan(v.number) for arm in self.arms for v in self._of(m, arm))]

    @cached_property
    def _values(self) -> dict[tuple[str, str], list[Value]]:
        return {}

    def _of(self, measure: Measure, arm: Arm) -> list[Value]:
        key = (measure.name, arm.label)
        if key not in self._values:
            self._values[key] = [measure.of(run) for run in arm.runs]
        return self._values[key]

    def estimate(self, measure: Measure, arm: Arm) -> Estimate:
        """What the arm came to."""
        return estimate(self._of(measure, arm))

    def difference(self, measure: Measure, arm: Arm) -> Difference | None:
        """The arm minus the one it is held against; None of that arm itself, and if there is only one.

        Seeds that both have are held against each other; arms with fewer than two in common are compared unpaired.
        """
        if self.against is None or arm is self.against:
            return None
        common = sorted(set(arm.seeds) & set(self.against.seeds))
        ours, theirs = self._of(measure, arm), self._of(measure, self.against)
        is_paired = len(common) > 1 or min(len(ours), len(theirs)) < 2 <= 2 * len(common)
        if is_paired:
            ours = [ours[arm.seeds.index(seed)] for seed in common]
            theirs = [theirs[self.against.seeds.index(seed)] for seed in common]
        return difference(ours, theirs, is_paired=is_paired, better=measure.better)

    def table(self) -> pa.Table:
        """One row per measure and arm, as :data:`fedsim.schema.COMPARISON`; what is not known is null."""
        rows = [self._row(measure, arm) for measure in self.measures for arm in self.arms]
        return pa.Table.from_pylist(rows, COMPARISON.arrow())

    def _row(self, measure: Measure, arm: Arm) -> dict[str, Any]:
        found, other = self.estimate(measure, arm), self.difference(measure, arm)
        row = {
            "measure": measure.name,
            "unit": measure.unit,
            "better": measure.better,
            "arm": arm.label,
            "seeds": arm.seeds,
            "n_runs": found.n,
            "n_reached": found.n_reached,
            "center": found.center,
            "low": found.low,
            "high": found.high,
            "method": found.method,
            "against": None if other is None or self.against is None else self.against.label,
        }
        if other is not None:
            row |= {
                "n_pairs": other.n_pairs,
                "difference": other.center,
                "difference_low": other.low,
                "difference_high": other.high,
                "difference_method": other.method,
                "p_value": other.p_value,
                "verdict": other.verdict,
                "n_seeds_needed": other.n_needed,
            }
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def compare(runs: Runs, *, targets: Sequence[Target] = (), against: str | None = None) -> Comparison:
    """The comparison of all arms, with the first one unless ``against`` names another.

    Without ``targets`` the metric is taken at which all runs were to stop, if it is one. Raises :class:`InputError` if
    ``against`` is no arm's name, nor a part of one alone.
    """
    remarks = list(runs.left_out)
    if len(runs.arms) == 1:
        remarks.append("one arm only: there is nothing to hold it against")
    kept = [run for arm in runs.arms for run in arm.runs]
    wanted = tuple(targets) or tuple(common_target(kept))
    remarks += missing_metrics(kept, wanted)
    alone = [arm.label for arm in runs.arms if len(arm.runs) == 1]
    if alone:
        remarks.append(f"one seed only, which tells no interval: {', '.join(alone)}")
    other = named_arm(runs.arms, against) if len(runs.arms) > 1 else None
    return Comparison(runs.arms, other, wanted, tuple(remarks))


def named_arm(arms: Sequence[Arm], name: str | None) -> Arm:
    """The arm of this name, or the only one whose name holds it; None: the first."""
    if name is None:
        return arms[0]
    exact = [arm for arm in arms if arm.label == name]
    found = exact or [arm for arm in arms if name in arm.label]
    if len(found) != 1:
        what = "no arm has this name" if not found else "several arms have this in their names"
        raise InputError(f"--against: {what}", value=name, allowed="; ".join(arm.label for arm in arms))
    return found[0]
