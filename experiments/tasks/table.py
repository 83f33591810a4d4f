"""Central against federated quality from the sweeps of run.sh; usage: table.py REPORT.md FOLDER."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t

import fedsim
from fedsim.files import write_text

TASKS = {
    "ads": "clicks on short videos (KuaiRand)",
    "messaging": "abusive chat lines (CONDA)",
    "convabuse": "abuse of chatbots (ConvAbuse)",
    "search": "next word of a message (#ubuntu)",
    "ranking": "documents of a query (LightGBM's example)",
    "digits": "digits of unseen writers (MNIST)",
    "shakespeare": "next character of a role (Shakespeare)",
    "clicks": "synthetic clicks",
}


def interval(values: Sequence[float], *, sign: str = "") -> str:
    """Mean and half of the 95 % interval over seeds, Student's t."""
    mean = np.mean(values)
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    digits = 1 if abs(mean) > 20 else 4
    return f"{mean:{sign},.{digits}f} ± {half:,.{digits}f}"


def runs_of(folder: Path) -> list[fedsim.Run]:
    """The runs of a sweep in the order of their jobs."""
    return [fedsim.open_run(path) for path in sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))]


def of_tasks(folder: Path) -> Iterator[str]:
    """A row for each metric of each task: federated, central and their difference seed by seed."""
    yield "| task | parameters | metric | federated | central | federated − central | seeds |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, what in TASKS.items():
        runs = runs_of(folder / name)
        config, summary = runs[0].config, runs[0].summary
        for metric in config["training"]["metrics"]:
            federated = [run.summary["metrics"][metric] for run in runs]
            central = [run.summary["central_metrics"][metric] for run in runs]
            apart = [a - b for a, b in zip(federated, central, strict=True)]
            yield (
                f"| {what} | {summary['n_parameters']:,} | {metric} "
                f"| {interval(federated)} | {interval(central)} | {interval(apart, sign='+')} | {len(runs)} |"
            )


def of_groups(folder: Path) -> Iterator[str]:
    """The first metric by groups of phones, and what it loses to the central model there, seed by seed."""
    yield "| task | metric | by | phones | federated | federated − central |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in (*TASKS, "ads_one"):  # the last one: a phone for each client
        found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        runs = runs_of(folder / name)
        metric = runs[0].config["training"]["metrics"][0]
        for run in runs:
            rows = run.groups[run.groups["metric"] == metric]
            for row in rows.itertuples():
                found[row.grouping, row.group].append((row.value, row.value - row.central_value))
        for (grouping, group), values in found.items():
            federated, apart = zip(*values, strict=True)
            yield f"| {name} | {metric} | {grouping} | {group} | {interval(federated)} | {interval(apart, sign='+')} |"


def of_sizes(folder: Path) -> Iterator[str]:
    """Embedding size against quality and bytes."""
    yield "| ids as features | numbers of an id | parameters | MB a download | federated AUC | central AUC |"
    yield "| --- | --- | --- | --- | --- | --- |"
    arms: dict[tuple[str, int], list[fedsim.Run]] = defaultdict(list)
    for run in runs_of(folder / "ads_sizes"):
        ids = ", ".join(run.config["data"]["with_ids"]) or "none"
        arms[ids, run.config["model"]["module"]["n_factors"]].append(run)
    for (ids, n_factors), runs in arms.items():
        summary = runs[0].summary
        federated = interval([run.summary["metrics"]["auc"] for run in runs])
        central = interval([run.summary["central_metrics"]["auc"] for run in runs])
        size = f"{summary['n_parameters']:,} | {summary['model_bytes'] / 1e6:.2f}"
        yield f"| {ids} | {n_factors} | {size} | {federated} | {central} |"


def main(report: Path, folder: Path) -> None:
    """Write the tables."""
    lines = ["Means over seeds with 95 % intervals; differences are seed by seed.", "", "## Quality", ""]
    lines += [*of_tasks(folder), "", "## Whom the model serves", "", *of_groups(folder)]
    lines += ["", "## Embedding size on ads", "", *of_sizes(folder)]
    write_text(report, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
