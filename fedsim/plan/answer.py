"""From a question to its answer: the search, the check with fresh seeds, and what the answer rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsim.errors import InputError, SimulationError
from fedsim.plan.arms import (
    Change,
    Start,
    arms_of,
    changes_of,
    compared,
    is_as_foretold,
    latest_start,
    n_kept,
)
from fedsim.plan.judge import value_of
from fedsim.plan.quantities import Basis
from fedsim.plan.requirement import Requirement
from fedsim.plan.search import bisect, front, grid, mark_front, most_looked_at
from fedsim.plan.spec import Spec
from fedsim.plan.store import Store
from fedsim.plan.trials import Candidate, Row, SpentError, Trials
from fedsim.plan.tune import tune


@dataclass(frozen=True)
class Check:
    """One more look with seeds that no search has seen: whether the answer held, and in how many runs."""

    seeds: tuple[int, ...]
    n_held: int
    n: int
    what: str  # that was counted
    keys: tuple[str, ...]

    @property
    def has_held(self) -> bool:
        """Whether it held in all."""
        return self.n_held == self.n


@dataclass
class Answer:
    """What was found. ``chosen``: the rows that are the answer; ``spent``: the budget that ended the search early."""

    spec: Spec
    rows: list[Row]
    chosen: list[Row]
    level: float
    n_played: int
    changes: list[Change] = field(default_factory=list)
    start: Start | None = None
    check: Check | None = None
    spent: str | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def n_runs(self) -> int:
        """Different runs behind the answer, those of the last check among them."""
        return len({key for row in self.rows for key in row.keys} | set(self.check.keys if self.check else ()))


def answered(spec: Spec, store: Store, basis: Basis) -> Answer:
    """The answer to a question. A budget that is spent ends the search with what was found until then.

    Raises:
        InputError: of a question that lacks its work, or of a configuration.
        SimulationError: where the world of the only arm cannot go on.
    """
    trials = Trials(spec, store, basis, n_looks_at=most_looked_at(spec))
    _check_work(trials)
    answer = Answer(spec, [], [], trials.level, 0)
    try:
        _FINDERS[spec.find](trials, answer)
        if answer.chosen or answer.changes:
            answer.check = _checked(trials, answer)
    except SpentError as error:
        answer.spent = str(error)
        answer.chosen = answer.chosen or _best_so_far(trials)
    answer.rows, answer.n_played = list(trials.rows.values()), store.n_played
    return answer


def _check_work(trials: Trials) -> None:
    """Days say something where a run has something to do."""
    spec = trials.spec
    names = {each.metric for each in spec.requirements} | {each.name for each in spec.objectives}
    is_about_days = "days" in names or spec.find in ("launch", "criteria")
    config = trials.config(Candidate())
    ends = trials.n_steps(Candidate()) is not None or (spec.is_training and config["stop"]["metric"] is not None)
    if is_about_days and not ends:
        allowed = "work: {updates: N} or {steps: N} (flags --updates, --steps), or stop.max_steps in the base"
        raise InputError("when a campaign is done is not told, so its days are none", allowed=allowed)


def _smallest(trials: Trials, answer: Answer) -> None:
    found = bisect(trials)
    answer.chosen = [] if found is None else [found]
    trials.rows = dict(sorted(trials.rows.items(), key=lambda item: _order(item[0])))


def _order(candidate: Candidate) -> tuple[Any, ...]:
    """By value where values are numbers, else as they came."""
    return tuple(value if isinstance(value, int | float) else 0 for _, value in candidate.values)


def _front(trials: Trials, answer: Answer) -> None:
    if trials.spec.method == "optuna":
        tune(trials)
        answer.chosen = mark_front(trials)
    else:
        answer.chosen = front(trials, list(grid(trials.spec.variables)))


def _arms(trials: Trials, answer: Answer) -> None:
    answer.changes = compared(trials, arms_of(trials.spec))


def _launch(trials: Trials, answer: Answer) -> None:
    seeds = range(trials.spec.replications.at_most)  # the bound of one run widens with few
    row = trials.kept(trials.row(Candidate(), seeds, is_training=trials.spec.is_training))
    if row.failures:
        raise SimulationError(row.failures[0])
    if row.n_unfinished:
        n, horizon = row.n_unfinished, row.mean("days")
        answer.remarks.append(
            f"{n} of {len(row.seeds)} runs were not done within {horizon:.3g} days: no date can be told"
        )
        return
    assert trials.spec.launch is not None
    answer.start = latest_start(row, trials.spec.launch, alpha=trials.spec.alpha)
    answer.chosen = [row]


_FINDERS: dict[str, Callable[[Trials, Answer], None]] = {
    "smallest": _smallest, "largest": _smallest, "front": _front, "criteria": _arms, "what_if": _arms,
    "launch": _launch,
}  # fmt: skip


def _best_so_far(trials: Trials) -> list[Row]:
    if trials.spec.find == "front":
        return mark_front(trials)
    passing = [row for row in trials.rows.values() if row.state == "PASS"]
    if trials.spec.find not in ("smallest", "largest") or not passing:
        return []
    return [(min if trials.spec.find == "smallest" else max)(passing, key=lambda row: _order(row.candidate))]


# The last check


def _checked(trials: Trials, answer: Answer) -> Check:
    """Fresh seeds: those after the most that a search may use."""
    first = trials.spec.replications.at_most
    seeds = range(first, first + trials.spec.fresh)
    if answer.changes:
        return _check_of_arms(trials, answer.changes, seeds)
    again = [trials.row(row.candidate, seeds, is_training=row.is_trained) for row in answer.chosen]
    held = [n_held for row in again for n_held in _held(trials, row, answer.start)]
    keys = tuple(key for row in again for key in row.keys)
    if answer.spec.find == "front":
        return _check_of_front(trials, answer.chosen, again, Check(tuple(seeds), sum(held), len(held), "", keys))
    what = "fresh runs were done by the launch" if answer.start else "fresh runs done, and within the requirements"
    return Check(tuple(seeds), sum(held), len(held), what, keys)


def _check_of_front(trials: Trials, chosen: Sequence[Row], again: Sequence[Row], runs: Check) -> Check:
    """Besides the requirements, whether each objective of each member is what fresh seeds could have given."""
    pairs = [
        is_as_foretold(row.figure(each.name), fresh.figure(each.name))
        for row, fresh in zip(chosen, again, strict=True)
        for each in trials.spec.objectives
    ]
    what = "fresh runs within the requirements, and objectives within their 99 % prediction interval"
    return Check(runs.seeds, runs.n_held + sum(pairs), runs.n + len(pairs), what, runs.keys)


def _held(trials: Trials, row: Row, start: Start | None) -> list[bool]:
    """Of each fresh run: whether its work is done and all musts are met by it alone."""
    if row.failures or row.n_unfinished:
        return [False] * len(row.seeds)
    if start is not None:
        allowed = (trials.spec.launch - start.date).days if trials.spec.launch is not None else 0
        return [float(days) <= allowed for days in row.figure("days")]
    musts = [each for each in trials.spec.requirements if each.level == "must" and not each.is_duration_to]
    facts = [{"values": {name: of[n] for name, of in (row.values or {}).items()}} for n in range(len(row.seeds))]
    return [all(_is_met(each, of_run) for each in musts) for of_run in facts]


def _is_met(requirement: Requirement, facts: dict[str, Any]) -> bool:
    if requirement.compared_to == "central":
        return True  # judged over seeds, beside the central model of each
    value = value_of(requirement, facts)
    return value is not None and not math.isnan(value) and requirement.is_met(value)


def _check_of_arms(trials: Trials, changes: Sequence[Change], seeds: Sequence[int]) -> Check:
    arms, is_training = arms_of(trials.spec), trials.spec.is_training
    trials.seen(list(arms.values()), seeds, is_training=is_training)
    rows = {name: trials.row(each, seeds, is_training=is_training) for name, each in arms.items()}
    n_held, n = n_kept(changes, changes_of(trials.spec, rows))
    keys = tuple(key for row in rows.values() for key in row.keys)
    return Check(tuple(seeds), n_held, n, "changes that were told kept their direction", keys)
