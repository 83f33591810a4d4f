"""Bisection finds what a scan of all values finds; fronts, closed forms and bounds against hand computations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from fedsim.plan.arms import is_as_foretold, prediction_bound
from fedsim.plan.search import _bracket, most_looked_at, pareto
from fedsim.plan.shortlist import Trips, foretold_days, incidence
from fedsim.plan.spec import Objective, spec_of
from fedsim.plan.trials import Candidate, Row


def row(name: str, **figures: float) -> Row:
    return Row(Candidate((("x", name),)), (0, 1, 2), {key: (value,) * 3 for key, value in figures.items()})


def scanned(enough: Sequence[bool], guess: int) -> int | None:
    """As :func:`fedsim.plan.search.bisect` does it."""
    good, bad = _bracket(guess, len(enough), lambda place: enough[place])
    while good is not None and good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if enough[middle] else (good, middle)
    return good


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_bisection_finds_the_first_that_is_enough_from_any_guess(n: int) -> None:
    for first in range(n):
        enough = [place >= first for place in range(n)]
        for guess in range(n):
            assert scanned(enough, guess) == first
    assert scanned([False] * n, n // 2) is None


@pytest.mark.parametrize("n", [1, 5, 40, 381])
def test_no_search_looks_at_more_candidates_than_its_level_is_made_for(n: int) -> None:
    told = {"base": "training=none", "search": {"x": {"from": 1, "to": n}}, "plan": {"find": "smallest"}}
    spec = spec_of(told | {"requirements": {"days": {"metric": "days", "at_most": 1}}})
    for guess in range(0, n, max(1, n // 20)):
        for first, last in ((0, n), (n // 3, n), (n // 9, n // 7), (n, n)):
            seen: set[int] = set()

            def is_enough(place: int, first: int = first, last: int = last, seen: set[int] = seen) -> bool:
                seen.add(place)
                return first <= place < last

            good, bad = _bracket(guess, n, is_enough)
            while good is not None and good - bad > 1:
                middle = (good + bad) // 2
                good, bad = (middle, bad) if is_enough(middle) else (good, middle)
            assert len(seen) <= most_looked_at(spec)


def test_too_much_of_a_thing_is_looked_for_on_the_near_side() -> None:
    enough = [3 <= place <= 20 for place in range(40)]
    assert scanned(enough, 30) == 3


def test_a_pareto_set_by_hand() -> None:
    objectives = [Objective("days", "days", True), Objective("auc", "number", False)]
    rows = [
        row("a", days=1, auc=0.7), row("b", days=2, auc=0.8), row("c", days=3, auc=0.75), row("d", days=1, auc=0.6),
        row("e", days=2, auc=0.8), row("unknown", days=0.1),
    ]  # fmt: skip
    assert [each.candidate.values[0][1] for each in pareto(rows, objectives)] == ["a", "b", "e"]


def test_reports_are_censored_where_a_session_was_told_to_stop_and_never_come_where_it_was_lost() -> None:
    """Reports at 1 and 4, told to stop at 2, lost: 1/4 by 1 s, then half of the 3/4 that is left by 4 s."""
    at, share = incidence(np.array([4.0, 2.0, np.inf, 1.0]), np.array([True, False, False, True]))
    assert at.tolist() == [1.0, 4.0]
    assert share.tolist() == pytest.approx([0.25, 0.625])


def trips() -> Trips:
    """Of ten sessions eight report, after 10, 20 … 80 s."""
    ten = np.arange(1.0, 9.0)
    return Trips(10 * ten, ten / 10, 50.0, np.array([0.0, 5.0, 6.0, 20.0]), np.full(4, 1e6))


def test_rounds_by_order_statistics() -> None:
    server = {"report_goal": 10, "over_selection": 2.0, "deadline_s": 600, "server_step_s": 15, "aggregator": {}}
    assert foretold_days(trips(), {"server": server}, 4) == pytest.approx(4 * (50 + 15) / 86_400)  # half of the cohort
    never = server | {"over_selection": 1.1}  # 10 of 11 report never: only 8 of 10 do
    assert foretold_days(trips(), {"server": never}, 4) == pytest.approx(4 * (600 + 15) / 86_400)


def test_a_buffer_by_littles_law() -> None:
    server = {"buffer_size": 30, "concurrency": 25, "server_step_s": 15}
    per_s = 25 / 50 * 0.8  # sessions a second of which eight in ten report
    assert foretold_days(trips(), {"server": server}, 7) == pytest.approx(7 * 30 / per_s / 86_400)
    assert math.isnan(foretold_days(trips(), {"server": {"mine": 1}}, 7))


def test_a_full_aggregator_takes_as_long_as_all_reports_take_it() -> None:
    aggregator = {"service_s": 9.0, "bytes_per_s": 1e6, "n_workers": 1}  # ten seconds each, one each 6.7 s
    server = {
        "report_goal": 10,
        "over_selection": 2.0,
        "deadline_s": None,
        "server_step_s": 15,
        "aggregator": aggregator,
    }
    assert foretold_days(trips(), {"server": server}, 1) == pytest.approx((50 + 10 + 40 + 15) / 86_400)


def test_the_bound_of_one_more_run() -> None:
    numbers = np.array([2.0, 3.0, 5.0, 9.0, 11.0])  # mean 6, deviation √15; Student's 95 % quantile of 4 is 2.131847
    assert prediction_bound(numbers, 0.95) == pytest.approx(6 + 2.131847 * math.sqrt(15) * math.sqrt(1.2), rel=1e-5)
    assert is_as_foretold(numbers, np.array([12.0, 8.0]))
    assert not is_as_foretold(numbers, np.array([26.0, 24.0]))
