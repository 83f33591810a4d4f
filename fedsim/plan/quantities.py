"""The closed list of what a requirement may be about, and what one run comes to in each.

A quantity that a run did not measure is not in what :func:`facts_of` returns: it is unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.forecast.devices import per_device_sums
from fedsim.forecast.energy import footprint
from fedsim.forecast.money import GB, MONTH_S, stored_bytes, tiered
from fedsim.forecast.queueing import Service, arrivals, workers_for
from fedsim.forecast.series import Load, check_ins, load_of, series_of
from fedsim.forecast.tables import Constants, Prices
from fedsim.results.measures import DIRECTIONS
from fedsim.results.numbers import eligible_by_hour, metric_curve, metric_names
from fedsim.results.run import Run
from fedsim.results.sessions import AGGREGATED
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, HOUR_S, J_PER_KWH, FloatArray

WEEK_DAYS, MONTH_DAYS, YEAR_DAYS = 7.0, 30.0, 365.0
_LOST = [OUTCOMES.index(name) for name in ("INTERRUPTED", "TIMEOUT", "FAILED")]
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Quantity(NamedTuple):
    """Something a requirement may be about: its unit, what it is, the stage of a decision that finds it."""

    unit: str
    meaning: str
    stage: str


def _rates(name: str, unit: str, what: str) -> dict[str, Quantity]:
    means = {"mean": "mean of the run", "p95": "95 % of seconds below", "p99": "99 % of seconds below"}
    means["peak_minute"] = "mean of the busiest minute"
    return {f"{name}.{each}": Quantity(unit, f"{what}: {mean}", "forecast") for each, mean in means.items()}


_BATTERY = {"p50": "median", "p95": "95 % quantile", "p99": "99 % quantile", "max": "most"}
QUANTITIES: dict[str, Quantity] = {
    "admitted_fraction.mean": Quantity("fraction", "phones that may be asked, mean of a week", "constraints"),
    "admitted_fraction.min_hour": Quantity("fraction", "the same in the scarcest hour of the day", "constraints"),
    "never_participating_fraction": Quantity("fraction", "phones that can at no time be asked", "constraints"),
    "models.feasible_share": Quantity("fraction", "phones whose session is within the limits", "models"),
    "days": Quantity("days", "simulated time of the whole run", "training"),
    "dropout_fraction": Quantity("fraction", "sessions that were interrupted, timed out or failed", "training"),
    "wasted_device_time_fraction": Quantity("fraction", "device time that reached no model", "training"),
    "device_hours": Quantity("h", "device time of all sessions of the run", "training"),
    **{
        f"battery_percent_per_participation.{name}": Quantity("%", f"of a full battery, a session: {word}", "training")
        for name, word in _BATTERY.items()
    },
    "battery_percent_per_device_week.p99": Quantity(
        "%", "of a full battery, a phone that was asked and a week of the run: 99 % quantile", "training"
    ),
    "bytes_per_device_month.p50": Quantity("bytes", "both ways, a phone that was asked: median", "training"),
    "bytes_per_device_month.p99": Quantity("bytes", "both ways, a phone that was asked: 99 % quantile", "training"),
    "metered_bytes_fraction": Quantity("fraction", "bytes on networks that cost the user", "training"),
    **_rates("ingress_bytes_per_s", "bytes/s", "bytes that come in"),
    **_rates("egress_bytes_per_s", "bytes/s", "bytes that go out"),
    **_rates("updates_per_s", "1/s", "reports that come in"),
    **_rates("checkins_per_s", "1/s", "phones that contact the server"),
    "connections.p99": Quantity("count", "phones in a session, 99 % of seconds below", "forecast"),
    "aggregators": Quantity("count", "workers that take 99 % of reports in time", "forecast"),
    "usd_per_model": Quantity("USD", "egress, workers and storage of one campaign", "forecast"),
    "usd_per_year": Quantity("USD", "the same of a year of campaigns", "forecast"),
    "kwh_per_model": Quantity("kWh", "phones, network and servers of one campaign", "forecast"),
    "kg_co2e_per_model": Quantity("kg", "the same as carbon dioxide equivalents", "forecast"),
    "epsilon": Quantity("number", "of differential privacy, at the stated delta", "privacy"),
}  # fmt: skip
DAYS_TO, MIN_GROUP = "days_to.", ".min_group"


def quantity(name: str, metrics: tuple[str, ...]) -> Quantity | None:
    """The quantity of a name, where runs evaluate these metrics; None: there is none."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name in metrics:
        return Quantity("number", f"held-out {name.replace('_', ' ')} of the last model", "training")
    if name.startswith(DAYS_TO) and name.removeprefix(DAYS_TO) in metrics:
        return Quantity("days", f"until held-out {name.removeprefix(DAYS_TO)} is at its target", "training")
    if name.endswith(MIN_GROUP) and name.removesuffix(MIN_GROUP) in metrics:
        return Quantity("number", f"held-out {name.removesuffix(MIN_GROUP)} of the worst group", "fairness")
    return None


