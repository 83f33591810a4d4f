"""A channel at any instant against its log, read line by line."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.fleet.availability import Track
from fedsim.fleet.fleet import Fleet
from fedsim.traces.criteria import compile_channel
from tests.fleet.walked import columns, seconds
from tests.hand import events_of, traces_of

Step = tuple[int, float | None]  # ms since the trace's first instant, network code or unknown


def track_of(logs: list[list[Step]], periods_ms: list[int], starts_ms: list[int]) -> Track:
    traces = traces_of(
        [events_of([(at / 1000, "network", value) for at, value in log]) for log in logs],
        period_s=[period / 1000 for period in periods_ms],
        start_s=[start / 1000 for start in starts_ms],
        is_local=False,
    )
    return Track(Fleet(traces, n_devices=len(logs), seed=0, is_replay=True), compile_channel(traces, "network"))


def level(log: list[Step], period_ms: int, start_ms: int, at_us: int) -> tuple[float, int]:
    """Value and the next entry's instant (µs), by going through the log."""
    position = (at_us - start_ms * 1000) % (period_ms * 1000)
    value, following = math.nan, period_ms * 1000
    for at, entry in log:
        if at * 1000 <= position:
            value = math.nan if entry is None else entry
        elif following == period_ms * 1000:
            following = at * 1000
    return value, at_us + following - position


@st.composite
def network_logs(draw: st.DrawFn) -> tuple[list[list[Step]], list[int], list[int]]:
    n = draw(st.integers(1, 4))
    periods = draw(st.lists(st.integers(5, 40), min_size=n, max_size=n))
    starts = draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    value = st.none() | st.integers(0, 5).map(float)
    logs: list[list[Step]] = []
    for period in periods:
        instants = sorted(draw(st.sets(st.integers(0, period - 1), max_size=6)))
        logs.append([(at, draw(value)) for at in instants])
    if not any(logs):
        logs[0] = [(draw(st.integers(0, periods[0] - 1)), 1.0)]
    return logs, periods, starts


@pytest.mark.slow
@given(made=network_logs(), data=st.data())
def test_track_is_the_log_read_line_by_line(
    made: tuple[list[list[Step]], list[int], list[int]], data: st.DataObject
) -> None:
    logs, periods, starts = made
    ask = st.tuples(st.integers(0, len(logs) - 1), st.integers(-50, 200).map(lambda ms: ms * 500))
    asked = data.draw(st.lists(ask, min_size=1, max_size=30))
    cells, now = columns(asked)
    value, until = track_of(logs, periods, starts).at_cells(cells, now)
    wanted = [level(logs[cell], periods[cell], starts[cell], at) for cell, at in asked]
    assert np.array_equal(value, np.array([value for value, _ in wanted], dtype=np.float32), equal_nan=True)
    assert until.tolist() == seconds([until for _, until in wanted])


def test_a_track_wraps_to_what_its_trace_begins_with() -> None:
    track = track_of([[(3000, 1), (7000, 4)], [(0, 2)]], [10_000, 10_000], [0, 0])
    for now, value, until in [(0.0, math.nan, 3.0), (9.0, 4.0, 10.0), (10.0, math.nan, 13.0), (14.0, 1.0, 17.0)]:
        values, untils = track.at_cells(np.arange(2), now)
        assert np.array_equal(values, np.array([value, 2], dtype=np.float32), equal_nan=True)
        assert untils.tolist() == [until, 10.0 if now < 10 else 20.0]
