"""What a month of the run's load costs by a price list."""

from __future__ import annotations

from collections.abc import Sequence

from fedsim.forecast.tables import Constants, Prices
from fedsim.results.run import Run
from fedsim.results.tables import files_of
from fedsim.schema import RUN_TABLES
from fedsim.units import DAY_S, HOUR_S

GB = 1e9
MONTH_S = 30 * DAY_S


def monthly(run: Run, *, prices: Prices, constants: Constants, n_workers: int) -> dict[str, float]:
    """Money a month, if every day is as the run's days: egress, workers, what a TEE adds, storage; in ``currency``."""
    per_month = MONTH_S / float(run.summary["simulated_s"])
    egress = tiered(run.totals.download_bytes.sum() / GB * per_month, prices.egress_tiers)
    workers = n_workers * MONTH_S / HOUR_S * prices.worker_per_h
    kept_gb = sum(stored_bytes(run, constants=constants).values()) / GB
    return {
        "egress": egress,
        "workers": workers,
        "TEE surcharge": workers * prices.tee_surcharge_fraction,
        "storage": kept_gb * prices.storage_per_gb_month,
    }


def tiered(gb: float, tiers: Sequence[tuple[float, float]]) -> float:
    """The price of so many GB, each at the price of the tier that it falls in."""
    ends = [start for start, _ in tiers[1:]] + [float("inf")]
    return sum(max(0.0, min(float(gb), end) - start) * price for (start, price), end in zip(tiers, ends, strict=True))


def stored_bytes(run: Run, *, constants: Constants) -> dict[str, float]:
    """Bytes that are kept: checkpoints of the model, and a month of the logs that a run like this writes."""
    model_bytes = run.summary["model_bytes"] or 0
    logs = sum(file.stat().st_size for table in RUN_TABLES for file in files_of(run.folder, table))
    return {
        "checkpoints": constants.checkpoints_kept * float(model_bytes),
        "logs of a month": logs * MONTH_S / float(run.summary["simulated_s"]),
    }
