"""The tables of a run folder as Arrow datasets, which read what a query asks for.

Behind a lazy door of :mod:`fedsim.results.run`: Arrow's datasets import pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.results.frames import WORDS
from fedsim.results.tables import files_of
from fedsim.schema import SESSIONS, Table

Filter = tuple[str, str, Any]  # column, operator, value: as in ``pandas.read_parquet(filters=…)``


def dataset(folder: Path, schema: Table) -> ds.Dataset:
    """A table as an Arrow dataset of its documented columns; nothing is read yet."""
    files = files_of(folder, schema)
    if not files:
        return ds.dataset(schema.arrow().empty_table())
    return ds.dataset([str(file) for file in files], schema=schema.arrow(), format="parquet")


def picked(folder: Path, columns: Sequence[str], filters: Sequence[Filter]) -> pa.Table:
    """The named columns of the session rows that meet all filters; only what they ask for is read.

    Raises :class:`InputError` for a filter that cannot be, and for files that cannot be read.
    """
    where = condition(filters)
    try:
        return dataset(folder, SESSIONS).to_table(columns=list(columns), filter=where)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"table 'sessions' cannot be read ({error})", where=folder) from error


def condition(filters: Sequence[Filter]) -> ds.Expression:
    """The Arrow expression of filters on sessions that all hold; outcomes and networks may be given as words."""
    known = {column.name: column.type for column in SESSIONS.columns}
    for each in filters:
        if len(each) != 3 or each[0] not in known:
            allowed = "(column, operator, value) of a column of sessions"
            raise InputError("filter on sessions", value=each, allowed=allowed)
    try:
        return pq.filters_to_expression([(name, op, _stored(name, value)) for name, op, value in filters])
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(f"filter on sessions ({error})", value=list(filters)) from error


def _stored(name: str, value: Any) -> Any:
    """What the file holds for a value: of words their numbers."""
    if isinstance(value, list | tuple | set):
        return [_stored(name, each) for each in value]
    if name not in WORDS or not isinstance(value, str):
        return value
    if value not in WORDS[name]:
        raise InputError(f"{name} of sessions", value=value, allowed=", ".join(WORDS[name]))
    return WORDS[name].index(value)
