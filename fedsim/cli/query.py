"""``fedsim query`` and ``fedsim timeline``: runs for a database and for a trace viewer."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsim.errors import InputError
from fedsim.results.run import Run
from fedsim.results.runs import found_runs
from fedsim.results.timeline import write_timeline
from fedsim.targets import require_file

_MOST_ROWS = 200  # printed; a query that wants more writes a file: copy (…) to 'rows.csv'


def query(folders: Sequence[Path], sql: str) -> None:
    """Print the rows of a query over the runs as a Markdown table."""
    try:  # a lazy door: DuckDB is an extra
        engine: Any = importlib.import_module("fedsim.results.query")
    except ModuleNotFoundError as error:
        raise InputError("queries need DuckDB", allowed="pip install 'fedsim-fleet[query]'") from error
    runs = found_runs(folders)
    found = engine.query(runs, sql)
    names = found.column_names
    if not names:
        return
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in found.slice(0, _MOST_ROWS).to_pylist():
        print(f"| {' | '.join(_cell(row[name]) for name in names)} |")
    if found.num_rows > _MOST_ROWS:
        print(f"\n{found.num_rows - _MOST_ROWS:,} more rows; `copy (…) to 'rows.csv'` writes them all")


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def timeline(folder: Path, *, n_devices: int, out: Path) -> None:
    """Write the run's timeline."""
    require_file(out)
    n = write_timeline(out, Run.load(folder), n_devices=n_devices)
    print(f"{out}: {n:,} events; open it at ui.perfetto.dev or chrome://tracing")
