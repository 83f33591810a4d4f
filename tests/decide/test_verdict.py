"""The rule from states to a verdict, by hand; and how often it errs where a requirement fails by a hair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedsim.decide.campaign import Candidate, Tried
from fedsim.decide.sensitivity import Effect, Sensitivity, transplanted
from fedsim.decide.verdict import proposed, ruling
from fedsim.plan.judge import Judged, State, judge, level_of
from fedsim.plan.quantities import Quantity
from fedsim.plan.requirement import Requirement

QUALITY = Requirement("quality", "auc", Quantity("number", "", "training"), True, -0.015, "must", "", "central")
COST = Requirement("cost", "usd_per_year", Quantity("USD", "", "forecast"), False, 50.0, "should", "")


def judged(
    state: State, requirement: Requirement = QUALITY, *, surely: bool = False, estimate: float = -0.01
) -> Judged:
    return Judged(requirement, state, estimate, estimate - 0.002, estimate + 0.002, 5, fails_surely=surely)


def tried(*states: Judged, hours: float = 7.0, arm: str = "rounds") -> Tried:
    facts = ({"values": {"device_hours": hours}, "seed": 0},)
    return Tried(Candidate("charging", "model=a", arm, ()), facts, None, states, 1)


def effect(before: State, after: State, *, is_lever: bool = False) -> Effect:
    return Effect("slow", "k", 1.0, 3.0, is_lever, judged(before), judged(after))


NOTHING = Sensitivity((), (), ())


def rule(*candidates: Tried, found: Sensitivity = NOTHING, has_reason: bool = True) -> str:
    return ruling(candidates, found, has_reason=has_reason, passing=proposed(candidates)).verdict


def test_one_candidate_whose_musts_all_pass_is_a_go() -> None:
    fails, passes = tried(judged("FAIL", surely=True)), tried(judged("PASS"))
    assert rule(fails, passes) == "go"


def test_a_failed_should_changes_no_verdict() -> None:
    assert rule(tried(judged("PASS"), judged("FAIL", COST, surely=True))) == "go"


def test_an_assumption_that_makes_a_must_fail_is_a_condition() -> None:
    found = Sensitivity((effect("PASS", "FAIL"),), (), ())
    told = ruling([tried(judged("PASS"))], found, has_reason=True, passing=tried(judged("PASS")))
    assert told.verdict == "go_if" and [each.name for each in told.conditions] == ["slow"]
    assert rule(tried(judged("PASS")), found=Sensitivity((effect("PASS", "UNDECIDED"),), (), ())) == "go"


def test_no_reason_is_a_no_go() -> None:
    assert rule(tried(judged("PASS")), has_reason=False) == "no_go"


def test_a_must_that_is_open_is_no_go_and_no_no_go() -> None:
    assert rule(tried(judged("UNDECIDED"))) == "iterate"
    assert rule(tried(judged("UNKNOWN"))) == "iterate"


def test_a_failure_counts_for_a_no_go_only_at_its_own_level() -> None:
    assert rule(tried(judged("FAIL"))) == "iterate"
    assert rule(tried(judged("FAIL", surely=True))) == "no_go"


def test_a_lever_or_an_assumption_that_would_pass_is_something_to_iterate_on() -> None:
    failed = tried(judged("FAIL", surely=True))
    assert rule(failed, found=Sensitivity((), (effect("FAIL", "PASS", is_lever=True),), ())) == "iterate"
    assert rule(failed, found=Sensitivity((effect("FAIL", "PASS"),), (), ())) == "iterate"
    found = Sensitivity((), (effect("FAIL", "PASS", is_lever=True),), ())
    said = ruling([failed], found, has_reason=True, passing=None).sentence
    assert "slow 3.0 instead of 1.0 would bring quality to" in said


def test_of_candidates_that_pass_the_one_that_asks_least_of_phones_is_proposed() -> None:
    many, few = tried(judged("PASS"), hours=9.0), tried(judged("PASS"), hours=3.0, arm="buffer")
    assert proposed([many, few]) is few
    assert proposed([tried(judged("UNDECIDED"))]) is None


def test_a_learning_curve_laid_on_slower_steps() -> None:
    base = {
        "curves": {"auc": {"days": [0.0, 0.2, 0.4], "value": [0.5, 0.6, 0.7], "version": [0, 3, 5]}},
        "values": {"auc": 0.7, "days": 0.4}, "central": {"auc": 0.72}, "step_days": [0.1, 0.15, 0.2, 0.3, 0.4],
    }  # fmt: skip
    other = {"step_days": [0.3, 0.6, 1.1, 1.4], "values": {"days": 1.5}, "horizon_days": 1.5}
    laid = transplanted(base, other)
    assert laid["curves"]["auc"] == {"days": [0.0, 1.1], "value": [0.5, 0.6], "version": [0, 3]}  # version 5 never came
    assert laid["values"] == {"auc": 0.7, "days": 1.5} and laid["horizon_days"] == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("n_candidates", [1, 2, 4])
def test_a_requirement_that_fails_by_a_hair_passes_no_more_often_than_alpha(n_candidates: int) -> None:
    """Three looks at each of several candidates whose true difference is the margin itself: every go is false."""
    alpha, n_specs, rng = 0.10, 1500, np.random.default_rng(7)
    level = level_of(alpha, n_looks=3, n_candidates=n_candidates)
    draws = rng.normal(QUALITY.limit, 0.004, size=(n_specs, n_candidates, 10))
    n_false = 0
    for spec in draws:
        n_false += any(_passes_at_some_look(values, level) for values in spec)
    bound = alpha + 2.6 * math.sqrt(alpha * (1 - alpha) / n_specs)
    assert n_false / n_specs <= bound
    assert n_false > 0.002 * n_specs  # the rule is no wall: without any error it would decide nothing


def _passes_at_some_look(values: np.ndarray, level: float) -> bool:
    for n in (3, 5, 10):
        facts = [{"values": {"auc": 0.7 + value}, "central": {"auc": 0.7}} for value in values[:n]]
        if judge(QUALITY, facts, level=level, level_of_fail=level).state == "PASS":
            return True
    return False
