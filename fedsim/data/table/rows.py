"""The first look at a table: whose each row is, when it was, which rows count, which are held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim import rng
from fedsim.data.table.reading import Batch, Column, Files
from fedsim.data.table.split import Split, texts_of
from fedsim.errors import InputError, one_line
from fedsim.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Asked:
    """What ``data`` says of rows; ``where`` keeps rows with these values in columns."""

    client: str
    time: str | None
    where: Mapping[str, Sequence[Any]]
    split: Split
    list_of: str | None
    max_held_out: int | None

    def columns(self) -> dict[str, pa.DataType | None]:
        """The columns that a first look reads."""
        of_text = [*self.where, *([self.split.column] if self.split.column else [])]
        names: dict[str, pa.DataType | None] = dict.fromkeys(of_text, pa.string())
        for name in (self.client, self.time, self.list_of):
            if name is not None:
                names.setdefault(name, None)
        return names


@dataclass(frozen=True)
class Rows:
    """The rows that count, in the order of the table: client ``int64[n]`` and held out ``bool[n]``; time, NaN: unknown.

    ``keys`` are the clients' ids in ascending order, ``kept`` masks of the batches' rows that count.
    """

    client: IntArray
    time: FloatArray
    held_out: BoolArray
    list_id: IntArray | None
    keys: npt.NDArray[Any]
    kept: tuple[BoolArray, ...]


def looked_at(files: Files, asked: Asked, *, batch_rows: int, seed: int) -> Rows:
    """Read whose the rows are; some 20 bytes of memory for each."""
    ids, lists = Ids(asked.client), Ids(asked.list_of or "")
    client, time, chosen, list_id, kept = [], [], [], [], []
    for path, batch in files.batches(asked.columns(), n_rows=batch_rows):
        is_kept = _kept(batch, asked.where)
        kept.append(is_kept)
        part = {name: _filtered(column, is_kept) for name, column in batch.items()}
        client.append(ids.of(part[asked.client], path))
        time.append(np.full(is_kept.sum(), np.nan) if asked.time is None else times_of(part[asked.time], asked.time))
        chosen.append(_is_chosen(path, part, asked.split, int(is_kept.sum())))
        if asked.list_of is not None:
            list_id.append(lists.of(part[asked.list_of], path))
    if not sum(map(len, client)):
        raise InputError("table has no row", where=files.said, allowed="rows that data.where keeps")
    keys, number = ids.in_order()
    whose, when = number[np.concatenate(client)], np.concatenate(time)
    held_out = asked.split.held_out(whose, when, np.concatenate(chosen), seed=seed)
    if held_out.all() or not held_out.any():
        allowed = "some rows to train on and some to test on"
        raise InputError(
            f"data.held_out takes {'all' if held_out.all() else 'no'} rows", where=files.said, allowed=allowed
        )
    of_list = np.concatenate(list_id) if list_id else None
    rows = Rows(whose, when, held_out, of_list, keys, tuple(kept))
    return rows if asked.max_held_out is None else _thinned(rows, asked.max_held_out, seed=seed)


def _thinned(rows: Rows, most: int, *, seed: int) -> Rows:
    """At most so many held-out rows (of lists: lists), drawn at random; the others count nowhere."""
    held_out = np.flatnonzero(rows.held_out)
    unit = held_out if rows.list_id is None else rows.list_id[held_out]
    units = np.unique(unit)
    if len(units) <= most:
        return rows
    drawn = units[np.argsort(rng.bits(seed, "held out", units), kind="stable")[:most]]
    stays = ~rows.held_out
    stays[held_out[np.isin(unit, drawn)]] = True
    of_table = np.concatenate(rows.kept)
    of_table[np.flatnonzero(of_table)[~stays]] = False
    kept = np.split(of_table, np.cumsum([len(part) for part in rows.kept])[:-1])
    of_list = None if rows.list_id is None else rows.list_id[stays]
    return Rows(rows.client[stays], rows.time[stays], rows.held_out[stays], of_list, rows.keys, tuple(kept))


class Ids:
    """Numbers for ids in the order in which they are met."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._number: dict[Any, int] = {}

    def of(self, column: Column, path: str) -> IntArray:
        """The number of each row's id; a null is refused."""
        array = column if isinstance(column, pa.Array) else pa.array(column)
        if array.null_count:
            row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"column {self._column} names nobody in row {row} of a batch", where=path)
        try:
            coded = array.dictionary_encode()
        except pa.ArrowException as error:
            raise InputError(f"column {self._column} holds no ids ({one_line(error)})", where=path) from error
        places = [self._number.setdefault(value, len(self._number)) for value in coded.dictionary.to_pylist()]
        found: IntArray = np.array(places, dtype=np.int64)[coded.indices.to_numpy(zero_copy_only=False)]
        return found

    def in_order(self) -> tuple[npt.NDArray[Any], IntArray]:
        """All ids ascending, and where each number of :meth:`of` stands among them."""
        keys = np.array(list(self._number))
        order = np.argsort(keys, kind="stable")
        number = np.empty(len(order), dtype=np.int64)
        number[order] = np.arange(len(order))
        return keys[order], number


def counted(batches: Iterator[tuple[str, Batch]], kept: Sequence[BoolArray], said: str) -> Iterator[tuple[str, Batch]]:
    """The batches once more, with the rows that count alone; a table that has changed meanwhile is refused."""
    n = 0
    for n, (path, batch) in enumerate(batches, start=1):
        if n > len(kept) or len(next(iter(batch.values()))) != len(kept[n - 1]):
            raise InputError("table has changed while it was read", where=path)
        yield path, {name: _filtered(column, kept[n - 1]) for name, column in batch.items()}
    if n != len(kept):
        raise InputError("table has changed while it was read", where=said)


def _kept(batch: Batch, where: Mapping[str, Sequence[Any]]) -> BoolArray:
    kept = np.ones(len(next(iter(batch.values()))), dtype=bool)
    for name, values in where.items():
        kept &= _is_in(batch[name], texts_of(values))
    return kept


def _is_chosen(path: str, batch: Batch, split: Split, n: int) -> BoolArray:
    if split.column is None:
        return np.full(n, split.way == "file" and path in split.value)
    return _is_in(batch[split.column], split.values)


def _is_in(column: Column, values: set[str]) -> BoolArray:
    array = column if isinstance(column, pa.Array) else pa.array(column)
    text = pc.cast(array, pa.string())
    found: BoolArray = pc.is_in(text, pa.array(sorted(values), pa.string())).to_numpy(zero_copy_only=False)
    return found.astype(bool)


def times_of(column: Column, name: str) -> FloatArray:
    """Numbers as they are, instants as seconds since 1970 in UTC."""
    array = column if isinstance(column, pa.Array) else pa.array(column)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        try:
            array = pc.cast(array, pa.timestamp("us"))
        except pa.ArrowException as error:
            raise InputError(
                f"column {name} is no time ({one_line(error)})", allowed="ISO instants, or numbers"
            ) from error
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        array = pc.divide(pc.cast(pc.cast(array, pa.timestamp("us")), pa.int64()).cast(pa.float64()), 1e6)
    found: FloatArray = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
    if np.isnan(found).any():
        raise InputError(f"column {name} has no time in row {int(np.isnan(found).argmax())} of a batch")
    return found


def _filtered(column: Column, rows: BoolArray) -> Column:
    if rows.all():
        return column
    return column[rows] if isinstance(column, np.ndarray) else column.filter(pa.array(rows))
