"""Features for columns of which nothing is said: by the type and the look of what stands in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.data.table.reading import Column, Files, names_of
from fedsim.errors import InputError

_ROWS = 10_000  # looked at
_LONG_TEXT = 24  # letters on average: a text, not a value; so is what has blanks in half of the rows
_TOKENS, _BUCKETS, _VALUES = 64, 4096, 1000  # of a text, of its hashed pieces, of a category; assumed


def guessed(files: Files, *, but: Collection[str]) -> dict[str, dict[str, Any]]:
    """A feature for each kind of column, numbers first: as ``data.features`` would say it.

    Raises :class:`InputError` where nothing is left, and for a table without rows.
    """
    names = [name for name in names_of(files) if name not in but]
    _, batch = next(files.batches(dict.fromkeys(names), n_rows=_ROWS), (None, None)) if names else (None, None)
    if batch is None:
        raise InputError("the table has no column or no row to learn from", where=files.said, allowed="data.features")
    numbers = [name for name in names if is_number(batch[name])]
    texts = [name for name in names if is_text(batch[name])]
    values = [name for name in names if name not in (*numbers, *texts) and _is_value(batch[name])]
    found: dict[str, dict[str, Any]] = {}
    if numbers:
        found["numbers"] = {"kind": "numbers", "column": numbers, "missing": "mean"}
    if values:
        found["values"] = {"kind": "category", "column": values, "coding": "frequent", "size": _VALUES}
    for name in texts:
        text = {"kind": "text", "column": name, "tokens": "pieces", "coding": "hash"}
        found[name] = text | {"length": _TOKENS, "size": _BUCKETS}
    return found


def told(features: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for the user."""
    listed = "; ".join(f"{_columns(said['column'])} as {said['kind']}" for said in features.values())
    return f"data.features is null: {listed}"


def _columns(column: Any) -> str:
    return column if isinstance(column, str) else ", ".join(column)


def is_number(column: Column) -> bool:
    """Whether it holds numbers, or lists or arrays of them."""
    if isinstance(column, np.ndarray):
        return bool(np.issubdtype(column.dtype, np.number))
    kind = column.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(column: Column) -> bool:
    """Whether it holds texts, rather than one value of some."""
    if isinstance(column, np.ndarray) or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    some = column.slice(0, _ROWS)
    mean, with_blanks = pc.mean(pc.utf8_length(some)).as_py(), pc.mean(pc.match_substring(some, " ")).as_py()
    return (mean or 0.0) > _LONG_TEXT or (with_blanks or 0.0) > 1 / 2


def _is_value(column: Column) -> bool:
    """Whether it holds one value of some, a word or true and false."""
    if isinstance(column, np.ndarray):
        return False
    kind = column.type
    return bool(pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))
