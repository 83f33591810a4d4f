"""A forecast as a page: what a planner orders by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedsim.forecast.energy import GREEN_FL, PARTS
from fedsim.forecast.forecast import Forecast, Key
from fedsim.forecast.tables import Constants, Prices
from fedsim.report import forecast_plots as plots
from fedsim.report.amounts import amount
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.forecast_text import (
    PHONE_STATISTICS,
    STATISTICS,
    listed_rows,
    of,
    pivoted,
    scaling,
    shown,
)
from fedsim.report.words import OUTCOME_MEANINGS, Unit, byte_unit, large, percent
from fedsim.results.statistics import Estimate


def write_forecast(path: Path, forecast: Forecast, *, prices: Prices, constants: Constants) -> Path:
    """Write the page and return its path. The same runs give the same bytes."""
    sections = [
        ("What servers and links carry", _loads(forecast)),
        ("How many workers take the reports", _aggregator(forecast, constants)),
        ("What the phones' time goes into", _work(forecast)),
        ("What it takes from a phone", _phones(forecast, constants)),
        ("Energy and carbon", _energy(forecast, constants)),
        ("Money and storage", _money(forecast, prices, constants)),
        ("How fast the server moves", _plain(forecast, "learning", "Steps", "Server steps, and days to the target.")),
    ]
    page = Page(
        kind="fedsim forecast",
        title=f"What {large(forecast.population)} phones ask of the servers",
        lead=_lead(forecast),
        tiles=_tiles(forecast),
        sections=[(title, exhibits) for title, exhibits in sections if exhibits],
        facts=_facts(forecast, prices, constants),
    )
    return write_page(path, page)


def _lead(forecast: Forecast) -> str:
    reports, workers = of(forecast, "load", "updates", "busiest minute"), of(forecast, "aggregator", "workers")
    egress = of(forecast, "load", "egress", "busiest minute")
    said = []
    if reports is not None and egress is not None:
        said.append(
            f"In the busiest minute {amount(reports.center, '')} updates a second come in and "
            f"{amount(egress.center, 'bytes/s')} go out"
        )
    if workers is not None:
        n = round(workers.center)
        said.append(f"{n} aggregator worker{' takes' if n == 1 else 's take'} the reports in time")
    return "; ".join(said) + f". {scaling(forecast)}" if said else "No session took place."


def _tiles(forecast: Forecast) -> list[tuple[str, str, str]]:
    work = forecast.of("device-hours a day")
    total = sum(found.center for found in work.values())
    useful = next((found.center for key, found in work.items() if key.quantity == "aggregated"), 0.0)
    wanted: list[tuple[str, Estimate | None, str, str]] = [
        ("Updates", of(forecast, "load", "updates", "busiest minute"), "1/s", "in the busiest minute"),
        ("Check-ins", of(forecast, "load", "check-ins", "busiest minute"), "1/s", "in the busiest ten minutes"),
        ("Egress", of(forecast, "load", "egress", "busiest minute"), "bytes/s", "in the busiest minute"),
        ("Workers", of(forecast, "aggregator", "workers"), "", "of the aggregator"),
        (
            "Battery",
            of(forecast, "phones", "battery of a phone and day", "worst 1 %"),
            "%",
            "a day, worst 1 % of phones",
        ),
        ("Energy", of(forecast, "energy a day", "all"), "kWh", "a day, phones, network and servers"),
    ]
    tiles = [(name, amount(found.center, unit), remark) for name, found, unit, remark in wanted if found is not None]
    money = [found.center for key, found in forecast.of("money a month").items() if key.quantity != "TEE surcharge"]
    unit = next((key.unit for key in forecast.of("money a month")), "")
    if money:
        tiles.append(("Money", amount(sum(money), unit), "a month, without a TEE"))
    if total:
        tiles.append(("Wasted", percent(1 - useful / total), "of the phones' time"))
    return tiles


def _loads(forecast: Forecast) -> list[Exhibit]:
    figures = forecast.of("load")
    if not figures:
        return []
    caption = "Means of each hour; simulated time begins at midnight."
    drawn = [
        _by_hour(forecast, "Updates and assignments", caption, ("updates", "assignments"), "per second"),
        _by_hour(forecast, "Check-ins", caption, ("check-ins",), "per second"),
        _by_hour(forecast, "Bytes", caption, ("egress", "ingress"), "per second"),
    ]
    return [
        *(each for each in drawn if each is not None),
        Exhibit(
            "All loads",
            "Over the seconds of the run. A cohort of a synchronous round is assigned in one instant, so assignments "
            "and egress of single seconds are larger than servers would make them: order by the busiest minute.",
            None, ("", *STATISTICS), pivoted(figures, STATISTICS), is_wide=True,
        ),
    ]  # fmt: skip


def _by_hour(forecast: Forecast, title: str, caption: str, names: Sequence[str], label: str) -> Exhibit | None:
    """Loads of one unit over the day, with their means and busiest minutes beside them."""
    loads = {name: forecast.by_hour[name] for name in names if name in forecast.by_hour}
    if not loads:
        return None
    units = {key.quantity: key.unit for key in forecast.of("load")}
    largest = max((value for each in loads.values() for value in each if not math.isnan(value)), default=1.0)
    unit = byte_unit(largest) if units[names[0]] == "bytes/s" else Unit("", 1)
    rows = [
        (name, *(_amount(of(forecast, "load", name, each), units[name]) for each in ("mean", "busiest minute")))
        for name in loads
    ]
    svg = plots.by_hour(loads, label=f"{unit.name} {label}".strip(), unit=unit)
    return Exhibit(title, caption, svg, ("", "mean", "busiest minute"), rows)


def _amount(found: Estimate | None, unit: str) -> str:
    return "" if found is None else amount(found.center, unit)


def _aggregator(forecast: Forecast, constants: Constants) -> list[Exhibit]:
    caption = (
        f"The measured arrivals, played again: the fewest workers with which 99 % of the reports wait no longer than "
        f"{constants.wait_p99_s:g} s, where one takes {constants.ingest_report_s:g} s and a second for "
        f"{amount(constants.ingest_bytes_per_s, 'bytes')}. The formula knows the mean alone."
    )
    return _plain(forecast, "aggregator", "Workers", caption)


def _work(forecast: Forecast) -> list[Exhibit]:
    figures = {key: found for key, found in forecast.of("device-hours a day").items() if found.center > 0}
    if not figures:
        return []
    names = [key.quantity for key in figures]
    svg = plots.shares(names, [found.center for found in figures.values()], label="device-hours a day")
    rows = [
        (f"{key.quantity}: {OUTCOME_MEANINGS[key.quantity.upper()]}", shown(found, key.unit))
        for key, found in figures.items()
    ]
    caption = "Only what is aggregated reaches a model; the rest is the price of speed and of phones that leave."
    return [Exhibit("Device-hours by outcome", caption, svg, ("outcome", "a day"), rows)]


def _phones(forecast: Forecast, constants: Constants) -> list[Exhibit]:
    figures = forecast.of("phones")
    if not figures:
        return []
    caption = (
        "Over the phones that were asked. Where batteries were not simulated, energy is told of a battery of "
        f"{constants.battery_wh:g} Wh."
    )
    return [Exhibit("Phones", caption, None, ("", *PHONE_STATISTICS), pivoted(figures, PHONE_STATISTICS), is_wide=True)]


def _energy(forecast: Forecast, constants: Constants) -> list[Exhibit]:
    exhibits = []
    for section, label in (("energy a day", "kWh a day"), ("carbon a day", "kg CO2e a day")):
        figures = forecast.of(section)
        if not figures:
            continue
        parts = {key.quantity: found.center for key, found in figures.items() if key.quantity in PARTS}
        svg = plots.shares(list(parts), list(parts.values()), label=label)
        caption = (
            f"Network at {constants.network_kwh_per_gb:g} kWh/GB; between {constants.network_kwh_per_gb_low:g} and "
            f"{constants.network_kwh_per_gb_high:g} nobody knows, and it decides the sum."
        )
        exhibits.append(Exhibit(section.capitalize(), caption, svg, ("", "a day"), listed_rows(figures)))
    exhibits += _beside_green_fl(forecast, constants)
    countries = forecast.of("carbon a day by country")
    if len(countries) > 1:
        exhibits.append(_table("By country of the phones", "Phones and network.", countries))
    return exhibits


def _beside_green_fl(forecast: Forecast, constants: Constants) -> list[Exhibit]:
    """Shares of energy beside published ones, and what decides them."""
    figures = forecast.of("shares of energy")
    if not figures:
        return []
    rows = []
    for key, found in figures.items():
        low, high = GREEN_FL[key.quantity]
        rows.append((key.quantity, shown(found, key.unit), f"{low} to {high}\u00a0%"))
    caption = (
        "Beside what Green FL measured of its tasks (Yousefpour et al. 2023); down- and upload are radio and network. "
        f"The network's {constants.network_kwh_per_gb:g} kWh/GB and the server's {constants.n_server_processes:g} "
        f"processes of {constants.server_w:g} W for one task decide them, and the powers of the phones (device.energy)."
    )
    return [Exhibit("Shares of the energy", caption, None, ("", "here", "Green FL"), rows, is_wide=True)]


def _money(forecast: Forecast, prices: Prices, constants: Constants) -> list[Exhibit]:
    caption = f"By prices of {prices.date}: egress in tiers, workers all the time, storage of what is kept."
    exhibits = [_table("A month of it", caption, forecast.of("money a month"))]
    kept = f"{constants.checkpoints_kept:g} versions of the model, and the tables that this simulation wrote."
    return [*exhibits, _table("What is kept", kept, forecast.of("storage"))]


def _plain(forecast: Forecast, section: str, title: str, caption: str) -> list[Exhibit]:
    figures = forecast.of(section)
    return [_table(title, caption, figures)] if figures else []


def _table(title: str, caption: str, figures: Mapping[Key, Estimate]) -> Exhibit:
    return Exhibit(title, caption, None, ("", ""), listed_rows(figures), is_wide=True)


def _facts(forecast: Forecast, prices: Prices, constants: Constants) -> list[tuple[str, str]]:
    assumed = ", ".join(f"{name} {value}" for name, value in vars(constants).items())
    return [
        *forecast.about.items(),
        ("seeds", ", ".join(map(str, forecast.seeds))),
        ("prices", f"{prices.currency} of {prices.date}"),
        ("assumed", assumed),
        *(("remark", line) for line in forecast.remarks),
    ]
