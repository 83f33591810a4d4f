"""Whether two runs are the same: digests of what their tables hold, and of the draws behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from fedsim.results.run import Run
from fedsim.schema import SESSIONS, Table

N_FIRST = 1000  # sessions that tell whether draws are shared
_DIGITS = 16  # of a digest: 64 bits, short enough to be read
_DRAWN = ("session_id", "device_id", "assigned_at", "outcome")


def table_digests(run: Run) -> dict[str, str]:
    """A digest of sessions, of steps and of evaluations: equal if every value is, whatever the files' form."""
    names = tuple(column.name for column in SESSIONS.columns)
    return {
        "sessions": _digest(SESSIONS, run.session_batches(names)),
        "steps": _digest_of(run.step_table),
        "evals": _digest_of(run.eval_table),
    }


def fingerprint(run: Run) -> str:
    """A digest of who was asked when, and what came of it, in the first 1,000 sessions: equal if the draws are.

    The first update's norm is no part of it: a wrong learning rate changes it and no draw, and is to be found seed by
    seed.
    """
    taken = pa.concat_tables(list(run.session_batches(_DRAWN)) or [_nothing()])
    first = taken.sort_by("session_id").slice(0, N_FIRST)
    return _digest_of(first.select(_DRAWN))


def _nothing() -> pa.Table:
    return SESSIONS.arrow().empty_table().select(_DRAWN)


def _digest_of(table: pa.Table) -> str:
    columns = [_Column() for _ in table.column_names]
    for column, values in zip(columns, table.columns, strict=True):
        column.add(values)
    return _joined(table.column_names, columns)


def _digest(schema: Table, batches: Iterable[pa.Table]) -> str:
    """Of batches of any size, in bounded memory."""
    names = [column.name for column in schema.columns]
    columns = [_Column() for _ in names]
    for batch in batches:
        for name, column in zip(names, columns, strict=True):
            column.add(batch.column(name))
    return _joined(names, columns)


class _Column:
    """Digests of the values of a column, and of which of them are null, as they come."""

    def __init__(self) -> None:
        self.values, self.nulls = hashlib.sha256(), hashlib.sha256()

    def add(self, column: pa.ChunkedArray) -> None:
        values = column.combine_chunks()
        self.nulls.update(values.is_null().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
        if pa.types.is_string(values.type):
            self.values.update("".join(f"{word}\0" for word in values.fill_null("").to_pylist()).encode())
        else:  # every number of the tables is below 2⁵³
            self.values.update(values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False).tobytes())


def _joined(names: Iterable[str], columns: Iterable[_Column]) -> str:
    whole = hashlib.sha256()
    for name, column in zip(names, columns, strict=True):
        whole.update(f"{name}\0{column.values.hexdigest()}{column.nulls.hexdigest()}".encode())
    return whole.hexdigest()[:_DIGITS]
