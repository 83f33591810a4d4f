"""The feature catalogue in bytes and rows, and bad catalogues refused by feature and key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.features import (
    Catalogue,
    assets_by_age,
    assets_bytes,
    embedding_rows,
    shipped_bytes_per_example,
    stored_bytes_per_example,
)
from fedsim.errors import InputError

WORDS = {
    "query": {
        "home": "device",
        "bytes_per_example": 40,
        "assets_bytes": 1000,
        "freshness_s": 7 * 86_400,
        "vocabulary": {"kind": "table", "entries": 5000, "buckets": 64, "bytes_per_entry": 12},
    },
    "hour": {"home": "device", "bytes_per_example": 1, "vocabulary": {"kind": "hash", "buckets": 24}},
    "item": {
        "home": "cloud",
        "bytes_per_example": 8,
        "freshness_s": 86_400,
        "vocabulary": {"kind": "table", "entries": 300},
    },
    "price": {"home": "cloud", "bytes_per_example": 4.5, "freshness_s": None, "vocabulary": None},
}


def parsed(values: Any, bytes_per_entry: float | None = 10) -> Catalogue:
    return Catalogue.parse(values, bytes_per_entry=bytes_per_entry)


def test_what_lies_on_the_phone_and_what_is_shipped() -> None:
    catalogue = parsed(WORDS)
    assert assets_bytes(catalogue) == 1000 + 5000 * 12  # the item's vocabulary stays in the cloud
    assert shipped_bytes_per_example(catalogue) == 8 + 4.5
    assert stored_bytes_per_example(catalogue) == 40 + 1 + 8 + 4.5
    assert assets_by_age(catalogue)[7 * 86_400] == 61_000
    assert embedding_rows(catalogue) == 5000 + 24 + 300


def test_hashing_instead_of_a_vocabulary_is_one_key() -> None:
    hashed = {**WORDS, "query": {**WORDS["query"], "vocabulary": {**WORDS["query"]["vocabulary"], "kind": "hash"}}}
    assert assets_bytes(parsed(hashed)) == 1000
    assert embedding_rows(parsed(hashed)) == 64 + 24 + 300


def test_entries_take_what_the_catalogue_says_unless_the_vocabulary_does() -> None:
    short = {"q": {"home": "device", "bytes_per_example": 1, "vocabulary": {"kind": "table", "entries": 7}}}
    assert assets_bytes(parsed(short, 10)) == 70
    with pytest.raises(InputError, match=r"bytes_per_entry must be given in features.catalogue.q.vocabulary"):
        parsed(short, None)


def test_an_empty_catalogue_costs_nothing() -> None:
    empty = parsed({}, None)
    assert (assets_bytes(empty), embedding_rows(empty), assets_by_age(empty)) == (0, 0, {})


@given(
    st.lists(st.tuples(st.sampled_from(["device", "cloud"]), st.integers(1, 10_000), st.integers(0, 99)), max_size=6)
)
def test_bytes_add_up_over_features(rows: list[tuple[str, int, int]]) -> None:
    values = {
        f"f{i}": {"home": home, "bytes_per_example": size, "vocabulary": {"kind": "table", "entries": entries}}
        for i, (home, entries, size) in enumerate(rows)
    }
    catalogue = parsed(values, 3)
    assert assets_bytes(catalogue) == sum(3 * entries for home, entries, _ in rows if home == "device")
    assert embedding_rows(catalogue) == sum(entries for _, entries, _ in rows)
    assert stored_bytes_per_example(catalogue) - shipped_bytes_per_example(catalogue) == sum(
        size for home, _, size in rows if home == "device"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"home": "phone"}, "home is unknown: 'phone' in features.catalogue.query .*device, cloud"),
        ({"home": None}, "home is unknown in features.catalogue.query"),
        ({"bytes_per_example": -1}, "bytes_per_example must be a number.*-1 in features.catalogue.query"),
        ({"bytes_per_example": "4"}, "bytes_per_example must be a number"),
        ({"bytes_per_example": None}, "bytes_per_example must be given in features.catalogue.query"),
        ({"bytes_per_example": float("inf")}, "bytes_per_example must be a number"),
        ({"freshness_s": 0}, "freshness_s must be above zero.*features.catalogue.query"),
        ({"freshnes_s": 5}, "unknown key: 'freshnes_s' in features.catalogue.query .*freshness_s"),
        ({"assets_bytes": True}, "assets_bytes must be a number.*features.catalogue.query"),
        ({"home": "cloud"}, "assets_bytes of a cloud feature.*features.catalogue.query"),
        ({"vocabulary": {"kind": "tree", "entries": 3}}, "kind is unknown: 'tree' in .*query.vocabulary .*table, hash"),
        ({"vocabulary": {"kind": "table", "buckets": 3}}, "entries must be given in .*query.vocabulary"),
        ({"vocabulary": {"kind": "hash", "entries": 3}}, "buckets must be given in .*query.vocabulary"),
        ({"vocabulary": {"kind": "hash", "buckets": 0}}, "buckets must be a whole number: 0 in .*query.vocabulary"),
        ({"vocabulary": {"kind": "hash", "buckets": 2.5}}, "buckets must be a whole number: 2.5"),
        ({"vocabulary": {"kind": "hash", "bucket": 3}}, "unknown key: 'bucket' in .*query.vocabulary"),
        ({"vocabulary": 5}, "a group of values must be given: 5 in .*query.vocabulary"),
    ],
)
def test_a_bad_catalogue_is_one_line_with_feature_and_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parsed({**WORDS, "query": {**WORDS["query"], **change}})
    assert "\n" not in str(caught.value)


def test_a_catalogue_is_a_mapping() -> None:
    with pytest.raises(InputError, match=r"features\.catalogue must map"):
        parsed([1])
