"""Columns of a table as arrays that a model takes: numbers, categories, texts, pictures, sequences.

Each kind is a class; its fields are the keys of a feature in YAML. Training rows are seen first (:meth:`Feature.see`),
then every row is encoded. Ids of a feature are 0 … n_ids-1 here; the table gives each its own range of one id table.
"""

from __future__ import annotations

import importlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.data.table.reading import Batch, Column
from fedsim.data.table.words import N_SPECIAL, PADDING, START, TOKENS, UNKNOWN, Coding, Vocabulary
from fedsim.errors import InputError, one_line
from fedsim.units import BoolArray, IntArray

Array = npt.NDArray[Any]
UNSEEN = 0  # id of a category that no training row has, or that is missing


class Feature(Protocol):
    """One feature: what it reads, and the shape of what it makes of a row."""

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """The columns that it reads, and the type as which a CSV column is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row, once it is frozen."""

    @property
    def n_ids(self) -> int:
        """Ids that it gives, once it is frozen; 0: it gives float32 numbers."""

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Learn from these rows of a batch, which are training rows."""

    def freeze(self) -> None:
        """Training rows have been seen."""

    def encoded(self, batch: Batch) -> Array:
        """``[n, *shape]``: int64 ids or float32 numbers."""


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
        return dict.fromkeys(_listed(self.column), pa.float64())

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
            raise InputError("column has no value in any training row", value=_listed(self.column)[0])

    def encoded(self, batch: Batch) -> Array:
        """float32[n, k]."""
        values, mean = self._values(batch), self._sum / self._n
        if values.shape[1] != len(self._n):
            raise InputError("lists of a column differ in length", value=_listed(self.column)[0])
        values = np.where(np.isnan(values), mean, values)
        if self.standardise:
            spread = np.sqrt(np.maximum(self._squares / self._n - np.square(mean), 0.0))
            values = (values - mean) / np.where(spread > 0, spread, 1.0)
        return values.astype(np.float32)

    def _values(self, batch: Batch) -> Array:
        values = np.concatenate([_matrix(batch[name], name) for name in _listed(self.column)], axis=1)
        wrong = ~np.isfinite(values) if self.missing == "refuse" else np.isinf(values)
        if wrong.any():
            row, place = (int(found[0]) for found in np.nonzero(wrong))
            names = _listed(self.column)
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
        self._known = [Vocabulary(self.coding, self.size, what=f"column {name}") for name in _listed(self.column)]

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One or several, as texts."""
        return dict.fromkeys(_listed(self.column), pa.string())

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
        for name, known in zip(_listed(self.column), self._known, strict=True):
            if known.is_learned:
                counted = pc.value_counts(_texts(batch[name], name).filter(pa.array(rows)))
                known.see({value: n for value, n in _pairs(counted) if value is not None})

    def freeze(self) -> None:
        """Number the values."""
        for known in self._known:
            known.freeze()

    def encoded(self, batch: Batch) -> Array:
        """int64[n, number of columns]."""
        found, first = [], 0
        for name, known in zip(_listed(self.column), self._known, strict=True):
            coded = _texts(batch[name], name).dictionary_encode()
            ids = np.array([*(1 + number for number in known.of(coded.dictionary.to_pylist())), UNSEEN])
            place = coded.indices.fill_null(len(ids) - 1).to_numpy(zero_copy_only=False)
            found.append(first + ids[place])
            first += known.n + 1
        return np.stack(found, axis=1).astype(np.int64)


