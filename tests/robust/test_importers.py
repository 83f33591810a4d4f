"""Sources of importers as they come: damaged, of odd types, in the wrong unit. One line, no folder, no traceback."""

import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim import files, folders
from fedsim.errors import InputError, WriteError, shown
from fedsim.schema import HARDWARE, LEVELS, LINKS, PROFILES
from fedsim.traces.canonical import TraceSet
from fedsim.traces.folder import TraceWriter, load_traces, save_traces
from fedsim.traces.importers import shards
from fedsim.traces.importers.events import import_events
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.importers.ucc5g import import_ucc5g
from fedsim.traces.measurements import MeasurementWriter
from fedsim.traces.validation import validate
from fedsim.units import DAY_MS
from tests.hand import events_of, traces_of
from tests.robust.refused import names, refused

Capture = pytest.CaptureFixture[str]
HEAD = "Timestamp,NetworkMode,DL_bitrate,UL_bitrate,State,PINGAVG\n"
ROW = "2019.12.16_13.40.04,LTE,100,1,D,-\n"
START, END = ["2024-03-10T01:00:00"] * 2, ["2024-03-10T02:00:00"] * 2
MAPPING = "device: d\ntime: {column: t, unit: ms, clock: utc}\nchannels: {charging: {column: c}}\n"
NOW_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imports(capsys: Capture, name: str, source: str, *options: str) -> str:
    return refused(capsys, "traces", "import", name, source, "dst", *options)


# ------------------------------------------------------------------------------------------------- zips and recordings


def zipped(edit: Callable[[bytearray], None], content: str = HEAD + ROW * 50) -> None:
    with zipfile.ZipFile("s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/Download/Static/a.csv", content)
    data = bytearray(Path("s.zip").read_bytes())
    edit(data)
    Path("s.zip").write_bytes(data)


def _encrypted(data: bytearray) -> None:
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1


def _method(number: int) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        data[8] = data[data.find(b"PK\x01\x02") + 10] = number

    return edit


def _flip(first: int, stop: int) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        for k in range(first, stop):
            data[k] ^= 255

    return edit


def _cut(size: int) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        del data[size:]

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _encrypted, _method(99), _method(12), _method(14), _method(9), _method(0), _flip(60, 80),
        _flip(0, 4), _flip(-30, -22), _flip(-22, -1), _cut(100), _cut(0), _cut(-5),
    ],
)  # fmt: skip
def test_a_zip_that_cannot_be_read_is_one_line(edit: Callable[[bytearray], None], capsys: Capture) -> None:
    zipped(edit)
    assert "s.zip" in imports(capsys, "ucc5g", "s.zip")


@pytest.mark.parametrize("kind", ["folder", "dangling link", "pipe", "link that leads round"])
def test_what_is_called_csv_and_is_no_file_is_one_line(kind: str, capsys: Capture) -> None:
    folder = Path("s/Download/Static")
    folder.mkdir(parents=True)
    made: dict[str, Callable[[Path], Any]] = {
        "folder": Path.mkdir,
        "dangling link": lambda path: path.symlink_to("nowhere"),
        "pipe": os.mkfifo,
        "link that leads round": lambda path: path.symlink_to(path.name),
    }
    made[kind](folder / "a.csv")
    assert "Static/a.csv" in imports(capsys, "ucc5g", "s")
    made[kind](Path("b.csv"))
    assert "b.csv" in imports(capsys, "sessions", "b.csv")
    Path("logs").mkdir()
    Path("logs/good.csv").write_text("user,start,end\na,2024-01-01,2024-01-02\n")
    made[kind](Path("logs/a.csv"))
    assert "a.csv" in imports(capsys, "sessions", "logs"), "it is not passed over"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("2019.12.16_13.40.04,LTE,-5,1,D,-", "DL_bitrate out of range at row 1: '-5.0' in Download/Static/a.csv of s"),
        ("2019.12.16_13.40.04,LTE,1e308,1,D,-", "DL_bitrate out of range at row 1"),
        ("2019.12.16_13.40.04,LTE,inf,1,D,-", "DL_bitrate out of range at row 1"),
        ("2019.12.16_13.40.04,LTE,5,1,D,-3", "PINGAVG out of range at row 1"),
        ("1970.01.01_00.00.00,LTE,5,1,D,-", "Timestamp out of range at row 1"),
    ],
)
def test_a_recording_of_impossible_rates_is_named_by_row(row: str, says: str, capsys: Capture) -> None:
    Path("s/Download/Static").mkdir(parents=True)
    Path("s/Download/Static/a.csv").write_text(HEAD + ROW + row + "\n")
    assert says in imports(capsys, "ucc5g", "s")


