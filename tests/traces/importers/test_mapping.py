"""State logs declared in YAML: both forms, every kind of value, and one line that names the key that is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.importers.mapping import import_mapping
from fedsim.traces.rule import Rule

HOUR, DAY = 3_600_000, 86_400_000

LOG = """\
phone,ts,plug,net,level,mb,build,api
b,2020-01-02 10:00:00,AC,WIFI,0.5,2048,X1,
a,2020-01-01 10:00:00,NO,LTE,0.4,,,9
a,2020-01-01 09:00:00,AC,WIFI,0.3,1024,,
b,2020-01-03 12:00:00,AC,?,0.9,4096,X2,
a,2020-01-01 11:00:00,NO,,0.4,1000,Y,8
"""
WIDE = """\
source: phones of a trial
licence: internal
device: phone
time: {column: ts, unit: iso, clock: local}
facts: {model: build, ram_gb: {column: mb, scale: 0.0009765625}, os_version: api}
channels:
  charging: {column: plug, values: {AC: 1, NO: 0}}
  network: {column: net, values: {WIFI: wifi, LTE: 4g, "?": null}}
  battery: {column: level, scale: 100}
"""
EVENT_LOG = """\
id,at,what,detail
7,0,on,
7,1000,net,WIFI
7,1000,net,4G
7,1000,net,WIFI
7,2000,beat,x
7,2000,level,55.5
7,3000,no,
7,4000,net,gone
8,500,on,
8,500,no,
8,500,on,
8,500,no,
"""
EVENTS = """\
device: id
time: {column: at, unit: ms, clock: relative}
events:
  column: what
  words:
    on: {channel: screen, value: 1}
    no: {channel: screen, value: 0}
    net: {channel: network, column: detail, values: {WIFI: wifi, 4G: 4g, gone: none}}
    level: {channel: battery, column: detail}
    beat: skip
"""


def imported(folder: Path, log: str, mapping: str) -> TraceSet:
    (folder / "log.csv").write_text(log)
    (folder / "map.yaml").write_text(mapping)
    import_mapping(folder / "log.csv", folder / "set", folder / "map.yaml")
    return load_traces(folder / "set")


def statements(traces: TraceSet, row: int) -> list[tuple[float, str, Any]]:
    """Hours, channel and value of a device's events, None for unknown."""
    events = traces.events
    found = []
    for k in range(traces.offsets[row], traces.offsets[row + 1]):
        channel, value = CHANNELS[events.channel[k]], float(events.value[k])
        known = NETWORKS[int(value)] if channel == "network" and not np.isnan(value) else value
        found.append((events.at_ms[k] / HOUR, channel, None if np.isnan(value) else known))
    return found


def test_rows_that_state_the_whole_device(tmp_path: Path) -> None:
    traces = imported(tmp_path, LOG, WIDE)
    assert traces.device_id.tolist() == ["a", "b"]
    assert (traces.start_ms / HOUR).tolist() == [9, 34]
    assert traces.period_days.tolist() == [1, 2]
    assert statements(traces, 0) == [
        (0, "charging", 1),
        (0, "network", "wifi"),
        (0, "battery", pytest.approx(30)),
        (1, "charging", 0),
        (1, "network", "4g"),
        (1, "battery", pytest.approx(40)),
        (2, "battery", pytest.approx(40)),  # a reading, kept though it repeats
        (2, "network", None),  # nothing is known after the last row
        (2, "charging", None),
        (2, "battery", None),
    ]
    assert statements(traces, 1)[3:5] == [(26, "network", None), (26, "battery", pytest.approx(90))]
    assert traces.provenance["n_rows_read"] == 5
    assert traces.provenance["n_statements_that_repeat"] == 2
    assert (traces.provenance["source"], traces.provenance["licence"]) == ("phones of a trial", "internal")
    assert [file["name"] for file in traces.provenance["files"]] == ["log.csv", "map.yaml"]
    assert traces.provenance["first_midnight"] == "2020-01-01"


def test_a_fact_is_the_first_that_any_row_states(tmp_path: Path) -> None:
    facts = imported(tmp_path, LOG, WIDE).facts
    assert facts["model"].tolist() == ["Y", "X1"]
    assert facts["ram_gb"].tolist() == [1, 2]
    np.testing.assert_array_equal(facts["os_version"], np.float32([9, np.nan]))
    facts = imported(tmp_path, LOG, WIDE.replace("facts:", "# facts:")).facts
    assert facts["model"].tolist() == [None, None]
    assert np.isnan(facts["ram_gb"]).all()


