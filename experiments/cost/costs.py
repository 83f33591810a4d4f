"""One table from what `fedsim cost --json` wrote, a line for each task and law; usage: costs.py REPORT.md FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedsim.files import read_json, write_text
from fedsim.units import format_bytes, format_count

TASKS = ("pictures", "feed", "clicks", "words")
LAWS = ("inference", "measured", "flops")
COLUMNS = ("task", "parameters", "FLOP an epoch", "memory", "down, up", "examples", "law", "epoch s, median (95 %)",
           "session s, median (95 %)", "battery %, median (95 %)", "feasible", "why not")  # fmt: skip


def row(folder: Path, task: str, law: str) -> list[str]:
    """What one file tells."""
    told = read_json(folder / f"{law}-{task}.json", "cost")
    work, summary = told["task"], told["summary"]
    over = [f"{name} {share:.1%}" for name, share in summary["exceeds"].items() if share]
    return [
        task,
        f"{work['n_parameters']:,}",
        format_count(work["training_flops_per_epoch"]),
        format_bytes(sum(work["memory_bytes"].values())),
        f"{format_bytes(work['download_bytes'])}, {format_bytes(work['upload_bytes'])}",
        str(work["n_examples"]),
        law,
        *(_quantiles(summary["quantiles"][name]) for name in ("epoch_s", "session_s", "battery_percent")),
        f"{summary['feasible']['yes']:.1%}",
        ", ".join(over) or "",
    ]


def _quantiles(found: dict[str, float] | None) -> str:
    return "unknown" if found is None else f"{found['p50']:.2g} ({found['p95']:.2g})"


def main(report: Path, folder: Path) -> None:
    """Write the table, and a sentence on the phones behind it."""
    first: dict[str, Any] = read_json(folder / "inference-pictures.json", "cost")["summary"]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row(folder, task, law)) + " |" for task in TASKS for law in LAWS]
    lines += [
        "",
        f"Over {first['n_classes']:,} device classes ({first['n_models']:,} models), weighted by their share.",
    ]
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
