"""A partition as a folder: the table's rows with a column of clients, and what the clients are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.data.table.reading import files_of, names_of
from fedsim.errors import InputError
from fedsim.files import write_json
from fedsim.folders import Form, whole_folder
from fedsim.units import IntArray

CLIENT = "client_id"
ROWS, TOLD = "rows.parquet", "partition.json"
FORM = Form("partition", frozenset([ROWS, TOLD]), frozenset(["stats.json", "stats.html"]))
_BATCH = 65_536


def write_partition(
    out: Path, table: str, client: IntArray, told: Mapping[str, Any], *, drop: Sequence[str] = ()
) -> None:
    """Write the table's rows, in their order and batch by batch, with ``client_id`` beside them; without ``drop``.

    Raises :class:`InputError` for a table that has such a column already, or has changed meanwhile.
    """
    files = files_of(table)
    names = [name for name in names_of(files) if name not in drop]
    if CLIENT in names:
        allowed = f"--drop {CLIENT}: clients are what is made here"
        raise InputError(f"the table has a column {CLIENT} already", where=table, allowed=allowed)
    with whole_folder(out, FORM) as folder:
        writer, first = None, 0
        for _, batch in files.batches(dict.fromkeys(names), n_rows=_BATCH):
            columns = {name: _arrow(column) for name, column in batch.items()}
            n = len(next(iter(columns.values())))
            rows = pa.table(columns | {CLIENT: client[first : first + n]})
            writer = writer or pq.ParquetWriter(folder / ROWS, rows.schema, compression="zstd")
            writer.write_table(rows.cast(writer.schema))
            first += n
        if writer is None or first != len(client):
            raise InputError("table has changed while it was read", where=table)
        writer.close()
        write_json(folder / TOLD, dict(told))


def _arrow(column: Any) -> pa.Array:
    if not isinstance(column, np.ndarray):
        return column
    flat = pa.array(column.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(column.shape[1:]))) if column.ndim > 1 else flat
