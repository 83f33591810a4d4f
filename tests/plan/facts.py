"""Facts of runs by hand, and requirements about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.plan.requirement import Requirement, requirements_of

METRICS = ("auc", "log_loss")


def required(has_central: bool = True, **told: Any) -> Requirement:
    """One requirement as a file would say it."""
    return requirements_of({"it": told}, METRICS, has_central=has_central)[0]


def values(name: str, numbers: Sequence[float], central: float | None = None) -> list[dict[str, Any]]:
    """Runs that came to these values."""
    beside = {} if central is None else {name: central}
    return [{"values": {name: number}, "central": beside, "curves": {}, "horizon_days": 1.0} for number in numbers]


def curves(*runs: Sequence[tuple[float, float]], horizon_days: float) -> list[dict[str, Any]]:
    """Runs with AUC by day."""
    return [
        {
            "values": {}, "central": {"auc": 0.8}, "horizon_days": horizon_days,
            "curves": {"auc": {"days": [day for day, _ in run], "value": [value for _, value in run]}},
        }
        for run in runs
    ]  # fmt: skip


Told = Mapping[str, Any]