@dataclass
class Text:
    """The ids of a text's first ``length`` tokens, padded with 0; 1 stands for tokens without an id.

    ``tokens``: words, characters, or pieces (words, pairs of words and parts of words, for a bag of them).
    """

    column: str
    length: int
    tokens: Literal["words", "characters", "pieces"] = "words"
    coding: Coding = "hash"
    size: int | None = 16384
    _known: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_choice("tokens", self.tokens, TOKENS)
        self._known = Vocabulary(self.coding, self.size, what=f"column {self.column}")

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One, as text."""
        return {self.column: pa.string()}

    @property
    def shape(self) -> tuple[int, ...]:
        """So many tokens."""
        return (self.length,)

    @property
    def n_ids(self) -> int:
        """Of tokens, and the special ones before them."""
        return N_SPECIAL + self._known.n

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Count tokens."""
        if self._known.is_learned:
            counts: Counter[str] = Counter()
            for text in _texts(batch[self.column], self.column).filter(pa.array(rows)).to_pylist():
                counts.update(TOKENS[self.tokens](text or ""))
            self._known.see(counts)

    def freeze(self) -> None:
        """Number the tokens."""
        self._known.freeze()

    def ids(self, batch: Batch) -> list[IntArray]:
        """All tokens of each text as ids."""
        cut, known = TOKENS[self.tokens], self._known
        texts = _texts(batch[self.column], self.column).to_pylist()
        found = [np.array(known.of(cut(text or "")), dtype=np.int64) for text in texts]
        return [np.where(ids < 0, UNKNOWN, ids + N_SPECIAL) for ids in found]

    def encoded(self, batch: Batch) -> Array:
        """int64[n, length]."""
        return _padded(self.ids(batch), self.length)


