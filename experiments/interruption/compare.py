"""Compare abort, pause and ignore on one fleet; usage: compare.py RUNS_FOLDER REPORT.md OVERRIDE…"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fedsim.config.compose import composed
from fedsim.config.simulation import build_simulation
from fedsim.files import read_json, write_text
from fedsim.results.numbers import Run, headline
from fedsim.schema import OUTCOMES

ARMS = ("abort", "pause", "ignore")
COLUMNS = (
    "arm",
    "steps",
    "simulated h",
    "aggregated",
    "interrupted",
    "told not needed or late",
    "device-hours",
    "wasted",
)


def row(folder: Path, arm: str) -> list[str]:
    """One line of the table, from the run's own files."""
    summary, numbers = read_json(folder / "summary.json", "summary"), headline(Run.load(folder))
    n, outcomes = summary["n_sessions"], summary["outcomes"]
    return [
        arm,
        str(summary["n_steps"]),
        f"{summary['simulated_s'] / 3600:.1f}",
        f"{outcomes['AGGREGATED'] / n:.1%}",
        f"{outcomes['INTERRUPTED'] / n:.1%}",
        f"{(outcomes['ABORTED'] + outcomes['LATE']) / n:.1%}",
        f"{numbers['device_s'] / 3600:,.0f}",
        f"{numbers['wasted_fraction']:.1%}",
    ]


def missed(folder: Path, overrides: list[str]) -> tuple[int, int]:
    """Aggregated sessions of the ``ignore`` arm, and those among them whose phone had left in between."""
    simulation = build_simulation(composed([*overrides, "training=none"]))
    columns = ["device_id", "assigned_at", "upload_end_at", "outcome"]
    table = pq.read_table(folder / "sessions", columns=columns)
    rows = table.filter(np.equal(table.column("outcome").to_numpy(), OUTCOMES.index("AGGREGATED")))
    start, end = rows.column("assigned_at").to_numpy(), rows.column("upload_end_at").to_numpy()
    cells = simulation.fleet.cell_of(rows.column("device_id").to_numpy())
    open_s = simulation.availability.open_s(cells, start, end)
    return len(start), int((open_s < (end - start) - 1e-3).sum())


def main(runs: Path, report: Path, overrides: list[str]) -> None:
    """Write the table and the count of what the end-point check misses."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row(runs / arm, arm)) + " |" for arm in ARMS]
    n, n_missed = missed(runs / "ignore", overrides)
    lines += [
        "",
        f"Of {n:,} sessions that `ignore` aggregates, {n_missed:,} ({n_missed / n:.1%}) belong to phones that had left "
        "and come back: an end-point check takes them for phones that never left.",
    ]
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
