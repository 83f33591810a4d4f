"""The forecast: every figure of one run, then of several seeds with their interval, scaled to another population."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from fedsim.errors import InputError
from fedsim.forecast.devices import per_device
from fedsim.forecast.energy import footprint, shares
from fedsim.forecast.money import monthly, stored_bytes
from fedsim.forecast.queueing import Service, Workers, arrivals, workers_for
from fedsim.forecast.series import Load, check_ins, load_of, series_of
from fedsim.forecast.tables import Constants, Prices
from fedsim.results.arms import Arm
from fedsim.results.measures import Target, Value, common_target, time_to
from fedsim.results.numbers import outcome_rows, step_times
from fedsim.results.run import Run
from fedsim.results.statistics import Estimate, estimate
from fedsim.units import DAY_S, HOUR_S, format_bytes, format_duration

QUANTILE_NAMES = ("p50", "p95", "p99")
_LOAD_SECTION, _DEVICE_SECTION = "load", "phones"


class Key(NamedTuple):
    """Which figure: its section, what it is of, which statistic of it, its unit, what it scales with."""

    section: str
    quantity: str
    statistic: str
    unit: str
    scales_with: str  # sessions, population or nothing


@dataclass(frozen=True)
class Forecast:
    """Figures with their interval over seeds; loads by the hour of the day as means over seeds, ``[24]`` each.

    ``about`` is what was simulated, in words.
    """

    seeds: tuple[int, ...]
    n_devices: int
    population: int
    figures: Mapping[Key, Estimate]
    by_hour: Mapping[str, list[float]]
    remarks: tuple[str, ...]
    about: Mapping[str, str]

    def of(self, section: str) -> dict[Key, Estimate]:
        """The figures of a section."""
        return {key: found for key, found in self.figures.items() if key.section == section}

    def told(self) -> dict[str, Any]:
        """For ``forecast.json``: a row per figure; null is what cannot be known."""
        rows = [
            {
                **key._asdict(), "value": _known(found.center), "low": _known(found.low), "high": _known(found.high),
                "method": found.method, "n_runs": found.n, "n_reached": found.n_reached,
            }
            for key, found in self.figures.items()
        ]  # fmt: skip
        return {
            "seeds": list(self.seeds), "n_devices": self.n_devices, "population": self.population,
            "remarks": list(self.remarks), "about": dict(self.about), "figures": rows,
            "by_hour": {name: [_known(value) for value in values] for name, values in self.by_hour.items()},
        }  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def forecast(
    arm: Arm, *, prices: Prices, constants: Constants, grid: Mapping[str, float], population: int | None = None
) -> Forecast:
    """What runs of one configuration, a seed each, say of the load.

    ``population`` (None: the fleet's size) scales what is in proportion to it. Raises :class:`InputError` for a
    population in which the run's sessions would not find their phones, and for a country without a grid value.
    """
    n_devices = int(arm.runs[0].summary["n_devices"])
    wanted = n_devices if population is None else population
    for run in arm.runs:
        _require_pool(run, wanted / n_devices, wanted)
    found: dict[Key, list[Value]] = {}
    hours: dict[str, list[list[float]]] = {}
    remarks: dict[str, None] = {}
    for run in arm.runs:
        for key, value in _of_run(run, prices, constants, grid, wanted / n_devices, hours, remarks):
            found.setdefault(key, []).append(value)
    if len(arm.runs) == 1:
        remarks["one seed: no interval can be told"] = None
    return Forecast(
        seeds=tuple(arm.seeds),
        n_devices=n_devices,
        population=wanted,
        figures={key: estimate(values) for key, values in found.items()},
        by_hour={name: np.mean(each, axis=0).tolist() for name, each in hours.items()},
        remarks=tuple(remarks),
        about=_about(arm.runs[0]),
    )


def _about(run: Run) -> dict[str, str]:
    summary = run.summary
    model = "unknown" if summary["model_bytes"] is None else format_bytes(summary["model_bytes"])
    return {
        "simulated": f"{summary['n_devices']:,} phones for {format_duration(summary['simulated_s'])}",
        "protocol": f"{summary['protocol']}, {summary['n_steps']:,} server steps, {summary['n_sessions']:,} sessions",
        "eligible": f"{summary['rule']}: {summary['eligible_fraction_mean']:.1%} of the phones on average",
        "model": f"{model} to download",
        "asked for": " ".join(run.provenance.get("overrides", [])) or "the shipped defaults",
    }


def _require_pool(run: Run, factor: float, population: int) -> None:
    """Refuse a population whose free eligible phones are at times fewer than the run has in flight at once."""
    free = pc.min(run.gauge_table.column("free_eligible_mean")).as_py()
    most = pc.max(run.gauge_table.column("in_flight_max")).as_py()
    if factor < 1 and free is not None and free * factor < most:
        raise InputError(
            f"of such a population {max(free * factor, 0):,.0f} phones are free and eligible at times, "
            f"and the run has {most:,} in flight",
            value=population,
            allowed=f"{math.ceil(population * most / max(free * factor, 1e-9)):,} and more" if free > 0 else None,
        )


def _of_run(
    run: Run, prices: Prices, constants: Constants, grid: Mapping[str, float], factor: float,
    hours: dict[str, list[list[float]]], remarks: dict[str, None],
) -> Iterator[tuple[Key, Value]]:  # fmt: skip
    loads = [load_of(series) for series in series_of(run)]
    asked = check_ins(run, retry_s=constants.check_in_retry_s)
    if asked is None:
        remarks["check-ins are not known: these runs do not tell the openings of eligibility"] = None
    else:
        loads.append(load_of(asked))
    for load in loads:
        scale = factor if load.scales_with == "population" else 1.0
        hours.setdefault(load.name, []).append([scale * value for value in load.by_hour])
        yield from _figures_of(load, scale)
    yield from _of_work(run)
    yield from _of_phones(run, constants)
    workers = _workers(run, constants)
    if workers is None:
        remarks["no report arrived: no worker is needed"] = None
    else:
        yield from _of_workers(workers, run, constants)
    yield from _of_footprint(run, constants, grid, remarks)
    n_workers = 0 if workers is None else workers.n
    for name, value in monthly(run, prices=prices, constants=constants, n_workers=n_workers).items():
        yield Key("money a month", name, "", prices.currency, "sessions"), Value(value)
    for name, value in stored_bytes(run, constants=constants).items():
        yield Key("storage", name, "", "bytes", "sessions"), Value(value)
    yield from _of_learning(run)


def _figures_of(load: Load, scale: float) -> Iterator[tuple[Key, Value]]:
    named = [("mean", load.mean), *zip(QUANTILE_NAMES, load.quantiles, strict=True)]
    named += [("busiest minute", load.busiest_minute), ("busiest second", load.busiest_second)]
    for statistic, value in named:
        yield Key(_LOAD_SECTION, load.name, statistic, load.unit, load.scales_with), Value(scale * value)


def _of_work(run: Run) -> Iterator[tuple[Key, Value]]:
    """Device-hours a day by outcome."""
    days = float(run.summary["simulated_s"]) / DAY_S
    for row in outcome_rows(run):
        key = Key("device-hours a day", row.outcome.lower(), "", "h", "sessions")
        yield key, Value(row.device_s / HOUR_S / days)


def _of_phones(run: Run, constants: Constants) -> Iterator[tuple[Key, Value]]:
    for spread in per_device(run, battery_wh=constants.battery_wh):
        named = [("mean", spread.mean), *zip(QUANTILE_NAMES, spread.quantiles, strict=True)]
        named += [("worst 1 %", spread.worst_percent_mean), ("most", spread.most)]
        for statistic, value in named:
            yield Key(_DEVICE_SECTION, spread.name, statistic, spread.unit, "nothing"), Value(value)


def _workers(run: Run, constants: Constants) -> Workers | None:
    at, n_bytes = arrivals(run)
    if not len(at):
        return None
    service = Service(constants.ingest_report_s, constants.ingest_bytes_per_s)
    return workers_for(at, service.seconds(n_bytes), wait_p99_s=constants.wait_p99_s)


def _of_workers(workers: Workers, run: Run, constants: Constants) -> Iterator[tuple[Key, Value]]:
    memory = workers.n * constants.model_copies_per_worker * float(run.summary["model_bytes"] or 0)
    rows: Sequence[tuple[str, str, float]] = (
        ("workers", "", workers.n),
        ("utilisation", "fraction", workers.utilisation),
        ("mean wait", "s", workers.wait_mean_s),
        ("mean wait by Allen and Cunneen", "s", workers.formula_s),
        ("p95 wait", "s", workers.wait_p95_s),
        ("p99 wait", "s", workers.wait_p99_s),
        ("longest wait", "s", workers.wait_max_s),
        ("memory, in a TEE or not", "bytes", memory),
    )
    for name, unit, value in rows:
        yield Key("aggregator", name, "", unit, "sessions"), Value(float(value))


def _of_footprint(
    run: Run, constants: Constants, grid: Mapping[str, float], remarks: dict[str, None]
) -> Iterator[tuple[Key, Value]]:
    found = footprint(run, constants=constants, grid=grid)
    if found is None:
        remarks["energy is not known: no energy model was run"] = None
        return
    per_day = DAY_S / float(run.summary["simulated_s"])
    for name, value in found.kwh.items():
        yield Key("energy a day", name, "", "kWh", "sessions"), Value(per_day * value)
    for name, value in found.kg.items():
        yield Key("carbon a day", name, "", "kg CO2e", "sessions"), Value(per_day * value)
    for name, value in found.by_country.items():
        yield Key("carbon a day by country", name, "", "kg CO2e", "sessions"), Value(per_day * value)
    for name, value in shares(found.kwh).items():
        yield Key("shares of energy", name, "", "fraction", "sessions"), Value(value)
    totals = {"energy a day": ("kWh", found.kwh, found.kwh_low, found.kwh_high)}
    totals["carbon a day"] = ("kg CO2e", found.kg, found.kg_low, found.kg_high)
    for section, (unit, parts, low, high) in totals.items():
        for name, value in (("all", sum(parts.values())), ("all, network at its lowest", low)):
            yield Key(section, name, "", unit, "sessions"), Value(per_day * value)
        yield Key(section, "all, network at its highest", "", unit, "sessions"), Value(per_day * high)


def _of_learning(run: Run) -> Iterator[tuple[Key, Value]]:
    days = float(run.summary["simulated_s"]) / DAY_S
    yield Key("learning", "server steps a day", "", "", "nothing"), Value(run.summary["n_steps"] / days)
    seconds = step_times(run).seconds
    yield (
        Key("learning", "time of a step", "", "s", "nothing"),
        Value(float(seconds.mean()) if len(seconds) else math.nan),
    )
    for target in common_target([run]):
        yield Key("learning", f"days to {target}", "", "days", "nothing"), _days_to(run, target)


def _days_to(run: Run, target: Target) -> Value:
    found = time_to(target, run)
    return Value(found.number / DAY_S, found.is_bound)
