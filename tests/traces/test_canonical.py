"""The canonical folder: there and back, validated, written whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.schema import CHANNELS, HARDWARE, NETWORKS
from fedsim.traces.canonical import TraceSet
from fedsim.traces.folder import TraceWriter, load_traces, save_traces
from fedsim.traces.validation import validate
from tests.hand import events_of, traces_of

DAY_S = 86_400.0


def phones() -> TraceSet:
    traces = traces_of(
        [
            events_of([(0, "charging", 1), (1.5, "network", "wifi"), (1.5, "battery", 79.3), (9, "network", None)]),
            events_of([]),
            events_of([(DAY_S, "screen", 0)]),
        ],
        period_s=[DAY_S, 2 * DAY_S, DAY_S],
        start_s=[0, 100, 3 * DAY_S],
        facts={"model": ["Redmi 4A", None, "x"], "ram_gb": [2, None, 4.5], "os_version": [None, 9, 10]},
    )
    hardware = HARDWARE.check(
        pa.table(
            {
                "model": ["a", None],
                "weight": [1.0, 2.0],
                "inference_ms_per_sample": [20.0, 30.0],
                "bytes_per_s": [None, 1e6],
                "ram_gb": [None, 2.0],
            }
        ),
        where="hand",
    )
    return replace(traces, provenance={"source": "hand", "files": []}, hardware=hardware)


def assert_same(a: TraceSet, b: TraceSet) -> None:
    for name in ("device_id", "start_ms", "period_ms", "is_local", "offsets"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("at_ms", "channel", "value", "is_sentinel"):
        found, expected = getattr(a.events, name), getattr(b.events, name)
        assert found.dtype == expected.dtype, name
        np.testing.assert_array_equal(found, expected, err_msg=name)
    for name, column in b.facts.items():
        assert a.facts[name].dtype == column.dtype
        np.testing.assert_array_equal(a.facts[name], column, err_msg=name)
    assert a.provenance == b.provenance
    assert (a.hardware is None) == (b.hardware is None)
    if a.hardware is not None and b.hardware is not None:
        assert a.hardware.to_pydict() == b.hardware.to_pydict()


def test_rows_of_hand_written_events() -> None:
    events = phones().events
    assert events.at_ms.tolist() == [0, 1500, 1500, 9000, 86_400_000]
    assert [CHANNELS[code] for code in events.channel] == ["charging", "network", "battery", "network", "screen"]
    np.testing.assert_array_equal(events.value, np.float32([1, NETWORKS.index("wifi"), 79.3, np.nan, 0]))


def test_there_and_back(tmp_path: Path) -> None:
    traces = phones()
    save_traces(traces, tmp_path / "set")
    assert_same(load_traces(tmp_path / "set"), traces)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_batches_make_the_same_set_as_one(tmp_path: Path) -> None:
    one, two = phones(), phones()
    with TraceWriter(tmp_path / "parts") as writer:
        writer.add(one)
        writer.add(two)
    joined = load_traces(tmp_path / "parts")
    assert joined.n == 6
    assert joined.offsets.tolist() == [0, 4, 4, 5, 9, 9, 10]
    assert joined.device_of_event().tolist() == [0, 0, 0, 0, 2, 3, 3, 3, 3, 5]
    assert joined.period_days.tolist() == [1, 2, 1, 1, 2, 1]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 86_400_000), st.sampled_from(CHANNELS), st.sampled_from([0, 1, None])), max_size=6
        ).map(lambda rows: sorted(rows, key=lambda row: row[0])),
        min_size=1,
        max_size=4,
    )
)
def test_any_log_comes_back(tmp_path_factory: pytest.TempPathFactory, logs: Any) -> None:
    events = [events_of([(at_ms / 1000, channel, value) for at_ms, channel, value in rows]) for rows in logs]
    traces = traces_of(events, period_s=DAY_S)
    folder = tmp_path_factory.mktemp("any") / "set"
    save_traces(traces, folder)
    assert_same(load_traces(folder), traces)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.period_ms.__setitem__(1, 0), r"period_ms must be positive at device 1: 0 in here"),
        (lambda t: t.start_ms.__setitem__(2, -1), r"start_ms must not be negative at device 2: -1"),
        (lambda t: t.period_ms.__setitem__(0, 86_400_001), r"must be whole days at device 0: 86400001"),
        (lambda t: t.events.at_ms.__setitem__(0, -1), r"at_ms outside 0 … period_ms at event 0: -1"),
        (lambda t: t.events.at_ms.__setitem__(4, 86_400_001), r"at_ms outside 0 … period_ms at event 4"),
        (lambda t: t.events.at_ms.__setitem__(2, 1400), r"at_ms goes backwards at event 2: 1400"),
        (lambda t: t.events.channel.__setitem__(3, 9), r"unknown channel at event 3: 9"),
        (lambda t: t.events.value.__setitem__(0, 2), r"value outside its channel's range at event 0: 2\.0"),
        (lambda t: t.events.value.__setitem__(0, 0.5), r"value outside its channel's range at event 0"),
        (lambda t: t.events.value.__setitem__(1, 6), r"value outside its channel's range at event 1"),
        (lambda t: t.events.value.__setitem__(2, 100.5), r"value outside its channel's range at event 2"),
        (lambda t: t.events.value.__setitem__(2, -1), r"value outside its channel's range at event 2"),
    ],
)
def test_every_rule_of_the_format_is_checked(change: Any, says: str) -> None:
    traces = phones()
    validate(traces, where="here")
    change(traces)
    with pytest.raises(InputError, match=says):
        validate(traces, where="here")


def test_time_may_start_again_at_the_next_device() -> None:
    traces_of([events_of([(50, "screen", 1)]), events_of([(10, "screen", 1)])], period_s=100, is_local=False)


def rewritten(folder: Path, file: str, change: Any) -> None:
    table = pq.read_table(folder / file)
    pq.write_table(change(table), folder / file)


def with_column(name: str, values: list[Any]) -> Any:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        (
            "devices.parquet",
            lambda t: t.drop_columns(["period_ms"]),
            "column 'period_ms' is missing in .*devices.parquet",
        ),
        ("devices.parquet", with_column("clock", ["local", "utc", "local"]), "unknown clock at row 1: 'utc'"),
        ("devices.parquet", with_column("start_ms", [0, None, 1]), "column 'start_ms' is empty at row 1"),
        ("devices.parquet", with_column("start_ms", ["a", "b", "c"]), "column 'start_ms' has type string"),
        ("events.parquet", with_column("device", [0, 0, 0, 0, 3]), r"event 4 has an unknown device: 3 .*0 … 2"),
        ("events.parquet", with_column("device", [0, 0, 2, 0, 2]), r"not sorted by device at row 3"),
        ("events.parquet", with_column("at_ms", [0, 1500, 1500, 9000, -4]), r"event 4: -4 in .*set"),
        ("devices.parquet", lambda t: t.slice(0, 0), "device"),
    ],
)
def test_a_bad_folder_is_named_with_file_row_and_field(tmp_path: Path, file: str, change: Any, says: str) -> None:
    save_traces(phones(), tmp_path / "set")
    rewritten(tmp_path / "set", file, change)
    with pytest.raises(InputError, match=says):
        load_traces(tmp_path / "set")


@pytest.mark.parametrize("file", ["devices.parquet", "events.parquet", "provenance.json"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    save_traces(phones(), tmp_path / "set")
    path = tmp_path / "set" / file
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=file.replace(".", r"\.")):
        load_traces(tmp_path / "set")
    path.unlink()
    with pytest.raises(InputError, match=rf"not found: '.*{file}'"):
        load_traces(tmp_path / "set")


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trace set not found: '.*nothing'"):
        load_traces(tmp_path / "nothing")


def test_an_error_while_writing_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    save_traces(phones(), tmp_path / "set")
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    for name in ("set", "new"):
        with pytest.raises(RuntimeError, match="half way"), TraceWriter(tmp_path / name) as writer:
            writer.add(phones())
            raise RuntimeError("half way")
        with pytest.raises(RuntimeError, match="at once"), TraceWriter(tmp_path / name):  # not: no device found
            raise RuntimeError("at once")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before


def test_a_writer_without_devices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no device found"), TraceWriter(tmp_path / "set"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_old_set_is_replaced_but_never_a_strangers_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()  # empty: fine
    save_traces(phones(), folder)
    lone = traces_of([events_of([])], period_s=DAY_S)
    save_traces(lone, folder)
    assert load_traces(folder).n == 1
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(InputError, match="will not replace"):
            save_traces(lone, target)
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_two_saves_are_equal_byte_by_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_traces(phones(), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert json.loads((tmp_path / "a" / "provenance.json").read_text())["source"] == "hand"
