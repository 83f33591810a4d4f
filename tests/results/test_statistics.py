"""Known answers of the statistics, and their chances by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedsim.results.measures import Value
from fedsim.results.statistics import MANY_SEEDS, difference, estimate, seeds_needed


def reached(*numbers: float) -> list[Value]:
    return [Value(number) for number in numbers]


def mixed(*numbers: float) -> list[Value]:
    """A negative number is a bound: not reached until then."""
    return [Value(abs(number), number < 0) for number in numbers]


def test_a_mean_has_students_interval() -> None:
    """Mean 4, sd 2, three seeds: 4.303 · 2 / √3 = 4.968."""
    found = estimate(reached(2.0, 4.0, 6.0))
    assert (found.center, found.method, found.n) == (4.0, "t", 3)
    assert (found.low, found.high) == pytest.approx((4 - 4.96828, 4 + 4.96828), abs=1e-4)


def test_one_seed_tells_no_interval() -> None:
    found = estimate(reached(3.5))
    assert (found.center, found.method) == (3.5, "none")
    assert math.isnan(found.low) and math.isnan(found.high)


def test_what_no_run_measured_is_not_zero() -> None:
    found = estimate([Value(math.nan), Value(math.nan)])
    assert (found.n, found.method) == (0, "none")
    assert math.isnan(found.center)


def test_skewed_values_of_many_seeds_are_bootstrapped() -> None:
    values = np.random.default_rng(3).exponential(5.0, 40)
    found = estimate(reached(*values))
    assert found.method == "bootstrap"
    assert found.high - found.center > 1.1 * (found.center - found.low)  # as skewed as the values
    assert estimate(reached(*values)) == found


@pytest.mark.slow
def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    drawn = [estimate(reached(*rng.normal(2.0, 0.7, 4))) for _ in range(3000)]
    assert 0.94 < np.mean([each.low < 2.0 < each.high for each in drawn]) < 0.96


# ------------------------------------------------------------------------------ targets that were not reached


def test_a_target_that_was_not_always_reached_has_a_median() -> None:
    """Of 10, 20, 30, 40, not, not the median is 35; the exact interval of six is from the first to the last."""
    found = estimate(mixed(40, 10, -50, 30, 20, -60))
    assert (found.center, found.low, found.high) == (35.0, 10.0, math.inf)
    assert (found.method, found.n, found.n_reached) == ("median", 6, 4)


def test_a_median_of_five_has_no_interval_and_one_beyond_the_runs_is_said() -> None:
    found = estimate(mixed(10, -50, -50, -50, 20))
    assert math.isinf(found.center)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.slow
def test_intervals_of_medians_hold_it_at_least_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)

    def holds() -> bool:
        values = rng.exponential(1.0, 9)
        found = estimate([Value(min(v, 1.2), v > 1.2) for v in values])
        return found.method != "median" or found.low <= math.log(2) <= found.high

    assert np.mean([holds() for _ in range(3000)]) > 0.95


# ------------------------------------------------------------------------------ differences


def test_pairs_are_subtracted_before_anything_else() -> None:
    """Arms spread from 10 to 40, differences 1.0, 1.2, 0.8: mean 1, t(2) = 4.303, 4.303 · 0.2 / √3 = 0.4969."""
    a, b = reached(11.0, 41.2, 20.8), reached(10.0, 40.0, 20.0)
    found = difference(a, b, is_paired=True, better="lower")
    assert (found.center, found.low, found.high) == pytest.approx((1.0, 0.50317, 1.49683), abs=1e-4)
    assert found.p_value == pytest.approx(0.013072, abs=1e-5)  # t = 8.660 of two degrees of freedom
    assert (found.verdict, found.method, found.n_pairs, found.n_needed) == ("worse", "t", 3, None)
    assert difference(a, b, is_paired=True, better="higher").verdict == "better"
    assert difference(a, b, is_paired=True, better=None).verdict == "higher"
    unpaired = difference(a, b, is_paired=False, better="lower")
    assert (unpaired.verdict, unpaired.method) == ("cannot be told", "welch")
    assert unpaired.n_needed == MANY_SEEDS + 1


def test_a_pair_that_lacks_one_side_is_no_pair() -> None:
    found = difference(reached(1.0, math.nan, 5.0), reached(2.0, 9.0, math.nan), is_paired=True, better="lower")
    assert (found.n_pairs, found.center) == (1, -1.0)
    assert (found.verdict, found.n_needed) == ("cannot be told", None)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ((3.0, 4.0, 7.0), (3.0, 4.0, 7.0), "equal"),
        ((3.5, 4.5, 7.5), (3.0, 4.0, 7.0), "worse"),  # the same difference each time
        ((math.nan,), (1.0,), "not measured"),
    ],
)
def test_differences_without_spread(a: tuple[float, ...], b: tuple[float, ...], verdict: str) -> None:
    assert difference(reached(*a), reached(*b), is_paired=True, better="lower").verdict == verdict


def test_a_difference_that_cannot_be_told_says_how_many_seeds_would() -> None:
    """Mean 1, sd 2: half a standard deviation, for which textbooks have 34 pairs."""
    d = np.array([-1.0, 3.0, -1.0, 3.0, 1.0])
    d = 1 + (d - d.mean()) / d.std(ddof=1) * 2
    found = difference(reached(*(10 + d)), reached(*([10.0] * 5)), is_paired=True, better="higher")
    assert (found.verdict, found.n_needed) == ("cannot be told", 34)


@pytest.mark.parametrize(("effect", "n"), [(0.5, 34), (0.8, 15), (1.0, 10), (0.2, 199)])
def test_seeds_needed_are_those_of_the_textbooks(effect: float, n: int) -> None:
    """Cohen's table of paired t tests at 5 %, two-sided, with a chance of 80 %."""
    assert seeds_needed(effect) == seeds_needed(-effect) == n


