"""Put together what `fedsim traces fit --held-out 0.5 --json` found with several seeds.

Usage: heldout.py REPORT.md FILE…
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fedsim.files import read_json, write_text


def main(report: Path, files: list[Path]) -> None:
    """Mean of each distance over the seeds, and its range in brackets."""
    runs = [read_json(file, "comparison") for file in files]
    columns = list(runs[0][0]["goodness"])
    lines = ["| rule | compared with the held-out half | " + " | ".join(c.replace("_", " ") for c in columns) + " |"]
    lines.append("|" + " --- |" * (len(columns) + 2))
    for rows in zip(*runs, strict=True):
        values = np.array([[row["goodness"][name] for name in columns] for row in rows])
        cells = [
            f"{mean:.3f} ({low:.3f} … {high:.3f})"
            for mean, low, high in zip(values.mean(axis=0), values.min(axis=0), values.max(axis=0), strict=True)
        ]
        lines.append(f"| `{rows[0]['rule']}` | {rows[0]['made']} | " + " | ".join(cells) + " |")
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
