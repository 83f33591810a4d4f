"""FLASH logs: every trap of the format, and back to the same text."""

import json
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.files import sha256
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_channel, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers import IMPORTERS
from fedsim.traces.importers.flash import import_flash

PHONE = """\
2020-03-28 22:30:00 \tscreen_off
2020-03-28 22:30:00 \tscreen_lock
2020-03-28 22:30:00 \t99.5%
2020-03-28 22:30:00 \tUnknown
2020-03-28 23:00:00 \tbattery_charged_on
2020-03-28 23:00:00 \twifi
2020-03-28 23:00:00 \t4G
2020-03-28 23:00:00 \twifi
2020-03-29 03:00:00 \tbattery_charged_off
2020-03-29 03:30:00\tscreen_on
2020-03-29 03:30:00\t2G
2020-03-29 22:30:00\tscreen_on
2020-03-29 22:30:00\t2G"""
LATER = """\
2020-03-30 00:00:01 \tscreen_unlock
2020-03-31 00:00:01\tscreen_on
2020-03-31 00:00:01\t2G
"""


def entry(messages: str, device: str = "0") -> dict[str, str]:
    return {"guid": device, "model": "vivo 1807", "messages": messages}


def written(folder: Path, contents: Any) -> Path:
    path = folder / "state_traces.json"
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents), encoding="utf-8")
    return path


def imported(folder: Path, contents: Any) -> TraceSet:
    import_flash(written(folder, contents), folder / "set")
    return load_traces(folder / "set")


def exported(traces: TraceSet) -> dict[str, dict[str, str]]:
    """The FLASH text of an imported set."""
    midnight = datetime.combine(date.fromisoformat(traces.provenance["first_midnight"]), datetime.min.time())
    words = {
        "screen": ("screen_off", "screen_on"),
        "locked": ("screen_unlock", "screen_lock"),
        "charging": ("battery_charged_off", "battery_charged_on"),
        "network": tuple(name.upper() if name[0].isdigit() else name for name in NETWORKS),
    }
    events, result = traces.events, {}
    for row, device in enumerate(traces.device_id):
        lines = []
        for k in range(traces.offsets[row], traces.offsets[row + 1]):
            channel, value = CHANNELS[events.channel[k]], events.value[k]
            known = f"{value:.1f}%" if channel == "battery" else words[channel][0 if np.isnan(value) else int(value)]
            instant = midnight + timedelta(milliseconds=int(traces.start_ms[row] + events.at_ms[k]))
            blank = "" if events.is_sentinel[k] else " "
            lines.append(f"{instant}{blank}\t{'Unknown' if np.isnan(value) else known}")
        model = traces.facts["model"][row]
        result[device] = {"guid": device, "model": model, "messages": "\n".join(lines)}
    return result


def test_the_format_is_read_as_documented(tmp_path: Path) -> None:
    traces = imported(tmp_path, {"7": entry(PHONE), "9": entry(LATER)})
    assert traces.device_id.tolist() == ["7", "9"]
    assert traces.start_ms.tolist() == [81_000_000, 2 * 86_400_000 + 1000]
    assert traces.period_ms.tolist() == [86_400_000, 86_400_000]
    assert traces.is_local.all()
    assert traces.facts["model"].tolist() == ["vivo 1807", "vivo 1807"]
    assert traces.offsets.tolist() == [0, 13, 16]
    events = traces.events
    assert [CHANNELS[code] for code in events.channel[:4]] == ["screen", "locked", "battery", "network"]
    np.testing.assert_array_equal(events.value[:7], np.float32([0, 1, 99.5, np.nan, 1, 1, 4]))
    assert events.is_sentinel[:13].tolist() == [False] * 9 + [True] * 4
    assert events.at_ms[8] == 4.5 * 3_600_000


def test_sentinels_ties_and_unknown_starts_in_a_rule(tmp_path: Path) -> None:
    traces = imported(tmp_path, {"0": entry(PHONE)})
    windows = compile_rule(traces, Rule.parse("charging & network == wifi & locked"), unknown="ineligible")
    assert (windows.start_ms / 3_600_000).tolist() == [0.5]  # 23:00, wifi is the last word of that second
    assert (windows.end_ms / 3_600_000).tolist() == [4.5]
    windows = compile_rule(traces, Rule.parse("network == wifi & !screen"), unknown="eligible")
    assert windows.open_ms.tolist() == [86_400_000]  # unknown until 23:00, then wifi; the closing 2G is no behaviour


def test_text_comes_back_including_sentinels(tmp_path: Path) -> None:
    contents = {"0": entry(PHONE), "1": entry(LATER.rstrip("\n"), "1")}
    assert exported(imported(tmp_path, contents)) == contents


