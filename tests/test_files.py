"""Files are written whole or not at all; a bad one is one line that names file, column and row."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim import files
from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table, shipped, write_json, write_table, write_text
from fedsim.schema import Column, Table
from fedsim.targets import whole_file

POINTS = Table(
    "points",
    "for tests",
    (
        Column("id", pa.int32(), "number of the point"),
        Column("x", pa.float64(), "place"),
        Column("note", pa.string(), "remark", True),
    ),
)


def good_points() -> pa.Table:
    return pa.table({"id": [1, 2, 3], "x": [0.5, 1.5, 2.5], "note": ["a", None, "c"]})


def contents(folder: Path) -> list[str]:
    """Everything in the folder, hidden files as well."""
    return sorted(os.listdir(folder))


# ----------------------------------------------------------------------------------- whole or not at all


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "out.txt"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # the same file system, so the rename is atomic
    assert path.read_text() == "half"
    assert contents(path.parent) == ["out.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_file(tmp_path / "out.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert contents(tmp_path) == []


def test_an_error_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("new, but only ha")
        raise RuntimeError
    assert path.read_text() == "old"
    assert contents(tmp_path) == ["out.txt"]
    write_text(path, "nouveau é")
    assert path.read_bytes() == "nouveau é".encode()


def test_json_is_sorted_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2.5, None]})
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["a", "b"]
    assert read_json(tmp_path / "a.json", "summary") == {"b": 1, "a": [2.5, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_not_json_is_not_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match=r"cannot be written as JSON .* in .*a\.json"):
        write_json(tmp_path / "a.json", {"a": value})
    assert contents(tmp_path) == []


def test_a_table_is_cast_to_its_schema(tmp_path: Path) -> None:
    write_table(tmp_path / "p.parquet", good_points(), POINTS)  # ids come as int64
    assert pq.read_schema(tmp_path / "p.parquet").equals(POINTS.arrow())
    assert read_table(tmp_path / "p.parquet", POINTS).to_pydict() == good_points().to_pydict()


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"id": [1], "x": ["far"], "note": ["a"]}),
        pa.table({"id": [2**40], "x": [0.5], "note": ["a"]}),
        pa.table({"id": [1], "note": ["a"]}),
        pa.table({"id": pa.array([None], pa.int32()), "x": [0.5], "note": ["a"]}),
    ],
    ids=["text for a number", "too large", "missing", "null"],
)
def test_a_table_that_breaks_its_schema_is_not_written(tmp_path: Path, table: pa.Table) -> None:
    with pytest.raises((pa.ArrowException, ValueError)):
        write_table(tmp_path / "p.parquet", table, POINTS)
    assert contents(tmp_path) == []


# --------------------------------------------------------------------------------------------- reading


def refusal(path: Path, schema: Table = POINTS, columns: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path, schema, columns)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "table 'points' not found" in refusal(tmp_path / "absent.parquet")
    for read in (lambda p: read_json(p, "summary"), lambda p: existing(p, "summary")):
        with pytest.raises(InputError, match=r"^summary not found: .*absent\.json"):
            read(tmp_path / "absent.json")
    assert existing(str(tmp_path), "folder") == tmp_path


@pytest.mark.parametrize("keep", [0, 3, 100, -1], ids=["empty", "3 bytes", "100 bytes", "last byte lost"])
def test_a_truncated_parquet_file_is_one_line(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "p.parquet"
    write_table(path, good_points(), POINTS)
    path.write_bytes(path.read_bytes()[:keep])
    assert "table 'points' cannot be read" in refusal(path)


def test_a_parquet_file_with_spoilt_pages_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"id": np.arange(5000), "x": np.arange(5000) ** 0.5, "note": [str(i) for i in range(5000)]})
    write_table(path, table, POINTS)
    data = bytearray(path.read_bytes())
    data[8:4000] = bytes(3992)
    path.write_bytes(data)
    assert "table 'points' cannot be read" in refusal(path)


def test_a_file_that_is_not_parquet_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("id,x,note\n1,2,3\n" * 50)
    assert "table 'points' cannot be read" in refusal(path)


@pytest.mark.parametrize("content", [b'{"a": [1, 2', b"", b"\xff\xfe\x00", b"{'a': 1}"])
def test_json_that_is_truncated_or_no_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="summary is not valid JSON") as caught:
        read_json(path, "summary")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named_with_its_meaning(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(good_points().drop_columns(["x"]), path)
    assert "column 'x' is missing" in refusal(path)
    assert "place" in refusal(path)
    assert "column 'x' is missing" in refusal(path, columns=["x"])
    assert read_table(path, POINTS, ["id"]).column_names == ["id"]


@pytest.mark.parametrize(
    ("x", "found"),
    [(pa.array(["far", "1", "2"]), "string"), (pa.array([[1.0], [2.0], [3.0]]), "list")],
)
def test_an_ill_typed_column_is_named_with_both_types(tmp_path: Path, x: pa.Array, found: str) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(good_points().set_column(1, "x", x), path)
    text = refusal(path)
    assert f"column 'x' has type {found}" in text
    assert "double" in text


def test_an_empty_value_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(good_points().set_column(1, "x", pa.array([1.0, 2.0, None])), path)
    assert "column 'x' is empty at row 2" in refusal(path)


def test_columns_may_stand_in_any_order_with_others_between(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(good_points().select(["note", "x", "id"]).append_column("extra", pa.array([7, 8, 9])), path)
    table = read_table(path, POINTS)
    assert table.to_pydict() == good_points().to_pydict()
    assert table.column_names == ["id", "x", "note"]
    assert table.schema.types == [pa.int32(), pa.float64(), pa.string()]


# ------------------------------------------------------------------------------------------------ other


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_shipped_is_beside_the_package_in_a_checkout() -> None:
    assert shipped("configs") == Path(files.__file__).parents[1] / "configs"
    assert shipped("configs").is_dir()
    assert shipped("a", "b").parts[-2:] == ("a", "b")


def test_shipped_is_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "fedsim"
    (package / "_shipped" / "traces").mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(package / "files.py"))
    assert shipped("traces") == package / "_shipped" / "traces"
