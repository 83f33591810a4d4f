"""Event logs become sessions: the gap, the tail, the window; and two real logs."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.columns import Clock
from fedsim.traces.importers.events import SessionLaw, import_events
from fedsim.traces.importers.shards import Totals
from fedsim.traces.rule import Rule
from fedsim.traces.statistics.stats import share_by_hour

DAY = 86_400
NEW_YEAR = 1_577_836_800  # 2020-01-01, the midnight from which rows count


def imported(folder: Path, rows: list[tuple[str, float]], **options: Any) -> TraceSet:
    users, times = zip(*rows, strict=True) if rows else ((), ())
    pq.write_table(
        pa.table({"user": pa.array(users, pa.string()), "time": [NEW_YEAR + at for at in times]}),
        folder / "log.parquet",
    )
    import_events(folder / "log.parquet", folder / "set", **({"unit": "s", "clock": "local"} | options))
    return load_traces(folder / "set")


def sessions_s(traces: TraceSet) -> dict[str, list[tuple[float, float]]]:
    """Start and end of each session in seconds of the window."""
    found = {}
    for row, device in enumerate(traces.device_id):
        at_s = (traces.events.at_ms[traces.offsets[row] + 1 : traces.offsets[row + 1]] / 1000).tolist()
        found[device] = list(zip(at_s[::2], at_s[1::2], strict=True))
    return found


def test_a_silence_longer_than_the_gap_ends_a_session(tmp_path: Path) -> None:
    rows = [("u", 100), ("u", 400), ("v", 350), ("u", 701), ("u", 100), ("u", 5000)]
    traces = imported(tmp_path, rows, gap_s=300, tail_s=20)
    assert sessions_s(traces) == {"u": [(100, 420), (701, 721), (5000, 5020)], "v": [(350, 370)]}
    said = traces.provenance
    assert (said["n_events_read"], said["n_sessions"], said["n_sessions_of_one_event"]) == (6, 4, 3)
    assert any("300 s ends a session, 20 s after" in text for text in said["transforms"])


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30), st.integers(1, 400), st.integers(1, 400))
def test_sessions_are_those_of_a_walk_over_the_events(times: list[int], gap_s: int, tail_s: int) -> None:
    law = SessionLaw(Clock("s", "local"), gap_s=gap_s, tail_s=min(gap_s, tail_s), days="all")
    expected: list[list[int]] = []
    for at in sorted(times):
        if expected and at - expected[-1][1] <= gap_s:
            expected[-1][1] = at
        else:
            expected.append([at, at])
    rows = pa.table({"device": ["u"] * len(times), "at_ms": np.sort(times) * 1000})
    traces = law.traces(rows, Totals(min(times) * 1000, max(times) * 1000, np.array([0]), Counter()))
    assert sessions_s(traces) == {"u": [(start, end + law.tail_s) for start, end in expected]}


def test_the_window_is_the_days_of_the_log_and_cuts_the_last_tail(tmp_path: Path) -> None:
    traces = imported(tmp_path, [("u", DAY + 3600), ("v", 3 * DAY - 10)], tail_s=60)
    assert traces.period_days.tolist() == [2, 2]
    assert sessions_s(traces) == {"u": [(3600, 3660)], "v": [(2 * DAY - 10, 2 * DAY)]}
    assert traces.provenance["n_sessions_cut_at_the_end_of_the_log"] == 1
    assert traces.provenance["first_midnight"] == "2020-01-02"


def test_days_without_any_event_can_be_left_out(tmp_path: Path) -> None:
    rows = [("u", 100), ("v", 10 * DAY - 5), ("u", 10 * DAY + 7), ("w", 11 * DAY - 1), ("u", 50 * DAY + 9)]
    everything = imported(tmp_path, rows, tail_s=60)
    assert everything.period_days.tolist() == [51] * 3
    traces = imported(tmp_path, rows, tail_s=60, days="logged")
    assert traces.period_days.tolist() == [4] * 3  # days 0, 9, 10 and 50
    assert sessions_s(traces) == {
        "u": [(100, 160), (2 * DAY + 7, 2 * DAY + 67), (3 * DAY + 9, 3 * DAY + 69)],
        "v": [(2 * DAY - 5, 2 * DAY + 55)],  # goes on into the next day, which is there
        "w": [(3 * DAY - 1, 3 * DAY)],  # the next day is not
    }
    assert traces.provenance["n_sessions_cut_at_the_end_of_the_log"] == 1


def test_text_times_of_utc(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who;x,when\n1,2022-04-25T15:59:00Z\n1,2022-04-25T16:01:00Z\n")
    import_events(tmp_path / "log.csv", tmp_path / "set", user="who;x", time="when", zone="Asia/Shanghai")
    traces = load_traces(tmp_path / "set")
    assert sessions_s(traces) == {"1": [(DAY - 60, DAY + 120)]}
    assert traces.provenance["first_midnight"] == "2022-04-25"


@pytest.mark.slow
def test_real_feed_users_keep_their_ids_and_their_day(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "datasets/kuairand_feed/impressions.parquet"
    import_events(source, tmp_path / "set", user="user_id", time="time_ms", unit="ms", zone="Asia/Shanghai")
    traces = load_traces(tmp_path / "set")
    users = pq.read_table(source, columns=["user_id"]).column(0).unique().to_pylist()
    assert traces.n == 25_156
    assert set(traces.device_id) == set(map(str, users)), "so traces join with the users' own impressions"
    assert traces.provenance["n_events_read"] == 222_444
    # 1.2 rows a session, as the notes on this log warn: fit for the curve over the day, not for session lengths
    assert 222_444 / traces.provenance["n_sessions"] == pytest.approx(1.2, abs=0.05)
    by_hour = share_by_hour(compile_rule(traces, Rule.parse("available"), unknown="ineligible"))
    assert (by_hour.argmin(), by_hour.argmax()) == (4, 22)
    assert (by_hour / by_hour.sum())[[4, 22]] == pytest.approx([0.008, 0.064], abs=0.003)


def test_real_chat_users_on_sampled_days(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "datasets/ubuntu_irc/messages.parquet"
    import_events(source, tmp_path / "set", user="client_id", time="minute_utc", days="logged")
    traces = load_traces(tmp_path / "set")
    assert traces.n == 17_520
    assert set(traces.period_days.tolist()) == {173}, "not the 13 years that the samples span"
    assert traces.provenance["n_events_read"] == 216_632
    assert not (traces.events.at_ms % 60_000).any(), "the log tells minutes, the tail is one"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gap_s": 10, "tail_s": 11}, r"gap_s and tail_s do not fit: \(10, 11\) \(allowed: 0 < tail_s <= gap_s\)"),
        ({"tail_s": 0}, "gap_s and tail_s do not fit"),
        ({"gap_s": float("nan")}, "gap_s and tail_s do not fit"),
        ({"days": "some"}, r"unknown choice of days: 'some' \(allowed: all, logged\)"),
        ({"time": "when"}, "column is missing: 'when'"),
        ({"unit": "iso"}, "column 'time' holds no dates"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, [("u", 1)], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_a_log_of_many_users_in_any_order(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    rows = list(
        zip(draw.integers(0, 40, 500).astype(str).tolist(), draw.integers(0, 2 * DAY, 500).tolist(), strict=True)
    )
    traces = imported(tmp_path, rows)
    assert traces.device_id.tolist() == sorted({user for user, _ in rows})
    shuffled = [rows[k] for k in draw.permutation(500)]
    (tmp_path / "again").mkdir()
    again = imported(tmp_path / "again", shuffled)
    assert sessions_s(again) == sessions_s(traces)
