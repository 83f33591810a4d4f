"""``fedsim compare``: arms of runs beside each other, with their differences seed by seed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedsim.files import write_table
from fedsim.report.compare_page import write_comparison
from fedsim.report.compare_text import markdown
from fedsim.results.compare import compare
from fedsim.results.measures import Target
from fedsim.results.runs import found_runs
from fedsim.schema import COMPARISON


def main(folders: Sequence[Path], *, targets: Sequence[str], against: str | None, out: Path) -> None:
    """Print the tables and write ``compare.parquet`` and ``compare.html`` into ``out``."""
    runs = found_runs(folders, may_be_incomplete=False)
    comparison = compare(runs, targets=[Target.parse(text) for text in targets], against=against)
    for line in comparison.remarks:
        print(f"fedsim: {line}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    print(markdown(comparison))
    write_table(out / "compare.parquet", comparison.table(), COMPARISON)
    print(f"\n{write_comparison(out / 'compare.html', comparison)}")
