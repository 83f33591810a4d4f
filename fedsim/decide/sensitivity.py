"""What would change the answer: assumptions (what nature decides), levers (what the owner can change), one at a time.

A changed schedule is played without training, with the seeds of the base. Simplification: what is learned is held by
the step, so the base's learning curve is laid on the new schedule's steps. Where a change touches data, model or
training itself, runs are trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedsim.decide.campaign import Candidate, Fixed, Judge, Tried, asked_runs, basis_of
from fedsim.decide.place import Place
from fedsim.decide.spec import Change, Spec, text_of
from fedsim.decide.stages import costs, without_training
from fedsim.errors import InputError
from fedsim.plan.judge import Facts, Judged
from fedsim.plan.store import Asked

_TRAINED = ("data.", "training.", "model.", "holders.")
_OF_COST = ("device.", "fleet.hardware", "model.", "training.local")
_MOST_SEEDS = 5
_MOST_BISECTIONS = 4


@dataclass(frozen=True)
class Effect:
    """What one value of a change does to one requirement."""

    name: str
    key: str
    base: Any
    value: Any
    is_lever: bool
    before: Judged
    after: Judged
    why: str = ""
    switching: float | None = None  # value of the key at which the requirement is just met

    @property
    def turns_to_fail(self) -> bool:
        """Whether a must that passes fails here."""
        return self.before.state == "PASS" and self.after.state == "FAIL"

    @property
    def turns_to_pass(self) -> bool:
        """Whether a must that does not pass passes here."""
        return self.before.state != "PASS" and self.after.state == "PASS"

    @property
    def turns(self) -> str:
        """``PASS→FAIL``; empty if the state stays."""
        return f"{self.before.state}→{self.after.state}" if self.before.state != self.after.state else ""

    @property
    def influence(self) -> float:
        """Shift in units of the distance between the base and the limit; positive is for the better."""
        room = abs(self.before.requirement.limit - self.before.estimate)
        shift = self.after.estimate - self.before.estimate
        shift = shift if self.before.requirement.is_floor else -shift
        if not math.isfinite(shift):
            return -math.inf if self.after.state == "FAIL" else math.nan
        return shift / room if room else (0.0 if not shift else math.copysign(math.inf, shift))


@dataclass(frozen=True)
class Sensitivity:
    """Effects on every requirement, and what was not run for want of time or because it could not be."""

    assumptions: tuple[Effect, ...]
    levers: tuple[Effect, ...]
    not_run: tuple[str, ...]

    def flips_of(self, musts: Sequence[Judged]) -> tuple[Effect, ...]:
        """For each assumption and must that it makes fail, the effect of the value nearest to the base."""
        names = {each.requirement.name for each in musts}
        found: dict[tuple[str, str], Effect] = {}
        for each in self.assumptions:
            name = each.after.requirement.name
            if name in names and each.turns_to_fail:
                found.setdefault((each.name, name), each)
        return tuple(found.values())


def transplanted(base: Facts, other: Facts) -> Facts:
    """What the base learned, laid on another schedule's steps."""
    days, curves = other["step_days"], {}
    for name, curve in base["curves"].items():
        reached = [n for n, version in enumerate(curve["version"]) if version <= len(days)]
        curves[name] = {
            "days": [days[curve["version"][n] - 1] if curve["version"][n] else 0.0 for n in reached],
            "value": [curve["value"][n] for n in reached],
            "version": [curve["version"][n] for n in reached],
        }
    learned = {name: value for name, value in base["values"].items() if _is_learned(name, base)}
    return {**base, "values": {**other["values"], **learned}, "curves": curves, "horizon_days": other["horizon_days"]}


def _is_learned(name: str, facts: Facts) -> bool:
    return name.partition(".")[0] in facts["curves"]


