"""Arms beside each other, paired by seed: what a change does, what each criterion costs, when to start."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from fedsim.plan.quantities import QUANTITIES, is_lower_better
from fedsim.plan.spec import Spec
from fedsim.plan.trials import Candidate, Row, Trials
from fedsim.results.measures import Better, Value
from fedsim.results.statistics import Difference, difference
from fedsim.units import FloatArray

HEADLINE: dict[str, Better | None] = {
    "days": "lower",
    "steps": "higher",
    "updates": "higher",
    "steps_a_day": "higher",
    "device_hours": "lower",
    "wasted_device_time_fraction": "lower",
    "dropout_fraction": "lower",
    "admitted_fraction.mean": "higher",
    "admitted_fraction.min_hour": "higher",
    "bytes_per_device_month.p50": "lower",
    "metered_bytes_fraction": "lower",
    "battery_percent_per_participation.p95": "lower",
    "updates_per_s.peak_minute": None,
    "egress_bytes_per_s.peak_minute": "lower",
    "connections.p99": None,
    "aggregators": "lower",
    "usd_per_model": "lower",
    "kwh_per_model": "lower",
    "kg_co2e_per_model": "lower",
}
_OF_CRITERIA = ("days", "device_hours", "admitted_fraction.mean", "admitted_fraction.min_hour", "dropout_fraction")
_EXTRA_UNITS = {"steps": "count", "updates": "count", "steps_a_day": "1/day", "updates_a_day": "1/day"}
ALL, BASE = "all criteria", "as it is"


def unit_of(name: str) -> str:
    """The unit of a figure of a plan."""
    return QUANTITIES[name].unit if name in QUANTITIES else _EXTRA_UNITS.get(name, "number")


class Change(NamedTuple):
    """A figure of one arm beside that of the first one, and their difference seed by seed."""

    arm: str
    name: str
    before: float
    after: float
    told: Difference


def arms_of(spec: Spec) -> dict[str, Candidate]:
    """The arms of a question by what the table calls them; the first is what the others are held against."""
    if spec.find == "criteria":
        return _without_each(spec.criteria)
    pairs = [(key, value) for key, _, value in (each.partition("=") for each in spec.changes)]
    arms = {BASE: Candidate(), ", ".join(spec.changes): Candidate(tuple(pairs))}
    return arms


def _without_each(rules: Sequence[str]) -> dict[str, Candidate]:
    """All criteria together, and all but one of them."""
    arms = {ALL: _with_rule(rules)}
    for place, rule in enumerate(rules):
        arms[f"without {rule}"] = _with_rule([*rules[:place], *rules[place + 1 :]])
    return arms


def _with_rule(rules: Sequence[str]) -> Candidate:
    return Candidate((("fleet.rule", " & ".join(f"({rule})" for rule in rules)),))


def compared(trials: Trials, arms: dict[str, Candidate]) -> list[Change]:
    """What the arms come to beside the first; more seeds while a difference cannot be told, and is not small."""
    changes: list[Change] = []
    is_training = trials.spec.is_training
    for n in trials.spec.replications.looks:
        trials.seen(list(arms.values()), range(n), is_training=is_training)
        rows = {name: trials.kept(trials.row(each, range(n), is_training=is_training)) for name, each in arms.items()}
        changes = changes_of(trials.spec, rows)
        if not any(_is_open(each, trials.spec.replications.narrow) for each in changes):
            break
    return changes


def changes_of(spec: Spec, rows: dict[str, Row]) -> list[Change]:
    """All headline figures of each arm but the first; figures that one of them did not measure are left out."""
    (_, first), *others = rows.items()
    return [
        Change(arm, name, first.mean(name), row.mean(name), _paired(first, row, name, better))
        for arm, row in others
        for name, better in headline(spec).items()
        if len(first.figure(name)) == len(row.figure(name)) > 0
    ]


def headline(spec: Spec) -> dict[str, Better | None]:
    """The figures that are told, and which direction is better (None: neither)."""
    if spec.find == "criteria":
        return {name: HEADLINE[name] for name in _OF_CRITERIA}
    learned: dict[str, Better | None] = {
        name: "lower" if is_lower_better(name) else "higher" for name in spec.metrics if spec.is_training
    }
    return HEADLINE | learned


def _paired(first: Row, row: Row, name: str, better: Better | None) -> Difference:
    values, others = ([Value(float(v)) for v in each.figure(name)] for each in (row, first))
    return difference(values, others, is_paired=True, better=better)


def _is_open(change: Change, narrow: float) -> bool:
    half = (change.told.high - change.told.low) / 2
    return change.told.verdict == "cannot be told" and not half <= narrow * abs(change.before)


def n_kept(changes: Sequence[Change], fresh: Sequence[Change]) -> tuple[int, int]:
    """Of the differences that were told, how many have the same sign with fresh seeds; and how many were told."""
    told = {(each.arm, each.name): each.told.center for each in changes if each.told.verdict in _TOLD}
    again = {(each.arm, each.name): each.told.center for each in fresh}
    return sum(again.get(key, 0.0) * center > 0 for key, center in told.items()), len(told)


_TOLD = ("better", "worse", "higher", "lower")


# Latest start


class Start(NamedTuple):
    """The latest date to start at, and the days that are reckoned with: of one run, at the level of confidence."""

    date: datetime.date
    days: float
    mean: float
    level: float


def latest_start(row: Row, launch: datetime.date, *, alpha: float) -> Start:
    """When a campaign has to start to be done before the launch.

    One campaign will run, so it is the bound of the next run that counts, not that of the mean: Student's
    one-sided prediction bound. Simplification: all campaigns start on the weekday on which the simulated time begins.
    """
    days = row.figure("days")
    bound = prediction_bound(days, 1 - alpha)
    return Start(launch - datetime.timedelta(days=math.ceil(bound)), bound, float(days.mean()), 1 - alpha)


def is_as_foretold(values: FloatArray, fresh: FloatArray, level: float = 0.99) -> bool:
    """Whether the mean of fresh values is within the prediction interval from others (``float64[n]``, ``[m]``)."""
    if not len(fresh):
        return False
    n, m = len(values), len(fresh)
    spread = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1)) * math.sqrt(1 / n + 1 / m)
    return abs(float(fresh.mean() - values.mean())) <= spread + 1e-3 * abs(float(values.mean()))


def prediction_bound(values: FloatArray, level: float) -> float:
    """What the next value is below with this chance, from two values and more (``float64[n]``, normal)."""
    n = len(values)
    return float(np.mean(values) + stats.t.ppf(level, n - 1) * np.std(values, ddof=1) * math.sqrt(1 + 1 / n))
