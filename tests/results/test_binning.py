"""Bins, spreading and streaming quantiles against a pencil and against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.results.binning import (
    Grid,
    count_quantile,
    display_width_s,
    log_histogram,
    log_quantile,
    padded_sum,
    spread,
)
from fedsim.units import DAY_S, HOUR_S, MINUTE_S


def test_last_bin_takes_the_rest() -> None:
    assert Grid(100.0, 30.0).edges().tolist() == [0.0, 30.0, 60.0, 100.0]
    assert Grid(110.0, 30.0).edges().tolist() == [0.0, 30.0, 60.0, 90.0, 110.0]
    assert Grid(10.0, 30.0).edges().tolist() == [0.0, 10.0]


def test_an_instant_on_an_edge_belongs_to_the_later_bin_and_the_horizon_to_the_last() -> None:
    assert Grid(90.0, 30.0).index(np.array([0.0, 29.9, 30.0, 60.0, 90.0])).tolist() == [0, 0, 1, 2, 2]


def test_bins_grow_with_the_run() -> None:
    widths = [Grid.covering(horizon).width_s for horizon in (6 * HOUR_S, 6 * HOUR_S + 1, 60 * DAY_S, 61 * DAY_S)]
    assert widths == [1, MINUTE_S, MINUTE_S, HOUR_S]


def test_coarser_bins_hold_the_same_sum() -> None:
    fine = Grid(100.0, 10.0)
    coarse = fine.coarser(30.0)
    assert fine.coarsen(np.arange(10), coarse).tolist() == [0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8 + 9]
    assert fine.coarser(1.0) == fine


def test_display_widths_are_round() -> None:
    assert [display_width_s(at_least) for at_least in (0.3, 61.0, 1800.0, 1e9)] == [1, 120, 1800, 7 * DAY_S]


def test_overlap_by_hand() -> None:
    start, end = np.array([5.0, 20.0, 30.0]), np.array([65.0, 20.0, 40.0])
    assert spread(Grid(90.0, 30.0), start, end, end - start).tolist() == [25.0, 40.0, 5.0]


def test_a_row_of_no_length_falls_into_the_bin_of_its_start() -> None:
    at = np.array([30.0, 90.0, 91.0])
    assert spread(Grid(90.0, 30.0), at, at, np.array([7, 8, 9])).tolist() == [0.0, 7.0, 8.0]


def test_what_lies_beyond_the_horizon_is_left_out() -> None:
    start, end = np.array([80.0, 95.0]), np.array([100.0, 96.0])
    assert spread(Grid(90.0, 30.0), start, end, np.array([200, 100])).tolist() == [0.0, 0.0, 100.0]


rows = st.lists(st.tuples(st.floats(0, 120), st.floats(0, 120), st.integers(0, 10**9)), max_size=20)


@pytest.mark.slow
@given(rows, st.floats(1.0, 100.0), st.sampled_from([3.0, 7.5, 30.0]))
def test_spread_equals_a_loop_over_rows_and_bins(
    rows: list[tuple[float, float, int]], horizon: float, width: float
) -> None:
    grid = Grid(horizon, width)
    expected = np.zeros(grid.n_bins)
    edges = grid.edges()
    for a, b, amount in rows:
        start, end = min(a, b), max(a, b)
        for k in range(grid.n_bins):
            if end > start:
                expected[k] += amount * max(0.0, min(end, edges[k + 1]) - max(start, edges[k])) / (end - start)
            elif start <= horizon and grid.index(np.array([start]))[0] == k:
                expected[k] += amount
    a, b, amount = (
        np.array(column, dtype=np.float64) for column in (zip(*rows, strict=True) if rows else ([], [], []))
    )
    binned = spread(grid, np.minimum(a, b), np.maximum(a, b), amount)
    np.testing.assert_allclose(binned, expected, rtol=1e-9, atol=1e-3)


@given(st.lists(st.floats(1e-2, 1e7), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 1.0]))
def test_log_quantile_is_within_its_bin(values: list[float], fraction: float) -> None:
    exact = np.quantile(values, fraction, method="inverted_cdf")
    assert log_quantile(log_histogram(np.array(values)), fraction) == pytest.approx(exact, rel=0.0061)


def test_quantiles_of_nothing_and_of_no_time() -> None:
    assert log_quantile(log_histogram(np.array([])), 0.5) is None
    assert log_quantile(log_histogram(np.zeros(3)), 0.5) == 0.0
    assert count_quantile(np.array([0, 0]), 0.5) is None


def test_count_quantile_is_the_smallest_index_that_reaches_the_share() -> None:
    counts = np.array([5, 0, 4, 1])
    assert [count_quantile(counts, q) for q in (0.0, 0.5, 0.51, 0.9, 0.91)] == [0, 0, 2, 2, 3]


def test_series_of_different_length_are_padded() -> None:
    assert padded_sum(np.array([1, 2, 3]), np.array([10])).tolist() == [11, 2, 3]
    assert padded_sum(np.array([[1], [2]]), np.array([[1, 1], [1, 1]])).tolist() == [[2, 1], [3, 1]]
