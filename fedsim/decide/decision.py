"""A decision: the stages in their order, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedsim.decide import stages
from fedsim.decide.assumed import Assumed, assumed_of
from fedsim.decide.campaign import Candidate, Fixed, Judge, Tried, basis_of, campaign, requirements
from fedsim.decide.place import STAGES, Place
from fedsim.decide.sensitivity import (
    Effect,
    Sensitivity,
    Variants,
    default_levers,
    effects_of,
    explored,
    strongest_first,
    switching_value,
)
from fedsim.decide.spec import Change, Spec
from fedsim.decide.verdict import Ruling, nearest, proposed, ruling
from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.plan.requirement import Requirement
from fedsim.plan.store import Asked, Tell


@dataclass(frozen=True)
class Decision:
    """All that a decision found; what came after ``until`` is None."""

    spec: Spec
    place: Place
    requirements: tuple[Requirement, ...]
    level: float
    constraints: Mapping[str, Any]
    rule: str | None  # the criterion that is used; None: none meets the thresholds
    models: Sequence[Mapping[str, Any]]
    data: Mapping[str, Any] | None
    tried: tuple[Tried, ...]
    sensitivity: Sensitivity | None
    assumed: tuple[Assumed, ...]
    ruling: Ruling | None
    not_evaluated: tuple[str, ...]


def candidates_of(spec: Spec, rules: Sequence[str], models: Sequence[str]) -> list[Candidate]:
    """Criteria × models × arms, models first as listed."""
    return [
        Candidate(rule, model, arm, spec.words(rule=rule, model=model, arm=arm))
        for model in models
        for rule in rules
        for arm in spec.training.arms
    ]


def decide(spec: Spec, folder: Path, *, tell: Tell, until: str = "verdict") -> Decision:
    """Go through the stages up to one of them; what was done before is not done again.

    Raises :class:`InputError` for what a stage refuses, :class:`StoppedError` if the budget does not last to the first
    look.
    """
    if until not in STAGES:
        raise InputError("--until: unknown stage", value=until, allowed=", ".join(STAGES))
    _check_files(spec)
    place = Place(folder, cores=spec.budget.cores, minutes=spec.budget.minutes, tell=tell)
    asked = requirements(spec, place.store.values(first_words(spec)))
    return _Walk(spec, place, asked, STAGES.index(until)).decision()


def _check_files(spec: Spec) -> None:
    if spec.models.hardware is not None:
        existing(spec.models.hardware, "models.hardware")
    basis_of(spec)


class _Walk:
    """One walk through the stages."""

    def __init__(self, spec: Spec, place: Place, asked: tuple[Requirement, ...], last: int) -> None:
        self._spec, self._place, self._asked, self._last = spec, place, asked, last
        n = len(spec.model_words) * len(spec.training.arms)
        self._judging = Judge(spec, asked, n_candidates=n)
        self._fixed: dict[tuple[str, str], dict[str, float]] = {}

    def decision(self) -> Decision:
        """All stages up to the last one that is asked for."""
        spec, place = self._spec, self._place
        of_first = [place.store.key(Asked(first_words(spec), 0)), list(spec.constraints.criteria)]
        found = self._stage("constraints", of_first, lambda: _checked_constraints(spec)) or {"criteria": []}
        rule = self._chosen(found)
        reads = [of_first, spec.hardware_words, rule, self._hardware_digest()]
        models = self._stage("models", reads, lambda: stages.models(spec, self._rule(rule))) or []
        self._remember(found, models)
        data = self._stage("data", of_first[0], lambda: stages.data(spec))
        tried = self._tried(rule, models) if self._goes_to("training") else ()
        for name in ("forecast", "privacy", "fairness"):
            if self._goes_to(name):
                place.tell(f"{name}: {'not evaluated' if name == 'privacy' else 'read from the runs'}")
        passing = proposed(tried)
        best = passing if passing is not None else (nearest(tried) if tried else None)
        sensitivity = None
        if best is not None and self._goes_to("sensitivity"):
            sensitivity = self._sensitivity(best)
        result = None
        if tried and self._goes_to("verdict"):
            result = ruling(tried, sensitivity, has_reason=bool(spec.reasons), passing=passing)
        return Decision(
            spec=spec, place=place, requirements=self._asked, level=self._judging.level, constraints=found, rule=rule,
            models=models, data=data, tried=tuple(tried), sensitivity=sensitivity,
            assumed=assumed_of(best, self._values(best)) if best is not None else (), ruling=result,
            not_evaluated=("privacy: the stage is not built yet, and cannot be counted as passed",),
        )  # fmt: skip

    def _values(self, tried: Tried) -> Mapping[str, Any]:
        return self._place.store.values(tried.candidate.words)

    def _goes_to(self, stage: str) -> bool:
        return STAGES.index(stage) <= self._last

    def _stage(self, name: str, reads: Any, work: Any) -> Any:
        return self._place.stage(name, reads, work) if self._goes_to(name) else None

    def _rule(self, rule: str | None) -> str:
        """The criterion to go on with: where none meets the thresholds the loosest."""
        return self._spec.constraints.criteria[-1] if rule is None else rule

    def _hardware_digest(self) -> str | None:
        hardware = self._spec.models.hardware
        return None if hardware is None else self._place.store.digest_of(Path(hardware))

    def _chosen(self, found: Mapping[str, Any]) -> str | None:
        """The first criterion that meets every must about who takes part."""
        of_stage = [each for each in self._asked if each.about.stage == "constraints" and each.level == "must"]
        for row in found["criteria"]:
            if all(each.is_met(row["values"][each.metric]) for each in of_stage):
                return str(row["rule"])
        return None

    def _remember(self, found: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> None:
        """What no seed changes, of each criterion and model."""
        for row in found["criteria"]:
            for model in models:
                self._fixed[(row["rule"], model["model"])] = {**row["values"], **model["values"]}

    def _fixed_of(self, candidate: Candidate) -> Fixed:
        return self._fixed.get((candidate.rule, candidate.model), {})

    def _tried(self, rule: str | None, models: Sequence[Mapping[str, Any]]) -> list[Tried]:
        """Train what the stages before let through; of the rest say why it was not trained."""
        of_models = [each for each in self._asked if each.about.stage == "models" and each.level == "must"]
        fit = [row["model"] for row in models if all(each.is_met(row["values"][each.metric]) for each in of_models)]
        others = [row["model"] for row in models if row["model"] not in fit]
        rules = [self._rule(rule)]
        trained, left = candidates_of(self._spec, rules, fit), candidates_of(self._spec, rules, others)
        self._place.keys["training"] = "training"
        self._place.tell("training …" if trained else "training: no candidate is left")
        tried = campaign(self._spec, self._place, trained, self._judging, basis_of(self._spec), self._fixed_of)
        return [*tried, *(self._left(each) for each in left)]

    def _left(self, candidate: Candidate) -> Tried:
        judged = self._judging.of((), self._fixed_of(candidate))
        return Tried(candidate, (), "a stage before training refused it", judged, 0)

    def _sensitivity(self, tried: Tried) -> Sensitivity:
        spec, place = self._spec, self._place
        if not tried.facts or any(each is None for each in tried.facts):
            return Sensitivity((), (), ("sensitivity: no run of the candidate to change anything of",))
        variants = Variants(spec, place, tried, self._fixed_of(tried.candidate))
        changes = self._changes(tried)
        keys = [each["run"] for each in variants.base]
        reads = [keys, [vars(change) | {"lever": lever} for change, lever in changes], spec.told.get("forecast")]
        found = place.stage("sensitivity", reads, lambda: self._explored(variants, changes))
        fixed = self._fixed_of(tried.candidate)
        assumptions, levers = effects_of(found["rows"], tried, self._judging, fixed)
        by_name = {change.name: change for change, _ in changes}
        flips = Sensitivity(tuple(assumptions), tuple(levers), ()).flips_of(tried.musts)
        return Sensitivity(
            tuple(self._switched(variants, by_name, each, flips) for each in assumptions),
            tuple(levers),
            tuple(found["not_run"]),
        )

    def _changes(self, tried: Tried) -> list[tuple[Change, bool]]:
        spec = self._spec
        given = spec.sensitivity
        if given is None:
            given = tuple(each.change for each in assumed_of(tried, self._values(tried)) if each.change is not None)
        levers = spec.levers or default_levers(spec, tried.candidate, self._values(tried))
        return [*((change, False) for change in given), *((change, True) for change in levers)]

    def _explored(self, variants: Variants, changes: Sequence[tuple[Change, bool]]) -> dict[str, Any]:
        rows, not_run, is_given = [], [], self._spec.sensitivity is not None
        if not is_given:
            assumptions = [change for change, is_lever in changes if not is_lever]
            ordered = strongest_first(variants, self._place, assumptions, self._judging)
            changes = [*((change, False) for change in ordered), *(each for each in changes if each[1])]
        for each in explored(variants, self._place, changes, may_refuse=not is_given):
            if isinstance(each, str):
                not_run.append(each)
                continue
            change, is_lever, base, value, facts, fixed = each
            rows.append(
                {
                    "name": change.name, "key": change.key, "why": change.why, "is_lever": is_lever, "base": base,
                    "value": value, "facts": facts, "fixed": fixed,
                }
            )  # fmt: skip
        return {"rows": rows, "not_run": not_run}

    def _switched(
        self, variants: Variants, by_name: Mapping[str, Change], effect: Effect, flips: Sequence[Effect]
    ) -> Effect:
        """The effect with the value at which its requirement is just met, if it is one that turns the verdict."""
        if effect not in flips:
            return effect
        found = switching_value(variants, self._judging, effect, by_name[effect.name])
        return replace(effect, switching=found)


def _checked_constraints(spec: Spec) -> dict[str, Any]:
    """The first stage, behind a look at every arm, so that what a run would refuse is refused before any is played."""
    stages.checked(spec)
    return stages.constraints(spec)


def first_words(spec: Spec) -> tuple[str, ...]:
    """The words of the first candidate."""
    arm = next(iter(spec.training.arms))
    return spec.words(rule=spec.constraints.criteria[0], model=spec.model_words[0], arm=arm)