@pytest.mark.slow
def test_real_phones_come_back_word_for_word(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw/flash/state_traces.first100.json"
    import_flash(source, tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    assert exported(traces) == json.loads(source.read_text(encoding="utf-8"))
    assert traces.provenance["first_midnight"] == "2020-01-24"
    assert traces.period_ms.sum() == 441 * 86_400_000


@pytest.mark.slow
def test_real_phones_start_unknown(shared_data: Path, tmp_path: Path) -> None:
    """A channel is unknown until its first event, which can be most of a log."""
    import_flash(shared_data / "raw/flash/state_traces.first100.json", tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    unknown = {name: compile_channel(traces, name) for name in ("charging", "locked")}
    share = {
        name: np.bincount(levels.device, np.isnan(levels.value) * levels.hold_ms, traces.n) / traces.period_ms
        for name, levels in unknown.items()
    }
    assert np.quantile(share["charging"], [0.5, 0.95]) == pytest.approx([0.03, 0.89], abs=0.01)
    assert np.count_nonzero(share["charging"] == 1) == 5
    assert np.count_nonzero(share["locked"] == 1) == 2


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland"])
def test_the_host_time_zone_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    # the log runs over the night in which Berlin's clocks jump
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        traces = imported(tmp_path, {"0": entry(PHONE)})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert traces.period_ms.tolist() == [86_400_000]
    assert traces.start_ms.tolist() == [81_000_000]


def test_provenance_names_the_file_and_no_path(tmp_path: Path) -> None:
    said = imported(tmp_path, {"0": entry(PHONE)}).provenance
    digest = sha256(tmp_path / "state_traces.json")
    assert said["files"] == [{"name": "state_traces.json", "sha256": digest}]
    assert said["importer"] == "flash"
    assert "BSD-2-Clause" in said["licence"]
    assert said["transforms"]
    assert str(tmp_path) not in json.dumps(said)


def test_two_imports_are_equal_byte_by_byte(tmp_path: Path) -> None:
    source = written(tmp_path, {"0": entry(PHONE), "1": entry(LATER)})
    for name in ("a", "b"):
        import_flash(source, tmp_path / name)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def line_changed(number: int, line: str) -> str:
    lines = PHONE.split("\n")
    lines[number - 1] = line
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        (
            line_changed(3, "2020-03-28 22:30:00 99.5%"),
            r"bad line: '2020-03-28 22:30:00 99.5%' in line 3 of device '0' of",
        ),
        (line_changed(3, "2020-03-28 22:30 \tscreen_on"), r"bad line: .* in line 3"),
        (line_changed(3, ""), r"bad line: '' in line 3"),
        (line_changed(3, "2020-03-28 22:30:00  \tscreen_on"), r"bad line: .* in line 3"),
        (line_changed(3, "2020-03-28 22:30:00 \tscreen_on\tx"), r"bad line: .* in line 3"),
        (
            line_changed(4, "2020-02-30 22:30:00 \tscreen_on"),
            r"bad date .*: '2020-02-30 22:30:00 \\tscreen_on' in line 4",
        ),
        (line_changed(4, "2020-03-28 25:30:00 \tscreen_on"), r"bad date .* in line 4"),
        (
            line_changed(5, "2020-03-28 23:00:00 \tbluetooth"),
            r"unknown event: .*bluetooth' in line 5 .*allowed: screen_on",
        ),
        (line_changed(5, "2020-03-28 23:00:00 \t100.1%"), r"unknown event: .* in line 5 .*100\.0%"),
        (line_changed(5, "2020-03-28 23:00:00 \t-1.0%"), r"unknown event: .* in line 5"),
        (
            line_changed(5, "2020-03-28 22:29:59 \twifi"),
            r"time goes backwards: '2020-03-28 22:29:59 \\twifi' in line 5",
        ),
        (line_changed(13, "2020-03-29 22:30:01\t2G"), r"cut off: .* in line 13"),
        (line_changed(13, "2020-03-29 22:30:00 \t2G"), r"cut off: .* in line 13"),
        (PHONE[:200], r"line \d+ of device '0'"),
        ("2020-03-28 22:30:00\t2G", r"cut off: .* in line 1 "),
        ("", r"bad line: '' in line 1 of device '0'"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, messages: str, says: str) -> None:
    source = written(tmp_path, {"0": entry(messages)})
    with pytest.raises(InputError, match=says) as refused:
        import_flash(source, tmp_path / "set")
    assert "state_traces.json" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["state_traces.json"]


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (json.dumps({"0": entry(PHONE)})[:-20], "not valid JSON"),
        ("[]", "must be an object of entries"),
        ("{}", "hold no device"),
        ({"0": "text"}, "entry must be an object in device '0'"),
        ({"0": {"guid": "0", "model": "x"}}, "'messages' must be a text in device '0'"),
        ({"0": {"guid": "0", "model": 5, "messages": PHONE}}, "'model' must be a text: 5 in device '0'"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_is_written(tmp_path: Path, contents: Any, says: str) -> None:
    source = written(tmp_path, contents)
    with pytest.raises(InputError, match=says):
        import_flash(source, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["state_traces.json"]


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not found: '.*nothing'"):
        import_flash(tmp_path / "nothing", tmp_path / "set")
    with pytest.raises(InputError, match="must be a file"):
        import_flash(tmp_path, tmp_path / "set")


def test_the_registry_imports_without_options(tmp_path: Path) -> None:
    IMPORTERS["flash"](written(tmp_path, {"0": entry(PHONE)}), tmp_path / "set")
    assert load_traces(tmp_path / "set").n == 1
