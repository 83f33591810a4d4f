"""A table as what measures and generators of partitions read: ids, labels, times, and an embedding of its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from fedsim.data.table.features import Category, Numbers
from fedsim.data.table.guess import is_number, is_text
from fedsim.data.table.reading import Batch, Column, Files, files_of, names_of
from fedsim.data.table.rows import Ids, times_of
from fedsim.data.table.shaped import Text
from fedsim.errors import InputError
from fedsim.units import FloatArray, IntArray

DIMENSIONS = 20  # of the embedding
_FITTED_ON = 50_000  # rows
_BATCH = 65_536
_BUCKETS = 1 << 14  # of a hashed column
_TOKENS = 64


@dataclass(frozen=True)
class Frame:
    """Columns of a table: ids and labels as numbers 0 … n-1 with what they stand for, the embedding float32[n, d]."""

    n: int
    client: IntArray | None
    keys: npt.NDArray[Any] | None
    label: IntArray
    labels: npt.NDArray[Any]
    time: FloatArray | None
    embedding: FloatArray


def frame_of(
    path: str | Sequence[str], *, client: str | None, label: str | None, features: Sequence[str],
    time: str | None = None, embedder: Embedder | None = None,
) -> tuple[Frame, Embedder]:  # fmt: skip
    """The columns of a table, and the embedder of its features; one that is given makes the same of another table.

    Without ``label`` all rows are of one class. Holds some 100 bytes for each row. Raises :class:`InputError` for a
    column that is missing or holds nobody.
    """
    files = files_of(path)
    for name in (client, label, time, *features):
        if name is not None and name not in names_of(files):
            raise InputError("table has no column", value=name, where=files.said, allowed=", ".join(names_of(files)))
    embedder = embedder or Embedder.fitted(files, features)
    ids, classes = Ids(client or ""), Ids(label or "")
    parts: list[tuple[Any, ...]] = []
    named = [name for name in (client, label, time) if name is not None]
    columns: dict[str, pa.DataType | None] = dict.fromkeys(named)
    columns = columns | embedder.columns or {names_of(files)[0]: None}  # rows are counted at least
    for where, batch in files.batches(columns, n_rows=_BATCH):
        n = len(next(iter(batch.values())))
        parts.append((
            ids.of(batch[client], where) if client else None,
            classes.of(batch[label], where) if label else np.zeros(n, dtype=np.int64),
            times_of(batch[time], time) if time else None,
            embedder.of(batch, n),
        ))  # fmt: skip
    if not parts:
        raise InputError("table has no row", where=files.said)
    columns_of = [None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True)]
    keys, number = ids.in_order() if client else (None, None)
    labels, label_number = classes.in_order() if label else (np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    found = Frame(
        len(columns_of[1]),  # type: ignore[arg-type]
        None if number is None else number[columns_of[0]],
        keys,
        label_number[columns_of[1]],
        labels,
        columns_of[2],
        columns_of[3],  # type: ignore[arg-type]
    )
    return found, embedder


class Embedder:
    """Few numbers for the features of a row: categories and texts hashed to columns, numbers standardised, then an SVD.

    What it is fitted on is the first 50,000 rows. A table with other rows gets the same numbers for the same features.
    """

    def __init__(self, features: Sequence[Any], svd: TruncatedSVD | None) -> None:
        self._features, self._svd = features, svd

    @classmethod
    def fitted(cls, files: Files, names: Sequence[str]) -> Embedder:
        """On the first rows of a table."""
        if not names:
            return cls([], None)
        batches = _first(files.batches(dict.fromkeys(names), n_rows=_BATCH))
        features = [_guessed(name, batches[0][name]) for name in names]
        for feature in features:
            for batch in batches:
                feature.see(batch, np.ones(len(next(iter(batch.values()))), dtype=bool))
            feature.freeze()
        made = cls(features, None)
        matrix = sparse.vstack([made._matrix(batch) for batch in batches]).tocsr()
        svd = (
            TruncatedSVD(min(DIMENSIONS, matrix.shape[1] - 1), random_state=0) if matrix.shape[1] > DIMENSIONS else None
        )
        if svd is not None:
            svd.fit(matrix)
        return cls(features, svd)

    @property
    def columns(self) -> dict[str, pa.DataType | None]:
        """The columns that it reads."""
        found: dict[str, pa.DataType | None] = {}
        for feature in self._features:
            found |= feature.columns
        return found

    def of(self, batch: Batch, n: int) -> FloatArray:
        """float32[n, d] of a batch of ``n`` rows."""
        if not self._features:
            return np.zeros((n, 1), dtype=np.float32)
        matrix = self._matrix(batch)
        found = matrix.toarray() if self._svd is None else self._svd.transform(matrix)
        return np.asarray(found, dtype=np.float32)

    def _matrix(self, batch: Batch) -> Any:
        return sparse.hstack([_columns_of(feature, batch) for feature in self._features]).tocsr()


def _first(batches: Iterator[tuple[str, Batch]]) -> list[Batch]:
    kept, n = [], 0
    for _, batch in batches:
        kept.append(batch)
        n += len(next(iter(batch.values())))
        if n >= _FITTED_ON:
            break
    if not n:
        raise InputError("table has no row")
    return kept


def _guessed(name: str, column: Column) -> Any:
    """Numbers, a text or a category, by type and length of what stands in a column."""
    is_whole = not isinstance(column, np.ndarray) and pa.types.is_integer(column.type)  # a code as often as a measure
    if is_number(column) and not is_whole:
        return Numbers(name, missing="mean")
    if is_text(column):
        return Text(name, _TOKENS, tokens="pieces", coding="hash", size=_BUCKETS)
    return Category(name, coding="hash", size=_BUCKETS)


def _columns_of(feature: Any, batch: Batch) -> Any:
    """Sparse columns of a feature: numbers as they are, ids as indicators, of which a row has unit length."""
    encoded = feature.encoded(batch)
    if not feature.n_ids:
        flat = encoded.reshape(len(encoded), -1)
        return sparse.csr_matrix(flat / np.sqrt(flat.shape[1]))
    n, width = encoded.shape
    is_there = (encoded != 0).ravel()
    rows, ids = np.repeat(np.arange(n), width)[is_there], encoded.ravel()[is_there]
    matrix = sparse.csr_matrix((np.ones(len(ids), dtype=np.float32), (rows, ids)), shape=(n, feature.n_ids))
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(length, 1.0)) @ matrix