class Variants:
    """Plays what would be if a value were another one, for one candidate."""

    def __init__(self, spec: Spec, place: Place, tried: Tried, fixed: Fixed) -> None:
        self._spec, self._place, self._fixed = spec, place, fixed
        self.candidate: Candidate = tried.candidate
        self.base = tuple(each for each in tried.facts[:_MOST_SEEDS] if each is not None)
        self._values = place.store.values(tried.candidate.words)

    def of_one_seed(self) -> Variants:
        """The same for the first seed alone."""
        one = copy(self)
        one.base = self.base[:1]
        return one

    def judged(self, judging: Judge, changes: Sequence[tuple[Change, Any]] = ()) -> tuple[Judged, ...]:
        """All requirements under these values; without any those of the base."""
        facts, fixed = self.facts(changes) if changes else (list(self.base), dict(self._fixed))
        return judging.of(facts, fixed)

    def base_value(self, change: Change) -> Any:
        """The value that the base has."""
        if change.is_of_forecast:
            return getattr(basis_of(self._spec).constants, change.key.rpartition(".")[2], None)
        found: Any = self._values
        for part in change.key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def facts(self, changes: Sequence[tuple[Change, Any]]) -> tuple[list[Facts | None], dict[str, float]]:
        """What runs say under these values, and what no seed changes."""
        if all(change.is_of_forecast for change, _ in changes):
            return self._weighed(changes), dict(self._fixed)
        words = tuple(word for change, value in changes for word in change.words(value))
        fixed = dict(self._fixed)
        if "models.feasible_share" in fixed and any(change.key.startswith(_OF_COST) for change, _ in changes):
            fixed["models.feasible_share"] = self._feasible(words)
        if any(change.key.startswith(_TRAINED) for change, _ in changes):
            trained = replace(self.candidate, words=(*self.candidate.words, *words))
            found, _ = self._place.played_facts(asked_runs(trained, len(self.base)), basis_of(self._spec))
            return found, fixed
        found, _ = self._place.played_facts(self._schedules(words), basis_of(self._spec))
        known: Mapping[str, float] = next((each["values"] for each in found if each is not None), {})
        fixed |= {name: known[name] for name in fixed if name in known}
        laid = [None if new is None else transplanted(old, new) for old, new in zip(self.base, found, strict=True)]
        return laid, fixed

    def asked(self, changes: Sequence[tuple[Change, Any]]) -> list[Asked]:
        """The runs that :meth:`facts` needs."""
        words = tuple(word for change, value in changes for word in change.words(value))
        if all(change.is_of_forecast for change, _ in changes):
            return []
        if any(change.key.startswith(_TRAINED) for change, _ in changes):
            return asked_runs(replace(self.candidate, words=(*self.candidate.words, *words)), len(self.base))
        return self._schedules(words)

    def _weighed(self, changes: Sequence[tuple[Change, Any]]) -> list[Facts | None]:
        """The base's runs under other prices or constants."""
        basis = basis_of(self._spec, {change.key: value for change, value in changes})
        played = [self._place.store.opened(each["run"]) for each in self.base]
        return self._place.facts(played, basis)

    def _schedules(self, words: Sequence[str]) -> list[Asked]:
        """Runs without training that make as many steps as the base made."""
        plain = without_training(self.candidate.words)
        return [
            Asked(
                (*plain, *words, f"stop.max_steps={len(each['step_days'])}", "stop.metric=null",
                 "stop.metric_at_least=null"),
                each["seed"],
            )
            for each in self.base
        ]  # fmt: skip

    def _feasible(self, words: Sequence[str]) -> float:
        given = [word for word in (*self.candidate.words, *words) if not word.startswith("evaluation")]
        hardware = self._spec.models.hardware
        told = costs(given, None if hardware is None else Path(hardware))
        return float(told["summary"]["feasible"]["yes"])


def default_levers(spec: Spec, candidate: Candidate, values: Mapping[str, Any]) -> tuple[Change, ...]:
    """Where the specification names none: its other criteria, and more phones; ``values`` are the candidate's."""
    rules = [rule for rule in spec.constraints.criteria if rule != candidate.rule]
    found = (
        [Change("criterion", "fleet.rule", tuple(rules), "the other criteria of the specification")] if rules else []
    )
    server = values["server"]
    if "over_selection" in server:
        found.append(Change("over_selection", "server.over_selection", (1.1, 1.6), "phones asked beyond the goal"))
    elif "concurrency" in server:
        found.append(Change("concurrency", "server.concurrency", (2 * server["concurrency"],), "phones at once"))
    return tuple(found)


