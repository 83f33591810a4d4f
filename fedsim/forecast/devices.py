"""What a run takes from each phone that it asks: sessions, bytes, energy, battery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.results.run import Run
from fedsim.units import DAY_S, J_PER_KWH, FloatArray

_COLUMNS = (
    "device_id",
    "download_bytes",
    "upload_bytes",
    "download_j",
    "compute_j",
    "upload_j",
    "battery_used_percent",
)
_SUMS = ("n", "n_bytes", "joules", "battery_percent")
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Spread:
    """A quantity over the phones that were asked: mean, QUANTILES, mean of the worst 1 %, the most."""

    name: str
    unit: str
    mean: float
    quantiles: tuple[float, float, float]
    worst_percent_mean: float
    most: float


def per_device(run: Run, *, battery_wh: float) -> list[Spread]:
    """Of the phones that had a session, over the whole run and per day of it; nothing where none had.

    Where batteries were not simulated, joules are told as a share of a battery of ``battery_wh``.
    """
    sums = per_device_sums(run)
    if not len(sums["n"]):
        return []
    days = float(run.summary["simulated_s"]) / DAY_S
    battery = sums["battery_percent"]
    if np.isnan(battery).any():
        battery = 100 * sums["joules"] / (battery_wh / 1000 * J_PER_KWH)
    return [
        _spread("sessions of a phone", "", sums["n"]),
        _spread("bytes of a phone and day", "bytes", sums["n_bytes"] / days),
        _spread("energy of a phone and day", "J", sums["joules"] / days),
        _spread("battery of a phone and day", "% of full", battery / days),
    ]


def per_device_sums(run: Run) -> dict[str, FloatArray]:
    """One number for each device that had a session, ``float64[n]`` each; battery NaN where it was not simulated."""
    parts = [_of_batch(batch) for batch in run.session_batches(_COLUMNS)]
    if not parts:
        return {name: np.zeros(0) for name in _SUMS}
    merged = pa.concat_tables(parts).group_by("device_id").aggregate([(name, "sum") for name in _SUMS])
    return {name: merged.column(f"{name}_sum").to_numpy().astype(np.float64) for name in _SUMS}


def _of_batch(batch: pa.Table) -> pa.Table:
    joules = pc.add(pc.add(batch["download_j"], batch["compute_j"]), batch["upload_j"])
    battery = pc.cast(pc.fill_null(batch["battery_used_percent"], float("nan")), pa.float64())
    rows = pa.table(
        {
            "device_id": batch["device_id"],
            "n": pa.array(np.ones(batch.num_rows)),
            "n_bytes": pc.cast(pc.add(batch["download_bytes"], batch["upload_bytes"]), pa.float64()),
            "joules": joules,
            "battery_percent": battery,
        }
    )
    grouped = rows.group_by("device_id").aggregate([(name, "sum") for name in _SUMS])
    return grouped.rename_columns([name.removesuffix("_sum") for name in grouped.column_names])


def _spread(name: str, unit: str, values: FloatArray) -> Spread:
    ordered = np.sort(values)
    n_worst = max(1, round(len(ordered) / 100))
    return Spread(
        name=name,
        unit=unit,
        mean=float(values.mean()),
        quantiles=tuple(np.quantile(ordered, QUANTILES, method="inverted_cdf").tolist()),
        worst_percent_mean=float(ordered[-n_worst:].mean()),
        most=float(ordered[-1]),
    )