def test_rows_that_are_events(tmp_path: Path) -> None:
    traces = imported(tmp_path, EVENT_LOG, EVENTS)
    seconds = [(hours * 3600, channel, value) for hours, channel, value in statements(traces, 0)]
    assert [(pytest.approx(s), channel, value) for s, channel, value in seconds] == [
        (0, "screen", 1),
        (1, "network", "wifi"),
        (1, "network", "4g"),  # the order of the file inside one instant
        (1, "network", "wifi"),
        (2, "battery", 55.5),
        (3, "screen", 0),
        (4, "network", "none"),
        (4, "network", None),
        (4, "screen", None),
        (4, "battery", None),
    ]
    assert traces.start_ms.tolist() == [0, 500]
    assert not traces.is_local.any()
    # the order of the file inside one instant also where two words speak of one channel
    assert [value for _, _, value in statements(traces, 1)] == [1, 0, 1, 0, None]
    windows = compile_rule(traces, Rule.parse("screen & network == wifi"), unknown="ineligible")
    assert (windows.start_ms.tolist(), windows.end_ms.tolist()) == ([1000], [3000])


@pytest.mark.parametrize(
    ("channel", "cells", "expected"),
    [
        ("screen", ["0", "1", "true", "False", "1.0"], [0, 1, 1, 0, 1]),
        ("network", ["wifi", "none", "5g"], [1, 0, 5]),
        ("battery", ["0", "99.5", "100"], [0, 99.5, 100]),
    ],
)
def test_cells_taken_as_they_are(tmp_path: Path, channel: str, cells: list[str], expected: list[float]) -> None:
    log = "d,t,x\n" + "".join(f"u,{k},{cell}\n" for k, cell in enumerate(cells))
    mapping = f"device: d\ntime: {{column: t, unit: s, clock: relative}}\nchannels: {{{channel}: {{column: x}}}}\n"
    traces = imported(tmp_path, log, mapping)
    kept = [value for k, value in enumerate(expected) if k == 0 or value != expected[k - 1] or channel == "battery"]
    assert traces.events.value[:-1].tolist() == kept


def test_yaml_words_stay_what_the_log_says(tmp_path: Path) -> None:
    """Plain YAML would read on, no and 1.0 as true, false and a number."""
    log = "d,t,x\nu,1,on\nu,2,no\nu,3,1.0\nu,4,~\n"
    mapping = (
        "device: d\ntime: {column: t, unit: s, clock: relative}\n"
        "channels: {charging: {column: x, values: {on: 1, no: 0, 1.0: 1, '~': null}}}\n"
    )
    np.testing.assert_array_equal(imported(tmp_path, log, mapping).events.value[:4], np.float32([1, 0, 1, np.nan]))


