"""A trace set against published statistics of real phones, number by number.

The figures describe the first 100 phones of FLASH's state traces (Yang et al., WWW 2021: 441 device-days in
January and February 2020). They are facts about these logs, typed here; the logs do not travel with fedsim.
In the real logs a channel is unknown until its first event, and an unknown state counts as ineligible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.traces.canonical import TraceSet
from fedsim.traces.clock import HOURS_OF_DAY
from fedsim.traces.criteria import Windows, compile_channel, compile_rule
from fedsim.traces.measurements import QUANTILES, weighted_quantiles
from fedsim.traces.rule import Rule
from fedsim.traces.statistics import stats
from fedsim.traces.statistics.slopes import Slopes
from fedsim.units import DAY_MS, MINUTE_S, FloatArray

LOCKED, DARK, WIFI, PLUGGED = (
    "charging & network == wifi & locked",  # FLASH's own rule
    "charging & network == wifi & !screen",
    "charging & network == wifi",
    "charging",
)
BY_HOUR = {
    LOCKED: ".072 .078 .083 .080 .073 .067 .073 .067 .052 .043 .032 .037 "
    ".041 .032 .044 .058 .049 .051 .065 .071 .059 .060 .058 .071",
    DARK: ".077 .088 .091 .085 .080 .067 .079 .076 .058 .048 .034 .041 "
    ".050 .046 .054 .062 .061 .063 .085 .081 .065 .067 .067 .075",
    WIFI: ".109 .111 .106 .102 .095 .084 .102 .102 .077 .064 .057 .059 "
    ".069 .070 .083 .090 .093 .106 .128 .112 .107 .107 .099 .106",
    PLUGGED: ".261 .270 .266 .254 .249 .249 .231 .197 .170 .161 .144 .138 "
    ".141 .169 .191 .215 .203 .208 .233 .209 .194 .207 .213 .238",
}
_QUANTILES = "p5 p25 p50 p75 p95"


@dataclass(frozen=True)
class PublishedStatistic:
    """One published statistic and the same statistic of a trace set; one number, or several in an order."""

    statistic: str
    unit: str
    published: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """Largest absolute difference."""
        return float(np.abs(np.subtract(self.measured, self.published)).max())


def compare_with_published(traces: TraceSet) -> list[PublishedStatistic]:
    """Every statistic of the published 100 phones beside that of ``traces``.

    Raises:
        InputError: the set lacks one of network, charging, screen, locked, battery, or has a relative clock.
    """
    windows = {text: _windows(traces, text) for text in BY_HOUR}
    return [
        *_hours(windows),
        *_devices(windows),
        *_sessions(windows),
        *_time(traces, windows),
        *_battery(traces),
    ]


def markdown(rows: Sequence[PublishedStatistic], *, name: str) -> str:
    """The comparison as two Markdown tables, statistics and hours; ``name`` heads the columns of the trace set."""
    single = [row for row in rows if len(row.published) != HOURS_OF_DAY]
    by_hour = [row for row in rows if len(row.published) == HOURS_OF_DAY]
    statistics = [
        [row.statistic, row.unit, _text(row.published), _text(row.measured), _text([row.error])] for row in single
    ]
    hours = [
        [str(hour), *(_text([values[hour]]) for row in by_hour for values in (row.published, row.measured))]
        for hour in range(HOURS_OF_DAY)
    ]
    largest = ["largest difference", *(text for row in by_hour for text in ("", _text([row.error])))]
    heads = [f"{row.statistic}: {whose}" for row in by_hour for whose in ("real", name)]
    return "\n\n".join(
        [
            _table(["statistic", "unit", "real", name, "largest difference"], statistics),
            _table(["share by hour", *heads], [*hours, largest]),
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def _text(values: Sequence[float]) -> str:
    """Three significant digits, at most three decimals."""
    return " ".join(f"{value:.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):.3f}" for value in values)


def _windows(traces: TraceSet, text: str) -> Windows:
    return compile_rule(traces, Rule.parse(text), unknown="ineligible")


def _row(
    statistic: str, unit: str, published: str, measured: FloatArray | Sequence[float] | float
) -> PublishedStatistic:
    return PublishedStatistic(
        statistic=statistic,
        unit=unit,
        published=tuple(float(value) for value in published.split()),
        measured=tuple(float(value) for value in np.atleast_1d(np.asarray(measured, dtype=np.float64))),
    )


def _hours(windows: dict[str, Windows]) -> list[PublishedStatistic]:
    rows = []
    for text, published in BY_HOUR.items():
        by_hour = stats.share_by_hour(windows[text])
        rows.append(_row(f"`{text}`", "share of device-time by hour", published, by_hour))
    means = {LOCKED: ".059", DARK: ".067", WIFI: ".093", PLUGGED: ".209"}
    return rows + [
        _row(f"`{text}`, mean", "share of device-time", mean, stats.mean_share(windows[text]))
        for text, mean in means.items()
    ]


def _devices(windows: dict[str, Windows]) -> list[PublishedStatistic]:
    published = {LOCKED: "0 0 .017 .087 .262", WIFI: "0 0 .042 .145 .372"}
    never = stats.never_eligible(windows[LOCKED]) / windows[LOCKED].n
    return [_row(f"`{LOCKED}`, never", "share of devices", ".32", never)] + [
        _row(f"`{text}` by device, {_QUANTILES}", "share of time", values, stats.device_quantiles(windows[text]))
        for text, values in published.items()
    ]


def _sessions(windows: dict[str, Windows]) -> list[PublishedStatistic]:
    published = {LOCKED: "3 12 208 1488 10321", WIFI: "2 71 926 3480 15009"}
    rows = [
        _row(f"`{text}` sessions, {_QUANTILES}", "s", values, _quantiles_s(windows[text]))
        for text, values in published.items()
    ]
    length_s = _lengths_s(windows[LOCKED])
    long_s = length_s[length_s > 10 * MINUTE_S]
    minutes = _quantiles_s(windows[PLUGGED]) / MINUTE_S
    return [
        *rows,
        _row(f"`{LOCKED}` sessions", "per device-day", "2.43", _per_day(windows[LOCKED])),
        _row(f"`{LOCKED}` sessions > 10 min", "share of sessions", ".39", len(long_s) / max(len(length_s), 1)),
        _row(f"`{LOCKED}` sessions > 10 min", "share of their time", ".97", long_s.sum() / max(length_s.sum(), 1.0)),
        _row("charger sessions", "per device-day", "4.45", _per_day(windows[PLUGGED])),
        _row(f"charger sessions, {_QUANTILES}", "min", ".02 .3 15 63 326", minutes),
    ]


def _lengths_s(windows: Windows) -> FloatArray:
    return np.asarray((windows.end_ms - windows.start_ms) / 1000)


def _quantiles_s(windows: Windows) -> FloatArray:
    quantiles = stats.session_quantiles(windows)
    return np.full(len(QUANTILES), np.nan) if quantiles is None else quantiles


def _per_day(windows: Windows) -> float:
    return float(len(windows.start_ms) / (windows.period_ms.sum() / DAY_MS))


def _time(traces: TraceSet, windows: dict[str, Windows]) -> list[PublishedStatistic]:
    def share(text: str) -> float:
        return stats.mean_share(_windows(traces, text))

    locked, wifi, plugged = (stats.mean_share(windows[text]) for text in (LOCKED, WIFI, PLUGGED))
    on_wifi, on_cellular = share("network == wifi"), share("network in {2g, 3g, 4g, 5g}")
    return [
        _row("on wifi", "share of device-time", ".41", on_wifi),
        _row("on cellular", "share of device-time", ".22", on_cellular),
        _row("no or unknown network", "share of device-time", ".38", 1 - on_wifi - on_cellular),
        _row("screen off", "share of device-time", ".59", share("!screen")),
        _row("locked", "share of device-time", ".56", share("locked")),
        _row("wifi while charging", "share of that time", ".44", wifi / plugged),
        _row("locked while charging on wifi", "share of that time", ".63", locked / wifi),
    ]


def _battery(traces: TraceSet) -> list[PublishedStatistic]:
    levels = compile_channel(traces, "battery")
    is_known = ~np.isnan(levels.value)
    quantiles = weighted_quantiles(levels.value[is_known], levels.hold_ms[is_known])
    slopes = Slopes.of(traces)
    unplugged, charging = (
        np.quantile(slopes.per_device(chosen), (0.05, 0.5, 0.95))
        for chosen in (slopes.is_unplugged, slopes.is_charging)
    )
    return [
        _row(f"battery level over time, {_QUANTILES}", "%", "0 29 55 79 100", quantiles),
        _row("battery below 20 %", "share of device-time", ".18", stats.mean_share(_windows(traces, "battery < 20"))),
        _row("discharge, screen off", "% per h", "1.8", slopes.mean(slopes.is_idle)),
        _row("discharge, screen on", "% per h", "11.4", slopes.mean(slopes.is_active)),
        _row("discharge by device, p5 p50 p95", "% per h", "1.9 5.3 15.1", unplugged),
        _row("charge", "% per h", "21.2", slopes.mean(slopes.is_charging)),
        _row("charge by device, p5 p50 p95", "% per h", "11.4 22.9 40.9", charging),
    ]
