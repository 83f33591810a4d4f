"""How requirements are judged: intervals and medians against hand computations, and the rate of wrong passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedsim.plan.judge import LOOKS, Judged, interval, judge, level_of
from fedsim.plan.requirement import Requirement
from tests.plan.facts import curves, required, values

T_975_OF_4 = 2.776445  # Student's quantiles, from a table
T_975_OF_2 = 4.302653


def judged(asked: Requirement, facts: list[dict[str, object]], level: float = 0.95) -> Judged:
    return judge(asked, facts, level=level, level_of_fail=level)


def test_the_interval_is_students() -> None:
    numbers = np.array([2.0, 3.0, 5.0, 9.0, 11.0])  # mean 6, variance 15
    half = T_975_OF_4 * math.sqrt(15 / 5)
    assert interval(numbers, 0.95) == pytest.approx((6 - half, 6 + half), rel=1e-5)
    found = judged(required(metric="days", at_most=6 + half + 0.01), values("days", list(numbers)))
    assert (found.state, found.estimate) == ("PASS", 6.0)
    assert judged(required(metric="days", at_most=6 + half - 0.01), values("days", list(numbers))).state == "UNDECIDED"
    assert judged(required(metric="days", at_most=6 - half - 0.01), values("days", list(numbers))).state == "FAIL"


def test_two_seeds_decide_nothing_and_an_unknown_value_is_unknown() -> None:
    asked = required(metric="days", at_most=100)
    assert judged(asked, values("days", [1.0, 1.1])).state == "UNDECIDED"
    missing = [*values("days", [1.0, 1.1]), *values("steps", [1.0])]
    assert judged(asked, missing).state == "UNKNOWN"


def test_a_comparison_is_seed_by_seed() -> None:
    asked = required(metric="auc", compared_to="central", margin=0.02)
    facts = [*values("auc", [0.70], 0.71), *values("auc", [0.80], 0.81), *values("auc", [0.90], 0.911)]
    found = judged(asked, facts)
    assert found.estimate == pytest.approx(-0.0103333, rel=1e-4)  # spread of 0.1 between seeds cancels
    assert found.state == "PASS"


def test_durations_are_judged_by_their_logarithm() -> None:
    facts = curves([(1.0, 0.7), (2.0, 0.8)], [(1.0, 0.5), (4.0, 0.9)], [(8.0, 0.75)], horizon_days=30)
    found = judged(required(metric="days_to.auc", target=0.75, at_most=100), facts)
    half = T_975_OF_2 * math.log(2) / math.sqrt(3)  # logs of 2, 4, 8: mean log 4, deviation log 2
    assert found.estimate == pytest.approx(4.0)
    assert (found.low, found.high) == pytest.approx((4 / math.exp(half), 4 * math.exp(half)), rel=1e-5)
    assert found.reached == 3


def test_the_first_evaluation_at_the_target_counts() -> None:
    run = [(1.0, 0.7), (2.0, 0.75), (3.0, 0.6), (4.0, 0.9)]
    found = judged(
        required(metric="days_to.auc", target="central - 0.05", at_most=9), curves(run, run, run, horizon_days=5)
    )
    assert found.estimate == pytest.approx(2.0)


def test_some_unseen_runs_make_it_kaplan_and_meiers_median() -> None:
    """Days 1, 2+, 3, 5, 6+: survival is 4/5, then 4/5 · 2/3 = 8/15, then 4/15: the median is 5."""
    never = [(1.0, 0.1)]
    facts = [
        *curves([(1.0, 0.8)], [(3.0, 0.8)], [(5.0, 0.8)], horizon_days=30),
        *curves(never, horizon_days=2.0), *curves(never, horizon_days=6.0),
    ]  # fmt: skip
    found = judged(required(metric="days_to.auc", target=0.8, at_most=50), facts)
    assert found.estimate == 5.0
    assert found.reached == 3
    assert math.isinf(found.high)
    assert found.state == "UNDECIDED"


@pytest.mark.parametrize(("limit", "state"), [(9.0, "FAIL"), (11.0, "UNDECIDED")])
def test_most_unseen_runs_fail_only_beyond_the_limit(limit: float, state: str) -> None:
    facts = [*curves([(1.0, 0.8)], horizon_days=10), *curves([(1.0, 0.1)], [(1.0, 0.2)], horizon_days=10)]
    assert judged(required(metric="days_to.auc", target=0.8, at_most=limit), facts).state == state


@pytest.mark.parametrize("n_candidates", [1, 4])
def test_what_fails_by_a_hair_passes_no_more_often_than_alpha(n_candidates: int) -> None:
    """Values with a mean on the limit's bad edge, looked at after 3, 5 and 10 seeds; any candidate's pass is wrong."""
    asked, alpha, n_draws = required(metric="days", at_most=10.0), 0.05, 700
    level = level_of(alpha, n_looks=len(LOOKS), n_candidates=n_candidates)
    rng = np.random.default_rng(3)
    n_wrong = 0
    for _ in range(n_draws):
        drawn = 10.0 + 1e-9 + rng.normal(size=(n_candidates, LOOKS[-1]))
        n_wrong += any(_passes(asked, list(each), level) for each in drawn)
    assert 0 < n_wrong / n_draws <= alpha + 2.5 * math.sqrt(alpha * (1 - alpha) / n_draws)


def _passes(asked: Requirement, numbers: list[float], level: float) -> bool:
    for n in LOOKS:
        state = judged(asked, values("days", numbers[:n]), level).state
        if state != "UNDECIDED":
            return state == "PASS"
    return False
