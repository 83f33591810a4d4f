"""Closing gaps: golden cases, brute force on compiled windows, and the chatter of the FedScale clients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.traces.edit.debounce import debounce
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.fedscale import import_fedscale
from tests.hand import events_of, traces_of

PERIOD_S = 100


def one(*rows: tuple[float, str, object]) -> TraceSet:
    return traces_of([events_of(rows)], period_s=PERIOD_S, is_local=False)


def spans(traces: TraceSet, rule: str = "available", trace: int = 0) -> list[tuple[float, float]]:
    windows = compile_rule(traces, Rule.parse(rule), unknown="ineligible")
    rows = slice(windows.offsets[trace], windows.offsets[trace + 1])
    starts, ends = windows.start_ms[rows] / 1000, windows.end_ms[rows] / 1000
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def on_off(*edges: float) -> TraceSet:
    """Off at 0, then on, off, on … at the edges."""
    rows = [(0, "available", 0), *((at, "available", (i + 1) % 2) for i, at in enumerate(edges))]
    return one(*rows)


def test_a_gap_of_exactly_the_limit_is_closed_and_a_longer_one_stays() -> None:
    traces = on_off(10, 20, 25, 40, 46, 50)
    assert spans(traces) == [(10, 20), (25, 40), (46, 50)]
    closed = debounce(traces, gap_s=5)
    assert spans(closed) == [(10, 40), (46, 50)]
    assert closed.events.at_ms.tolist() == [0, 10_000, 40_000, 46_000, 50_000]
    assert closed.provenance["transforms"] == ["debounced available: 1 of 2 gaps closed, those of at most 5 s"]
    assert spans(debounce(traces, gap_s=5.999)) == [(10, 40), (46, 50)]
    assert spans(debounce(traces, gap_s=6)) == [(10, 50)]


def test_what_comes_before_the_first_and_after_the_last_session_is_no_gap() -> None:
    traces = on_off(2, 98)
    assert spans(debounce(traces, gap_s=50)) == [(2, 98)]


def test_unknown_is_no_gap() -> None:
    traces = one((0, "available", 1), (10, "available", None), (12, "available", 1), (20, "available", 0))
    assert spans(debounce(traces, gap_s=50)) == [(0, 10), (12, 20)]


def test_one_device_does_not_close_the_gap_of_the_next() -> None:
    log = [(0, "available", 1), (95, "available", 0)]
    traces = traces_of([events_of(log), events_of(log)], period_s=PERIOD_S, is_local=False)
    closed = debounce(traces, gap_s=50)
    assert [spans(closed, trace=trace) for trace in (0, 1)] == [[(0, 95)], [(0, 95)]]


def test_repeated_and_simultaneous_values_are_one_gap() -> None:
    rows = [(0, 1), (10, 0), (12, 0), (14, 1), (14, 0), (15, 0), (15, 1), (16, 1), (30, 0)]
    traces = one(*((at, "available", value) for at, value in rows))
    closed = debounce(traces, gap_s=5)
    assert spans(closed) == [(0, 30)]
    assert closed.events.at_ms.tolist() == [0, 16_000, 30_000]
    assert spans(debounce(traces, gap_s=4.9)) == [(0, 10), (15, 30)]


def test_other_channels_sentinels_and_the_end_are_left_alone() -> None:
    traces = one(
        (0, "charging", 1), (0, "screen", 1), (10, "charging", 0), (10, "screen", 0), (12, "battery", 5.0),
        (12, "charging", 1), (97, "charging", 0), (98, "charging", 1), (99, "charging", 0), (100, "charging", 1),
    )  # fmt: skip
    traces.events.is_sentinel[7] = True
    closed = debounce(traces, gap_s=5, channel="charging")
    assert closed.events.at_ms.tolist() == [0, 0, 10_000, 12_000, 97_000, 98_000, 99_000, 100_000]
    assert spans(closed, "charging") == [(0, 97)]
    assert spans(closed, "screen") == [(0, 10)]


@pytest.mark.parametrize(
    ("gap_s", "channel", "says"),
    [
        (5, "battery", r"only an on-off channel has gaps: 'battery' \(allowed: available, charging, screen, locked\)"),
        (-1, "available", "the gap must not be negative: -1"),
        (float("nan"), "available", "the gap must not be negative"),
        (5, "screen", r"no event of channel: 'screen' \(allowed: available\)"),
    ],
)
def test_what_cannot_be_debounced_is_refused(gap_s: float, channel: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        debounce(on_off(1, 2), gap_s=gap_s, channel=channel)


rows_of_device = st.lists(
    st.tuples(st.integers(0, PERIOD_S), st.sampled_from([0, 1, 1, 0, None])), min_size=1, max_size=14
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


@given(st.lists(rows_of_device, min_size=1, max_size=3), st.integers(0, 30))
def test_windows_equal_closing_gaps_one_by_one(devices: list[list[tuple[int, Any]]], gap: int) -> None:
    devices = [*devices, [(50, 1)]]  # so that the channel is there
    logs = [events_of([(at, "screen", value) for at, value in rows]) for rows in devices]
    traces = traces_of(logs, period_s=PERIOD_S, is_local=False)
    closed = debounce(traces, gap_s=gap, channel="screen")
    for trace, rows in enumerate(devices):
        state: list[Any] = [None] * PERIOD_S
        for at, value in rows:
            state[at:] = [value] * (PERIOD_S - at)
        expected: list[tuple[float, float]] = []
        for second in [i for i, value in enumerate(state) if value == 1]:
            end = expected[-1][1] if expected else -1
            if expected and second - end <= gap and None not in state[int(end) : second]:
                expected[-1] = (expected[-1][0], second + 1)
            else:
                expected.append((second, second + 1))
        assert spans(closed, "screen", trace) == expected
    again = debounce(closed, gap_s=gap, channel="screen")
    assert again.events.at_ms.tolist() == closed.events.at_ms.tolist()


def test_most_gaps_of_the_fedscale_clients_are_chatter(shared_data: Path, tmp_path: Path) -> None:
    import_fedscale(shared_data / "raw/fedscale/client_behave_trace.first100.pkl", tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    n_sessions = int(np.count_nonzero(traces.events.value == 1))
    windows = compile_rule(debounce(traces, gap_s=60), Rule.parse("available"), unknown="ineligible")
    n_gaps, n_left = n_sessions - traces.n, len(windows.start_ms) - traces.n
    assert n_sessions == 6306  # published
    assert round(1 - n_left / n_gaps, 2) == 0.64  # published: 64 % of the gaps are at most 60 s
