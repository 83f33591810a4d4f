"""Declared columns of CSV and Parquet files: batches, instants in any unit and clock, errors with row numbers."""

import gzip
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.importers import columns
from fedsim.traces.importers.columns import Clock, batches, table_files, texts

HOUR = 3_600_000
NEW_YEAR = 1_577_836_800_000  # 2020-01-01 UTC


def read_ms(clock: Clock, values: Any) -> list[int]:
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values)])
    read: list[int] = clock.local_ms(clock.read_ms(column, "ts", "here", first=100)).tolist()
    return read


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("ms", [NEW_YEAR, NEW_YEAR + 1500], [NEW_YEAR, NEW_YEAR + 1500]),
        ("ms", [str(NEW_YEAR)], [NEW_YEAR]),
        ("s", [NEW_YEAR / 1000 + 1.5, NEW_YEAR / 1000 + 2.0004], [NEW_YEAR + 1500, NEW_YEAR + 2000]),
        ("s", [f"{NEW_YEAR // 1000}.5"], [NEW_YEAR + 500]),
        ("min", [NEW_YEAR // 60_000 + 2], [NEW_YEAR + 120_000]),
        ("us", [NEW_YEAR * 1000 + 999], [NEW_YEAR + 1]),
        ("ns", [NEW_YEAR * 10**6], [NEW_YEAR]),
        ("iso", ["2020-01-01 00:00:00", "2020-01-01T00:00:01.234567"], [NEW_YEAR, NEW_YEAR + 1234]),
        ("iso", ["2020-01-01", "2020-01-02"], [NEW_YEAR, NEW_YEAR + 24 * HOUR]),
        ("iso", ["2020-01-01T02:00:00+02:00", "2020-01-01T00:00:00Z"], [NEW_YEAR, NEW_YEAR]),
        ("iso", [datetime(2020, 1, 1, 1)], [NEW_YEAR + HOUR]),
        ("iso", [datetime(2020, 1, 1, 1, tzinfo=timezone.utc)], [NEW_YEAR + HOUR]),  # noqa: UP017
        ("iso", [datetime(2020, 1, 1).date()], [NEW_YEAR]),
    ],
)
def test_instants_of_any_unit(unit: str, values: Any, expected: list[int]) -> None:
    assert read_ms(Clock(unit, "utc"), values) == expected


@pytest.mark.parametrize(
    ("zone", "hours"), [("0", 0), ("8", 8), ("-3.5", -3.5), ("Asia/Kolkata", 5.5), ("America/New_York", -5)]
)
def test_utc_becomes_the_local_wall_clock(zone: str, hours: float) -> None:
    assert read_ms(Clock("ms", "utc", zone), [NEW_YEAR]) == [NEW_YEAR + round(hours * HOUR)]


def test_a_named_zone_follows_its_summer_time() -> None:
    clock = Clock("iso", "utc", "Europe/Berlin")
    spring, autumn = ["2020-03-29 00:59", "2020-03-29 01:01"], ["2020-10-25 00:30", "2020-10-25 01:30"]
    assert np.diff(read_ms(clock, spring)) == [HOUR + 2 * 60_000]
    assert np.diff(read_ms(clock, autumn)) == [0]  # half past two comes twice


@given(st.integers(-(2**39), 2**40), st.integers(-23, 23))
def test_fixed_hours_are_added(at_ms: int, hours: int) -> None:
    assert read_ms(Clock("ms", "utc", str(hours)), [NEW_YEAR + at_ms]) == [NEW_YEAR + at_ms + hours * HOUR]