@pytest.mark.slow
def test_real_phones_through_the_mapping_are_those_of_their_own_importer(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "device: device_id\n"
        "time: {column: ts_local, unit: iso, clock: local}\n"
        "facts: {model: model}\n"
        "events:\n"
        "  column: field\n"
        "  words:\n"
        "    screen: {channel: screen, column: value}\n"
        "    locked: {channel: locked, column: value}\n"
        "    charging: {channel: charging, column: value}\n"
        "    battery_pct: {channel: battery, column: value}\n"
        "    network: {channel: network, column: network, values: "
        "{wifi: wifi, 2g: 2g, 3g: 3g, 4g: 4g, 5g: 5g, unknown: null}}\n"
    )
    source = shared_data / "raw/flash"
    import_mapping(source / "state_events.first100.parquet", tmp_path / "set", tmp_path / "map.yaml")
    import_flash(source / "state_traces.first100.json", tmp_path / "own")
    mapped, own = load_traces(tmp_path / "set"), load_traces(tmp_path / "own")
    order = np.argsort(own.device_id.astype(str))
    assert mapped.device_id.tolist() == own.device_id[order].tolist()
    assert mapped.facts["model"].tolist() == own.facts["model"][order].tolist()
    assert mapped.provenance["first_midnight"] == own.provenance["first_midnight"]
    np.testing.assert_array_equal(mapped.start_ms, own.start_ms[order])
    np.testing.assert_array_equal(mapped.period_ms, own.period_ms[order])
    assert mapped.provenance["n_statements"] == len(own.events) == 106_248
    # sentinels are lines like any other to the mapping, so compare a channel that has none
    for rule in ("battery >= 50", "charging"):
        a, b = (compile_rule(t, Rule.parse(rule), unknown="ineligible") for t in (mapped, own))
        np.testing.assert_array_equal(a.open_ms, b.open_ms[order])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("device: phone", "devise: phone"), "unknown key in mapping: 'devise' .*allowed: source, licence, device"),
        (("device: phone", ""), "mapping needs the key: 'device' in .*map.yaml"),
        (("device: phone", "device: [a]"), r"device must be one value: \['a'\]"),
        (("unit: iso, ", ""), "time needs the key: 'unit'"),
        (("unit: iso", "unit: hours"), r"time: unknown unit of time: 'hours' \(allowed: iso"),
        (("clock: local", "clock: local, zone: 8"), "time: a zone is for logs in UTC"),
        (("clock: local", "clock: utc, zone: Moon/Base"), "time: unknown time zone: 'Moon/Base'"),
        (("column: ts, ", "column: ts, format: x, "), "unknown key in time: 'format'"),
        (("charging:", "charger:"), "unknown key in channels: 'charger' .*allowed: available, network"),
        (("column: plug, ", ""), "channels.charging needs the key: 'column'"),
        (("AC: 1", "AC: 2"), r"value out of range: channels.charging.values.AC: '2' .*allowed: 0, 1, null"),
        (("AC: 1", "AC: yes"), "channels.charging.values.AC must be a number: 'yes'"),
        (("AC: 1", "AC: [1]"), "channels.charging.values.AC must be one value"),
        (("LTE: 4g", "LTE: lte"), "unknown network: channels.network.values.LTE: 'lte' .*none, wifi"),
        (("scale: 100", "scale: much"), "channels.battery.scale must be a number: 'much'"),
        (("values: {AC: 1, NO: 0}", "scale: 3"), "only the battery has a scale: channels.charging.scale"),
        (("model: build", "brand: build"), "unknown key in facts: 'brand' .*allowed: model, ram_gb, os_version"),
        (("model: build", "model: {column: build, scale: 2}"), "a model has no scale: facts.model.scale"),
        (("channels:", "events:"), "unknown key in events: 'charging'"),
        (("licence: internal", "events: {}"), "one of the keys must be given: 'channels, events'"),
        (("source:", "source: ["), "mapping is not valid YAML"),
    ],
)
def test_a_bad_mapping_is_one_line_that_names_the_key(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in WIDE
    with pytest.raises(InputError, match=says) as refused:
        imported(tmp_path, LOG, WIDE.replace(*change, 1))
    assert "map.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "map.yaml"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ("channel: screen, value: 1", "channel: display, value: 1"),
            "unknown channel: events.words.on.channel: 'display'",
        ),
        (("channel: screen, value: 1", "value: 1"), "events.words.on needs the key: 'channel'"),
        (("channel: screen, value: 1", "channel: screen"), "one of the keys must be given: events.words.on"),
        (("value: 0", "value: 0, column: detail"), "one of the keys must be given: events.words.no"),
        (("beat: skip", "beat: ignore"), "events.words.beat must be a group of keys: 'ignore'"),
        (("  column: what\n", ""), "events needs the key: 'column'"),
    ],
)
def test_bad_words_are_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, EVENT_LOG, EVENTS.replace(*change, 1))


@pytest.mark.parametrize(
    ("mapping", "log", "says"),
    [
        (
            WIDE,
            LOG.replace("LTE", "5GX"),
            r"not in channels.network: '5GX' in row 1 of .*log\.csv \(allowed: WIFI, LTE, \?\)",
        ),
        (WIDE, LOG.replace("0.9", "9"), r"not in channels.battery: '9' in row 3 of .* \(allowed: 0 … 1\)"),
        (WIDE, LOG.replace("0.9", "full"), "not in channels.battery: 'full' in row 3"),
        (WIDE, LOG.replace("1024", "lots"), "column 'ram_gb' has a bad value at row 2: 'lots'"),
        (WIDE, LOG.replace("phone,ts", "phone,when"), "column is missing: 'ts'"),
        (WIDE, LOG.replace("a,2020-01-01 10", ",2020-01-01 10"), "column 'phone' is empty at row 1"),
        (
            EVENTS,
            EVENT_LOG.replace("beat", "ping"),
            r"not in events.words: 'ping' in row 4 of .* \(allowed: beat, level",
        ),
        (EVENTS, EVENT_LOG.replace("55.5", "155"), "not in events.words.level: '155' in row 5 .*0 … 100"),
    ],
)
def test_values_that_the_mapping_does_not_know_are_named_by_row(
    tmp_path: Path, mapping: str, log: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, log, mapping)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "map.yaml"]


def test_a_mapping_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mapping not found"):
        import_mapping(tmp_path, tmp_path / "set", tmp_path / "map.yaml")
    with pytest.raises(InputError, match="mapping must be a group of keys"):
        imported(tmp_path, LOG, "")
    with pytest.raises(InputError, match="mapping cannot be read"):
        import_mapping(tmp_path, tmp_path / "set", tmp_path)
