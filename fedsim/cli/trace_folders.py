"""What the sub-commands of ``fedsim traces`` share: folders that are read, shown and written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedsim.cli.commands import door


def add_target(parser: argparse.ArgumentParser, name: str, metavar: str) -> None:
    """The folder to write, and leave to replace one that is there."""
    parser.add_argument(name, type=Path, metavar=metavar, help="folder to write")
    parser.add_argument("--force", action="store_true", help="replace a folder that holds something")


def require_new(folder: Path, *, force: bool) -> None:
    """Refuse to replace what a folder holds, before any work is done."""
    if not force:
        door("fedsim.folders").require_new(folder, option=", or --force")


def load(folder: Path) -> Any:
    """The trace set in a folder."""
    return door("fedsim.traces.folder").load_traces(folder)


def print_rich(renderable: Any) -> None:
    """Print what rich can draw."""
    door("rich.console").Console().print(renderable)


def require_files(*paths: Path | None) -> None:
    """Refuse folders where files are to be written, before any work is done."""
    for path in paths:
        if path is not None:
            door("fedsim.targets").require_file(path)


def is_measurements(folder: Path) -> bool:
    """Whether a folder holds measurements that belong to no trace, which some importers write."""
    return (folder / "provenance.json").exists() and not (folder / "devices.parquet").exists()


def rows_text(tables: Any) -> str:
    """How many rows each table has."""
    return ", ".join(f"{table.num_rows:,} rows of {name}" for name, table in tables.items())


def show(folder: Path) -> None:
    """Say what a folder of traces or of measurements holds."""
    if is_measurements(folder):
        measured = door("fedsim.traces.measurements").Measurements.load(folder)
        said = [f"{name:8} {measured.provenance.get(name, 'unknown')}" for name in ("source", "licence")]
        print("\n".join([*said, f"holds    {rows_text(measured.tables)}"]))
        return
    overview = door("fedsim.traces.statistics.overview")
    print_rich(overview.render_show(overview.show_table(load(folder))))