@dataclass
class Image:
    """Pictures of ``shape`` as float32 in 0 … 1: arrays of bytes, raw bytes, or PNG and JPEG files in the column."""

    column: str
    shape: Sequence[int]

    def __post_init__(self) -> None:
        self.shape = tuple(self.shape)

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One."""
        return {self.column: None}

    n_ids = 0

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Nothing is learned."""

    def freeze(self) -> None:
        """Nothing was learned."""

    def encoded(self, batch: Batch) -> Array:
        """float32[n, *shape]."""
        column = batch[self.column]
        if isinstance(column, pa.Array) and (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            pictures = np.stack([self._opened(value) for value in column.to_pylist()])
        else:
            pictures = column if isinstance(column, np.ndarray) else _matrix(column, self.column)
        if pictures.size != len(pictures) * math.prod(self.shape):
            value = list(pictures.shape[1:])
            raise InputError(f"pictures of column {self.column}", value=value, allowed=list(self.shape))
        scale = np.float32(255 if pictures.dtype == np.uint8 else 1)
        return pictures.reshape(len(pictures), *self.shape).astype(np.float32) / scale

    def _opened(self, value: bytes | None) -> Array:
        if value is None:
            raise InputError(f"a picture is missing in column {self.column}")
        if len(value) == math.prod(self.shape):
            return np.frombuffer(value, dtype=np.uint8)
        pillow = importlib.import_module("PIL.Image")  # a lazy door: raw pictures do without it
        try:
            with pillow.open(io.BytesIO(value)) as picture:
                return np.asarray(picture.convert("RGB" if len(self.shape) == 3 else "L"), dtype=np.uint8).reshape(-1)
        except OSError as error:
            what = f"a picture of column {self.column} cannot be read ({one_line(error)})"
            raise InputError(what, allowed=f"PNG, JPEG, or {math.prod(self.shape)} raw bytes") from error


@dataclass
class Lists:
    """Lists of a column, their first ``length`` values, padded.

    Of ids: 0 is padding, 1 a value without an id, as in texts. Of ``numbers``: float32[length, 2], the number and 1
    where there is one (the mask).
    """

    column: str
    length: int
    numbers: bool = False
    coding: Coding = "vocabulary"
    size: int | None = None
    _known: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._known = Vocabulary(self.coding, self.size, what=f"column {self.column}")

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """One, of lists."""
        return {self.column: None}

    @property
    def shape(self) -> tuple[int, ...]:
        """So many values, each with its mask if they are numbers."""
        return (self.length, 2) if self.numbers else (self.length,)

    @property
    def n_ids(self) -> int:
        """Of values, and the special ones before them; none of numbers."""
        return 0 if self.numbers else N_SPECIAL + self._known.n

    def see(self, batch: Batch, rows: BoolArray) -> None:
        """Count values."""
        if not self.numbers and self._known.is_learned:
            chosen = (values for values, is_chosen in zip(self._lists(batch), rows, strict=True) if is_chosen)
            self._known.see(Counter(str(value) for values in chosen for value in values))

    def freeze(self) -> None:
        """Number the values."""
        self._known.freeze()

    def encoded(self, batch: Batch) -> Array:
        """int64[n, length] or float32[n, length, 2]."""
        lists = self._lists(batch)
        if not self.numbers:
            coded = [np.array(self._known.of(map(str, values)), dtype=np.int64) for values in lists]
            return _padded([np.where(ids < 0, UNKNOWN, ids + N_SPECIAL) for ids in coded], self.length)
        found = np.zeros((len(lists), self.length, 2), dtype=np.float32)
        for row, values in enumerate(lists):
            numbers = np.array(values[: self.length], dtype=np.float32)
            if not np.isfinite(numbers).all():
                raise InputError(
                    f"column {self.column} in row {row} of a batch", value=values, allowed="finite numbers"
                )
            found[row, : len(numbers), 0], found[row, : len(numbers), 1] = numbers, 1.0
        return found

    def _lists(self, batch: Batch) -> list[list[Any]]:
        found: list[Any] = batch[self.column].tolist()
        wrong = next((value for value in found if value is not None and not isinstance(value, list)), None)
        if wrong is not None:
            raise InputError(f"column {self.column} does not hold lists", value=wrong)
        return [[] if values is None else values for values in found]


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


def _listed(column: str | Sequence[str]) -> list[str]:
    return [column] if isinstance(column, str) else list(column)


def _pairs(counted: pa.StructArray) -> list[tuple[Any, int]]:
    return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _texts(column: Column, name: str) -> pa.Array:
    """A column as texts; categories of numbers are the numbers as they are written."""
    try:
        array = column if isinstance(column, pa.Array) else pa.array(column)
        return pc.cast(array, pa.string())
    except pa.ArrowException as error:
        raise InputError(f"column {name} is not text or values ({one_line(error)})") from error


def _matrix(column: Column, name: str) -> Array:
    """A column as float64[n, k], null as NaN; bytes as they are. k is 1, or the length of its lists."""
    if isinstance(column, np.ndarray):
        flat = column.reshape(len(column), -1)
        return flat if flat.dtype == np.uint8 else flat.astype(np.float64)
    try:
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return _stacked(column, name)
        if pa.types.is_fixed_size_list(column.type):
            values = column.flatten()
            numbers = values.to_numpy(zero_copy_only=False)
            return np.asarray(numbers).reshape(len(column), column.type.list_size)
        number = pc.cast(column, pa.float64())
        return np.asarray(number.to_numpy(zero_copy_only=False), dtype=np.float64)[:, None]
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"column {name} is not numbers ({one_line(error)})") from error


def _stacked(column: pa.Array, name: str) -> Array:
    lengths = np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    if len(lengths) != 1 or np.isnan(lengths).any():
        allowed = "one length for all; kind: sequence pads"
        raise InputError(f"lists of column {name} differ in length", value=lengths.tolist()[:5], allowed=allowed)
    flat = column.flatten()
    while pa.types.is_list(flat.type):  # pictures as lists of lists
        flat = flat.flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _padded(lists: Sequence[IntArray], length: int) -> IntArray:
    found = np.full((len(lists), length), PADDING, dtype=np.int64)
    for row, ids in enumerate(lists):
        found[row, : min(len(ids), length)] = ids[:length]
    return found


def windows(ids: IntArray, length: int, *, all_of_it: bool) -> list[IntArray]:
    """A text as stretches of up to ``length`` + 1 ids, each beginning with the last id of the one before.

    The first begins with START. Of ``all_of_it`` or of the beginning alone; none without a token.
    """
    whole = np.concatenate([[START], ids])
    if not len(ids):
        return []
    ends = range(0, len(ids) if all_of_it else 1, length)
    return [whole[first : first + length + 1] for first in ends]