@dataclass(frozen=True)
class Basis:
    """What the figures rest on besides the run; ``retrain_days`` from the start of a campaign to that of the next."""

    prices: Prices
    constants: Constants
    grid: Mapping[str, float]
    retrain_days: float
    least_group_share: float = 0.0  # of the phones drawn; smaller groups are shown, and not judged
    population: int | None = None  # phones that check in; None: those of the fleet


def facts_of(run: Run, basis: Basis) -> dict[str, Any]:
    """What a run says, as JSON: ``values`` by quantity, ``central`` metrics, ``curves`` and ``groups``."""
    values = {name: float(value) for name, value in _values(run, basis) if np.isfinite(value)}
    values |= {name: float(value) for name, value in run.summary["metrics"].items()}
    worst = _worst_groups(run, basis)
    return {
        "seed": run.summary["seed"],
        "values": values | {f"{name}{MIN_GROUP}": group["value"] for name, group in worst.items()},
        "worst_groups": worst,
        "central": dict(run.summary.get("central_metrics") or {}),
        "curves": {name: _curve(run, name) for name in metric_names(run)},
        "groups": run.group_table.to_pylist() if run.group_table.num_rows else [],
        "step_days": _step_days(run),
        "horizon_days": float(run.summary["simulated_s"]) / DAY_S,
        "stop_reason": run.summary["stop_reason"],
        "hours": [None if np.isnan(value) else float(value) for value in eligible_by_hour(run)],
        "n_sessions": run.summary["n_sessions"],
    }


def _worst_groups(run: Run, basis: Basis) -> dict[str, dict[str, Any]]:
    """The worst group by each metric; groups below the least share of the phones drawn are left out."""
    table, found = run.group_table, {}
    for name in pc.unique(table["metric"]).to_pylist():
        rows = [row for row in table.filter(pc.equal(table["metric"], name)).to_pylist() if row["value"] is not None]
        n_drawn = {row["grouping"]: 0 for row in rows}
        for row in rows:
            n_drawn[row["grouping"]] += row["n_devices"]
        judged = [row for row in rows if row["n_devices"] >= basis.least_group_share * n_drawn[row["grouping"]]]
        if judged:
            worst = (max if is_lower_better(name) else min)(judged, key=lambda row: row["value"])
            found[name] = {key: worst[key] for key in ("grouping", "group", "n_devices", "value")}
    return found


def is_lower_better(metric: str) -> bool:
    """Whether less of a metric is better."""
    return DIRECTIONS.get(metric) == "lower"


def _curve(run: Run, metric: str) -> dict[str, list[float]]:
    curve, rows = metric_curve(run, metric), run.eval_table
    version = rows.filter(pc.equal(rows["metric"], metric))["version"].to_pylist()
    return {
        "days": (curve.at / DAY_S).tolist(),
        "value": curve.value.tolist(),
        "version": version,
    }


def _step_days(run: Run) -> list[float]:
    """When each version was made, in days."""
    steps = run.step_table.filter(run.step_table["is_committed"]).sort_by("version")
    return [float(days) for days in steps["closed_at"].to_numpy() / DAY_S]


def _values(run: Run, basis: Basis) -> Iterator[tuple[str, float]]:
    yield from _of_eligibility(run)
    yield from _of_sessions(run)
    yield from _of_phones(run, basis)
    yield from _of_loads(run, basis)
    yield from _of_cost(run, basis)


def _of_eligibility(run: Run) -> Iterator[tuple[str, float]]:
    yield "admitted_fraction.mean", run.summary["admitted_fraction_mean"]
    yield "admitted_fraction.min_hour", float(np.nanmin(eligible_by_hour(run)))


def _of_sessions(run: Run) -> Iterator[tuple[str, float]]:
    totals, n = run.totals, run.summary["n_sessions"]
    device_s = float(totals.device_s.sum())
    yield "days", float(run.summary["simulated_s"]) / DAY_S
    yield "device_hours", device_s / HOUR_S
    if n:
        yield "dropout_fraction", float(totals.n[_LOST].sum()) / n
        yield "wasted_device_time_fraction", 1.0 - float(totals.device_s[AGGREGATED]) / device_s
    n_bytes = float(totals.bytes_by_network.sum())
    metered = run.summary.get("metered_bytes")
    if n_bytes and metered is not None:
        yield "metered_bytes_fraction", float(metered) / n_bytes


