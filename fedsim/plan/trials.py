"""Candidates of a plan on trial: what their runs come to, and how the requirements stand."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fedsim.config.compose import composed
from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.plan.content import digest
from fedsim.plan.flags import quoted
from fedsim.plan.judge import Judged, State, interval, judge, level_of, level_of_fail
from fedsim.plan.quantities import Basis, facts_of
from fedsim.plan.requirement import Requirement
from fedsim.plan.shortlist import Trips
from fedsim.plan.spec import Spec
from fedsim.plan.store import Asked, Store
from fedsim.results.run import Run
from fedsim.results.sessions import AGGREGATED
from fedsim.units import DAY_S, FloatArray

REPORT_LEVEL = 0.95
_HORIZON_DAYS = 30.0  # of a run that has a work to do and no limit of days
_BEYOND = 1.25  # a run goes on for so many times the days that are allowed
Facts = Mapping[str, Any]


class SpentError(Exception):
    """The budget does not allow for the runs that are wanted next."""


class Candidate(NamedTuple):
    """Values of the variables; none: the base itself."""

    values: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """``report_goal=60, over_selection=1.3``."""
        return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.values) or "as it is"

    @property
    def words(self) -> tuple[str, ...]:
        """As overrides."""
        return tuple(quoted(f"{key}={_told(value)}") for key, value in self.values)


def _told(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Row:
    """What is known of a candidate: a figure of each seed by name, the requirements, the runs behind it.

    ``n_unfinished``: runs that ended before their work was done; ``failures``: why worlds could not go on;
    ``foretold_days``: by a closed form, NaN where there is none. Without seeds it was not simulated.
    """

    candidate: Candidate
    seeds: tuple[int, ...] = ()
    values: Mapping[str, tuple[float, ...]] | None = None
    judged: tuple[Judged, ...] = ()
    keys: tuple[str, ...] = ()
    n_unfinished: int = 0
    failures: tuple[str, ...] = ()
    is_trained: bool = False
    foretold_days: float = math.nan
    is_in_front: bool = False

    @property
    def state(self) -> State:
        """The weakest must; a run that does not finish its work fails, a candidate without runs is unknown."""
        if self.failures or self.n_unfinished:
            return "FAIL"
        if not self.seeds:
            return "UNKNOWN"
        musts = [each.state for each in self.judged if each.requirement.level == "must"]
        order: tuple[State, ...] = ("FAIL", "UNKNOWN", "UNDECIDED")
        return next((state for state in order if state in musts), "PASS")

    def figure(self, name: str) -> FloatArray:
        """Its values seed by seed, ``float64[n]``; none where a run did not measure it."""
        return np.array((self.values or {}).get(name, ()), np.float64)

    def mean(self, name: str) -> float:
        """Mean over the seeds, NaN where it is not known; of unfinished runs what takes time is not."""
        found = self.figure(name)
        return float(found.mean()) if len(found) else math.nan

    def half_width(self, name: str) -> float:
        """Half of the 95 % interval of the mean; NaN from fewer than two seeds."""
        low, high = interval(self.figure(name), REPORT_LEVEL)
        return (high - low) / 2

    @property
    def binding(self) -> Judged | None:
        """The requirement with the least room, as a share of its limit; None: there is none."""
        known = [each for each in self.judged if not math.isnan(each.estimate)]
        return min(known, key=room, default=None)


def room(judged: Judged) -> float:
    """Distance of the estimate from the limit as a share of the limit, positive on the good side."""
    asked = judged.requirement
    distance = judged.estimate - asked.limit if asked.is_floor else asked.limit - judged.estimate
    return distance / max(abs(asked.limit), 1e-12)


class Trials:
    """All candidates that were tried, in their order, and what plays their runs.

    Every candidate meets the same seeds. A schedule is played first; a run that trains is played only where a
    requirement or an objective needs it and the schedule has not failed already.
    """

    def __init__(self, spec: Spec, store: Store, basis: Basis, *, n_looks_at: int) -> None:
        self.spec, self.store, self.basis = spec, store, basis
        self._basis_key = digest([vars(basis.prices), vars(basis.constants), basis.grid, basis.retrain_days])[:8]
        looks = len(spec.replications.looks)
        self._level = level_of(spec.alpha, n_looks=looks, n_candidates=n_looks_at)
        self._fail_level = level_of_fail(spec.alpha, n_looks=looks, n_musts=len(spec.requirements))
        self.level = self._level
        self.rows: dict[Candidate, Row] = {}
        self._began = time.monotonic()
        self._configs: dict[Candidate, dict[str, Any]] = {}
        self.trips: Trips | None = None  # what closed forms start from

    # What a candidate plays

    def config(self, candidate: Candidate) -> dict[str, Any]:
        """The configuration of a candidate, without what the planner adds."""
        if candidate not in self._configs:
            self._configs[candidate] = composed([*self.spec.base, *candidate.words])
        return self._configs[candidate]

    def n_steps(self, candidate: Candidate) -> int | None:
        """Server steps of a campaign; None: it ends by time or by a metric."""
        work, config = self.spec.work, self.config(candidate)
        if work.updates is None:
            told: int | None = work.steps or config["stop"]["max_steps"]
            return told
        size: int | None = config["server"].get("report_goal", config["server"].get("buffer_size"))
        if size is None:
            allowed = "a server with report_goal or buffer_size; else work.steps"
            raise InputError("work.updates", value=work.updates, allowed=allowed)
        return math.ceil(work.updates / size)

    def horizon_s(self) -> float | None:
        """Simulated seconds after which a run is cut; None: the base says it."""
        if any(word.lstrip("+").startswith("stop.max_s=") for word in self.spec.base):
            return None
        limits = [each.limit for each in self.spec.requirements if each.about.unit == "days" and not each.is_floor]
        has_work = self.n_steps(Candidate()) is not None
        return DAY_S * (_BEYOND * max(limits) if limits else _HORIZON_DAYS) if has_work or limits else None

    def words(self, candidate: Candidate, *, is_training: bool) -> tuple[str, ...]:
        """Overrides of its runs; without training the trainer is ``none``, and no metric ends the run."""
        words = [*self.spec.base, *candidate.words]
        n_steps, horizon_s = self.n_steps(candidate), self.horizon_s()
        if n_steps is not None:
            words.append(f"stop.max_steps={n_steps}")
        if horizon_s is not None:
            words.append(f"stop.max_s={horizon_s:.0f}")
        if is_training:
            return tuple(words)
        words = [word for word in words if not word.startswith(("training=", "evaluation.groups="))]
        return (*words, "training=none", "stop.metric=null", "stop.metric_at_least=null", "stop.is_required=false")

    # Playing

    def afford(self, n: int) -> None:
        """Raise :class:`SpentError` where so many more runs are not within the budget."""
        budget = self.spec.budget
        if budget.runs is not None and self.store.n_played + n > budget.runs:
            raise SpentError(f"{budget.runs} runs")
        if n and budget.minutes is not None and time.monotonic() - self._began > 60 * budget.minutes:
            raise SpentError(f"{budget.minutes:g} minutes")

    def seen(self, candidates: Sequence[Candidate], seeds: Sequence[int], *, is_training: bool) -> None:
        """Play what is missing of these candidates at once, so that all cores have work."""
        self.afford(len(self.store.missing(self._asked(candidates, seeds, is_training))))
        self.store.played(self._asked(candidates, seeds, is_training))

    def _asked(self, candidates: Sequence[Candidate], seeds: Sequence[int], is_training: bool) -> list[Asked]:
        return [Asked(self.words(each, is_training=is_training), seed) for each in candidates for seed in seeds]

    def run_of(self, candidate: Candidate) -> Run | None:
        """The schedule of a candidate's first seed; None: its world cannot go on."""
        self.seen([candidate], [0], is_training=False)
        return self.store.played(self._asked([candidate], [0], False))[0].run

    def row(self, candidate: Candidate, seeds: Sequence[int], *, is_training: bool = False) -> Row:
        """What these seeds say of a candidate; what is missing is played."""
        self.seen([candidate], seeds, is_training=is_training)
        played = self.store.played(self._asked([candidate], seeds, is_training))
        facts = [self._facts(each.run) for each in played if each.run is not None]
        failures = tuple(each.failure for each in played if each.failure is not None)
        has_end = self.n_steps(candidate) is not None
        wanted = [each for each in self.spec.requirements if is_training or not self._is_of_training(each)]
        judged = [self._judged(each, facts) for each in wanted] if facts and not failures else []
        return Row(
            candidate,
            tuple(seeds),
            _by_name(facts),
            tuple(judged),
            tuple(each.key for each in played),
            sum(has_end and each["stop_reason"] == "max_s" for each in facts),
            failures,
            is_training,
            self.rows[candidate].foretold_days if candidate in self.rows else math.nan,
        )

    def _is_of_training(self, requirement: Requirement) -> bool:
        return _is_learned(requirement.metric, self.spec.metrics) or requirement.compared_to == "central"

    def _judged(self, requirement: Requirement, facts: Sequence[Facts]) -> Judged:
        return judge(requirement, facts, level=self._level, level_of_fail=self._fail_level)

    def _facts(self, run: Run) -> Facts:
        """The facts of a run, from the file beside it where they were found before."""
        place = run.folder / f"facts-{self._basis_key}.json"
        if place.exists():
            return dict(read_json(place, "facts of a run"))
        found = facts_of(run, self.basis)
        found["values"] |= extra(run)
        write_json(place, found)
        return found

    # Looking until it is decided

    def decided(self, candidate: Candidate) -> Row:
        """The candidate with as many seeds as it takes to decide its requirements, at most those of the spec."""
        row = self.looked(candidate, is_training=False)
        if row.state != "FAIL" and self.spec.is_training:
            row = self.looked(candidate, is_training=True)
        return self.kept(row)

    def looked(self, candidate: Candidate, *, is_training: bool) -> Row:
        """One stage of it: the schedule alone, or with training."""
        row = Row(candidate)
        for n in self.spec.replications.looks:
            row = self.row(candidate, range(n), is_training=is_training)
            if row.state in ("PASS", "FAIL", "UNKNOWN") and self.is_narrow(row):
                break
        return row

    def is_narrow(self, row: Row) -> bool:
        """Whether the intervals of the objectives are within the share of the mean that is asked for."""
        if row.state == "FAIL":
            return True
        narrow = self.spec.replications.narrow
        wide = [
            each.name for each in self.spec.objectives if row.half_width(each.name) > narrow * abs(row.mean(each.name))
        ]
        return not wide

    def kept(self, row: Row) -> Row:
        """Remember it."""
        self.rows[row.candidate] = row
        return row

    def foretell(self, candidate: Candidate, days: float) -> None:
        """Remember what a closed form says of a candidate."""
        self.rows[candidate] = replace(self.rows.get(candidate, Row(candidate)), foretold_days=days)


def _is_learned(name: str, metrics: Sequence[str]) -> bool:
    first, _, rest = name.partition(".")
    return first in metrics or (first == "days_to" and rest in metrics)


def extra(run: Run) -> dict[str, float]:
    """What a plan tells besides the quantities: steps, updates in the model, and both by the day."""
    days = float(run.summary["simulated_s"]) / DAY_S
    updates, steps = float(run.totals.n[AGGREGATED]), float(run.summary["n_steps"])
    return {"steps": steps, "updates": updates, "steps_a_day": steps / days, "updates_a_day": updates / days}


def _by_name(facts: Sequence[Facts]) -> dict[str, tuple[float, ...]]:
    """Figures that every run has, seed by seed."""
    if not facts:
        return {}
    common = [name for name in facts[0]["values"] if all(name in each["values"] for each in facts)]
    return {name: tuple(float(each["values"][name]) for each in facts) for name in common}
