"""From a table's rows to the arrays of its clients.

The table is read three times in batches: whose the rows are, what training rows hold (vocabularies, means), and what
comes of each row. Examples then lie client by client, in memory or in files that are mapped into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.data.clients import digest_of
from fedsim.data.table.columns import Feature
from fedsim.data.table.features import feature_of
from fedsim.data.table.labels import Classes, Label
from fedsim.data.table.layout import Layout, laid_out, of_lists
from fedsim.data.table.reading import Batch, Files, names_of
from fedsim.data.table.rows import Asked, Rows, counted, looked_at
from fedsim.data.table.shaped import Text, windows
from fedsim.data.table.words import UNKNOWN
from fedsim.errors import InputError
from fedsim.units import IntArray

Array = npt.NDArray[Any]
NO_LABEL = -1


@dataclass(frozen=True)
class ListOf:
    """Rows that make one example: those with one value in ``column``, ``length`` of them at most, padded."""

    column: str
    length: int


class Encoder:
    """A table on its way to arrays: what is asked of it, and what was learnt from it."""

    def __init__(
        self, files: Files, asked: Asked, label: Label, features: Mapping[str, Any], list_of: ListOf | None,
        batch_rows: int, seed: int,
    ) -> None:  # fmt: skip
        if not features:
            raise InputError("data.features", value=dict(features), allowed="name: {kind: …, column: …}")
        there = names_of(files)
        self._files, self._asked, self._label, self._list_of = files, asked, label, list_of
        self._features: list[Feature] = [feature_of(name, said, there) for name, said in features.items()]
        self._classes = Classes(label)
        self._batch_rows, self._seed = batch_rows, seed
        if label.is_next and not (len(self._features) == 1 and isinstance(self._features[0], Text)):
            raise InputError("label next_token", value=list(features), allowed="one feature, of kind: text")
        if label.is_next and list_of is not None:
            raise InputError("label next_token does not go with data.list_of")

    def arrays(self, folder: Path | None) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays by name, made in a folder if there is one, and what is told of them."""
        rows = looked_at(self._files, self._asked, batch_rows=self._batch_rows, seed=self._seed)
        self._learn(rows)
        layout = self._layout(rows)
        shape = self._shape()
        dtype = np.int64 if all(feature.n_ids for feature in self._features) else np.float32
        x = _made(folder, "x", (layout.n, *shape), np.dtype(dtype))
        y = _made(folder, "y", (layout.n, *self._label_shape()), self._label_type())
        if self._list_of is not None:
            y[:] = NO_LABEL
        self._fill(rows, layout, x, y)
        arrays = {
            "x": x,
            "y": y,
            "offsets": layout.offsets,
            "held_out_clients": layout.held_out,
            "keys": layout.keys,
        }
        facts: dict[str, Any] = {"sizes": self._sizes(x)}
        if folder is not None:
            facts["sha256"] = digest_of(*arrays.values())
        arrays["time"] = layout.time
        if folder is not None:
            for name in ("offsets", "held_out_clients", "keys", "time"):
                np.save(folder / f"{name}.npy", arrays[name])
        return arrays, facts

    # Three passes over the table

    def _batches(self, rows: Rows) -> Iterator[tuple[slice, str, Batch]]:
        columns = dict(self._label.columns)
        for feature in self._features:
            columns |= feature.columns
        batches = self._files.batches(columns, n_rows=self._batch_rows)
        first = 0
        for path, batch in counted(batches, rows.kept, self._files.said):
            n = len(next(iter(batch.values())))
            yield slice(first, first + n), path, batch
            first += n

    def _learn(self, rows: Rows) -> None:
        """See the training rows; of texts cut into windows, count those of each row."""
        for place, path, batch in self._batches(rows):
            with _told(path, place.start):
                for feature in self._features:
                    feature.see(batch, ~rows.held_out[place])
                if self._label.column is not None:
                    self._classes.see(batch)
        for feature in self._features:
            feature.freeze()
        self._classes.freeze()

    def _layout(self, rows: Rows) -> Layout:
        if self._list_of is not None:
            return of_lists(rows, column=self._list_of.column, length=self._list_of.length)
        if not self._label.is_next:
            return laid_out(rows, np.ones(len(rows.client), dtype=np.int64))
        n_windows = np.empty(len(rows.client), dtype=np.int64)
        for place, path, batch in self._batches(rows):
            with _told(path, place.start):
                n_windows[place] = [len(each) for each in self._windows(batch)]
        return laid_out(rows, n_windows)

    def _fill(self, rows: Rows, layout: Layout, x: Array, y: Array) -> None:
        flat_x = x.reshape(-1, *x.shape[2:]) if self._list_of is not None else x
        flat_y = y.reshape(-1) if self._list_of is not None else y
        for place, path, batch in self._batches(rows):
            with _told(path, place.start):
                to = layout.places(place)
                if self._label.is_next:
                    flat_x[to], flat_y[to] = self._next(batch)
                else:
                    flat_x[to], flat_y[to] = self._side_by_side(batch), self._classes.encoded(batch)

    # What becomes of a row

    def _side_by_side(self, batch: Batch) -> Array:
        if len(self._features) == 1:
            return self._features[0].encoded(batch)
        parts, first = [], 0
        for feature in self._features:
            found = feature.encoded(batch)
            parts.append((found + first if feature.n_ids else found).reshape(len(found), -1))
            first += feature.n_ids
        return np.concatenate(parts, axis=1)

    def _windows(self, batch: Batch) -> list[list[IntArray]]:
        text = self._text
        every = self._label.long_texts == "windows"
        return [windows(ids, text.length, all_of_it=every) for ids in text.ids(batch)]

    def _next(self, batch: Batch) -> tuple[Array, Array]:
        """Windows without their last token, and the same without their first; unknown and missing tokens: no label."""
        length = self._text.length
        found = [window for each in self._windows(batch) for window in each]
        x, y = np.zeros((len(found), length), dtype=np.int64), np.full((len(found), length), NO_LABEL)
        for row, window in enumerate(found):
            x[row, : len(window) - 1] = window[:-1]
            y[row, : len(window) - 1] = np.where(window[1:] == UNKNOWN, NO_LABEL, window[1:])
        return x, y

    @property
    def _text(self) -> Text:
        (text,) = self._features
        assert isinstance(text, Text)
        return text

    # Shapes and sizes

    def _shape(self) -> tuple[int, ...]:
        shapes = [feature.shape for feature in self._features]
        of_row = shapes[0] if len(shapes) == 1 else (sum(int(np.prod(shape)) for shape in shapes),)
        return of_row if self._list_of is None else (self._list_of.length, *of_row)

    def _label_shape(self) -> tuple[int, ...]:
        if self._list_of is not None:
            return (self._list_of.length,)
        return (self._text.length,) if self._label.is_next else ()

    def _label_type(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self._label.kind == "number" else np.int64)

    def _sizes(self, x: Array) -> dict[str, int]:
        """What a model may have to know of the data, by the names that its arguments have."""
        n_values = sum(feature.n_ids for feature in self._features)
        of_row = x.shape[1:] if self._list_of is None else x.shape[2:]
        n_inputs = int(np.prod(of_row))
        sizes = {"n_inputs": n_inputs, "n_fields": n_inputs, "length": int(x.shape[1])}
        is_number = [not feature.n_ids for feature in self._features]
        if is_number == sorted(is_number, reverse=True):  # numbers come first
            widths = [int(np.prod(feature.shape)) for feature in self._features if not feature.n_ids]
            sizes["n_numbers"] = sum(widths)
        sizes["n_values"] = n_values
        if n_values:
            sizes["n_words"] = n_values
        if self._label.kind != "number":
            sizes["n_classes"] = n_values if self._label.is_next else self._classes.n
        return sizes


def _made(folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of zeros, in memory or in a file that is mapped into it."""
    if folder is None:
        return np.zeros(shape, dtype)
    found: Array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    return found


@contextmanager
def _told(path: str, first: int) -> Iterator[None]:
    """Tell the place of a row that is refused: the batch begins with row ``first`` of those that count."""
    try:
        yield
    except InputError as error:
        where = path if not first else f"{path}, in the batch that begins with row {first:,} of those that count"
        raise InputError(str(error), where=where) from error
