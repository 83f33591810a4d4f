"""Small real runs, and copies of them in which one thing is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.config.play import simulate
from fedsim.results.run import Run
from tests.smoke import small

ASKED = (
    "fleet.n_devices=3000", "server.report_goal=9", "server.over_selection=1.4", "stop.max_steps=6",
    "evaluation.every_steps=2", "data.seed=0", "training.seed=0",
)  # fmt: skip
Change = Callable[[np.ndarray], Any]  # of a column's values


def played(folder: Path, *overrides: str) -> Run:
    return simulate(*small([*ASKED, *overrides]), folder=folder)


def copied(run: Run, folder: Path) -> Path:
    shutil.copytree(run.folder, folder)
    return folder


def with_column(folder: Path, table: str, column: str, change: Change) -> Path:
    """The run with other values in a column, nulls as NaN."""
    file = next((folder / table).glob("*.parquet")) if table == "sessions" else folder / f"{table}.parquet"
    whole = pq.read_table(file)
    place, kind = whole.schema.get_field_index(column), whole.schema.field(column)
    values = np.array(whole.column(column).cast(pa.float64()).to_numpy())
    changed = pa.array(change(values), from_pandas=True).cast(kind.type)
    pq.write_table(whole.set_column(place, kind, changed), file)
    return folder


def with_rows(folder: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> Path:
    file = next((folder / table).glob("*.parquet")) if table == "sessions" else folder / f"{table}.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    return folder


def with_summary(folder: Path, **values: Any) -> Path:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | values))
    return folder
