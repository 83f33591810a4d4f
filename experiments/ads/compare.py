"""FLINT's published figures for an ads model, beside what the case study came to: writes a table into README.md.

python experiments/ads/compare.py decide/ads experiments/ads/README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.plan.judge import first_at, interval

START, END = "<!-- generated -->", "<!-- end -->"


def facts_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What the trained runs say, by the protocol of their configuration, in the order of seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((folder / "facts").glob("*.json")):
        told = json.loads(file.read_text())
        if not told["central"]:
            continue
        summary = json.loads((folder / "runs" / told["run"] / "summary.json").read_text())
        if told["run"] not in {each["run"] for each in found.get(summary["protocol"], [])}:
            found.setdefault(summary["protocol"], []).append(told)
    return {name: sorted(each, key=lambda one: one["seed"]) for name, each in found.items()}


def hours_to(told: dict[str, Any], metric: str, below: float) -> float:
    """Hours until a metric is so far below the central model's; NaN: never."""
    curve = told["curves"][metric]
    place = first_at(curve["value"], told["central"][metric] - below, metric)
    return float("nan") if place is None else 24 * curve["days"][place]


def with_interval(values: list[float], digits: int) -> str:
    """Mean over seeds with its 95 % interval."""
    numbers = np.array(values)
    low, high = interval(numbers, 0.95)
    return f"{numbers.mean():.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def table(folder: Path) -> str:
    """Rows of figure, published, ours."""
    verdict = json.loads((folder / "verdict.json").read_text())
    facts = facts_of(folder)
    rounds, buffered = facts["sync"], facts["buffered"]
    kept = [100 * told["values"]["aupr"] / told["central"]["aupr"] for told in rounds]
    eligible = rounds[0]["values"]["admitted_fraction.mean"]
    sync_h, buffered_h = ([hours_to(told, "auc", 0.015) for told in each] for each in (rounds, buffered))
    ratio = [a / b for a, b in zip(sync_h, buffered_h, strict=False)]
    rows = [
        ("AUPR kept, % of the central model's", "98.15", with_interval(kept, 2)),
        ("AUPR, change", "−0.18 %", f"{np.mean(kept) - 100:.2f} % of the central one's".replace("-", "−")),
        ("phones that may be asked", "22 %", f"{100 * eligible:.1f} % of the time, on average"),
        ("time to train", "4.2 days", f"{with_interval(sync_h, 2)} h to AUC 0.015 below central, rounds"),
        ("buffered against rounds", "up to 6 times as fast", f"{with_interval(ratio, 2)} times"),
    ]
    head = ["| figure | FLINT, as reported | here |", "| --- | --- | --- |"]
    lines = [*head, *(f"| {' | '.join(row)} |" for row in rows)]
    said = f"Verdict: **{verdict['verdict']}**. {verdict['sentence']} {verdict['n_runs']} trained runs."
    return "\n".join([said, "", *lines])


def main(folder: Path, readme: Path) -> None:
    """Write the table between the marks of the README."""
    text = readme.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{table(folder)}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