def test_whatever_a_reader_of_zips_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    zipped(lambda data: None)
    for error in (RuntimeError("x"), NotImplementedError(), EOFError(), zipfile.BadZipFile("x"), OSError(5, "x")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(zipfile.ZipFile, "open", fail)
        with pytest.raises(InputError, match=r"recording cannot be read \(.+\) in x/Download/Static/a\.csv of s\.zip"):
            import_ucc5g(Path("s.zip"), Path("dst"))


# -------------------------------------------------------------------------------------------------------- odd columns


ODD = {
    "list": [["a"], ["b"]],
    "struct": [{"x": 1}, {"x": 2}],
    "map": pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff", b"a"], pa.binary()),
    "fixed bytes": pa.array([b"\xff\xfe", b"ab"], pa.binary(2)),
    "fractions": [1.5, 2.5],
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("column", ["user", "start", "end"])
def test_columns_of_a_type_that_says_nothing_are_named(kind: str, column: str, capsys: Capture) -> None:
    pq.write_table(pa.table({"user": ["a", "b"], "start": START, "end": END} | {column: ODD[kind]}), "s.parquet")
    line = imports(capsys, "sessions", "s.parquet")
    assert f"column '{column}'" in line and line.rstrip().partition(" in s.parquet")[1]


@pytest.mark.parametrize("kind", sorted(set(ODD) - {"nothing", "fractions"}))
@pytest.mark.parametrize("column", ["d", "t", "c", "r", "m"])
def test_columns_of_a_mapping_are_named_as_well(kind: str, column: str, capsys: Capture) -> None:
    columns = {"d": ["a", "b"], "t": [NOW_MS] * 2, "c": [0, 1], "r": [1.0, 2.0], "m": ["x", "y"]}
    pq.write_table(pa.table(columns | {column: ODD[kind]}), "s.parquet")
    Path("m.yaml").write_text(MAPPING + "facts: {ram_gb: r, model: m}\n")
    assert "s.parquet" in imports(capsys, "mapping", "s.parquet", "--mapping", "m.yaml")


def test_one_column_for_two_things_and_two_of_one_name_are_refused(capsys: Capture) -> None:
    Path("s.csv").write_text("user,start,end\na,2024-01-01,2024-01-02\n")
    for options in (["--end", "start"], ["--user", "start"], ["--user", "end", "--start", "end"]):
        assert "one column cannot stand for two things" in imports(capsys, "sessions", "s.csv", *options)
    assert "one column cannot" in imports(capsys, "events", "s.csv", "--user", "start", "--time", "start")
    Path("t.csv").write_text("user,user,start,end\na,b,2024-01-01,2024-01-02\n")
    pq.write_table(pa.Table.from_arrays([pa.array(x) for x in (["a"], ["b"], START[:1], END[:1])],
                                        ["user", "user", "start", "end"]), "t.parquet")  # fmt: skip
    for source in ("t.csv", "t.parquet"):
        assert f"two columns have one name: 'user' in {source}" in imports(capsys, "sessions", source)


def test_identifiers_that_have_a_text_are_taken(here: Path) -> None:
    users = {
        "words": pa.array(["a", "b"]).dictionary_encode(),
        "large": pa.array(["a", "b"], pa.large_string()),
        "numbers": [1, 2],
        "lengths": [timedelta(1), timedelta(2)],
    }
    for kind, user in users.items():
        pq.write_table(pa.table({"user": user, "time": START}), "s.parquet")
        import_events(Path("s.parquet"), here / kind)
        assert load_traces(kind).n == 2


# ------------------------------------------------------------------------------------------------- plausible instants


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ("a,1700000000,1700000060\nb,0,60", ["--unit", "s"], "row 1, 1970-01-01 00:00:00: '0'"),
        ("a,1700000000,0", ["--unit", "s"], "column 'end' has no plausible instant at row 0"),
        ("a,1700000000,1700000060", ["--unit", "ms"], "row 0, 1970-01-20 16:13:20"),
        ("a,1700000000000,1700000060000", ["--unit", "s"], "row 0, 1700000000000000 ms since 1970"),
        ("a,1700000000000,1700000060000", ["--unit", "min"], "row 0"),
        ("a,1700000000000,1700000060000", ["--unit", "s", "--clock", "relative"], "row 0, 19,675,926 days"),
        ("a,0,1\nb,5,400000000", ["--unit", "s", "--clock", "relative"], "'end' has no plausible instant at row 1"),
        ("a,2024-03-10 01:00:00,9999-12-31 23:59:59", [], "column 'end' has no plausible instant at row 0, 9999-12-31"),
        ("a,0001-01-01,2024-01-01", [], "column 'start' has no plausible instant at row 0, 0001-01-01"),
        ("a,1999-12-31 23:59:59,2000-01-02", [], "row 0, 1999-12-31 23:59:59"),
        ("a,2024-01-01,2024-01-02\nb,2001-01-01,2001-01-02", [], "row 1 is 8,4"),
        ("a,2001-01-01,2024-01-02", [], "row 0 is 8,4"),
    ],
)  # fmt: skip
def test_instants_that_no_phone_recorded_are_named(rows: str, options: list[str], says: str, capsys: Capture) -> None:
    Path("s.csv").write_text(f"user,start,end\n{rows}\n")
    line = imports(capsys, "sessions", "s.csv", *options)
    assert says in line and "unit" in line and "in s.csv" in line


