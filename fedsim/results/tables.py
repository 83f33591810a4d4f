"""The tables of a run folder, whole or as a stream of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.files import read_table
from fedsim.schema import RUN_TABLES, SESSIONS, Table

ROWS_PER_BATCH = 1 << 18


def schema_of(name: str) -> Table:
    """The documented table of a run that has this name."""
    for table in RUN_TABLES:
        if table.name == name:
            return table
    raise InputError("table of a run", value=name, allowed=", ".join(table.name for table in RUN_TABLES))


def files_of(folder: Path, schema: Table) -> list[Path]:
    """The whole files of a table in a run folder, in their order; what a run left half-written is none."""
    if schema is SESSIONS:
        return sorted((folder / "sessions").glob("*.parquet"))
    file = folder / f"{schema.name}.parquet"
    return [file] if file.exists() else []


def small_table(folder: Path, schema: Table, *, is_complete: bool) -> pa.Table:
    """A table of one file; a run that is not complete may not have come to writing it: no rows then."""
    if not is_complete and not files_of(folder, schema):
        return schema.arrow().empty_table()
    return read_table(folder / f"{schema.name}.parquet", schema)


def session_batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The named columns of all session rows, in batches of bounded size, each checked against the schema."""
    for path in files_of(folder, SESSIONS):
        try:
            for batch in pq.ParquetFile(path).iter_batches(ROWS_PER_BATCH, columns=list(columns)):
                if batch.num_rows:
                    yield SESSIONS.check(pa.Table.from_batches([batch]), where=path, columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"table 'sessions' cannot be read ({error})", where=path) from error
