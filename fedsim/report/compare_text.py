"""A comparison as Markdown, for a terminal and for a comment on a change."""

from __future__ import annotations

from collections.abc import Sequence

from fedsim.report.compare_cells import Grid, differences, same, values
from fedsim.results.compare import Comparison

METHOD = (
    "Means with 95 % intervals (Student's t; ten and more skewed values: bootstrap); where a target was not always "
    "reached, medians. Each verdict is at 95 % by itself: of twenty on equal arms one is wrong."
)


def markdown(comparison: Comparison) -> str:
    """Two tables: what each arm came to, and how it differs from the one it is held against."""
    counts = ", ".join(f"{arm.label}: {len(arm.runs)}" for arm in comparison.arms)
    parts = [f"Runs of each arm: {counts}.", _table(values(comparison)), same(comparison)]
    if comparison.against is not None:
        parts += [f"Against {comparison.against.label}, {how_paired(comparison)}:", _table(differences(comparison))]
    return "\n\n".join(part for part in [*parts, METHOD] if part).replace("\u00a0", " ")


def how_paired(comparison: Comparison) -> str:
    """Whether arms are compared seed by seed."""
    against = comparison.against
    others = [arm for arm in comparison.arms if against is not None and arm is not against]
    n_common = [len(set(arm.seeds) & set(against.seeds)) for arm in others] if against is not None else []
    if all(n > 1 for n in n_common):
        return "seed by seed (runs of one seed share their draws)"
    return "seed by seed where two and more seeds are common, else by Welch's test"


def _table(grid: Grid) -> str:
    lines = [_line(grid.header), _line(["---"] * len(grid.header)), *map(_line, grid.rows)]
    return "\n".join(lines) if grid.rows else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
