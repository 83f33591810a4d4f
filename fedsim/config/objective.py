"""What a sweeper optimises: numbers of a run's summary by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsim.errors import InputError
from fedsim.schema import OUTCOMES

NUMBERS = (
    "simulated_s", "n_steps", "n_abandoned_rounds", "n_sessions", "n_devices_touched", "download_bytes", "upload_bytes",
    "device_h", "wasted_device_h", "energy_kwh", "wasted_energy_kwh", "eligible_fraction_mean",
    "admitted_fraction_mean",
)  # fmt: skip


def objectives(values: Mapping[str, Any]) -> list[str]:
    """The names in ``objective``, each checked; without any the first metric, or the simulated time."""
    metrics = [] if _trains_nothing(values) else list(values["training"].get("metrics", ()))
    given = values["objective"]
    if given is None:
        return [f"metrics.{metrics[0]}"] if metrics else ["simulated_s"]
    known = (*NUMBERS, *(f"outcomes.{name}" for name in OUTCOMES), *(f"metrics.{name}" for name in metrics))
    wanted = given if isinstance(given, list) else [given]
    for name in wanted:
        if name not in known:
            raise InputError("objective is no number of this run's summary", value=name, allowed=", ".join(known))
    if not wanted:
        raise InputError("objective names nothing", value=given, allowed=", ".join(known))
    return wanted


def _trains_nothing(values: Mapping[str, Any]) -> bool:
    return str(values["training"].get("_target_", "")).endswith("NullTrainer")


def value_of(summary: Mapping[str, Any], name: str) -> float:
    """The number behind a name, NaN if the run did not measure it."""
    value: Any = summary
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float("nan") if value is None else float(value)