def test_events_and_states_are_held_against_the_same_window(capsys: Capture) -> None:
    for last in (2**52 - 1, 2**62, 0, NOW_MS // 1000):
        Path("s.csv").write_text(f"d,t,c\na,{NOW_MS},1\na,{last},0\n")
        Path("m.yaml").write_text(MAPPING)
        assert "at row 1" in imports(capsys, "mapping", "s.csv", "--mapping", "m.yaml")
        assert "at row 1" in imports(capsys, "events", "s.csv", "--user", "d", "--time", "t", "--unit", "ms")


def test_files_that_are_too_far_apart_are_named(capsys: Capture) -> None:
    Path("logs").mkdir()
    for name, year in (("a", 2001), ("b", 2010), ("c", 2024)):
        Path(f"logs/{name}.csv").write_text(f"user,start,end\nx,{year}-01-01,{year}-01-02\n")
    line = imports(capsys, "sessions", "logs")
    assert "the log covers 8,401 days, from that of a.csv to that of c.csv" in line


def test_twenty_years_are_no_mistake(here: Path) -> None:
    Path("s.csv").write_text("user,time\na,2001-01-01\nb,2020-12-31\n")
    import_events(Path("s.csv"), here / "dst")
    assert load_traces("dst").period_days.tolist() == [7305, 7305]


@pytest.mark.parametrize(
    "line", ["u 1 1402358400 1 5", "u 1 0 1 5", f"u 1 {2**42} 1 5", f"u 1 1402358400000 1 {2**40}"]
)
def test_stunner_lines_of_another_unit_are_named(line: str, capsys: Capture) -> None:
    Path("s.txt").write_text("u 1 1402358400000 1 86400000\n" + line + "\n")
    assert "in line 2 of s.txt" in imports(capsys, "stunner", "s.txt")


@pytest.mark.parametrize("year", ["1970", "0001", "9999"])
def test_flash_logs_of_another_age_are_named(year: str, capsys: Capture) -> None:
    lines = [f"{year}-01-01 00:00:00 \tscreen_on", f"{year}-01-02 00:00:00\tscreen_off"]
    Path("s.json").write_text(json.dumps({"7": {"model": "x", "messages": "\n".join(lines)}}))
    assert "no plausible date" in imports(capsys, "flash", "s.json")


@pytest.mark.parametrize(
    ("name", "days"), [("start_ms", 40_000), ("period_ms", 7306), ("start_ms", 10**10), ("period_ms", 10**10)]
)
def test_absurd_lengths_of_traces_are_refused(name: str, days: int, capsys: Capture) -> None:
    save_traces(traces_of([events_of([(0, "screen", 1)])] * 2, period_s=86_400), "set")
    table = pq.read_table("set/devices.parquet")
    column = pa.array([DAY_MS, days * DAY_MS])
    pq.write_table(table.set_column(table.column_names.index(name), name, column), "set/devices.parquet")
    assert f"{name} is over" in refused(capsys, "traces", "validate", "set")
    assert "at device 1" in refused(capsys, "traces", "show", "set", "--page", "p.html")


def test_days_of_all_devices_are_bounded() -> None:
    one = traces_of([events_of([])], period_s=86_400 * 7305)
    n = 140_000
    many = TraceSet(
        device_id=np.full(n, "x", dtype=object), start_ms=np.zeros(n, dtype=np.int64),
        period_ms=np.full(n, one.period_ms[0]), is_local=np.ones(n, dtype=bool),
        facts={name: np.repeat(column, n) for name, column in one.facts.items()},
        offsets=np.zeros(n + 1, dtype=np.int64), events=one.events,
    )  # fmt: skip
    with pytest.raises(InputError, match="too many days of all devices: 1022700000"):
        validate(many, where="here")


# ------------------------------------------------------------------------------------------------------------ pickles


def phone(**changes: Any) -> dict[str, Any]:
    return {"device": "x", "cpu_f": 10, "ram": 4, "fp16_mem": 1, "android_os": 10, "speed": 5.0} | changes


def client(**changes: Any) -> dict[str, Any]:
    return {"duration": 5, "active": [0], "inactive": [5], "finish_time": 10, "model": None} | changes


@pytest.mark.parametrize(
    "bad", [10**400, -(10**400), 2**1024, float("inf"), float("nan"), 1e300, "1", True, None, [1]], ids=shown
)
@pytest.mark.parametrize("field", ["cpu_f", "ram", "android_os", "speed"])
def test_numbers_of_a_phone_that_no_table_holds_are_named(bad: Any, field: str, capsys: Capture) -> None:
    Path("s.pkl").write_bytes(pickle.dumps({1: phone(), 2: phone(**{field: bad})}))
    assert "in rank 2 of s.pkl" in imports(capsys, "propius", "s.pkl")


@pytest.mark.parametrize("bad", [2**70, -(2**70), 10**5000, 1.5, "1", b"1", None, True], ids=shown)
@pytest.mark.parametrize("field", ["duration", "active", "inactive", "finish_time"])
def test_numbers_of_a_client_that_no_table_holds_are_named(bad: Any, field: str, capsys: Capture) -> None:
    value = [bad] if field in ("active", "inactive") else bad
    Path("s.pkl").write_bytes(pickle.dumps({1: client(**{field: value})}))
    assert "in client 1 of s.pkl" in imports(capsys, "fedscale", "s.pkl")


@pytest.mark.parametrize("key", [2**70, -(2**70), 10**5000, "\ud800", None, 1.5, b"x"], ids=shown)
def test_names_that_no_table_holds_are_one_line(key: Any, capsys: Capture) -> None:
    Path("s.pkl").write_bytes(pickle.dumps({key: client()}))
    assert "s.pkl" in imports(capsys, "fedscale", "s.pkl")
    Path("s.pkl").write_bytes(pickle.dumps({key: phone()}))
    assert "s.pkl" in imports(capsys, "propius", "s.pkl")
    Path("s.pkl").write_bytes(pickle.dumps({1: client(model="\udfff")}))
    assert "'model'" in imports(capsys, "fedscale", "s.pkl")
    Path("s.pkl").write_bytes(pickle.dumps({1: phone(device="\udfff")}))
    assert "'device'" in imports(capsys, "propius", "s.pkl")


def nested(opcode: bytes, depth: int = 200_000) -> bytes:
    return b"}" + b")" + opcode * depth + b"Ns."


@pytest.mark.parametrize(
    "data",
    [
        nested(b"\x85"),
        nested(b"N\x86"),
        nested(b"\x85\x94"),
        nested(b"\x85q\x00"),
        b"\x80\x04}(" + b"(" * 200_000 + b"t" * 200_000 + b"Nu.",
        b"\x80\x04}" + b"2\x86" * 60 + b"Ns.",
        b"}K\x01" + b"2\x86" * 60 + b"Ns.",  # 2**60 elements to hash
        pickle.dumps({(1, 2): phone()}),
        pickle.dumps({1: phone(speed=(1, 2))}),
        pickle.dumps({frozenset([1]): phone()}, protocol=4),
        pickle.dumps({1: {1, 2}}, protocol=4),
        b"}" + b"]" * 1 + b"Ns.",
        b"(" * 100_000,
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",
        b"L" + b"9" * 5000 + b"L\n.",
        pickle.dumps([[]] * 3),
        b"",
    ],
    ids=str.split("one two memo put marks key twice pair value frozen set list open frame long digits type empty"),
)
def test_pickles_that_end_the_interpreter_are_one_line(data: bytes, capsys: Capture) -> None:
    Path("s.pkl").write_bytes(data)
    began = time.monotonic()
    for name in ("propius", "fedscale"):
        assert "s.pkl" in imports(capsys, name, "s.pkl")
    assert time.monotonic() - began < 20


# ------------------------------------------------------------------------------------------------- JSON of importers


@pytest.mark.parametrize(
    "number", ["9" * 5000, "9" * 400, "1e999", "NaN", "-Infinity", "[" * 99_999, '"\\ud800"', "1e300"]
)
def test_numbers_that_json_should_not_hold_are_one_line(number: str, capsys: Capture) -> None:
    Path("s.json").write_text(f'[{{"duration_ms": {number}, "bandwidth_kbps": 1, "latency_ms": 1}}]')
    assert "s.json" in imports(capsys, "sabre", "s.json", "--network", "3g")
    Path("s.json").write_text(f'{{"0": {{"guid": {number}, "model": {number}, "messages": ""}}}}')
    assert "s.json" in imports(capsys, "flash", "s.json")
    Path("t").mkdir(exist_ok=True)
    Path("t/speed_distri.json").write_text(f'{{"x": {{"down_u": {number}}}}}')
    assert "speed_distri.json" in imports(capsys, "flash_tables", "t")
    assert "s.json" in refused(capsys, "traces", "synthesize", "dst", "--parameters", "s.json")


@pytest.mark.parametrize(
    "changed", [{"Year": "99999"}, {"RAM": "infGB"}, {"Android": "-1"}, {"CPU_F_AI_Score": "1e400"}]
)
def test_a_ranking_of_impossible_phones_is_named(changed: dict[str, str], capsys: Capture) -> None:
    Path("t").mkdir()
    head = "model,n_of_1000,marketing_name,propius_device,propius_speed_ms,ai2020_name_match,flash_benchmark_name\n"
    Path("t/model_catalogue_1000.csv").write_text(head + "M,5,,,20.5,N,\n")
    entry = {"Model": "N", "CPU": "c", "Year": "2019", "RAM": "4GB", "Android": "9", "CPU_F_AI_Score": "50"} | changed
    Path("t/raw_ai_benchmark_list.json").write_text(json.dumps([entry]))
    assert "in entry 0 of t/raw_ai_benchmark_list.json" in imports(capsys, "flash_tables", "t")
    Path("t/model_catalogue_1000.csv").write_text(head + "M,5,,,20.5,N,\nL,5,,,-1,N,\n")
    assert "propius_speed_ms out of range at row 1" in imports(capsys, "flash_tables", "t")


# -------------------------------------------------------------------------------------------------- mappings, messages


def test_a_mapping_that_never_ends_is_shortened(capsys: Capture) -> None:
    text = "device: [ &l0 [y,y,y,y,y,y,y,y,y,y]"
    for i in range(1, 12):
        text += f", &l{i} [" + ",".join([f"*l{i - 1}"] * 10) + "]"
    Path("m.yaml").write_text(text + " ]\n" + MAPPING.partition("\n")[2])
    Path("s.csv").write_text("d,t,c\na,1,1\n")
    began = time.monotonic()
    line = imports(capsys, "mapping", "s.csv", "--mapping", "m.yaml")
    assert time.monotonic() - began < 10
    assert "device must be one value" in line and len(line) < 400


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["? [a]\n: 2\n", "[" * 99_999, "device: &a [*a]", "a: b: c", "\x00", "- 1", "x: !!python/none"]
)
def test_a_mapping_that_is_none_is_one_line(text: str, capsys: Capture) -> None:
    Path("m.yaml").write_text(text)
    Path("s.csv").write_text("d,t,c\na,1,1\n")
    assert "m.yaml" in imports(capsys, "mapping", "s.csv", "--mapping", "m.yaml")


