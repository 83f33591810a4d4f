"""Who is eligible, for how much of the time, when and for how long: statistics of compiled rules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, Unknown, Windows, compile_rule
from fedsim.units import DAY_MS, HOUR_S, FloatArray, IntArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HOURS = 24
_HOUR_MS = HOUR_S * 1000


def mean_share(windows: Windows) -> float:
    """Eligible share of all device-time."""
    return float(windows.open_ms.sum() / windows.period_ms.sum())


def share_per_device(windows: Windows) -> FloatArray:
    """Eligible share of each trace's time, float64[n]."""
    return windows.open_ms / windows.period_ms


def never_eligible(windows: Windows) -> int:
    """Number of traces without any window."""
    return int(np.count_nonzero(np.diff(windows.offsets) == 0))


def share_by_hour(windows: Windows) -> FloatArray:
    """Eligible share of device-time in each hour of the local day, float64[24].

    Raises:
        InputError: the set has a relative clock, so the hour of day is unknown.
    """
    if not windows.is_local.all():
        n_relative = int(np.count_nonzero(~windows.is_local))
        raise InputError("hour of day is unknown: traces with a relative clock", value=n_relative)
    trace_start_ms = windows.trace_start_ms[windows.trace_of_window]
    start_ms, end_ms = windows.start_ms + trace_start_ms, windows.end_ms + trace_start_ms
    last_ms = windows.trace_start_ms + windows.period_ms
    open_ms = [(_ms_in_hour(end_ms, h) - _ms_in_hour(start_ms, h)).sum() for h in range(_HOURS)]
    all_ms = [(_ms_in_hour(last_ms, h) - _ms_in_hour(windows.trace_start_ms, h)).sum() for h in range(_HOURS)]
    return np.array(open_ms, dtype=np.float64) / np.array(all_ms, dtype=np.float64)


def _ms_in_hour(until_ms: IntArray, hour: int) -> IntArray:
    """How much of 0 … until_ms lies in this hour of some day; a difference splits windows exactly at hour bounds."""
    days, rest_ms = np.divmod(until_ms, DAY_MS)
    in_last_day: IntArray = np.clip(rest_ms - hour * _HOUR_MS, 0, _HOUR_MS)
    return days * _HOUR_MS + in_last_day


def session_quantiles(windows: Windows, q: Sequence[float] = QUANTILES) -> FloatArray | None:
    """Quantiles of window lengths in seconds; None if there is no window."""
    lengths_s = (windows.end_ms - windows.start_ms) / 1000
    return np.quantile(lengths_s, q) if lengths_s.size else None


def device_quantiles(windows: Windows, q: Sequence[float] = QUANTILES) -> FloatArray:
    """Quantiles over traces of the eligible share."""
    return np.asarray(np.quantile(share_per_device(windows), q))


def criteria_table(traces: TraceSet, rules: Sequence[Rule], *, unknown: Unknown) -> dict[str, Any]:
    """What each rule alone, and all of them jointly, leave of the trace set; JSON-serialisable.

    ``by_hour`` is None if the set's clock is relative, ``session_s`` if no window is left.
    """
    if not rules:
        raise InputError("at least one rule is needed", allowed="for example 'charging & network == wifi'")
    joint = reduce(and_, rules)
    return {
        "unknown_counts_as": unknown,
        "n_devices": traces.n,
        "device_days": float(traces.period_ms.sum() / DAY_MS),
        "rules": [_criteria_row(traces, rule, unknown) for rule in rules],
        "joint": _criteria_row(traces, joint, unknown) if len(rules) > 1 else None,
    }


def _criteria_row(traces: TraceSet, rule: Rule, unknown: Unknown) -> dict[str, Any]:
    windows = compile_rule(traces, rule, unknown=unknown)
    n_never = never_eligible(windows)
    session_s = session_quantiles(windows)
    return {
        "rule": str(rule),
        "mean_share": mean_share(windows),
        "ever_eligible_fraction": 1 - n_never / windows.n,
        "n_never_eligible": n_never,
        "n_sessions": len(windows.start_ms),
        "sessions_per_device_day": float(len(windows.start_ms) / (windows.period_ms.sum() / DAY_MS)),
        "session_s": None if session_s is None else _by_quantile(session_s),
        "device_share": _by_quantile(device_quantiles(windows)),
        "by_hour": share_by_hour(windows).tolist() if windows.is_local.all() else None,
    }


def _by_quantile(values: FloatArray) -> dict[str, float]:
    return {f"p{q * 100:g}": float(value) for q, value in zip(QUANTILES, values, strict=True)}


def render_criteria(table: dict[str, Any]) -> RenderableType:
    """The criteria table for a terminal of 80 columns."""
    rows = [(str(number), row) for number, row in enumerate(table["rules"], start=1)]
    if table["joint"] is not None:
        rows.append(("all", table["joint"]))
    parts: list[RenderableType] = [_heading(table), _shares(rows)]
    parts += [Text(f"{label:>3}  {row['rule']}") for label, row in rows]
    parts += [Text("\nshare of device-time by local hour of day")]
    return Group(*parts, *(_hours(label, row["by_hour"]) for label, row in rows))


def _heading(table: dict[str, Any]) -> Text:
    what = f"{table['n_devices']:,} devices, {table['device_days']:,.0f} device-days"
    return Text(f"{what}; unknown counts as {table['unknown_counts_as']}")


def _shares(rows: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    grid = Table()
    columns = ("rule", "share of time", "devices ever", "never", "sessions per day", "session s, p5/25/50/75/95")
    for column in columns:
        grid.add_column(column, justify="right", no_wrap=column.startswith("session s"))
    for label, row in rows:
        sessions = row["session_s"]
        grid.add_row(
            label,
            f"{row['mean_share']:.3f}",
            f"{row['ever_eligible_fraction']:.3f}",
            f"{row['n_never_eligible']:,}",
            f"{row['sessions_per_device_day']:.2f}",
            "none" if sessions is None else "/".join(f"{value:.0f}" for value in sessions.values()),
        )
    return grid


def _hours(label: str, by_hour: Sequence[float] | None) -> Text:
    if by_hour is None:
        return Text(f"{label:>3}  unknown: the clock of this set is relative")
    lines = [
        f"{first:02d}–{first + 11:02d} " + "".join(f"{share:6.3f}" for share in by_hour[first : first + 12])
        for first in (0, 12)
    ]
    return Text(f"{label:>3}\n" + "\n".join(lines))
