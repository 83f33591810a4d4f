"""Distances between trace sets."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from fedsim.errors import InputError
from fedsim.traces.canonical import Events
from fedsim.traces.criteria import compile_rule
from fedsim.traces.generator.goodness import autocorrelation, goodness, ks_distance
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S, HOUR_S
from tests.hand import events_of, traces_of

RULE = Rule.parse("charging")


def charging(*spans: tuple[float, float]) -> Events:
    rows: list[tuple[float, str, object]] = [(0.0, "charging", 0)]
    for start, end in spans:
        rows += [(start * HOUR_S, "charging", 1), (end * HOUR_S, "charging", 0)]
    return events_of(rows)


def test_ks_is_scipy_s() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.exponential(size=200), np.round(draw.normal(1, 1, size=300), 1)
    assert ks_distance(a, b) == pytest.approx(ks_2samp(a, b).statistic)


def test_a_set_stands_for_itself() -> None:
    traces = traces_of([charging((1, 3)), charging((2, 6), (20, 21))], period_s=DAY_S)
    same = goodness(traces, traces, RULE)
    assert (same.mean_share, same.hour_of_day, same.session_ks, same.device_ks, same.autocorrelation) == (0,) * 5


def test_distances_by_hand() -> None:
    """Two hours at night against four by day: hours differ wholly, no session length is shared."""
    one = traces_of([charging((1, 3))], period_s=DAY_S)
    other = traces_of([charging((10, 14))], period_s=DAY_S)
    found = goodness(one, other, RULE)
    assert found.mean_share == pytest.approx(-2 / 24)
    assert (found.hour_of_day, found.session_ks, found.device_ks) == (1.0, 1.0, 1.0)


def test_autocorrelation_is_that_of_the_half_hour_grid() -> None:
    traces = traces_of([charging((1, 3)), charging((4, 4.5), (9, 12))], period_s=DAY_S)
    grid = np.zeros((2, 48))
    grid[0, 2:6] = grid[1, 8:9] = grid[1, 18:24] = 1
    pairs = np.concatenate([np.stack([row[:-1], row[1:]]) for row in grid], axis=1)
    windows = compile_rule(traces, RULE, unknown="ineligible")
    assert autocorrelation(windows) == pytest.approx(np.corrcoef(pairs)[0, 1])


def test_nothing_has_no_distance() -> None:
    with pytest.raises(InputError, match="both sides"):
        ks_distance(np.zeros(0), np.ones(3))
