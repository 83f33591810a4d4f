"""STUNner device-weeks: lines become traces in local time and come back as they were."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers import stunner
from fedsim.traces.importers.stunner import import_stunner
from fedsim.traces.rule import Rule

HOUR, DAY = 3_600_000, 86_400_000
JUNE_10 = 1_402_358_400_000  # 2014-06-10, a midnight of UTC

# Two weeks in Budapest in summer: online for the first hour of the first, from 20 h UTC of the second's first day;
# a phone in Bangladesh whose whole line is three days online.
LINES = f"""\
u/abc 1 {JUNE_10} 2 {HOUR} {7 * DAY - HOUR}
u/abc 0 {JUNE_10 + 7 * DAY} 2 {20 * HOUR} {6 * HOUR} {6 * DAY - 2 * HOUR}
u/xyz 1 {JUNE_10 + DAY} 6 {3 * DAY}
"""


def written(folder: Path, lines: str) -> Path:
    path = folder / "peersim_session_100.txt"
    path.write_text(lines)
    return path


def imported(folder: Path, lines: str) -> TraceSet:
    import_stunner(written(folder, lines), folder / "set")
    return load_traces(folder / "set")


def exported(traces: TraceSet, zones_h: list[int]) -> str:
    """The lines of an imported set of whole days; zones stand nowhere else once they are applied."""
    midnight_ms = int(np.datetime64(traces.provenance["first_midnight"], "ms").astype(np.int64))
    lines = []
    for row, zone_h in enumerate(zones_h):
        log = slice(traces.offsets[row], traces.offsets[row + 1])
        at_ms, value = traces.events.at_ms[log], traces.events.value[log]
        durations = np.diff([*at_ms, traces.period_ms[row]])
        user = traces.device_id[row].rsplit("@", 1)[0]
        start_ms = midnight_ms + traces.start_ms[row] - zone_h * HOUR
        lines.append(f"{user} {value[0]:.0f} {start_ms} {zone_h} {' '.join(map(str, durations))}\n")
    return "".join(lines)


def test_lines_come_back(tmp_path: Path) -> None:
    traces = imported(tmp_path, LINES)
    assert exported(traces, [2, 2, 6]) == LINES
    assert traces.device_id.tolist() == ["u/abc@2014-06-10", "u/abc@2014-06-17", "u/xyz@2014-06-11"]
    assert traces.period_days.tolist() == [7, 7, 3]
    assert traces.is_local.all()
    assert traces.channels() == ("available",)


def test_the_clock_moves_from_utc_to_local_time(tmp_path: Path) -> None:
    traces = imported(tmp_path, LINES)
    assert traces.provenance["first_midnight"] == "2014-06-10"
    assert (traces.start_ms / HOUR).tolist() == [2, 7 * 24 + 2, 24 + 6]
    windows = compile_rule(traces, Rule.parse("available"), unknown="ineligible")
    hour_of_day = (windows.start_ms + traces.start_ms) / HOUR % 24
    assert hour_of_day.tolist() == [2, 22, 6]
    assert windows.open_ms.tolist() == [HOUR, 6 * HOUR, 3 * DAY]


def test_west_of_greenwich_the_local_day_starts_the_day_before(tmp_path: Path) -> None:
    traces = imported(tmp_path, f"u 1 {JUNE_10} -5 {DAY}\n")
    assert traces.provenance["first_midnight"] == "2014-06-09"
    assert traces.start_ms.tolist() == [19 * HOUR]


def test_the_rest_of_a_day_is_unknown_not_offline(tmp_path: Path) -> None:
    traces = imported(tmp_path, f"u 1 {JUNE_10} 0 {DAY} {HOUR}\nv 0 {JUNE_10} 0 {DAY}\n")
    assert traces.period_days.tolist() == [2, 1]
    np.testing.assert_array_equal(traces.events.value, np.float32([1, 0, np.nan, 0]))
    windows = compile_rule(traces, Rule.parse("available"), unknown="eligible")
    assert windows.open_ms.tolist() == [2 * DAY - HOUR, 0]
    assert traces.provenance["n_lines_without_whole_days"] == 1


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-11, 12), st.lists(st.integers(0, DAY // 4), min_size=1, max_size=6)),
        min_size=1,
        max_size=5,
    )
)
def test_any_lines_of_whole_days_come_back(
    tmp_path_factory: pytest.TempPathFactory, weeks: list[tuple[bool, int, list[int]]]
) -> None:
    lines = ""
    for number, (is_online, zone_h, durations) in enumerate(weeks):
        whole = [*durations, 2 * DAY - sum(durations)]
        lines += f"u{number} {int(is_online)} {JUNE_10 + number * DAY} {zone_h} {' '.join(map(str, whole))}\n"
    folder = tmp_path_factory.mktemp("any")
    assert exported(imported(folder, lines), [zone_h for _, zone_h, _ in weeks]) == lines


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, LINES)
    import_stunner(source, tmp_path / "whole")
    monkeypatch.setattr(stunner, "_BATCH", 1)
    import_stunner(source, tmp_path / "parts")
    whole, parts = load_traces(tmp_path / "whole"), load_traces(tmp_path / "parts")
    assert exported(parts, [2, 2, 6]) == exported(whole, [2, 2, 6]) == LINES
    assert parts.provenance == whole.provenance
    assert whole.provenance["n_lines"] == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("u 1 5", r"bad line: 'u 1 5' in line 2 of .*\(allowed: USER ONLINE START ZONE D1 D2 …\)"),
        ("", "bad line: '' in line 2"),
        (f"u 2 {JUNE_10} 1 5", "ONLINE must be 0 or 1: '2' in line 2"),
        ("u 1 soon 1 5", "not a whole number .*'soon'.* in line 2"),
        (f"u 1 {JUNE_10} 1 5 x", "not a whole number .*'x'.* in line 2"),
        (f"u 1 {JUNE_10} 30 5", r"START or ZONE out of range: \(1402358400000, 30\) in line 2"),
        ("u 1 -5 1 5", "START or ZONE out of range"),
        (f"u 1 {JUNE_10} 1 5 -5", "durations must be zero or above and last in all: -5 in line 2"),
        (f"u 1 {JUNE_10} 1 0 0", "durations must be zero or above and last in all: 0 in line 2"),
        (f"u 1 {JUNE_10} 1 {10**30}", "durations must be zero or above"),
        (f"u 1 {JUNE_10} 1 : 5 -2", "a line with NAT types: .* in line 2"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, line: str, says: str) -> None:
    source = written(tmp_path, f"u 1 {JUNE_10} 1 5\n{line}\n")
    with pytest.raises(InputError, match=says):
        import_stunner(source, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no line found"):
        import_stunner(written(tmp_path, ""), tmp_path / "set")
    with pytest.raises(InputError, match="must be a file"):
        import_stunner(tmp_path, tmp_path / "set")