def _of_phones(run: Run, basis: Basis) -> Iterator[tuple[str, float]]:
    """Of sessions and phones; where batteries were not simulated joules count as a share of an assumed battery."""
    if not run.summary["n_sessions"]:
        return
    per_percent = basis.constants.battery_wh / 1000 * J_PER_KWH / 100
    used = _battery_of_sessions(run, per_percent)
    if used is not None:
        for name, q in _QUANTILES.items():
            yield f"battery_percent_per_participation.{name}", float(np.quantile(used, q, method="inverted_cdf"))
        yield "battery_percent_per_participation.max", float(used.max())
    sums, days = per_device_sums(run), float(run.summary["simulated_s"]) / DAY_S
    weeks, campaigns = max(days / WEEK_DAYS, 1.0), MONTH_DAYS / max(basis.retrain_days, days)
    battery = sums["battery_percent"]
    battery = sums["joules"] / per_percent if np.isnan(battery).any() else battery
    if used is not None:
        yield "battery_percent_per_device_week.p99", float(np.quantile(battery / weeks, 0.99, method="inverted_cdf"))
    for name in ("p50", "p99"):
        n_bytes = np.quantile(sums["n_bytes"] * campaigns, _QUANTILES[name], method="inverted_cdf")
        yield f"bytes_per_device_month.{name}", float(n_bytes)


_BATTERY_COLUMNS = ("battery_used_percent", "download_j", "compute_j", "upload_j")


def _battery_of_sessions(run: Run, j_per_percent: float) -> FloatArray | None:
    """Percent of a battery that each session took, ``float64[n]``; None: energy was not modelled."""
    parts = []
    for batch in run.session_batches(_BATTERY_COLUMNS):
        used = pc.cast(batch["battery_used_percent"], pa.float64())
        if used.null_count:
            joules = pc.add(pc.add(batch["download_j"], batch["compute_j"]), batch["upload_j"])
            used = pc.divide(pc.cast(joules, pa.float64()), j_per_percent)
        parts.append(used.to_numpy())
    found = np.concatenate(parts)
    return found if found.any() else None


def _of_loads(run: Run, basis: Basis) -> Iterator[tuple[str, float]]:
    names = {"egress": "egress_bytes_per_s", "ingress": "ingress_bytes_per_s", "updates": "updates_per_s"}
    for series in series_of(run):
        if series.name in names:
            yield from _of_load(names[series.name], load_of(series), 1.0)
        elif series.name == "connections in a session":
            yield "connections.p99", load_of(series).quantiles[2]
    asked = check_ins(run, retry_s=basis.constants.check_in_retry_s)
    if asked is not None:
        factor = 1.0 if basis.population is None else basis.population / run.summary["n_devices"]
        yield from _of_load("checkins_per_s", load_of(asked), factor)


def _of_load(name: str, load: Load, factor: float) -> Iterator[tuple[str, float]]:
    yield f"{name}.mean", factor * load.mean
    yield f"{name}.p95", factor * load.quantiles[1]
    yield f"{name}.p99", factor * load.quantiles[2]
    yield f"{name}.peak_minute", factor * load.busiest_minute


def _of_cost(run: Run, basis: Basis) -> Iterator[tuple[str, float]]:
    """Workers, money, energy and carbon of the run as one campaign."""
    constants, prices = basis.constants, basis.prices
    at, n_bytes = arrivals(run)
    n_workers = 0
    if len(at):
        service_s = Service(constants.ingest_report_s, constants.ingest_bytes_per_s).seconds(n_bytes)
        n_workers = workers_for(at, service_s, wait_p99_s=constants.wait_p99_s).n
        yield "aggregators", n_workers
    days = float(run.summary["simulated_s"]) / DAY_S
    n_a_year = YEAR_DAYS / max(basis.retrain_days, days)
    egress_gb = float(run.totals.download_bytes.sum()) / GB
    a_month = n_a_year * MONTH_DAYS / YEAR_DAYS * egress_gb  # tiers are by the month
    egress = tiered(a_month, prices.egress_tiers) * egress_gb / a_month if a_month else 0.0
    workers = n_workers * days * DAY_S / HOUR_S * prices.worker_per_h
    kept_gb = sum(stored_bytes(run, constants=constants).values()) / GB
    storage = kept_gb * prices.storage_per_gb_month * days * DAY_S / MONTH_S
    usd = egress + workers + storage
    yield "usd_per_model", usd
    yield "usd_per_year", usd * n_a_year
    found = footprint(run, constants=constants, grid=basis.grid)
    if found is not None:
        yield "kwh_per_model", sum(found.kwh.values())
        yield "kg_co2e_per_model", sum(found.kg.values())
