"""Who is eligible, for how much of the time, when and for how long: statistics of compiled rules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import and_
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.traces import clock
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import RuleCompiler, Unknown, Windows
from fedsim.traces.measurements import QUANTILES
from fedsim.traces.rule import Rule
from fedsim.traces.statistics.left import KINDS, Base, share_of
from fedsim.units import DAY_MS, FloatArray


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

    ``left`` are shares of the devices, sessions and device-hours of ``base``
    (:class:`fedsim.traces.statistics.left.Base`); every rule is asked together with it. ``combinations`` are further
    rules made of the same comparisons. In ``funnel``, ``kept`` is what a rule leaves of what those before it had left.
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
        "session_s": None if session_s is None else by_quantile(session_s),
        "device_share": by_quantile(device_quantiles(windows)),
        "by_hour": share_by_hour(windows).tolist() if windows.is_local.all() else None,
    }


def _funnel(rules: Sequence[Rule], left: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    before = [dict.fromkeys(KINDS, 1.0), *left]
    return [
        {"rule": str(rule), "left": {kind: now[kind] for kind in KINDS}, "kept": share_of(now, previous)}
        for rule, now, previous in zip(rules, left, before, strict=False)
    ]


def by_quantile(values: FloatArray) -> dict[str, float]:
    """Values at :data:`fedsim.traces.measurements.QUANTILES` under their names, p5 … p95."""
    return {f"p{q * 100:g}": float(value) for q, value in zip(QUANTILES, values, strict=True)}