@pytest.mark.parametrize(
    ("values", "clock", "says"),
    [
        ([1, None], Clock("s", "utc"), "column 'ts' is empty at row 101 in here"),
        (["1", "two"], Clock("s", "utc"), r"column 'ts' has a bad value at row 101: 'two' in here \(allowed: double\)"),
        ([1.0, float("nan")], Clock("s", "utc"), "column 'ts' is out of range at row 101: nan"),
        ([10**18], Clock("s", "utc"), "column 'ts' is out of range at row 100"),
        (["2020-01-01", "yesterday"], Clock("iso", "utc"), "bad value at row 101: 'yesterday'"),
        (["2020-01-01 10:00", "2020-01-01 10:00Z"], Clock("iso", "utc"), "bad value at row 101: '2020-01-01 10:00Z'"),
        (
            ["2020-01-01 10:00+01"],
            Clock("iso", "local"),
            r"carries a time zone: clock: 'local' in here \(allowed: utc\)",
        ),
        ([5], Clock("iso", "utc"), r"column 'ts' holds no dates: unit: 'iso' in here \(allowed: ns, us, ms, s, min\)"),
        ([datetime(2020, 1, 1)], Clock("s", "utc"), r"column 'ts' holds dates: unit: 's' in here \(allowed: iso\)"),
        ([1, -1], Clock("s", "relative"), "a relative clock starts at 0: column 'ts', row 101: -1"),
    ],
)
def test_bad_instants_are_named_by_row(values: Any, clock: Clock, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_ms(clock, values)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("hours", "utc"), r"unknown unit of time: 'hours' \(allowed: iso, ns, us, ms, s, min\)"),
        (("s", "gmt"), r"unknown clock: 'gmt' \(allowed: utc, local, relative\)"),
        (("s", "utc", "Mars/Olympus"), r"unknown time zone: 'Mars/Olympus' \(allowed: hours ahead of UTC"),
        (("s", "utc", "../etc"), "unknown time zone"),
        (("s", "utc", "25"), "time zone out of range: '25'"),
        (("s", "local", "8"), r"a zone is for logs in UTC: zone: '8' \(allowed: clock utc\)"),
        (("iso", "relative"), "a relative clock counts, it has no dates: unit: 'iso'"),
    ],
)
def test_a_clock_that_cannot_be_is_refused(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Clock(*arguments).read_ms(pa.chunked_array([[0]]), "ts", "here", first=0)


def test_csv_cells_are_texts_and_empty_ones_null(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,x,"a, b"\n007,1,no\n008,,"say ""on"""\n')
    ((first, rows),) = batches(path, ["a, b", "user", "x"])
    assert first == 0
    assert rows.to_pydict() == {"a, b": ["no", 'say "on"'], "user": ["007", "008"], "x": ["1", None]}


def test_batches_know_their_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_ROWS", 40)
    monkeypatch.setattr(columns, "_CSV_BLOCK", 200)
    table = pa.table({"user": [f"u{i}" for i in range(100)], "x": range(100)})
    pq.write_table(table, tmp_path / "log.parquet")
    text = "user,x\n" + "".join(f"u{i},{i}\n" for i in range(100))
    (tmp_path / "log.csv").write_text(text)
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("log.parquet", "log.csv", "log.csv.gz"):
        parts = list(batches(tmp_path / name, ["x"]))
        assert len(parts) > 2, name
        assert [int(rows.column("x")[0].as_py()) for _, rows in parts] == [first for first, _ in parts]
        assert sum(rows.num_rows for _, rows in parts) == 100


def test_the_tables_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.csv", "a.parquet", "c.csv.gz", "README.md", "d.parquet.tmp"):
        (tmp_path / name).touch()
    assert [path.name for path in table_files(tmp_path, "log")] == ["a.parquet", "b.csv", "c.csv.gz"]
    assert table_files(tmp_path / "b.csv", "log") == [tmp_path / "b.csv"]
    with pytest.raises(
        InputError, match=r"no table found: log: .*README.md' \(allowed: \*.csv, \*.csv.gz, \*.parquet\)"
    ):
        table_files(tmp_path / "README.md", "log")
    with pytest.raises(InputError, match="log not found"):
        table_files(tmp_path / "nothing", "log")


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"user": ["a"], "x": ["1"]}), tmp_path / "log.parquet")
    (tmp_path / "log.csv").write_text("user,x\na,1\n")
    with pytest.raises(InputError, match=rf"column is missing: 'time' in .*{name} \(allowed: user, x\)"):
        list(batches(tmp_path / name, ["user", "time"]))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("log.parquet", b"PAR1 and no more"),
        ("log.csv", b""),
        ("log.csv", b"user,time\na,1\nb\n"),
        ("log.csv", b"user,time\n\xff\xfe,1\n"),
        ("log.csv.gz", b"user,time\na,1\n"),
    ],
)
def test_damaged_tables_are_one_clear_line(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match=rf"table cannot be read after row 0 .* in .*{name}") as refused:
        list(batches(tmp_path / name, ["user", "time"]))
    assert "\n" not in str(refused.value)


def test_identifiers_are_texts() -> None:
    assert texts(pa.chunked_array([[7, 8]]), "user", "here", first=0).to_pylist() == ["7", "8"]
    words = pa.chunked_array([pa.array(["a", "b", "a"]).dictionary_encode()])
    assert texts(words, "user", "here", first=0).to_pylist() == ["a", "b", "a"]
    with pytest.raises(InputError, match="column 'user' is empty at row 11 in here"):
        texts(pa.chunked_array([["a", None]]), "user", "here", first=10)
    with pytest.raises(InputError, match="column 'user' holds fractions, no identifiers"):
        texts(pa.chunked_array([[1.0]]), "user", "here", first=0)
