"""The documented tables say what they hold, and check what they are given."""

import re

import pyarrow as pa
import pytest

from fedsim.errors import InputError
from fedsim.schema import (
    CHANNELS,
    NETWORKS,
    OUTCOMES,
    RUN_TABLES,
    SESSIONS,
    TRACE_TABLES,
    Column,
    Table,
    describe,
)

ALL = RUN_TABLES + TRACE_TABLES
PAIRS = Table(
    "pairs", "for tests", (Column("a", pa.int32(), "first"), Column("b", pa.float64(), "second", nullable=True))
)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_column_is_documented_once(table: Table) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert table.meaning
    assert all(re.fullmatch(r"[a-z][a-z_0-9]*", column.name) for column in table.columns)
    assert all(column.meaning for column in table.columns)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_the_arrow_schema_has_the_columns_types_and_nulls(table: Table) -> None:
    fields = [(field.name, field.type, field.nullable) for field in table.arrow()]
    assert fields == [(column.name, column.type, column.nullable) for column in table.columns]


def test_codes_keep_their_meaning() -> None:
    """Codes stand in files: appending is allowed, another order is not."""
    assert CHANNELS[:6] == ("available", "network", "charging", "screen", "locked", "battery")
    assert NETWORKS[:6] == ("none", "wifi", "2g", "3g", "4g", "5g")
    assert OUTCOMES[7:] == ("OPEN",)  # new ones are appended
    assert OUTCOMES[:7] == ("AGGREGATED", "LATE", "STALE", "ABORTED", "INTERRUPTED", "TIMEOUT", "FAILED")


def test_instants_of_a_session_are_seconds_in_float64() -> None:
    instants = [column for column in SESSIONS.columns if column.name.endswith("_at")]
    assert len(instants) == 7
    assert all(column.type == pa.float64() for column in instants)
    assert [column.name for column in instants if column.nullable] == [
        "download_end_at", "train_end_at", "upload_end_at", "ingest_start_at", "ingested_at",
    ]  # fmt: skip


def test_check_casts_orders_and_drops() -> None:
    given = pa.table({"extra": [0], "b": pa.array([1], pa.int8()), "a": pa.array([2], pa.int64())})
    checked = PAIRS.check(given, where="here")
    assert checked.to_pydict() == {"a": [2], "b": [1.0]}
    assert checked.schema.types == [pa.int32(), pa.float64()]
    assert PAIRS.check(given, where="here", columns=["b"]).column_names == ["b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"b": [1.0]}, "column 'a' is missing in here (allowed: first)"),
        (
            {"a": ["x"], "b": [1.0]},
            "column 'a' has type string and does not fit at row 0: 'x' in here (allowed: int32)",
        ),
        ({"a": [1, 1.5]}, "column 'a' has type double and does not fit at row 1: 1.5 in here (allowed: int32)"),
        ({"a": [[1]], "b": [1.0]}, "column 'a' has type list<item: int64> in here (allowed: int32)"),
        ({"a": [0, None], "b": [1.0, 2.0]}, "column 'a' is empty at row 1 in here"),
    ],
)
def test_check_names_what_is_wrong(given: dict[str, list[object]], message: str) -> None:
    with pytest.raises(InputError) as caught:
        PAIRS.check(pa.table(given), where="here")
    assert str(caught.value) == message


@pytest.mark.parametrize("row", [0, 1, 499, 998, 999])
def test_the_first_value_that_does_not_fit_is_named_with_its_row(row: int) -> None:
    a = list(range(1000))
    a[row] = 2**40
    a[-1] = max(a[-1], 2**41)
    first = 2**41 if row == 999 else 2**40
    with pytest.raises(InputError) as caught:
        PAIRS.check(pa.table({"a": pa.chunked_array([a[:300], a[300:]]), "b": [0.0] * 1000}), where="here")
    assert f"does not fit at row {row}: {first} in here" in str(caught.value)


def test_null_is_allowed_where_it_says_so() -> None:
    assert PAIRS.check(pa.table({"a": [1], "b": [None]}), where="here").to_pydict() == {"a": [1], "b": [None]}


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_describe_is_a_markdown_table_of_all_columns(table: Table) -> None:
    lines = describe(table).splitlines()
    assert lines[0].startswith(f"**{table.name}**: ")
    assert lines[2:4] == ["| column | type | meaning |", "| --- | --- | --- |"]
    assert [line.split("`")[1] for line in lines[4:]] == [column.name for column in table.columns]
    assert all(line.count(" | ") == 2 for line in lines[4:])
