"""The numbers behind a picture of a trace set: when, how long and which devices are eligible, battery, network."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.schema import NETWORKS
from fedsim.traces import clock
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Levels, Unknown, Windows, compile_channel, compile_rule
from fedsim.traces.measurements import QUANTILES
from fedsim.traces.rule import Rule
from fedsim.traces.statistics import stats
from fedsim.traces.statistics.overview import show_table
from fedsim.units import DAY_MS, HOUR_S, MINUTE_S, FloatArray, IntArray

_FLASH_RULE = {"charging": "charging", "network": "network == wifi", "locked": "locked"}
_LENGTHS_S = (MINUTE_S, 10 * MINUTE_S, HOUR_S)  # of a session that is long enough for something
_N_POINTS = 160  # of a curve
_PATH_RANKS = (0.1, 0.4, 0.7, 0.95)  # devices to draw, by their mean battery level
_PATH_DAYS = 7
_PATH_STEP_MS = 30 * MINUTE_S * 1000
_PATH_KNOWN_FRACTION = 0.8  # of a device's time, for it to be drawn


def default_rule(traces: TraceSet) -> Rule:
    """``charging & network == wifi & locked`` (FLASH's) as far as its channels are recorded, else ``available``."""
    recorded = traces.channels()
    parts = [text for channel, text in _FLASH_RULE.items() if channel in recorded]
    if not parts and "available" not in recorded:
        raise InputError("the set records nothing to choose a rule from", allowed="--rule RULE")
    return Rule.parse(" & ".join(parts) or "available")


def portrait(traces: TraceSet, rule: Rule, *, unknown: Unknown) -> dict[str, Any]:
    """All numbers of the picture, JSON-serialisable; parts that the set cannot tell are None.

    Simplification: a session that spans the end of its trace counts as two, as everywhere in these statistics.
    """
    windows = compile_rule(traces, rule, unknown=unknown)
    overview = show_table(traces)
    is_local = bool(traces.is_local.all())
    return {
        "overview": overview,
        "rule": str(rule),
        "unknown_counts_as": unknown,
        "mean_share": stats.mean_share(windows),
        "by_hour": stats.share_by_hour(windows).tolist() if is_local else None,
        "week": _week(windows, traces.provenance) if is_local else None,
        "sessions": _sessions(windows),
        "devices": _devices(windows),
        "battery": _battery(traces, is_local=is_local) if overview["n_events"]["battery"] else None,
        "network_by_hour": _network_by_hour(traces) if is_local and overview["n_events"]["network"] else None,
    }


def _week(windows: Windows, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Eligible share in every hour of the week; days are named only if the set's first midnight has a date."""
    first = provenance.get("first_midnight")
    weekday = None if first is None else date.fromisoformat(first).weekday()
    begin_ms = windows.trace_start_ms + (weekday or 0) * DAY_MS
    of_window = begin_ms[windows.trace_of_window]
    open_ms = _week_ms(windows.start_ms + of_window, windows.end_ms + of_window)
    all_ms = _week_ms(begin_ms, begin_ms + windows.period_ms)
    share = np.divide(open_ms, all_ms, out=np.full_like(open_ms, np.nan), where=all_ms > 0)
    return {
        "has_weekdays": weekday is not None,
        "share": [[None if np.isnan(value) else value for value in day] for day in share.reshape(7, 24).tolist()],
        "device_days": (all_ms.reshape(7, 24).sum(axis=1) / DAY_MS).tolist(),
    }


def _week_ms(start_ms: IntArray, end_ms: IntArray) -> FloatArray:
    return clock.ms_by_hour(start_ms, end_ms, n_hours=clock.HOURS_OF_WEEK)


def _sessions(windows: Windows) -> dict[str, Any] | None:
    """How long sessions last; each length with the share of sessions that last at least as long, and of their time."""
    length_s = np.sort((windows.end_ms - windows.start_ms) / 1000)
    if not length_s.size:
        return None
    grid_s = np.geomspace(length_s[0], length_s[-1], _N_POINTS)
    grid_s[0], grid_s[-1] = length_s[0], length_s[-1]  # a power of a logarithm may miss by a hair
    return {
        "n": len(length_s),
        "per_device_day": float(len(length_s) / (windows.period_ms.sum() / DAY_MS)),
        "quantiles_s": stats.by_quantile(np.quantile(length_s, QUANTILES)),
        "curve": _at_least(length_s, grid_s),
        "marks": _at_least(length_s, np.array(_LENGTHS_S, dtype=np.float64)),
    }


def _at_least(length_s: FloatArray, grid_s: FloatArray) -> dict[str, list[float]]:
    first = np.searchsorted(length_s, grid_s)
    time_s = np.append(0.0, np.cumsum(length_s))
    return {
        "seconds": grid_s.tolist(),
        "sessions": (1 - first / len(length_s)).tolist(),
        "time": (1 - time_s[first] / time_s[-1]).tolist(),
    }


def _devices(windows: Windows) -> dict[str, Any]:
    """Eligible share of time per device, from the most to the least available."""
    share = stats.share_per_device(windows)
    q = np.linspace(0, 1, 101)
    return {
        "n": windows.n,
        "n_never": stats.never_eligible(windows),
        "quantiles": stats.by_quantile(stats.device_quantiles(windows)),
        "curve": {"devices": q.tolist(), "share": np.quantile(share, 1 - q).tolist()},
    }


def _battery(traces: TraceSet, *, is_local: bool) -> dict[str, Any]:
    """Level of a few devices over their first days, and its quantiles over all devices at half past each hour."""
    levels = compile_channel(traces, "battery")
    return {
        "paths": [_path(traces, levels, row) for row in _drawn_devices(levels)],
        "band": [_level_at(traces, levels, hour) for hour in range(clock.HOURS_OF_DAY)] if is_local else None,
    }


def _drawn_devices(levels: Levels) -> list[int]:
    """Devices whose level is known most of the time, spread over the ranks of their mean level."""
    hold_ms = np.where(np.isnan(levels.value), 0, levels.hold_ms)
    known_ms = np.add.reduceat(hold_ms, levels.offsets[:-1])
    percent_ms = np.add.reduceat(np.nan_to_num(levels.value) * hold_ms, levels.offsets[:-1])
    rows = np.flatnonzero(known_ms >= _PATH_KNOWN_FRACTION * levels.period_ms)
    by_level = rows[np.argsort(percent_ms[rows] / known_ms[rows], kind="stable")]
    ranks = sorted({int(rank * len(by_level)) for rank in _PATH_RANKS}) if by_level.size else []
    return [int(row) for row in by_level[ranks]]


def _path(traces: TraceSet, levels: Levels, row: int) -> dict[str, Any]:
    """One device's level every half hour; hours count from the midnight before its start."""
    end_ms = min(int(traces.period_ms[row]), _PATH_DAYS * DAY_MS)
    at_ms = np.arange(0, end_ms, _PATH_STEP_MS)
    percent = levels.at(np.full(len(at_ms), row), at_ms).astype(np.float64)
    return {
        "device_id": str(traces.device_id[row]),
        "hours": ((traces.start_ms[row] % DAY_MS + at_ms) / clock.HOUR_MS).tolist(),
        "percent": [None if np.isnan(value) else value for value in percent.tolist()],
    }


def _level_at(traces: TraceSet, levels: Levels, hour: int) -> list[float] | None:
    """Quantiles of the known levels at half past the hour, on every day of every device."""
    device = np.repeat(np.arange(traces.n), traces.period_days)
    day = np.arange(len(device)) - np.repeat(np.cumsum(traces.period_days) - traces.period_days, traces.period_days)
    first_ms = (hour * clock.HOUR_MS + clock.HOUR_MS // 2 - traces.start_ms) % DAY_MS
    percent = levels.at(device, first_ms[device] + day * DAY_MS)
    known = percent[~np.isnan(percent)]
    return np.quantile(known, QUANTILES).tolist() if known.size else None


def _network_by_hour(traces: TraceSet) -> dict[str, list[float]]:
    """Share of device-time on each network by hour of day; unknown is one of them."""
    levels = compile_channel(traces, "network")
    start_ms = levels.at_ms + traces.start_ms[levels.device]
    end_ms = start_ms + levels.hold_ms
    state = np.where(np.isnan(levels.value), len(NETWORKS), levels.value)
    all_ms = clock.ms_by_hour(traces.start_ms, traces.start_ms + traces.period_ms)
    return {
        name: (clock.ms_by_hour(start_ms[state == code], end_ms[state == code]) / all_ms).tolist()
        for code, name in enumerate((*NETWORKS, "unknown"))
    }
