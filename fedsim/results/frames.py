"""Tables of a run as pandas frames for notebooks; pandas is imported by Arrow when the first one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from fedsim.schema import NETWORKS, OUTCOMES

if TYPE_CHECKING:
    import pandas as pd

WORDS: Mapping[str, tuple[str, ...]] = {
    "network": NETWORKS,
    "upload_network": NETWORKS,
    "outcome": OUTCOMES,
}  # columns that index into words


def frame(table: pa.Table) -> pd.DataFrame:
    """The table as a frame: its columns, units and order; what indexes into words is a categorical of all of them.

    Whole numbers of a column with nulls become float64, nulls NaN. Raises ``pa.ArrowException`` for an
    index that stands for no word.
    """
    arrays = [
        _in_words(table.column(name), name) if name in WORDS else table.column(name) for name in table.schema.names
    ]
    made: pd.DataFrame = pa.table(arrays, names=table.schema.names).to_pandas()
    return made


def _in_words(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    words = pa.array(WORDS[name])
    kind = pa.dictionary(column.type, words.type)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(chunk, words) for chunk in column.chunks], kind)
