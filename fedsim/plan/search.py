"""Searching: the smallest value that is enough by bisection, and a front over a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from fedsim.plan.shortlist import foretold_days, trips_of
from fedsim.plan.spec import Objective, Spec, Variable
from fedsim.plan.trials import Candidate, Row, Trials

_COARSE = 32  # the first step from the guess is the range by this


def most_looked_at(spec: Spec) -> int:
    """How many candidates the search will judge at most, for the level of each."""
    if spec.find in ("smallest", "largest"):
        n = len(spec.variables[0].values)
        outwards = 2 * (math.ceil(math.log2(_COARSE)) + 2)  # doubling steps, at most two ways
        return min(n, 2 * math.ceil(math.log2(n + 1)) + outwards)
    if spec.find == "front":
        return spec.trials if spec.method == "optuna" else min(spec.n_candidates, spec.verify)
    return 1


# One variable, more of which is enough


def bisect(trials: Trials) -> Row | None:
    """The first value that is enough, from the wanted end; None: none of those tried is.

    It rests on one thing: where a value is enough, all beyond it are. From a closed form's guess it goes outwards in
    doubling steps until it has one that is and one that is not, then it halves. Where even the far end is not enough,
    it looks once on the near side, since too much of a thing may fail for another reason.
    """
    variable, is_largest = trials.spec.variables[0], trials.spec.find == "largest"
    values = variable.values[::-1] if is_largest else variable.values

    def at(place: int) -> Candidate:
        return Candidate(((variable.key, values[place]),))

    def is_enough(place: int) -> bool:
        foretold(trials, at(place))
        return trials.decided(at(place)).state == "PASS"

    guess = _guess(trials, variable, values)
    good, bad = _bracket(guess, len(values), is_enough)
    if good is None:
        return None
    while good - bad > 1 and not _is_near(values, bad, good, trials.spec.within):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if is_enough(middle) else (good, middle)
    return trials.rows[at(good)]


def _is_near(values: Sequence[object], bad: int, good: int, within: float) -> bool:
    """Whether the two ends are within the share of each other that is asked for."""
    if bad < 0 or not within:
        return False
    a, b = values[bad], values[good]
    return isinstance(a, int | float) and isinstance(b, int | float) and abs(b - a) <= within * abs(b)


def _bracket(guess: int, n: int, is_enough: Callable[[int], bool]) -> tuple[int | None, int]:
    """Places of one value that is enough (None: not found) and of one before it that is not (−1: none)."""
    step, place = max(1, n // _COARSE), guess
    if is_enough(guess):
        while place > 0:
            below = max(0, place - step)
            if not is_enough(below):
                return place, below
            place, step = below, 2 * step
        return 0, -1
    while place < n - 1:
        above = min(n - 1, place + step)
        if is_enough(above):
            return above, place
        place, step = above, 2 * step
    return _below(guess, is_enough)


def _below(guess: int, is_enough: Callable[[int], bool]) -> tuple[int | None, int]:
    """Nothing beyond the guess is enough: the halves before it."""
    place = guess
    while place > 0:
        place //= 2
        if is_enough(place):
            return _bracket(place, place + 1, is_enough)
    return None, guess


def _guess(trials: Trials, variable: Variable, values: Sequence[object]) -> int:
    """Where a closed form says that the days suffice; the middle of the range where none does."""
    limits = [each.limit for each in trials.spec.requirements if each.metric == "days" and not each.is_floor]
    middle = _geometric_middle(values)

    def days(place: int) -> float:
        return foretold(trials, Candidate(((variable.key, values[place]),)), is_kept=False)

    look_at(trials, Candidate(((variable.key, values[middle]),)))
    if not limits or math.isnan(days(middle)):
        return middle
    low, high = 0, len(values) - 1
    while low < high:
        place = (low + high) // 2
        low, high = (low, place) if days(place) <= min(limits) else (place + 1, high)
    return low


def _geometric_middle(values: Sequence[object]) -> int:
    """The place of the value between the ends by factors, so that a wide range begins at its cheap end."""
    first, last = values[0], values[-1]
    if not (isinstance(first, int | float) and isinstance(last, int | float) and first > 0 and last > 0):
        return len(values) // 2
    wanted = math.sqrt(first * last)
    return min(range(len(values)), key=lambda place: abs(float(values[place]) - wanted))  # type: ignore[arg-type]


def look_at(trials: Trials, candidate: Candidate) -> None:
    """Play one run of a candidate for the closed forms to start from."""
    if trials.n_steps(candidate) is not None:
        run = trials.run_of(candidate)
        trials.trips = None if run is None else trips_of(run)


def foretold(trials: Trials, candidate: Candidate, *, is_kept: bool = True) -> float:
    """Days by a closed form, which the row keeps; NaN where there is none."""
    n_steps = trials.n_steps(candidate)
    if n_steps is None or trials.trips is None:
        return math.nan
    days = foretold_days(trials.trips, trials.config(candidate), n_steps)
    if is_kept:
        trials.foretell(candidate, days)
    return days


# A grid of several variables


def grid(variables: Sequence[Variable]) -> Iterator[Candidate]:
    """All combinations."""
    keys = [each.key for each in variables]
    for values in itertools.product(*(each.values for each in variables)):
        yield Candidate(tuple(zip(keys, values, strict=True)))


def front(trials: Trials, candidates: Sequence[Candidate]) -> list[Row]:
    """The Pareto set of the candidates; schedules first, training only for the few that matter."""
    few = shortlisted(trials, candidates)
    replications = trials.spec.replications
    trials.seen(few, range(replications.first), is_training=False)
    for candidate in few:
        trials.kept(trials.row(candidate, range(replications.first)))
    for n in replications.looks[1:]:
        for row in _open(trials, is_training=False):
            trials.kept(trials.row(row.candidate, range(n)))
    if trials.spec.is_training:
        for row in worth_training(trials):
            trials.kept(trials.looked(row.candidate, is_training=True))
    return mark_front(trials)


def _open(trials: Trials, *, is_training: bool) -> list[Row]:
    """Rows that more seeds may change: undecided ones, and those of the front whose intervals are wide."""
    mark_front(trials)
    simulated = [row for row in trials.rows.values() if row.seeds and row.is_trained == is_training]
    return [row for row in simulated if row.state == "UNDECIDED" or (row.is_in_front and not trials.is_narrow(row))]


def shortlisted(trials: Trials, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those worth a simulation: all, or, where they are more than ``plan.verify``, the fewest days by a closed form.

    Without a closed form evenly many of the grid are taken.
    """
    n = trials.spec.verify
    look_at(trials, candidates[len(candidates) // 2])
    days = {each: foretold(trials, each) for each in candidates}
    if len(candidates) <= n:
        return list(candidates)
    if not any(map(math.isnan, days.values())):
        return sorted(candidates, key=lambda each: days[each])[:n]
    return [candidates[place * len(candidates) // n] for place in range(n)]


def worth_training(trials: Trials) -> list[Row]:
    """The few schedules to train: those that may pass, the front of days and device-hours first, then by days."""
    able = [row for row in trials.rows.values() if row.seeds and row.state != "FAIL"]
    cheap = [Objective("days", "days", True), Objective("device_hours", "h", True)]
    best = {row.candidate for row in pareto(able, cheap)}
    able.sort(key=lambda row: (row.candidate not in best, row.mean("days")))
    return able[: trials.spec.train_at_most]


def mark_front(trials: Trials) -> list[Row]:
    """Mark the Pareto set of those that pass (where none does: that may), by means; return it."""
    rows = [row for row in trials.rows.values() if row.seeds]
    passing = [row for row in rows if row.state == "PASS"] or [row for row in rows if row.state == "UNDECIDED"]
    chosen = {row.candidate for row in pareto(passing, trials.spec.objectives)}
    for row in rows:
        trials.kept(replace(row, is_in_front=row.candidate in chosen))
    return [row for row in trials.rows.values() if row.is_in_front]


def pareto(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[Row]:
    """Rows that no other row equals or beats in every objective and beats in one, by means; unknown ones are none."""
    costs = {row.candidate: tuple(_cost(row, each) for each in objectives) for row in rows}
    known = [row for row in rows if not any(map(math.isnan, costs[row.candidate]))]
    return [row for row in known if not any(_beats(costs[o.candidate], costs[row.candidate]) for o in known)]


def _cost(row: Row, objective: Objective) -> float:
    return row.mean(objective.name) if objective.is_lower_better else -row.mean(objective.name)


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b