def test_more_seeds_than_anybody_plays_are_said_to_be_so() -> None:
    assert seeds_needed(1e-9) == MANY_SEEDS + 1
    assert seeds_needed(50.0) == 2


@pytest.mark.slow
def test_equal_arms_are_told_apart_as_rarely_as_said() -> None:
    rng = np.random.default_rng(2)

    def is_told(is_paired: bool) -> bool:
        a, b = rng.normal(0.0, 1.0, (2, 6))
        return difference(reached(*a), reached(*b), is_paired=is_paired, better="lower").verdict != "cannot be told"

    for is_paired in (True, False):
        assert 0.034 < np.mean([is_told(is_paired) for _ in range(1500)]) < 0.065


def test_signs_tell_what_censored_pairs_can() -> None:
    """Reached before the other run even ended, six times of six: 2 / 2⁶ = 3.1 %."""
    fast, slow = mixed(10, 10, 20, 10, 30, 10), mixed(-50, 40, -50, -30, 35, -20)
    found = difference(fast, slow, is_paired=True, better="lower")
    assert (found.verdict, found.method, found.n_pairs) == ("better", "signs", 6)
    assert found.p_value == pytest.approx(2 / 2**6)
    assert math.isnan(found.center)
    assert difference(slow, fast, is_paired=True, better="lower").verdict == "worse"


def test_pairs_that_cannot_be_ordered_do_not_count() -> None:
    """Both not reached; one ended before the other was reached, twice; equal: no sign. One pair of five is left."""
    a, b = mixed(-50, 60, -30, 20, 10), mixed(-50, -50, 45, 20, -50)
    found = difference(a, b, is_paired=True, better="lower")
    assert (found.n_pairs, found.verdict, found.p_value) == (1, "cannot be told", 1.0)
    assert found.n_needed == 30  # six that agree, of which every fifth pair is one


def test_five_agreeing_signs_are_too_few() -> None:
    found = difference(mixed(*[10] * 5), mixed(*[-50] * 5), is_paired=True, better="lower")
    assert (found.verdict, found.n_needed) == ("cannot be told", 6)


def test_targets_that_were_not_reached_tell_nothing_without_pairs() -> None:
    found = difference(mixed(10, 20), mixed(-50, -50), is_paired=False, better="lower")
    assert (found.verdict, found.n_needed) == ("cannot be told", None)
