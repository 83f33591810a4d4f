"""Candidates trained over a few seeds, looked at after 3, 5 and 10, until every must of one is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedsim.decide.place import Place
from fedsim.decide.spec import Spec
from fedsim.errors import InputError, StoppedError
from fedsim.forecast.tables import CONSTANTS, GRID, PRICES, read_constants, read_grid, read_prices
from fedsim.plan.judge import Facts, Judged, judge, level_of, level_of_fail
from fedsim.plan.quantities import Basis
from fedsim.plan.requirement import Requirement, requirements_of
from fedsim.plan.store import Asked

FIXED_STAGES = ("constraints", "models")  # what they find no seed changes
NOT_EVALUATED = ("privacy",)
Fixed = Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A criterion, a model and an arm, with what they are as overrides."""

    rule: str
    model: str
    arm: str
    words: tuple[str, ...]

    @property
    def label(self) -> str:
        """For tables."""
        return f"{self.arm}, {self.model}, {self.rule}"


@dataclass(frozen=True)
class Tried:
    """A candidate with what its runs say (None: a world that could not go on) and the states of all requirements."""

    candidate: Candidate
    facts: tuple[Facts | None, ...]
    failure: str | None
    judged: tuple[Judged, ...]
    n_looks: int

    @property
    def musts(self) -> list[Judged]:
        """Those of level must."""
        return [each for each in self.judged if each.requirement.level == "must"]

    @property
    def passes(self) -> bool:
        """Whether every must passes."""
        return all(each.state == "PASS" for each in self.musts)

    @property
    def fails(self) -> bool:
        """Whether a must fails at the level of a no-go."""
        return any(each.fails_surely for each in self.musts)

    @property
    def is_decided(self) -> bool:
        """Whether more seeds would change nothing: a must fails for sure, or none is open that seeds could close."""
        return self.fails or not any(each.state == "UNDECIDED" for each in self.musts)


def basis_of(spec: Spec, changes: Mapping[str, Any] | None = None) -> Basis:
    """Prices, constants and what else the load is weighed with; ``changes`` are of keys below ``forecast``."""
    keys, aggregator = spec.forecast, spec.aggregator
    constants = read_constants(CONSTANTS if keys.constants is None else spec.path.parent / keys.constants)
    told: dict[str, Any] = dict(keys.energy)
    told |= {
        name: value
        for name, value in (
            ("ingest_report_s", aggregator.service_s),
            ("ingest_bytes_per_s", aggregator.bytes_per_s),
            ("wait_p99_s", aggregator.wait_p99_s),
        )
        if value is not None
    }
    told |= {key.rpartition(".")[2]: value for key, value in (changes or {}).items()}
    for name, value in told.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise InputError(f"forecast: {name}", value=value, allowed="a number that is not negative")
    unknown = [name for name in told if name not in vars(constants) or name == "server_country"]
    if unknown:
        allowed = ", ".join(vars(constants))
        raise InputError("forecast.energy: unknown key", value=unknown[0], allowed=allowed)
    if {"network_kwh_per_gb"} <= told.keys():  # its range holds it
        low, high = constants.network_kwh_per_gb_low, constants.network_kwh_per_gb_high
        told |= {
            "network_kwh_per_gb_low": min(low, told["network_kwh_per_gb"]),
            "network_kwh_per_gb_high": max(high, told["network_kwh_per_gb"]),
        }
    return Basis(
        prices=read_prices(PRICES if keys.prices is None else spec.path.parent / keys.prices),
        constants=replace(constants, **told),
        grid=read_grid(GRID if keys.grid is None else spec.path.parent / keys.grid),
        retrain_days=spec.retrain_days,
        least_group_share=spec.fairness.min_group_share,
    )


