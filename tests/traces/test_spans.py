"""Spans over a window of days: merging, and days that are left out."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedsim.traces.spans import Window, merged
from fedsim.units import DAY_MS, IntArray

SPANS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 15)).map(lambda s: (s[0], s[1], s[1] + s[2])),
    max_size=25,
).map(sorted)


def columns(spans: list[tuple[int, int, int]]) -> list[IntArray]:
    return [np.array([span[k] for span in spans], dtype=np.int64) for k in range(3)]


@given(SPANS)
def test_merging_keeps_the_covered_time(spans: list[tuple[int, int, int]]) -> None:
    found = list(zip(*(column.tolist() for column in merged(*columns(spans))), strict=True))
    for device in range(3):
        expected, covered = np.zeros(80, dtype=bool), np.zeros(80, dtype=bool)
        for which, start, end in spans:
            expected[start:end] |= which == device
        for which, start, end in found:
            covered[start:end] |= which == device
        assert (covered == expected).all()


@given(SPANS)
def test_merged_spans_are_disjoint_and_sorted(spans: list[tuple[int, int, int]]) -> None:
    found = list(zip(*(column.tolist() for column in merged(*columns(spans))), strict=True))
    assert all(b[0] > a[0] or b[1] >= a[2] for a, b in pairwise(found))
    assert set(found) >= {
        s for s in spans if not any(o != s and o[0] == s[0] and o[1] < s[2] and s[1] < o[2] for o in spans)
    }


def test_touching_and_empty_spans_stay() -> None:
    spans = [(0, 1, 5), (0, 5, 9), (0, 9, 9), (0, 12, 12), (1, 0, 9)]
    assert list(zip(*merged(*columns(spans)), strict=True)) == spans
    assert [len(column) for column in merged(*columns([]))] == [0, 0, 0]


@given(st.sets(st.integers(-5, 30), min_size=1, max_size=12), st.integers(0, DAY_MS - 1))
def test_days_close_up_and_know_where_a_run_ends(days: set[int], time_of_day_ms: int) -> None:
    window = Window(np.array(sorted(days)), is_local=True)
    instants = np.array(sorted(days)) * DAY_MS + time_of_day_ms
    assert window.at_ms(instants).tolist() == [k * DAY_MS + time_of_day_ms for k in range(len(days))]
    for day, until_ms in zip(sorted(days), window.covered_until_ms(instants).tolist(), strict=True):
        last = next(d for d in range(day, 40) if d + 1 not in days)
        assert until_ms == (last + 1) * DAY_MS


def test_windows() -> None:
    assert Window.of(DAY_MS + 1, 2 * DAY_MS, is_local=True).days.tolist() == [1]
    assert Window.of(DAY_MS + 1, 2 * DAY_MS + 1, is_local=True).days.tolist() == [1, 2]
    assert Window.of(3 * DAY_MS, 3 * DAY_MS, is_local=True).days.tolist() == [3]
    assert Window.of(DAY_MS + 1, 2 * DAY_MS, is_local=False).days.tolist() == [0, 1]
    assert Window.of(-1, 5, is_local=True).said() == {"n_days": 2, "first_midnight": "1969-12-31"}
