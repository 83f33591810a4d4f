"""Session logs: who has a session is available, overlaps are merged and counted, clocks and windows as declared."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.sessions import import_sessions
from fedsim.traces.rule import Rule

HOUR, DAY = 3_600_000, 86_400_000


def written(folder: Path, rows: list[tuple[Any, Any, Any]]) -> Path:
    path = folder / "log.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user", "start", "end"), *rows])
    return path


def imported(folder: Path, rows: list[tuple[Any, Any, Any]], **options: Any) -> TraceSet:
    import_sessions(written(folder, rows), folder / "set", **options)
    return load_traces(folder / "set")


def sessions(traces: TraceSet) -> dict[str, list[tuple[int, int]]]:
    """Start and end of each session in ms of the window, straight from the events."""
    found = {}
    for row, device in enumerate(traces.device_id):
        opening, *rest = range(traces.offsets[row], traces.offsets[row + 1])
        assert (traces.events.at_ms[opening], traces.events.value[opening]) == (0, 0)
        assert traces.events.value[rest].tolist() == [1, 0] * (len(rest) // 2)
        at_ms = traces.events.at_ms[rest].tolist()
        found[device] = list(zip(at_ms[::2], at_ms[1::2], strict=True))
    return found


def test_a_log_as_it_is_read(tmp_path: Path) -> None:
    rows = [
        ("anna", "2024-05-02 08:00:00", "2024-05-02 08:30:00"),
        ("bert", "2024-05-01 23:30:00", "2024-05-02 00:15:00"),
        ("anna", "2024-05-01 20:00:00", "2024-05-01 20:00:10.5"),
    ]
    traces = imported(tmp_path, rows, licence="internal", source="our app")
    assert sessions(traces) == {
        "anna": [(20 * HOUR, 20 * HOUR + 10_500), (32 * HOUR, 32 * HOUR + HOUR // 2)],
        "bert": [(23 * HOUR + HOUR // 2, 24 * HOUR + HOUR // 4)],
    }
    assert traces.period_days.tolist() == [2, 2]
    assert traces.start_ms.tolist() == [0, 0]
    assert traces.is_local.all()
    assert traces.channels() == ("available",)
    said = traces.provenance
    assert (said["source"], said["licence"], said["first_midnight"], said["n_days"]) == (
        "our app",
        "internal",
        "2024-05-01",
        2,
    )
    assert said["n_sessions_read"] == said["n_sessions"] == 3
    assert said["files"][0]["name"] == "log.csv"
    assert str(tmp_path) not in str(said)


def test_overlaps_are_merged_and_counted_touching_and_empty_sessions_are_not(tmp_path: Path) -> None:
    rows = [("u", 10, 20), ("u", 15, 30), ("u", 30, 40), ("u", 50, 50), ("u", 60, 90), ("u", 70, 80), ("u", 60, 90)]
    traces = imported(tmp_path, [*rows, ("v", 5, 100)], unit="s", clock="relative")
    assert sessions(traces)["u"] == [(10_000, 30_000), (30_000, 40_000), (50_000, 50_000), (60_000, 90_000)]
    assert traces.provenance["n_sessions_read"] == 8
    assert traces.provenance["n_sessions_merged_into_another"] == 3
    assert traces.provenance["n_sessions_without_length"] == 1
    windows = compile_rule(traces, Rule.parse("available"), unknown="ineligible")
    assert windows.start_ms.tolist() == [10_000, 60_000, 5000], "sessions that touch are one window"


def test_utc_becomes_local_time(tmp_path: Path) -> None:
    traces = imported(tmp_path, [("u", "2024-05-01 20:00Z", "2024-05-01 21:00Z")], zone="8")
    assert traces.provenance["first_midnight"] == "2024-05-02"
    assert sessions(traces) == {"u": [(4 * HOUR, 5 * HOUR)]}


def test_a_session_over_the_end_of_summer_time_keeps_its_length(tmp_path: Path) -> None:
    rows = [("u", "2020-10-25 00:50", "2020-10-25 01:10")]  # 02:50 to 02:10 on the walls of Berlin
    assert sessions(imported(tmp_path, rows, zone="Europe/Berlin")) == {"u": [(170 * 60_000, 190 * 60_000)]}


def test_a_relative_clock_knows_no_hour_of_day(tmp_path: Path) -> None:
    traces = imported(tmp_path, [("u", 30, 31), ("v", 25, 26)], unit="min", clock="relative")
    assert not traces.is_local.any()
    assert traces.period_days.tolist() == [1, 1]
    assert sessions(traces)["u"] == [(1_800_000, 1_860_000)]
    assert "first_midnight" not in traces.provenance


def test_an_end_at_midnight_does_not_open_another_day(tmp_path: Path) -> None:
    traces = imported(tmp_path, [("u", "2024-05-01 20:00", "2024-05-02 00:00")])
    assert traces.period_days.tolist() == [1]
    assert sessions(traces) == {"u": [(20 * HOUR, DAY)]}


def test_parquet_with_columns_of_other_names(tmp_path: Path) -> None:
    table = pa.table({"uid": [7, 7], "from": [1000, 5000], "to": [2000, 6000], "more": ["x", "y"]})
    pq.write_table(table, tmp_path / "log.parquet")
    names = {"user": "uid", "start": "from", "end": "to"}
    import_sessions(tmp_path / "log.parquet", tmp_path / "set", unit="ms", clock="relative", **names)
    assert sessions(load_traces(tmp_path / "set")) == {"7": [(1000, 2000), (5000, 6000)]}


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=20).filter(lambda steps: len(steps) % 2 == 0))
def test_sessions_that_do_not_overlap_come_back(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    instants = np.cumsum(steps).tolist()
    spans = list(zip(instants[::2], instants[1::2], strict=True))
    rows = [("u", start, end) for start, end in spans]
    traces = imported(tmp_path_factory.mktemp("any"), rows[::-1], unit="ms", clock="relative")
    assert sessions(traces) == {"u": spans}


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (
            [("u", 5, 4)],
            {"unit": "s", "clock": "relative"},
            r"a session ends before it starts: \('5', '4'\) in row 0 of .*log\.csv",
        ),
        ([("u", 1, 2), ("", 1, 2)], {"unit": "s", "clock": "relative"}, "column 'user' is empty at row 1 in .*log.csv"),
        ([("u", 1, 2), ("v", 1, "")], {"unit": "s", "clock": "relative"}, "column 'end' is empty at row 1"),
        ([("u", "x", 2)], {"unit": "s"}, "column 'start' has a bad value at row 0: 'x'"),
        ([("u", 1, 2)], {}, "column 'start' has a bad value at row 0: '1'"),
        ([("u", 1, 2)], {"unit": "s", "user": "uid"}, r"column is missing: 'uid' .*allowed: user, start, end"),
        ([("u", 1, 2)], {"unit": "fortnight"}, "unknown unit of time: 'fortnight'"),
        ([("u", -1, 2)], {"unit": "s", "clock": "relative"}, "a relative clock starts at 0: column 'start', row 0"),
        ([], {}, "no row found"),
    ],
)
def test_bad_logs_are_named_and_nothing_is_written(
    tmp_path: Path, rows: list[tuple[Any, Any, Any]], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, rows, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_two_imports_are_equal_byte_by_byte(tmp_path: Path) -> None:
    source = written(tmp_path, [("b", 1, 2), ("a", 1, 3)])
    for name in ("one", "two"):
        import_sessions(source, tmp_path / name, unit="s", clock="relative")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
