"""One table from the runs of a sweep over protocols and seeds; usage: compare.py REPORT.md FOLDER."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t

import fedsim
from fedsim.files import write_text
from fedsim.units import HOUR_S

FIGURES: dict[str, Callable[[fedsim.Run], float]] = {
    "hours to AUC 0.80": lambda run: run.summary["simulated_s"] / HOUR_S,
    "server steps": lambda run: run.summary["n_steps"],
    "sessions": lambda run: run.summary["n_sessions"],
    "uploads": lambda run: len(run.sessions(["upload_end_at"]).dropna()),
    "GB down": lambda run: run.summary["download_bytes"] / 1e9,
    "device-hours": lambda run: run.summary["device_h"],
    "of which reached no model": lambda run: run.summary["wasted_device_h"] / run.summary["device_h"],
}


def interval(values: Sequence[float]) -> str:
    """Mean and half of the 95 % interval over seeds."""
    mean, half = np.mean(values), t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    digits = max(0, 1 - math.floor(math.log10(half))) if half else 3  # two of the interval
    return f"{mean:,.{digits}f} ± {half:,.{digits}f}"


def main(report: Path, folder: Path) -> None:
    """Write the table; arms are paired by their seed."""
    arms: dict[str, dict[int, fedsim.Run]] = {"sync": {}, "buffered": {}}
    for path in sorted(folder.glob("[0-9]*")):
        run = fedsim.open_run(path)
        if run.summary["stop_reason"] != "target":
            raise SystemExit(f"{path} did not reach the target")
        arms[run.summary["protocol"]][run.summary["seed"]] = run
    lines = ["| | rounds | buffer | rounds ÷ buffer, by seed |", "| --- | --- | --- | --- |"]
    for name, figure in FIGURES.items():
        rounds, buffer = ([figure(arms[arm][seed]) for seed in sorted(arms["sync"])] for arm in ("sync", "buffered"))
        ratio = [a / b for a, b in zip(rounds, buffer, strict=True)]
        lines.append(f"| {name} | {interval(rounds)} | {interval(buffer)} | {interval(ratio)} |")
    lines += ["", f"Means over {len(arms['sync'])} seeds with 95 % intervals."]
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
