"""Hours of day against counting every quarter of an hour."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedsim.traces import clock

QUARTER_MS = clock.HOUR_MS // 4
N_QUARTERS = 8 * 96  # 8 days


def spans_of(mask: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    edges = np.flatnonzero(np.diff([0, *mask, 0])) * QUARTER_MS
    return edges[::2], edges[1::2]


masks = st.lists(
    st.tuples(st.integers(0, N_QUARTERS - 1), st.integers(1, 300)).map(lambda run: (run[0], sum(run))), max_size=6
).map(lambda runs: [any(a <= i < b for a, b in runs) for i in range(N_QUARTERS)])


@given(masks)
def test_time_by_hour_of_day_and_of_week(mask: list[bool]) -> None:
    start_ms, end_ms = spans_of(mask)
    hours = np.flatnonzero(mask) // 4
    for n_hours in (clock.HOURS_OF_DAY, clock.HOURS_OF_WEEK):
        expected = np.bincount(hours % n_hours, minlength=n_hours) * QUARTER_MS
        np.testing.assert_array_equal(clock.ms_by_hour(start_ms, end_ms, n_hours=n_hours), expected)


@given(st.lists(masks, min_size=1, max_size=3))
def test_touched_hours_and_days_count_once_for_each_trace(traces: list[list[bool]]) -> None:
    spans = [spans_of(mask) for mask in traces]
    trace = np.repeat(np.arange(len(traces), dtype=np.int32), [len(start) for start, _ in spans])
    start_ms, end_ms = (np.concatenate(column) for column in zip(*spans, strict=True))
    hours = [hour for mask in traces for hour in {i // 4 for i in np.flatnonzero(mask)}]
    expected = np.bincount(np.array(hours, dtype=np.int64) % 24, minlength=24)
    np.testing.assert_array_equal(clock.touched_by_hour(trace, start_ms, end_ms), expected)
    days = sum(len({i // 96 for i in np.flatnonzero(mask)}) for mask in traces)
    assert clock.n_touched(trace, start_ms, end_ms, cell_ms=96 * QUARTER_MS) == days


def test_a_span_that_ends_at_the_full_hour_does_not_touch_the_next() -> None:
    trace, start_ms, end_ms = np.zeros(1, dtype=np.int32), np.array([0]), np.array([clock.HOUR_MS])
    assert clock.touched_by_hour(trace, start_ms, end_ms).tolist() == [1.0] + [0.0] * 23


def test_two_spans_touch_their_hour_and_day_once() -> None:
    trace, quarter = np.zeros(2, dtype=np.int32), QUARTER_MS
    start_ms, end_ms = np.array([0, 2 * quarter]), np.array([quarter, 5 * quarter])
    assert clock.touched_by_hour(trace, start_ms, end_ms).tolist() == [1.0, 1.0] + [0.0] * 22
    assert clock.n_touched(trace, start_ms, end_ms, cell_ms=96 * quarter) == 1


def test_nothing_is_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert not clock.ms_by_hour(none, none).any()
    assert not clock.touched_by_hour(none.astype(np.int32), none, none).any()
    assert clock.n_touched(none.astype(np.int32), none, none, cell_ms=1) == 0
