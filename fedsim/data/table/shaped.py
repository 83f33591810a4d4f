"""Features with a shape of their own: texts, pictures, sequences."""

from __future__ import annotations

import importlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fedsim.data.table.columns import Array, matrix, texts
from fedsim.data.table.reading import Batch
from fedsim.data.table.words import N_SPECIAL, PADDING, START, TOKENS, UNKNOWN, Coding, Vocabulary
from fedsim.errors import InputError, one_line
from fedsim.units import BoolArray, IntArray


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
            for text in texts(batch[self.column], self.column).filter(pa.array(rows)).to_pylist():
                counts.update(TOKENS[self.tokens](text or ""))
            self._known.see(counts)

    def freeze(self) -> None:
        """Number the tokens."""
        self._known.freeze()

    def ids(self, batch: Batch) -> list[IntArray]:
        """All tokens of each text as ids."""
        cut, known = TOKENS[self.tokens], self._known
        read = texts(batch[self.column], self.column).to_pylist()
        found = [np.array(known.of(cut(text or "")), dtype=np.int64) for text in read]
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
            pictures = column if isinstance(column, np.ndarray) else matrix(column, self.column)
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
