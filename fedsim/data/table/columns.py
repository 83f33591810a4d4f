"""Columns of a table as they are read: texts, numbers, lists; what every kind of feature offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.data.table.reading import Batch, Column
from fedsim.errors import InputError, one_line
from fedsim.units import BoolArray

Array = npt.NDArray[Any]


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


def listed(column: str | Sequence[str]) -> list[str]:
    """One name or several, as a list."""
    return [column] if isinstance(column, str) else list(column)


def pairs(counted: pa.StructArray) -> list[tuple[Any, int]]:
    """Values and how often they occur, of what ``value_counts`` gives."""
    return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def texts(column: Column, name: str) -> pa.Array:
    """A column as texts; categories of numbers are the numbers as they are written."""
    try:
        array = column if isinstance(column, pa.Array) else pa.array(column)
        return pc.cast(array, pa.string())
    except pa.ArrowException as error:
        raise InputError(f"column {name} is not text or values ({one_line(error)})") from error


def matrix(column: Column, name: str) -> Array:
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