@pytest.mark.parametrize(
    ("cell", "scale"), [("-4", "1"), ("0", "1"), ("1e300", "1"), ("1", "1e300"), ("1e-300", "1"), ("inf", "1")]
)
def test_a_bad_fact_is_named_in_its_source(cell: str, scale: str, capsys: Capture) -> None:
    Path("m.yaml").write_text(MAPPING + f"facts: {{ram_gb: {{column: r, scale: {scale}}}}}\n")
    Path("s.csv").write_text(f"d,t,c,r\na,{NOW_MS},1,\na,{NOW_MS},1,{cell}\n")
    line = imports(capsys, "mapping", "s.csv", "--mapping", "m.yaml")
    assert f"ram_gb must be positive at row 1: '{cell}' in s.csv" in line


def test_no_message_names_a_work_folder(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What only the parts' writer finds names the folder that was to be written."""
    Path("s.csv").write_text("user,time\na,2024-01-01\n")
    broken = traces_of([events_of([(0, "screen", 1)])], period_s=86_400)
    broken.events.value[0] = 7
    monkeypatch.setattr(shards.Grouping, "_add_up", lambda *_: None)
    monkeypatch.setattr(shards, "_sorted", lambda *_: None)
    monkeypatch.setattr("fedsim.traces.importers.events.SessionLaw.traces", lambda *_: broken)
    line = imports(capsys, "events", "s.csv")
    assert "in dst" in line and "work" not in line and "tmp" not in line


# ------------------------------------------------------------------------------------------------------------ writers


MEASURED = {
    LINKS: {"network": 3, "trace": "t", "scenario": None, "at_ms": 0, "duration_ms": 5, "down_bytes_per_s": 1.0,
            "up_bytes_per_s": None, "rtt_ms": None},
    LEVELS: {"network": 1, "device_id": "d", "down_bytes_per_s": 1.0, "down_sd_bytes_per_s": 0.0,
             "up_bytes_per_s": 1.0, "up_sd_bytes_per_s": 0.0},
    PROFILES: {"device": "d", "op": "o", "kind": "train_step", "batch_size": 1, "in_size": 1, "out_size": 1,
               "seq_len": None, "step_s": 0.5},
    HARDWARE: {"model": "m", "weight": 1.0, "inference_ms_per_sample": 5.0, "bytes_per_s": None, "ram_gb": 2.0},
}  # fmt: skip
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("schema", "changed"),
    [
        (LINKS, {"down_bytes_per_s": -1.0}), (LINKS, {"up_bytes_per_s": INF}), (LINKS, {"rtt_ms": -1.0}),
        (LINKS, {"at_ms": -1}), (LINKS, {"duration_ms": 0}), (LINKS, {"network": 6}), (LINKS, {"rtt_ms": NAN}),
        (LEVELS, {"down_bytes_per_s": NAN}), (LEVELS, {"up_sd_bytes_per_s": -1.0}), (LEVELS, {"network": -1}),
        (LEVELS, {"down_bytes_per_s": 1e300}), (PROFILES, {"step_s": 0.0}), (PROFILES, {"step_s": INF}),
        (PROFILES, {"batch_size": 0}), (PROFILES, {"seq_len": 0}), (HARDWARE, {"weight": -1.0}),
        (HARDWARE, {"inference_ms_per_sample": 0.0}), (HARDWARE, {"ram_gb": INF}), (HARDWARE, {"weight": 0.0}),
    ],
)  # fmt: skip
def test_a_measurement_writer_leaves_nothing_that_cannot_be_read(schema: Any, changed: dict[str, Any]) -> None:
    good = pa.Table.from_pylist(
        [MEASURED[schema]], pa.schema([f for f in schema.arrow() if f.name in MEASURED[schema]])
    )
    bad = pa.Table.from_pylist([MEASURED[schema] | changed], good.schema)
    with MeasurementWriter("good") as writer:
        writer.add(schema, good)
    with pytest.raises(InputError, match=rf"in dst/{schema.name}\.parquet"), MeasurementWriter("dst") as writer:
        writer.add(schema, bad)
    assert names(Path()) == ["good"]


