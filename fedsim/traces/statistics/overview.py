"""What is in a trace set: devices, events, share of time per state, battery, facts and provenance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import CHANNEL_CODE, FACTS, TraceSet
from fedsim.traces.criteria import Levels, compile_channel
from fedsim.traces.expression import is_unknown
from fedsim.traces.measurements import weighted_quantiles
from fedsim.traces.statistics.stats import by_quantile
from fedsim.units import DAY_MS, HOUR_S, BoolArray, FloatArray

_HOUR_MS = HOUR_S * 1000


def show_table(traces: TraceSet) -> dict[str, Any]:
    """A JSON-serialisable summary of the set; sentinels are counted and otherwise ignored."""
    levels = {name: compile_channel(traces, name) for name in _behaviour_channels(traces)}
    return {
        "n_devices": traces.n,
        "device_days": float(traces.period_ms.sum() / DAY_MS),
        "n_local_clocks": int(np.count_nonzero(traces.is_local)),
        "n_events": _events_by_channel(traces),
        "n_sentinels": int(np.count_nonzero(traces.events.is_sentinel)),
        "time_shares": {name: _time_shares(name, level) for name, level in levels.items()},
        "battery_percent": _battery_quantiles(levels["battery"]) if "battery" in levels else None,
        "battery_percent_per_h": battery_slopes(traces) if {"battery", "charging"} <= set(levels) else None,
        "facts": {name: _coverage(traces.facts[name]) for name in FACTS},
        "n_hardware_classes": 0 if traces.hardware is None else traces.hardware.num_rows,
        "provenance": dict(traces.provenance),
    }


def _events_by_channel(traces: TraceSet) -> dict[str, int]:
    counts = np.bincount(traces.events.channel[~traces.events.is_sentinel], minlength=len(CHANNELS))
    return {name: int(count) for name, count in zip(CHANNELS, counts, strict=True)}


def _behaviour_channels(traces: TraceSet) -> list[str]:
    return [name for name, count in _events_by_channel(traces).items() if count]


def _time_shares(name: str, levels: Levels) -> dict[str, float]:
    """Share of device-time per state; a battery is either known or not."""
    words = {"network": NETWORKS, "battery": ("known",)}.get(name, ("off", "on"))
    state = np.where(np.isnan(levels.value), len(words), 0 if name == "battery" else levels.value).astype(np.int64)
    held_ms = np.bincount(state, weights=levels.hold_ms, minlength=len(words) + 1)
    shares = held_ms / levels.period_ms.sum()
    return {word: float(share) for word, share in zip((*words, "unknown"), shares, strict=True)}


def _battery_quantiles(levels: Levels) -> dict[str, float] | None:
    """Quantiles of the known level, weighted by the time it holds."""
    is_known = ~np.isnan(levels.value)
    level, weight = levels.value[is_known], levels.hold_ms[is_known]
    if not weight.sum():
        return None
    return by_quantile(weighted_quantiles(level, weight))


def battery_slopes(traces: TraceSet) -> dict[str, float | None]:
    """Mean %/h while charging and while not, None where never seen.

    Taken between successive readings of one device with the charger known and unchanged, where the level moved
    in the charger's direction: a full battery on the charger says nothing about the speed of charging.
    """
    events = traces.events
    device = traces.device_of_event()
    is_charger = (events.channel == CHANNEL_CODE["charging"]) & ~events.is_sentinel
    last_charger = np.maximum.accumulate(np.where(is_charger, np.arange(len(events)), -1))
    reading = np.flatnonzero((events.channel == CHANNEL_CODE["battery"]) & ~events.is_sentinel)
    first, second = reading[:-1], reading[1:]
    is_one_stretch = (
        (device[first] == device[second])
        & (last_charger[first] == last_charger[second])
        & (last_charger[first] >= traces.offsets[device[first]])
        & (events.at_ms[first] < events.at_ms[second])
    )
    first, second = first[is_one_stretch], second[is_one_stretch]
    hours = (events.at_ms[second] - events.at_ms[first]) / _HOUR_MS
    change = (events.value[second] - events.value[first]).astype(np.float64)
    is_charging = events.value[last_charger[first]] == 1
    is_discharging = events.value[last_charger[first]] == 0
    return {
        "charging": _slope(hours, change, is_charging & (change > 0)),
        "discharging": _slope(hours, change, is_discharging & (change < 0)),
    }


def _slope(hours: FloatArray, change: FloatArray, is_used: BoolArray) -> float | None:
    total_h = hours[is_used].sum()
    return float(change[is_used].sum() / total_h) if total_h > 0 else None


def _coverage(values: npt.NDArray[Any]) -> dict[str, int]:
    known = values[~is_unknown(values)]
    return {"n_known": len(known), "n_distinct": len(np.unique(known))}


def render_show(table: dict[str, Any]) -> RenderableType:
    """The summary for a terminal of 80 columns."""
    provenance = table["provenance"]
    clock = f"{table['n_local_clocks']:,} with local time"
    lines = [
        f"{table['n_devices']:,} devices ({clock}), {table['device_days']:,.0f} device-days",
        f"source   {provenance.get('source', 'unknown')}",
        f"licence  {provenance.get('licence', 'unknown')}",
        f"facts    {_facts_line(table)}",
        f"battery  {_battery_line(table)}",
    ]
    return Group(Text("\n".join(lines)), _states(table))


def _facts_line(table: dict[str, Any]) -> str:
    facts = [
        f"{name} of {said['n_known']:,} ({said['n_distinct']:,} distinct)" for name, said in table["facts"].items()
    ]
    return ", ".join([*facts, f"{table['n_hardware_classes']:,} hardware classes"])


def _battery_line(table: dict[str, Any]) -> str:
    quantiles, slopes = table["battery_percent"], table["battery_percent_per_h"] or {}
    if quantiles is None:
        return "not recorded"
    level = "/".join(f"{value:.0f}" for value in quantiles.values())
    moves = "".join(f", {slope:+.1f} %/h {name}" for name, slope in slopes.items() if slope is not None)
    return f"p5/25/50/75/95 {level} % of time{moves}"


def _states(table: dict[str, Any]) -> Table:
    grid = Table()
    for column, side in (("channel", "left"), ("events", "right"), ("share of device-time", "left")):
        grid.add_column(column, justify="right" if side == "right" else "left")
    for name, shares in table["time_shares"].items():
        shown = ", ".join(f"{word} {share:.3f}" for word, share in shares.items() if share)
        grid.add_row(name, f"{table['n_events'][name]:,}", shown)
    grid.add_row("sentinels", f"{table['n_sentinels']:,}", "not behaviour, ignored")
    return grid