def strongest_first(variants: Variants, place: Place, changes: Sequence[Change], judging: Judge) -> list[Change]:
    """By how far one seed moves a must, in units of its distance to the limit; those that time does not allow last.

    What is played for it is part of the whole look.
    """
    one = variants.of_one_seed()
    before = {each.requirement.name: each for each in one.judged(judging)}

    def influence(change: Change) -> float:
        found = [-1.0]
        for value in change.values:
            with suppress(InputError):  # told when it is looked at whole
                if place.minutes_left > 0 or not place.store.missing(one.asked([(change, value)])):
                    found += [
                        _shift(before[each.requirement.name], each) for each in one.judged(judging, [(change, value)])
                    ]
        return max(found)

    return sorted(changes, key=influence, reverse=True)


def _shift(before: Judged, after: Judged) -> float:
    """Of a must, without sign; nothing of what is unknown."""
    if before.requirement.level != "must" or math.isnan(before.estimate) or math.isnan(after.estimate):
        return 0.0
    shift = abs(after.estimate - before.estimate)
    room = abs(before.requirement.limit - before.estimate)
    return shift / room if room else (math.inf if shift else 0.0)


def explored(
    variants: Variants, place: Place, changes: Sequence[tuple[Change, bool]], *, may_refuse: bool
) -> Iterator[tuple[Change, bool, Any, Any, list[Facts | None], dict[str, float]] | str]:
    """Each change at each value, as (change, is lever, base value, value, facts, fixed); a line of what was not run.

    Bad input is an :class:`InputError` that names the change, unless a change ``may_refuse``.
    """
    for change, is_lever in changes:
        base = variants.base_value(change)
        for value in change.values:
            if value == base:
                continue
            try:
                n_missing = len(place.store.missing(variants.asked([(change, value)])))
                if n_missing and place.minutes_left <= 0:
                    yield f"{change.name} at {shown_value(value)}: the budget was used up"
                    continue
                if n_missing:
                    place.tell(f"  {change.name} at {shown_value(value)}: {n_missing} runs")
                facts, fixed = variants.facts([(change, value)])
            except InputError as error:
                if not may_refuse:
                    raise _named(error, change, is_lever=is_lever) from error
                yield f"{change.name} at {shown_value(value)}: refused ({error})"
                continue
            yield change, is_lever, base, value, facts, fixed


def _named(error: InputError, change: Change, *, is_lever: bool) -> InputError:
    return InputError(f"{'levers' if is_lever else 'sensitivity'}.{change.name}: {error}")


def shown_value(value: Any) -> str:
    """A value as it is written."""
    return value if isinstance(value, str) else text_of(value)


def effects_of(
    found: Sequence[Mapping[str, Any]], tried: Tried, judging: Judge, fixed: Fixed
) -> tuple[list[Effect], list[Effect]]:
    """Assumptions and levers from what a stage kept: the base is judged on the seeds that the variants have."""
    before = {each.requirement.name: each for each in judging.of(tried.facts[:_MOST_SEEDS], fixed)}
    whole = {each.requirement.name: each for each in tried.judged}
    effects = []
    for row in found:
        after = judging.of(row["facts"], row["fixed"])
        for each in after:
            name = each.requirement.name
            base = whole[name] if len(tried.facts) > _MOST_SEEDS else before[name]
            effects.append(
                Effect(row["name"], row["key"], row["base"], row["value"], row["is_lever"], base, each, row["why"])
            )
    return [each for each in effects if not each.is_lever], [each for each in effects if each.is_lever]


def switching_value(variants: Variants, judging: Judge, effect: Effect, change: Change) -> float | None:
    """The value between the base and one that fails at which the requirement is just met; None: not of numbers.

    Four bisections at most, of the logarithm where both are positive.
    """
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (effect.base, effect.value)):
        return None
    good, bad = float(effect.base), float(effect.value)
    by_factor = good > 0 and bad > 0
    for _ in range(_MOST_BISECTIONS):
        middle = math.sqrt(good * bad) if by_factor else (good + bad) / 2
        facts, fixed = variants.facts([(change, float(f"{middle:.4g}"))])
        judged = judging.one(effect.after.requirement, facts, fixed)
        is_met = not math.isnan(judged.estimate) and judged.requirement.is_met(judged.estimate)
        good, bad = (middle, bad) if is_met else (good, middle)
    return float(f"{good:.3g}")