def test_writers_refuse_a_provenance_that_they_could_not_read() -> None:
    phones = traces_of([events_of([(0, "screen", 1)])], period_s=86_400)
    links = pa.Table.from_pylist([MEASURED[LINKS]], LINKS.arrow())
    for said in ({"a": NAN}, {"a": "\ud800"}, {"files": "x"}, {"source": 1}, {"a": np.int64(1)}):
        with pytest.raises(InputError, match="dst"), TraceWriter("dst") as traces:
            traces.add(phones)
            traces.provenance = said
        with pytest.raises(InputError, match="dst"), MeasurementWriter("dst") as measured:
            measured.add(LINKS, links)
            measured.provenance = said
    assert names(Path()) == []


def test_texts_that_no_table_holds_are_one_line() -> None:
    phones = traces_of([events_of([(0, "screen", 1)])], period_s=86_400)
    phones.device_id[0] = "\ud800"
    with pytest.raises(InputError, match="devices that no table can hold"):
        save_traces(phones, "dst")
    assert names(Path()) == []


# ------------------------------------------------------------------------------------------------------ a full disk


def test_an_import_on_a_full_disk_keeps_what_it_did(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, here: Path
) -> None:
    Path("s.csv").write_text("user,time\na,2024-01-01\n")
    with monkeypatch.context() as patched:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(files.pq, "write_table", full)
        with pytest.raises(WriteError, match=r"^cannot be written \(No space left on device\): '(.*/)?dst.*'$"):
            import_events(Path("s.csv"), Path("dst"))
    assert names(Path()) == [".dst.work", "s.csv"]
    monkeypatch.setattr(shards, "_deal", lambda *_: pytest.fail("the rows were dealt out"))
    import_events(Path("s.csv"), Path("dst"))
    assert names(Path()) == ["dst", "s.csv"]


