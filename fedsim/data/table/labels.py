"""What a table's rows are to be told: a class, a number, the next token, the relevance of each document of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.data.table.features import checked_call
from fedsim.data.table.reading import Batch
from fedsim.errors import InputError
from fedsim.units import IntArray

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Label:
    """The label of a row: ``column`` and its kind, or the next token of the one text feature (``next_token``).

    class: whole numbers from 0 on as they are, anything else numbered in ascending order. number: float32.
    ``long_texts`` of the next token: texts beyond the feature's length are ``cut``, or make several examples
    (``windows``).
    """

    column: str | None = None
    kind: Literal["class", "number", "next_token"] = "class"
    long_texts: Literal["cut", "windows"] = "cut"

    @classmethod
    def parse(cls, said: Any) -> Label:
        """From a column's name, or from keys."""
        label: Label = cls(said) if isinstance(said, str) else checked_call(cls, dict(said), "data.label")
        for name, choices in (("kind", ("class", "number", "next_token")), ("long_texts", ("cut", "windows"))):
            if getattr(label, name) not in choices:
                raise InputError(f"data.label.{name}", value=getattr(label, name), allowed=", ".join(choices))
        if (label.column is None) != (label.kind == "next_token"):
            allowed = "a column, or kind: next_token"
            raise InputError("data.label", value=dict(said) if isinstance(said, Mapping) else said, allowed=allowed)
        return label

    @property
    def is_next(self) -> bool:
        """Whether labels are the text's own tokens."""
        return self.kind == "next_token"

    @property
    def columns(self) -> Mapping[str, pa.DataType | None]:
        """The column that it reads, if any."""
        of_csv = pa.float64() if self.kind == "number" else None
        return {} if self.column is None else {self.column: of_csv}


class Classes:
    """The classes of a label, in ascending order; whole numbers are their own."""

    def __init__(self, label: Label) -> None:
        self._label = label
        self._seen: set[Any] = set()
        self._names: list[Any] | None = None

    def see(self, batch: Batch) -> None:
        """Note the classes of these rows."""
        if self._label.kind == "class":
            column = self._column(batch)
            self._seen.update(pc.unique(column).to_pylist())

    def freeze(self) -> None:
        """Number what was seen, unless it is numbers."""
        if all(isinstance(value, int) for value in self._seen):
            least = min(self._seen, default=0)
            if least < 0:
                raise InputError("label", value=int(least), where=f"column {self._label.column}", allowed="0 and more")
        else:
            self._names = sorted(self._seen, key=lambda value: (str(type(value)), value))
            if any(isinstance(value, float) for value in self._names) and len(self._names) > _MOST_FLOATS:
                allowed = "classes, or kind: number"
                raise InputError(f"label column {self._label.column} holds fractions", allowed=allowed)

    @property
    def n(self) -> int:
        """How many classes there are."""
        if self._names is not None:
            return len(self._names)
        return 1 + max((int(value) for value in self._seen), default=0)

    def encoded(self, batch: Batch) -> Array:
        """int64[n] of classes, float32[n] of numbers."""
        column = self._column(batch)
        if self._label.kind == "number":
            numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
            if not np.isfinite(numbers).all():
                raise InputError(f"label column {self._label.column}", value=numbers[~np.isfinite(numbers)][0])
            return np.asarray(numbers, dtype=np.float32)
        if self._names is None:
            return np.asarray(pc.cast(column, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
        number = {name: place for place, name in enumerate(self._names)}
        coded = column.dictionary_encode()
        places: IntArray = np.array([number[value] for value in coded.dictionary.to_pylist()], dtype=np.int64)
        found: IntArray = places[coded.indices.to_numpy(zero_copy_only=False)]
        return found

    def _column(self, batch: Batch) -> pa.Array:
        column = batch[str(self._label.column)]
        array = column if isinstance(column, pa.Array) else pa.array(column)
        if array.null_count:
            row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            allowed = "a label in each row that data.where keeps"
            raise InputError(f"label column {self._label.column} is null in row {row} of a batch", allowed=allowed)
        return array


_MOST_FLOATS = 1000  # classes that are fractions: more are a number that was not said to be one
