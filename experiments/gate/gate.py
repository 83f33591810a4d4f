"""Which faults the gate finds, how often it is wrong, and what it cannot see: the table of README.md.

python gate.py FOLDER README.md
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.results.regress import unpaired
from fedsim.results.regress.baseline import Baseline, Played, read

HERE = Path(__file__).parent
N_RECORDED, N_CLEAN, N_RESAMPLED = 20, 40, 400
FAULTS: Mapping[str, Sequence[str]] = {
    "gate_sync": ("none", "digits", "lr98", "drop5", "drop5r", "draws"),
    "gate_buf": ("none", "digits", "lr98", "drop5", "stale1", "draws"),
}
MEANINGS = {
    "none": "nothing",
    "digits": "learning rate × 1.0000002",
    "lr98": "learning rate 2 % too low",
    "drop5": "5 % of updates lost, divisor unchanged",
    "drop5r": "5 % of reports lost, the rest renormalised",
    "stale1": "staleness one too many",
    "draws": "draws named anew",
}
BETWEEN = ("<!-- table: gate.py writes it -->\n", "<!-- end of the table -->\n")


def fedsim(*words: str | Path, fault: str = "none") -> subprocess.CompletedProcess[str]:
    """The command, with the parts and configurations of this folder."""
    environment = {
        **os.environ,
        "GATE_FAULT": fault,
        "PYTHONPATH": str(HERE.resolve()),
        "FEDSIM_CONFIGS": str(HERE.resolve() / "configs"),
    }
    command = [sys.executable, "-m", "fedsim", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def record(name: str, folder: Path) -> tuple[Path, Path]:
    """Baselines of the first 20 and of all 40 clean seeds."""
    seeds = ",".join(map(str, range(N_CLEAN)))
    played = fedsim(
        "run", "-m", f"experiment={name}", f"seed={seeds}", "report=false", f"hydra.sweep.dir={folder}/{name}"
    )
    assert played.returncode == 0, played.stderr
    files = folder / f"{name}.json", folder / f"{name}_40.json"
    runs = [folder / name / str(number) for number in range(N_CLEAN)]
    for file, some in zip(files, (runs[:N_RECORDED], runs), strict=True):
        told = fedsim("baseline", "record", *some, "--out", file)
        assert told.returncode == 0, told.stderr
    return files


def check(name: str, fault: str, baseline: Path, folder: Path) -> dict[str, Any]:
    """What the check says of the same configuration with a fault in its code, and its exit code."""
    file = folder / f"{name}-{fault}.json"
    pages = ("--junit", file.with_suffix(".xml"), "--html", file.with_suffix(".html"))
    ran = fedsim("check", "--baseline", baseline, "--json", file, *pages, fault=fault)
    return json.loads(file.read_text()) | {"exit": ran.returncode}


def false_alarms(clean: Baseline) -> float:
    """Share of checks that alarm where other seeds stand for other draws: 20 recorded, 10 played, all of one code."""
    rng, n_alarms = np.random.default_rng(0), 0
    for _ in range(N_RESAMPLED):
        order = rng.permutation(len(clean.runs))
        before: tuple[Played, ...] = tuple(clean.runs[place] for place in order[:N_RECORDED])
        after = [clean.runs[place] for place in order[N_RECORDED : N_RECORDED + 10]]
        some = Baseline(clean.overrides, clean.targets, clean.content, clean.config, clean.about, before)
        n_alarms += any(each.verdict in ("regressed", "changed") for each in unpaired.findings(some, after))
    return n_alarms / N_RESAMPLED


def line(name: str, fault: str, told: Mapping[str, Any]) -> str:
    """A row of the table."""
    cells = (name.removeprefix("gate_"), MEANINGS[fault], told["level"], len(told["seeds"]), told["exit"], told["line"])
    return f"| {' | '.join(map(str, cells))} |"


def spread(baseline: Baseline) -> str:
    """Standard deviation between seeds of the mean of the log loss, in per cent."""
    values = np.array([run.quantities["log_loss over versions"] for run in baseline.runs])
    return f"{100 * values.std(ddof=1) / values.mean():.2f} %"


def main(folder: Path, readme: Path) -> None:
    """Play everything below the folder and write the tables into the README."""
    began, lines, told_false = time.monotonic(), [], []
    for name, faults in FAULTS.items():
        baseline, all_clean = record(name, folder)
        lines += [line(name, fault, check(name, fault, baseline, folder)) for fault in faults]
        clean, size = read(all_clean), baseline.stat().st_size
        told_false.append(
            f"| {name.removeprefix('gate_')} | {spread(clean)} | {size / 1000:.0f} kB | {false_alarms(clean):.2%} |"
        )
    table = "\n".join(
        [
            "| protocol | what is wrong | decided by | seeds played | exit code | what it says |",
            "| --- | --- | --- | --- | --- | --- |", *lines, "",
            f"Other draws: {N_RESAMPLED} checks of {N_RECORDED} recorded against 10 other seeds of the same code.", "",
            "| protocol | spread of the mean log loss between seeds | size of the baseline (20 seeds) | false alarms |",
            "| --- | --- | --- | --- |", *told_false, "",
        ]
    )  # fmt: skip
    text = readme.read_text(encoding="utf-8")
    start, end = text.index(BETWEEN[0]) + len(BETWEEN[0]), text.index(BETWEEN[1])
    readme.write_text(text[:start] + "\n" + table + "\n" + text[end:], encoding="utf-8")
    print(f"{readme} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
