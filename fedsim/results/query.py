"""SQL over the tables of one or many runs, by DuckDB (the extra ``query``); behind a lazy door of the command line."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from fedsim.errors import InputError
from fedsim.results.frames import WORDS
from fedsim.results.runs import Runs
from fedsim.schema import RUN_TABLES, Table


def query(runs: Runs, sql: str) -> pa.Table:
    """The rows of a query over views of all tables of a run (``sessions``, ``steps``, ``evals`` …) and ``runs``.

    Views have the columns of ``fedsim tables``, with ``run`` (place among the runs) and ``seed`` in front; outcomes and
    networks are words. ``runs`` has a row for each run: its place, seed, arm and folder. Only what a query asks for is
    read. Raises :class:`InputError` with the first line of what the database says.
    """
    with duckdb.connect() as database:
        _make_views(database, runs)
        try:
            rows = database.sql(sql)
            return pa.table({}) if rows is None else rows.to_arrow_table()  # a statement has no rows
        except duckdb.Error as error:
            views = ", ".join(["runs", *(table.name for table in RUN_TABLES)])
            raise InputError(f"query ({str(error).splitlines()[0]})", value=sql, allowed=f"views {views}") from error


def _make_views(database: duckdb.DuckDBPyConnection, runs: Runs) -> None:
    database.register("runs", _listed(runs))
    for table in RUN_TABLES:
        parts = []
        for place, run in enumerate(runs):
            database.register(f"_{table.name}_{place}", run.dataset(table.name))
            parts.append(_select(table, place, int(run.summary["seed"])))
        database.execute(f'CREATE VIEW "{table.name}" AS {" UNION ALL ".join(parts)}')


def _select(table: Table, place: int, seed: int) -> str:
    words = [_in_words(name, WORDS[name]) for name in (column.name for column in table.columns) if name in WORDS]
    replaced = f" REPLACE ({', '.join(words)})" if words else ""
    return f'SELECT {place} AS run, {seed} AS seed, *{replaced} FROM "_{table.name}_{place}"'


def _in_words(column: str, words: Sequence[str]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    return f"[{listed}][{column} + 1] AS {column}"  # lists begin at 1


def _listed(runs: Runs) -> pa.Table:
    arm_of = {id(run): arm.label for arm in runs.arms for run in arm.runs}
    rows = [
        {"run": place, "seed": int(run.summary["seed"]), "arm": arm_of.get(id(run), ""), "folder": str(run.folder)}
        for place, run in enumerate(runs)
    ]
    return pa.Table.from_pylist(rows)
