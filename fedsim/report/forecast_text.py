"""A forecast in the terminal, and its numbers as words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedsim.forecast.forecast import Forecast, Key
from fedsim.report.amounts import amount, with_half_width
from fedsim.report.words import large
from fedsim.results.statistics import Estimate

STATISTICS = ("mean", "p50", "p95", "p99", "busiest minute", "busiest second")
PHONE_STATISTICS = ("mean", "p50", "p95", "p99", "worst 1 %", "most")
Rows = Sequence[Sequence[str]]


def shown(found: Estimate, unit: str) -> str:
    """A figure with its interval over seeds, if it has one."""
    if found.method == "median":
        return f"{amount(found.center, unit)} ({found.n_reached} of {found.n} reached)"
    if found.method == "t" and found.high > found.low:
        return with_half_width(found.center, (found.high - found.low) / 2, unit)
    return amount(found.center, unit)


def pivoted(figures: Mapping[Key, Estimate], statistics: Sequence[str]) -> Rows:
    """A row for each quantity, a column for each statistic."""
    names = list(dict.fromkeys((key.quantity, key.unit) for key in figures))
    by_place = {(key.quantity, key.statistic): shown(found, key.unit) for key, found in figures.items()}
    return [(name, *(by_place.get((name, each), "") for each in statistics)) for name, _ in names]


def listed_rows(figures: Mapping[Key, Estimate]) -> Rows:
    """A row for each figure of a section that has one statistic each."""
    return [(key.quantity, shown(found, key.unit)) for key, found in figures.items()]


def of(forecast: Forecast, section: str, quantity: str, statistic: str = "") -> Estimate | None:
    """One figure; None if it is not known."""
    for key, found in forecast.of(section).items():
        if (key.quantity, key.statistic) == (quantity, statistic):
            return found
    return None


def markdown(forecast: Forecast) -> str:
    """The tables a planner wants first."""
    parts = [
        _scale(forecast),
        _table(("load", *STATISTICS), pivoted(forecast.of("load"), STATISTICS)),
        _table(("aggregator", ""), listed_rows(forecast.of("aggregator"))),
        _table(("device-hours a day", ""), listed_rows(forecast.of("device-hours a day"))),
        _table(("phones", *PHONE_STATISTICS), pivoted(forecast.of("phones"), PHONE_STATISTICS)),
        _table(("energy a day", ""), listed_rows(forecast.of("energy a day"))),
        _table(("money a month", ""), listed_rows(forecast.of("money a month"))),
        _table(("learning", ""), listed_rows(forecast.of("learning"))),
    ]
    return "\n\n".join(part for part in parts if part).replace("\u00a0", " ")


def _scale(forecast: Forecast) -> str:
    n = len(forecast.seeds)
    said = f"{large(forecast.population)} phones, {n} seed{'' if n == 1 else 's'}. {scaling(forecast)}"
    return said.strip()


def scaling(forecast: Forecast) -> str:
    """What follows the population and what does not."""
    if forecast.population == forecast.n_devices:
        return ""
    return (
        f"Scaled from {large(forecast.n_devices)} simulated phones: check-ins follow the number of phones; sessions, "
        "and with them reports, bytes, energy and money, follow what the server asks for and do not; a phone is asked "
        "the less often the more there are, which is not scaled."
    )


def _table(header: Sequence[str], rows: Rows) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