def metrics_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the metrics that runs of a configuration evaluate."""
    if str(values["training"].get("_target_", "")).endswith("NullTrainer"):
        return ()
    return tuple(name for name in values["training"]["metrics"] if isinstance(name, str))


def requirements(spec: Spec, values: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """Of the specification, and one for ``forecast.aggregator.max_workers`` if it says nothing of aggregators.

    ``values`` are the configuration of a candidate.
    """
    told = dict(spec.told["requirements"])
    most = spec.aggregator.max_workers
    if most is not None and not any("aggregators" in str(each) for each in told.values()):
        told["workers"] = {"metric": "aggregators", "at_most": most, "level": "should", "why": "forecast.aggregator"}
    return requirements_of(told, metrics_of(values), has_central=spec.central.epochs > 0)


class Judge:
    """Judges candidates of a specification at its level."""

    def __init__(self, spec: Spec, asked: Sequence[Requirement], *, n_candidates: int) -> None:
        alpha, n_looks = 1 - spec.confidence, len(spec.looks)
        self.asked, self.n_looks = tuple(asked), n_looks
        self.level = level_of(alpha, n_looks=n_looks, n_candidates=n_candidates)
        n_musts = sum(each.level == "must" for each in asked)
        self.level_of_fail = level_of_fail(alpha, n_looks=n_looks, n_musts=n_musts)

    def of(self, facts: Sequence[Facts | None], fixed: Fixed) -> tuple[Judged, ...]:
        """The state of each requirement."""
        return tuple(self.one(each, facts, fixed) for each in self.asked)

    def one(self, requirement: Requirement, facts: Sequence[Facts | None], fixed: Fixed) -> Judged:
        """The state of one: from what no seed changes, or from runs; a world that could not go on fails."""
        if requirement.about.stage in NOT_EVALUATED:
            return _unknown(requirement, f"stage {requirement.about.stage} is not evaluated")
        if requirement.about.stage in FIXED_STAGES:
            if requirement.metric not in fixed:
                return _unknown(requirement, "not looked at")
            given = {"values": fixed, "central": {}}
            return judge(requirement, [given], level=1.0, level_of_fail=1.0, is_fixed=True)
        if any(each is None for each in facts):
            return replace(_unknown(requirement, "the simulated world cannot go on"), state="FAIL", fails_surely=True)
        known = [each for each in facts if each is not None]
        if not known:
            return _unknown(requirement, "not run")
        return judge(requirement, known, level=self.level, level_of_fail=self.level_of_fail)


def _unknown(requirement: Requirement, note: str) -> Judged:
    nan = float("nan")
    return Judged(requirement, "UNKNOWN", nan, nan, nan, 0, note=note)


def asked_runs(candidate: Candidate, n: int) -> list[Asked]:
    """The first seeds of a candidate."""
    return [Asked(candidate.words, seed) for seed in range(n)]


def campaign(
    spec: Spec, place: Place, candidates: Sequence[Candidate], judging: Judge, basis: Basis,
    fixed: Callable[[Candidate], Fixed],
) -> list[Tried]:  # fmt: skip
    """All candidates, model by model: the next model is trained only if no arm of those before passes.

    Raises :class:`StoppedError` if the budget is used up before the first look.
    """
    tried: list[Tried] = []
    for model in dict.fromkeys(each.model for each in candidates):
        group = [each for each in candidates if each.model == model]
        if any(each.passes for each in tried):
            tried += [_untried(each, judging, fixed(each)) for each in group]
            continue
        tried += _trained(spec, place, group, judging, basis, fixed)
    return tried


def _untried(candidate: Candidate, judging: Judge, fixed: Fixed) -> Tried:
    return Tried(candidate, (), "a cheaper model passes", judging.of((), fixed), 0)


def _trained(
    spec: Spec, place: Place, group: Sequence[Candidate], judging: Judge, basis: Basis,
    fixed: Callable[[Candidate], Fixed],
) -> list[Tried]:  # fmt: skip
    """Arms of one model, with more seeds for those that are not decided, as long as the budget lasts."""
    found: dict[Candidate, Tried] = {}
    for n_look, n in enumerate(spec.looks, start=1):
        open_ones = [each for each in group if each not in found or not found[each].is_decided]
        if not open_ones:
            break
        wanted = [asked for each in open_ones for asked in asked_runs(each, n)]
        missing = place.store.missing(wanted)
        if missing and place.minutes_left <= 0:
            if n_look == 1:
                raise StoppedError(f"the budget of {spec.budget.minutes:g} minutes is used up before the first look")
            place.tell(f"  budget used up: {len(missing)} more runs would be needed for {n} seeds")
            break
        facts, failures = place.played_facts(wanted, basis)
        for number, each in enumerate(open_ones):
            part = slice(number * n, (number + 1) * n)
            failure = next((line for line in failures[part] if line is not None), None)
            judged = judging.of(facts[part], fixed(each))
            found[each] = Tried(each, tuple(facts[part]), failure, judged, n_look)
    return [found[each] for each in group]