@pytest.mark.parametrize("damage", ["rows/00000/00000.parquet", "plan.json"])
def test_what_a_dying_machine_left_half_written_is_no_dead_end(
    damage: str, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    Path("s.csv").write_text("user,time\na,2024-01-01\n")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shards, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        import_events(Path("s.csv"), Path("dst"))
    Path(".dst.work", damage).write_bytes(b"\0" * 10)
    Path(".dst.work/parts/00000/provenance.json").unlink()
    if damage.endswith(".parquet"):
        with pytest.raises(InputError, match="what an earlier import left is damaged"):
            import_events(Path("s.csv"), Path("dst"))
    import_events(Path("s.csv"), Path("dst"))
    assert names(Path()) == ["dst", "s.csv"]


def test_two_imports_do_not_write_one_target(capsys: Capture) -> None:
    Path("s.csv").write_text("user,time\na,2024-01-01\n")
    with folders.work_folder(Path("dst")) as work:
        (work / "half").write_text("done")
        assert "another command is writing there: 'dst'" in imports(capsys, "events", "s.csv")
        assert names(work) == ["half"]


def test_names_of_bytes_that_are_no_text_are_one_line_or_written_as_an_escape(capsys: Capture) -> None:
    name = os.fsdecode(b"l\xff")
    Path("s.csv").write_text("user,time\na,2024-01-01\n")
    Path(f"{name}.csv").write_text("user,time\na,2024-01-01\n")
    assert "l\\udcff.csv" in imports(capsys, "events", f"{name}.csv")
    assert "l\\udcff" in refused(capsys, "traces", "import", "events", "s.csv", name)
    lines = ["2020-01-01 00:00:00 \tscreen_on", "2020-01-02 00:00:00\tscreen_off"]
    Path(f"{name}.json").write_text(json.dumps({"7": {"model": "x", "messages": "\n".join(lines)}}))
    import_flash(Path(f"{name}.json"), Path("dst"))
    assert load_traces("dst").provenance["files"][0]["name"] == "l\\udcff.json"


@pytest.mark.parametrize("words", [("--days", "7306"), ("--days", 10**9), ("--devices", 10**12), ("--days", 9**99)])
def test_sets_that_no_machine_holds_are_not_begun(words: tuple[str, object], capsys: Capture) -> None:
    assert "too many days and devices" in refused(capsys, "traces", "synthesize", "dst", *words)
    save_traces(traces_of([events_of([(0, "screen", 1)])], period_s=86_400), "set")
    assert "number of devices" in refused(capsys, "traces", "resample", "set", "dst", "--devices", 10**12)
