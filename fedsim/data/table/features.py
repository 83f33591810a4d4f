"""Columns of a table as arrays that a model takes: numbers and categories; those with a shape are in ``shaped``.

Each kind is a class; its fields are the keys of a feature in YAML. Training rows are seen first
(:meth:`~fedsim.data.table.columns.Feature.see`), then every row is encoded. Ids of a feature are 0 … n_ids-1 here; the
table gives each its own range of one id table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.data.table.columns import Array, Feature, listed, matrix, pairs, texts
from fedsim.data.table.reading import Batch
from fedsim.data.table.shaped import Image, Lists, Text
from fedsim.data.table.words import TOKENS, Coding, Vocabulary
from fedsim.errors import InputError
from fedsim.units import BoolArray

UNSEEN = 0  # id of a category that no training row has, or that is missing


@dataclass
class Numbers:
    """Numbers of one column or of several, standardised over the training rows; a column may hold lists of one length.

    ``missing``: a null or NaN is refused, or becomes the ``mean`` of the training rows.
    """

    column: str | Sequence[str]
    standardise: bool = True
    missing: Literal["refuse", "mean"] = "refuse"
    _n: Array = field(init=False, repr=False, default_factory=lambda: np.zeros(0))
    _sum: Array = field(init=False, repr=False, default_factory=lambda: np.zeros(0))
    _squares: Array = field(init=False, repr=False, default_factory=lambda: np.zeros(0))

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One or several."""
        return dict.fromkeys(listed(self.column), pa.float64())

    @property
    def shape(self) -> tuple[int, ...]:
        """As many numbers as there are columns, or as a list has."""
        return (len(self._n),)

    n_ids = 0

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Add up count, sum and squares."""
        values = self._values(batch)[rows]
        if not len(self._n):
            self._n, self._sum, self._squares = np.zeros((3, values.shape[1]))
        known = np.nan_to_num(values)
        self._n = self._n + (~np.isnan(values)).sum(axis=0)
        self._sum = self._sum + known.sum(axis=0)
        self._squares = self._squares + np.square(known).sum(axis=0)

    def freeze(self) -> None:
        """A column that is missing in all training rows has no mean."""
        if len(self._n) and (self._n == 0).any():
            raise InputError("column has no value in any training row", value=listed(self.column)[0])

    def encoded(self, batch: Batch) -> Array:
        """float32[n, k]."""
        values, mean = self._values(batch), self._sum / self._n
        if values.shape[1] != len(self._n):
            raise InputError("lists of a column differ in length", value=listed(self.column)[0])
        values = np.where(np.isnan(values), mean, values)
        if self.standardise:
            spread = np.sqrt(np.maximum(self._squares / self._n - np.square(mean), 0.0))
            values = (values - mean) / np.where(spread > 0, spread, 1.0)
        return values.astype(np.float32)

    def _values(self, batch: Batch) -> Array:
        values = np.concatenate([matrix(batch[name], name) for name in listed(self.column)], axis=1)
        wrong = ~np.isfinite(values) if self.missing == "refuse" else np.isinf(values)
        if wrong.any():
            row, place = (int(found[0]) for found in np.nonzero(wrong))
            names = listed(self.column)
            name = names[place] if len(names) == values.shape[1] else names[0]
            allowed = "finite numbers" if self.missing == "mean" else "finite numbers, or missing: mean"
            raise InputError(f"column {name} in row {row} of a batch", value=float(values[row, place]), allowed=allowed)
        return values


@dataclass
class Category:
    """An id for each value of one column or several, each column with its own ids; 0: unseen in training, or null."""

    column: str | Sequence[str]
    coding: Coding = "vocabulary"
    size: int | None = None
    _known: list[Vocabulary] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._known = [Vocabulary(self.coding, self.size, what=f"column {name}") for name in listed(self.column)]

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One or several, as texts."""
        return dict.fromkeys(listed(self.column), pa.string())

    @property
    def shape(self) -> tuple[int, ...]:
        """An id for each column."""
        return (len(self._known),)

    @property
    def n_ids(self) -> int:
        """Of all columns, each with an id for what is unseen."""
        return sum(known.n + 1 for known in self._known)

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Count values."""
        for name, known in zip(listed(self.column), self._known, strict=True):
            if known.is_learned:
                counted = pc.value_counts(texts(batch[name], name).filter(pa.array(rows)))
                known.see({value: n for value, n in pairs(counted) if value is not None})

    def freeze(self) -> None:
        """Number the values."""
        for known in self._known:
            known.freeze()

    def encoded(self, batch: Batch) -> Array:
        """int64[n, number of columns]."""
        found, first = [], 0
        for name, known in zip(listed(self.column), self._known, strict=True):
            coded = texts(batch[name], name).dictionary_encode()
            ids = np.array([*(1 + number for number in known.of(coded.dictionary.to_pylist())), UNSEEN])
            place = coded.indices.fill_null(len(ids) - 1).to_numpy(zero_copy_only=False)
            found.append(first + ids[place])
            first += known.n + 1
        return np.stack(found, axis=1).astype(np.int64)


KINDS: dict[str, type[Any]] = {
    "numbers": Numbers, "category": Category, "text": Text, "image": Image, "sequence": Lists,
}  # fmt: skip


def feature_of(name: str, said: Any, there: Sequence[str]) -> Feature:
    """The feature that its keys in YAML describe; a column name with ``*`` stands for all that match it."""
    key = f"features.{name}"
    if not isinstance(said, Mapping) or said.get("kind") not in KINDS:
        value = said.get("kind") if isinstance(said, Mapping) else said
        raise InputError(f"{key}.kind", value=value, allowed=", ".join(KINDS))
    kind = KINDS[said["kind"]]
    given = {word: value for word, value in said.items() if word != "kind"}
    column = given.get("column")
    if isinstance(column, str) and "*" in column:
        given["column"] = [each for each in there if fnmatchcase(each, column)]
    return checked_call(kind, given, key)  # type: ignore[no-any-return]


def checked_call(kind: type[Any], given: Mapping[str, Any], key: str) -> Any:
    """``kind(**given)`` of a dataclass, its keys and whole numbers checked first."""
    taken = {each.name: each for each in fields(kind) if each.init}
    unknown = [word for word in given if word not in taken]
    if unknown:
        raise InputError("unknown key", value=f"{key}.{unknown[0]}", allowed=", ".join(taken))
    for word, each in taken.items():
        if word not in given and each.default is MISSING and each.default_factory is MISSING:
            raise InputError(f"{key}.{word} must be given", where="the configuration")
        if word in ("length", "size") and (value := given.get(word)) is not None and not _is_count(value):
            raise InputError(f"{key}.{word}", value=value, allowed="a whole number from 1 on")
        if word in _CHOICES and word in given:
            _check_choice(f"{key}.{word}", given[word], _CHOICES[word])
    return kind(**given)


_CHOICES: dict[str, Sequence[str]] = {
    "coding": ("vocabulary", "frequent", "hash"), "missing": ("refuse", "mean"), "tokens": tuple(TOKENS),
}  # fmt: skip


def _check_choice(what: str, value: object, choices: Any) -> None:
    if value not in choices:
        raise InputError(what, value=value, allowed=", ".join(choices))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
