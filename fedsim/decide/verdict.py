"""From the states of requirements to one word: go, go if, iterate or no-go.

A go is an intersection of tests: every must has to pass, each at its own level, so the chance of a false go is that of
one of them. A no-go is a union: any must may bring it, so a failure counts only at the level divided by their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedsim.decide.campaign import Tried
from fedsim.decide.sensitivity import Effect, Sensitivity
from fedsim.plan.judge import Judged
from fedsim.plan.words import with_interval

Verdict = Literal["go", "go_if", "iterate", "no_go"]
WORDS: dict[Verdict, str] = {"go": "Go", "go_if": "Go, if", "iterate": "Iterate", "no_go": "No-go"}


@dataclass(frozen=True)
class Ruling:
    """The verdict, the candidate it is about, and why in one sentence."""

    verdict: Verdict
    proposal: Tried
    sentence: str
    conditions: tuple[Effect, ...] = ()


def ruling(tried: Sequence[Tried], found: Sensitivity | None, *, has_reason: bool, passing: Tried | None) -> Ruling:
    """The verdict on what was tried; ``passing`` is the candidate that is proposed, if one passes."""
    best = passing if passing is not None else nearest(tried)
    if not has_reason:
        return Ruling("no_go", best, "There is no reason for federated learning: section reasons is empty.")
    if passing is not None:
        flips = () if found is None else found.flips_of(passing.musts)
        return Ruling("go_if" if flips else "go", best, _why_go(passing), flips)
    all_fail = all(each.fails for each in tried)
    effects = () if found is None else (*found.assumptions, *found.levers)
    can_turn = any(each.turns_to_pass and each.after.requirement.level == "must" for each in effects)
    if all_fail and not can_turn:
        return Ruling("no_go", best, f"Every candidate fails for sure: {_worst(best)}.")
    return Ruling("iterate", best, f"No candidate passes every must yet: {_worst(best)}.{_would_help(found)}")


def _would_help(found: Sensitivity | None) -> str:
    """The first lever that turns a must, with what it would bring; levers stand in the order of their cost."""
    helping = [each for each in (found.levers if found is not None else ()) if each.turns_to_pass]
    musts = [each for each in helping if each.after.requirement.level == "must"]
    if not musts:
        return ""
    first = musts[0]
    name = first.after.requirement.name.replace("_", " ")
    change = f"{first.name.replace('_', ' ')} {first.value} instead of {first.base}"
    return f" A lever: {change} would bring {name} to {found_in(first.after)}."


def proposed(tried: Sequence[Tried]) -> Tried | None:
    """Of the candidates that pass the one with the fewest device-hours, the first of equals; None: none passes."""
    passing = [each for each in tried if each.passes]
    return min(passing, key=_device_hours) if passing else None


def _device_hours(tried: Tried) -> float:
    found = [each["values"]["device_hours"] for each in tried.facts if each is not None]
    return sum(found) / len(found) if found else float("inf")


def nearest(tried: Sequence[Tried]) -> Tried:
    """The candidate with the fewest failed musts, then the fewest open ones, the first of equals."""

    def distance(each: Tried) -> tuple[int, int]:
        states = [judged.state for judged in each.musts]
        return states.count("FAIL"), len(states) - states.count("PASS")

    return min(tried, key=distance)


def tightest(judged: Sequence[Judged]) -> list[Judged]:
    """Those that fail first, then by the room in half-widths of the interval, then by the share of the limit."""
    return sorted(judged, key=lambda each: (_ORDER[each.state], _half_widths(each), relative_room(each)))


def _half_widths(judged: Judged) -> float:
    """Room in half-widths; inf of what has no interval."""
    return judged.room if math.isfinite(judged.room) and not judged.is_fixed and judged.room else math.inf


_ORDER = {"FAIL": 0, "UNDECIDED": 1, "UNKNOWN": 2, "PASS": 3}


def relative_room(judged: Judged) -> float:
    """Distance to the limit as a share of it, positive on the good side; of a limit of nothing as it is."""
    distance = judged.estimate - judged.requirement.limit
    distance = distance if judged.requirement.is_floor else -distance
    size = abs(judged.requirement.limit)
    room = distance / size if size else distance
    return room if room == room else float("inf")


def _why_go(tried: Tried) -> str:
    least = tightest(tried.musts)[0]
    return f"Every must passes. The tightest: {said(least)}."


def _worst(tried: Tried) -> str:
    open_ones = [each for each in tightest(tried.musts) if each.state != "PASS"]
    words = {"FAIL": "fails", "UNDECIDED": "is not decided", "UNKNOWN": "is not known"}
    return "; ".join(f"{said(each)}, {words[each.state]}" for each in open_ones[:3])


def said(judged: Judged) -> str:
    """A requirement in words: its name, what was found and what is needed."""
    from_note = f" ({judged.note})" if judged.note else ""
    name = judged.requirement.name.replace("_", " ")
    return f"{name}, found {found_in(judged)}{from_note}, needed {judged.requirement.needed}"


def found_in(judged: Judged) -> str:
    """What was found, with its interval and unit; ``unknown`` where nothing is known."""
    return with_interval(judged.estimate, judged.low, judged.high, judged.requirement.about.unit)
