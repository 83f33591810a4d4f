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
    clock.require_local(windows.is_local)
    trace_start_ms = windows.trace_start_ms[windows.trace_of_window]
    open_ms = clock.ms_by_hour(windows.start_ms + trace_start_ms, windows.end_ms + trace_start_ms)
    return open_ms / clock.ms_by_hour(windows.trace_start_ms, windows.trace_start_ms + windows.period_ms)


def session_quantiles(windows: Windows, q: Sequence[float] = QUANTILES) -> FloatArray | None:
    """Quantiles of window lengths in seconds; None if there is no window."""
    lengths_s = (windows.end_ms - windows.start_ms) / 1000
    return np.quantile(lengths_s, q) if lengths_s.size else None


def device_quantiles(windows: Windows, q: Sequence[float] = QUANTILES) -> FloatArray:
    """Quantiles over traces of the eligible share."""
    return np.asarray(np.quantile(share_per_device(windows), q))


def criteria_table(
    traces: TraceSet,
    rules: Sequence[Rule],
    *,
    unknown: Unknown,
    base: Rule | None = None,
    combinations: Sequence[Rule] = (),
) -> dict[str, Any]:
    """What each rule alone, all of them jointly, and one after the other leave of the trace set; JSON-serialisable.

    ``left`` are shares of the devices, sessions and device-hours of ``base`` (:class:`fedsim.traces.left.Base`);
    every rule is asked together with it. ``combinations`` are further rules made of the same comparisons.
    In ``funnel``, ``kept`` is what a rule leaves of what the rules before it had left.
    ``by_hour`` is None if the set's clock is relative, ``session_s`` if no window is left.
    """
    if not rules:
        raise InputError("at least one rule is needed", allowed="for example 'charging & network == wifi'")
    every = Rule.parse("true") if base is None else base
    compiler = RuleCompiler(traces, [every, *rules], unknown=unknown)
    whole = Base(compiler.windows(every), is_whole=base is None)
    if not whole.counts["devices"]:
        raise InputError("no device of the trace set ever meets the base rule", value=str(base))

    def row(rule: Rule) -> dict[str, Any]:
        return _criteria_row(rule, compiler.windows(every & rule), whole)

    chain = [row(rule) for rule in accumulate(rules, and_)]
    return {
        "unknown_counts_as": unknown,
        "n_devices": traces.n,
        "device_days": float(traces.period_ms.sum() / DAY_MS),
        "base": None if base is None else str(base),
        "base_counts": whole.counts,
        "rules": [row(rule) for rule in rules],
        "joint": chain[-1] if len(rules) > 1 else None,
        "combinations": [row(rule) for rule in combinations],
        "funnel": _funnel(rules, [counted["left"] for counted in chain]),
    }


def _criteria_row(rule: Rule, windows: Windows, base: Base) -> dict[str, Any]:
    n_never = never_eligible(windows)
    session_s = session_quantiles(windows)
    return {
        "rule": str(rule),
        "left": base.left(windows),
        "mean_share": mean_share(windows),
        "ever_eligible_fraction": 1 - n_never / windows.n,
        "n_never_eligible": n_never,
        "n_sessions": len(windows.start_ms),
        "sessions_per_device_day": float(len(windows.start_ms) / (windows.period_ms.sum() / DAY_MS)),
        "session_s": None if session_s is None else _by_quantile(session_s),
        "device_share": _by_quantile(device_quantiles(windows)),
        "by_hour": share_by_hour(windows).tolist() if windows.is_local.all() else None,
    }


def _funnel(rules: Sequence[Rule], left: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    before = [dict.fromkeys(KINDS, 1.0), *left]
    return [
        {"rule": str(rule), "left": {kind: now[kind] for kind in KINDS}, "kept": share_of(now, previous)}
        for rule, now, previous in zip(rules, left, before, strict=False)
    ]


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
