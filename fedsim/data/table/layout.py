"""Where the examples of a table go: those of training client by client, then those that are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.data.clients import positions_in_runs
from fedsim.data.partition import ends
from fedsim.data.table.rows import Rows
from fedsim.errors import InputError
from fedsim.units import BoolArray, IntArray


@dataclass(frozen=True)
class Layout:
    """``n`` examples (lists: of so many places each); row ``r`` goes to ``place[first[r] : first[r + 1]]``.

    ``offsets`` are those of the clients' examples, ``held_out`` int64 whose each held-out example is (-1: of nobody who
    trains), ``keys`` the clients' ids.
    """

    n: int
    place: IntArray
    first: IntArray
    offsets: IntArray
    held_out: IntArray
    keys: npt.NDArray[Any]
    time: npt.NDArray[np.float64]  # of the training examples as they lie, in the table's unit

    def places(self, rows: slice) -> IntArray:
        """Of the examples of these rows."""
        return self.place[self.first[rows.start] : self.first[rows.stop]]


def laid_out(rows: Rows, n_of_row: IntArray) -> Layout:
    """Rows that make so many examples each; of a client they lie by time, or in the table's order."""
    client, time = np.repeat(rows.client, n_of_row), np.repeat(rows.time, n_of_row)
    order, offsets, held_out, keys = _ordered(client, time, np.repeat(rows.held_out, n_of_row), rows.keys)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return Layout(len(order), place, ends(n_of_row), offsets, held_out, keys, time[order[: offsets[-1]]])


def of_lists(rows: Rows, *, column: str, length: int) -> Layout:
    """Rows that are parts of lists: a list is the client's of its first row, and held out as that is."""
    assert rows.list_id is not None
    n_rows = np.bincount(rows.list_id)
    if n_rows.max() > length:
        allowed = f"data.list_of.length: {n_rows.max()} or more"
        raise InputError(
            f"a list of column {column} has more rows than data.list_of.length", value=length, allowed=allowed
        )
    by_list = np.argsort(rows.list_id, kind="stable")
    first = by_list[np.cumsum(n_rows) - n_rows]
    order, offsets, held_out, keys = _ordered(rows.client[first], rows.time[first], rows.held_out[first], rows.keys)
    list_place = np.empty(len(order), dtype=np.int64)
    list_place[order] = np.arange(len(order))
    position = np.empty(len(by_list), dtype=np.int64)
    position[by_list] = positions_in_runs(n_rows)
    place = list_place[rows.list_id] * length + position
    time = rows.time[first][order[: offsets[-1]]]
    return Layout(len(order), place, np.arange(len(place) + 1), offsets, held_out, keys, time)


def _ordered(
    client: IntArray, time: npt.NDArray[np.float64], is_held_out: BoolArray, keys: npt.NDArray[Any]
) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[Any]]:
    """The order of examples; offsets of the clients that train, whose the held-out ones are, ids of the clients."""
    if is_held_out.all() or not is_held_out.any():
        raise InputError("data.held_out leaves no example to train on, or none to test on")
    order = np.lexsort((np.arange(len(client)), time, client, is_held_out))
    n_examples = np.bincount(client[~is_held_out], minlength=len(keys))
    trains = n_examples > 0
    number = np.where(trains, np.cumsum(trains) - 1, -1)
    n_train = int(n_examples.sum())
    return order, ends(n_examples[trains]), number[client[order[n_train:]]], keys[trains]
