"""Entries of a JSON object one by one are those of the whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.traces.importers import json_entries as module
from fedsim.traces.importers.json_entries import json_entries

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), VALUES, max_size=8), st.sampled_from([None, 2]), st.integers(1, 40))
def test_entries_are_those_of_the_whole_whatever_the_chunk(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, Any], indent: int | None, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(contents, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert list(json_entries(path, "test")) == list(contents.items())


@pytest.mark.parametrize("chunk", range(1, 24))
def test_a_number_may_be_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    (tmp_path / "a.json").write_text('{"a": 12.5, "b": -1e-07, "c": 3, "d": true}')
    assert list(json_entries(tmp_path / "a.json", "test")) == [("a", 12.5), ("b", -1e-07), ("c", 3), ("d", True)]


def test_an_entry_is_read_before_the_next_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first entry of a file that breaks later is still told: the file was not read whole."""
    monkeypatch.setattr(module, "_CHUNK", 16)
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2], "b": ' + "9" * 100 + " oops")
    entries = json_entries(path, "test")
    assert next(entries) == ("a", [1, 2])
    with pytest.raises(InputError, match="not valid JSON"):
        list(entries)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be an object"),
        ("[1]", "must be an object"),
        ("{", "not valid JSON"),
        ('{"a": 1', "not valid JSON"),
        ('{"a" 1}', "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("{1: 2}", "not valid JSON"),
        ('{"a": 1} x', "not valid JSON"),
        ('{"a": "\\ud8"}', "not valid JSON"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=f"test {says}|test is {says}"):
        list(json_entries(tmp_path / "a.json", "test"))
