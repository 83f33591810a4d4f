"""Runs by hand that differ in what a test says: their seed, what was asked of them, how they learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from fedsim.schema import EVALS
from tests.report.fake_run import PROVENANCE, hand_made, table

Learned = Mapping[str, Sequence[tuple[float, float]]]  # metric → (instant, value)


def written(
    folder: Path, *, seed: int, asked: Mapping[str, Any] | None = None, learned: Learned | None = None,
    config: Mapping[str, Any] | None = None, commit: str = "0123abc",
) -> Path:  # fmt: skip
    """The hand-made sessions of a run of this seed; ``asked`` stands in its overrides and in its configuration."""
    asked = asked or {}
    made = hand_made(folder, seed=seed)
    values: dict[str, Any] = {"seed": seed, "data": {"seed": seed, "alpha": 0.3}, **(config or {})}
    for key, value in asked.items():
        place = values
        *groups, last = key.split(".")
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    overrides = [f"seed={seed}", *(f"{key}={value}" for key, value in asked.items())]
    provenance = PROVENANCE | {"seed": seed, "overrides": overrides, "commit": commit}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    if learned is not None:
        _learn(folder, learned)
    return made


def _learn(folder: Path, learned: Learned) -> None:
    rows = [
        {"at": at, "version": version, "metric": metric, "value": value}
        for metric, curve in learned.items()
        for version, (at, value) in enumerate(curve)
    ]
    pq.write_table(table(EVALS, rows), folder / "evals.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"] = {metric: curve[-1][1] for metric, curve in learned.items()}
    (folder / "summary.json").write_text(json.dumps(summary))


def accuracy(*values: float) -> Learned:
    """One evaluation each half hour."""
    return {"accuracy": [(1800.0 * n, value) for n, value in enumerate(values)]}
