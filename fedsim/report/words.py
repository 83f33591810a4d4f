"""Numbers and configuration values as words for a reader who has not seen the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fedsim.units import DAY_S, HOUR_S, MINUTE_S, format_bytes

UNKNOWN = "not measured"
OUTCOME_MEANINGS = {
    "AGGREGATED": "counted in a model version",
    "LATE": "uploaded after its round had closed",
    "STALE": "uploaded, but refused: trained on too old a version",
    "ABORTED": "told before its upload that it was not needed any more",
    "INTERRUPTED": "the device left or stopped being eligible",
    "TIMEOUT": "took longer than allowed, or its round missed the quorum",
    "FAILED": "the work crashed, ran out of memory, or took the battery to its floor",
    "OPEN": "in flight, queued or buffered when the run ended",
}
_TIME_UNITS = ((1e-3, 1, "ms"), (1, 3 * MINUTE_S, "s"), (MINUTE_S, 3 * HOUR_S, "min"), (HOUR_S, 2 * DAY_S, "h"))
_SUFFIXES: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_s_per_step", lambda value: f"{value:g}\u00a0s per step"),
    ("bytes_per_s", lambda value: f"{size(value)}/s"),
    ("_bytes", lambda value: size(value)),
    ("_fraction", lambda value: f"{100 * value:g}\u00a0%"),
    ("_ms", lambda value: f"{value:g}\u00a0ms"),
    ("_s", lambda value: duration(value)),
    ("_w", lambda value: f"{value:g}\u00a0W"),
    ("_wh", lambda value: f"{value:g}\u00a0Wh"),
    ("_percent_per_h", lambda value: f"{value:g}\u00a0% per h"),
    ("_percent", lambda value: f"{value:g}\u00a0%"),
    ("_days", lambda value: f"{value:g}\u00a0days"),
)


class Unit(NamedTuple):
    """A unit of an axis: its name and its size in the unit of the data."""

    name: str
    size: float


def duration_unit(seconds: float) -> Unit:
    """Seconds, minutes or hours, as suits a typical duration."""
    if seconds >= 2 * HOUR_S:
        return Unit("h", HOUR_S)
    return Unit("min", MINUTE_S) if seconds >= 3 * MINUTE_S else Unit("s", 1)


def byte_unit(largest: float) -> Unit:
    """The largest decimal unit that does not exceed a number of bytes."""
    units = [Unit("B", 1), Unit("kB", 1e3), Unit("MB", 1e6), Unit("GB", 1e9), Unit("TB", 1e12)]
    return [unit for unit in units if unit.size <= max(largest, 1)][-1]


def percent(fraction: float) -> str:
    """``0.0587`` → ``'5.9 %'``; only nothing is ``'0 %'`` and only all is ``'100 %'``."""
    value = 100 * fraction
    if 0 < value < 0.1:
        return "<\u00a00.1\u00a0%"
    if 99.9 < value < 100:
        return ">\u00a099.9\u00a0%"
    return f"{value:.0f}\u00a0%" if value in (0, 100) else f"{value:.1f}\u00a0%"


def large(n: float) -> str:
    """``1000000`` → ``'1 million'``, ``97559`` → ``'97,559'``, ``22.397`` → ``'22.4'``."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if n >= size:
            return f"{n / size:.3g}\u00a0{name}"
    return f"{n:.3g}" if n % 1 and n < 1000 else f"{n:,.0f}"


def hours(seconds: float) -> str:
    """Device-time as hours: ``13545407`` → ``'3,763 h'``."""
    return f"{large(seconds / HOUR_S)}\u00a0h"


def duration(seconds: float | None) -> str:
    """A duration in one unit and three digits (``299.1`` → ``'4.99 min'``), or that it was not measured."""
    if seconds is None:
        return UNKNOWN
    for unit_s, limit_s, name in _TIME_UNITS:
        if seconds < limit_s and (seconds or unit_s == 1):
            return f"{seconds / unit_s:.3g}\u00a0{name}"
    return f"{seconds / DAY_S:.3g}\u00a0days"


def size(n_bytes: float | None) -> str:
    """A number of bytes, or that it was not measured."""
    return UNKNOWN if n_bytes is None else format_bytes(n_bytes).replace(" ", "\u00a0")


def metric_name(metric: str) -> str:
    """``'log_loss'`` → ``'log loss'``, short names in capitals."""
    return metric.upper() if metric in ("auc", "aupr", "ndcg5", "ndcg10") else metric.replace("_", " ")


def setting(key: str, value: Any, *, unit_of: str | None = None) -> str:
    """A configuration value with its name, the unit taken from the suffix of the key (or of ``unit_of``).

    ``('deadline_s', 600)`` → ``'deadline 10 min'``; None is said to be none.
    """
    suffix, write = _unit(key if unit_of is None else unit_of)
    name = (key.removesuffix(suffix) or key).removeprefix("n_").strip("_").replace("_", " ")
    if isinstance(value, dict):
        return f"{name} ({', '.join(setting(k, v, unit_of=key) for k, v in value.items())})"
    if isinstance(value, bool):
        return f"{name} {'yes' if value else 'no'}"
    if isinstance(value, int | float):
        return f"{name} {write(value)}"
    if isinstance(value, list):
        return f"{name} {listed([str(item) for item in value])}"
    return f"{name} {'none' if value is None else value}"


def _unit(key: str) -> tuple[str, Callable[[float], str]]:
    for suffix, write in _SUFFIXES:
        if key.endswith(suffix):
            return suffix, write
    return "", lambda value: f"{value:,}" if isinstance(value, int) else f"{value:g}"


def group(values: dict[str, Any]) -> str:
    """A configuration group on one line: its class, its values, then the groups inside it; seeds are left out."""
    own, inner = [], []
    for key, value in values.items():
        if isinstance(value, dict) and "_target_" in value:
            inner.append(group(value))
        elif key not in ("_target_", "seed", "name"):
            own.append(setting(key, value))
    name = str(values.get("_target_", "")).rpartition(".")[2]
    return "; ".join(filter(None, [": ".join(filter(None, [name, ", ".join(own)])), *inner]))


def listed(items: list[str]) -> str:
    """``['a', 'b', 'c']`` → ``'a, b and c'``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items) or "none"
