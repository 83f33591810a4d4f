"""How well one trace set stands for another: distances between their statistics under one rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Windows, compile_rule
from fedsim.traces.rule import Rule
from fedsim.traces.statistics.stats import mean_share, share_by_hour, share_per_device
from fedsim.units import FloatArray

_GRID_MS = 1_800_000  # half an hour, the grid of the published autocorrelation


@dataclass(frozen=True)
class Goodness:
    """Distances of a set from a reference set; 0 is perfect."""

    mean_share: float  # difference of the eligible share of time
    hour_of_day: float | None  # largest difference of the share by local hour; None if a set's clock is relative
    session_ks: float | None  # Kolmogorov-Smirnov distance of session lengths; None if a set has no session
    device_ks: float  # Kolmogorov-Smirnov distance of the devices' own shares
    autocorrelation: float | None  # difference of the lag-1 autocorrelation on a half-hour grid; None if one has none


def goodness(made: TraceSet, real: TraceSet, rule: Rule) -> Goodness:
    """Compare two sets; unknown values count as ineligible in both."""
    is_local = bool(made.is_local.all() and real.is_local.all())
    ours, theirs = (compile_rule(traces, rule, unknown="ineligible") for traces in (made, real))
    has_sessions = bool(len(ours.start_ms) and len(theirs.start_ms))
    one, other = autocorrelation(ours), autocorrelation(theirs)
    return Goodness(
        mean_share=mean_share(ours) - mean_share(theirs),
        hour_of_day=float(np.abs(share_by_hour(ours) - share_by_hour(theirs)).max()) if is_local else None,
        session_ks=ks_distance(_lengths(ours), _lengths(theirs)) if has_sessions else None,
        device_ks=ks_distance(share_per_device(ours), share_per_device(theirs)),
        autocorrelation=None if one is None or other is None else one - other,
    )


def _lengths(windows: Windows) -> FloatArray:
    return (windows.end_ms - windows.start_ms).astype(np.float64)


def ks_distance(a: FloatArray, b: FloatArray) -> float:
    """Largest difference of two empirical distribution functions."""
    if not len(a) or not len(b):
        raise InputError("a distance needs values on both sides", value=(len(a), len(b)))
    at = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(side), at, side="right") / len(side) for side in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def autocorrelation(windows: Windows) -> float | None:
    """Correlation of a device's eligibility with its own half an hour later, over all devices.

    Eligibility is read at the half hours of each trace; the trace's end is not joined to its start. None if it never
    changes there.
    """
    if not len(windows.start_ms):
        return None
    n_points = windows.period_ms // _GRID_MS
    trace = np.repeat(np.arange(windows.n), n_points)
    point = np.arange(n_points.sum()) - np.repeat(np.cumsum(n_points) - n_points, n_points)
    base = np.concatenate([[0], np.cumsum(windows.period_ms + 1)])[:-1]
    key = base[np.repeat(np.arange(windows.n), np.diff(windows.offsets))] + windows.start_ms
    at = point * _GRID_MS
    window = np.searchsorted(key, base[trace] + at, side="right") - 1
    is_open = (window >= windows.offsets[trace]) & (at < windows.end_ms[window])
    is_pair = trace[1:] == trace[:-1]
    before, after = is_open[:-1][is_pair], is_open[1:][is_pair]
    if before.all() or after.all() or not (before.any() and after.any()):
        return None
    return float(np.corrcoef(before, after)[0, 1])
