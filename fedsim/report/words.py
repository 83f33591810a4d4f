"""Numbers and configuration values as words for a reader who has not seen the code."""

from __future__ import annotations

from typing import Any

from fedsim.units import DAY_S, HOUR_S, MINUTE_S, format_bytes

UNKNOWN = "not measured"
OUTCOME_MEANINGS = {
    "AGGREGATED": "counted in a model version",
    "LATE": "uploaded after the server had closed the round or the run",
    "STALE": "uploaded, but refused: trained on too old a version",
    "ABORTED": "told before its upload that it was not needed any more",
    "INTERRUPTED": "the device left or stopped being eligible",
    "TIMEOUT": "took longer than allowed, or its round missed the quorum",
    "FAILED": "crashed, ran out of memory or below the battery floor",
}
_SUFFIXES = (
    ("_bytes_per_s", lambda value: f"{format_bytes(value)}/s"),
    ("_bytes", format_bytes),
    ("_fraction", lambda value: percent(value)),
    ("_ms", lambda value: f"{value:g} ms"),
    ("_s", lambda value: duration(value)),
    ("_w", lambda value: f"{value:g} W"),
)


def percent(fraction: float) -> str:
    """``0.0587`` → ``'5.9 %'``; only nothing is ``'0 %'`` and only all is ``'100 %'``."""
    value = 100 * fraction
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %" if value % 1 else f"{value:.0f} %"


def large(n: float) -> str:
    """``1000000`` → ``'1 million'``, ``97559`` → ``'97,559'``, ``22.397`` → ``'22.4'``."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if n >= size:
            return f"{n / size:.3g} {name}"
    return f"{n:.3g}" if n % 1 and n < 1000 else f"{n:,.0f}"


def hours(seconds: float) -> str:
    """Device-time as hours: ``13545407`` → ``'3,763 h'``."""
    return f"{large(seconds / HOUR_S)} h"


def duration(seconds: float | None) -> str:
    """A duration in one unit and three digits (``299.1`` → ``'4.99 min'``), or that it was not measured."""
    if seconds is None:
        return UNKNOWN
    for unit_s, limit_s, name in ((1, 3 * MINUTE_S, "s"), (MINUTE_S, 3 * HOUR_S, "min"), (HOUR_S, 2 * DAY_S, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.3g} {name}"
    return f"{seconds / DAY_S:.3g} days"


def size(n_bytes: float | None) -> str:
    """A number of bytes, or that it was not measured."""
    return UNKNOWN if n_bytes is None else format_bytes(n_bytes)


def metric_name(metric: str) -> str:
    """``'log_loss'`` → ``'log loss'``, short names in capitals."""
    return metric.upper() if metric in ("auc", "aupr") else metric.replace("_", " ")


def setting(key: str, value: Any) -> str:
    """A configuration value with its name, the unit taken from the name's suffix.

    ``('deadline_s', 600)`` → ``'deadline 10 min'``; None is said to be none.
    """
    name, text = key, "none" if value is None else str(value)
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int | float):
        name, text = _with_unit(key, value)
    return f"{name.removeprefix('n_').replace('_', ' ')} {text}"


def _with_unit(key: str, value: float) -> tuple[str, str]:
    for suffix, write in _SUFFIXES:
        if key.endswith(suffix):
            return key.removesuffix(suffix), write(value)
    return key, f"{value:,}" if isinstance(value, int) else f"{value:g}"


def settings(group: dict[str, Any]) -> str:
    """The plain values of a configuration group on one line; class names, seeds and sub-groups left out."""
    skipped = ("_target_", "seed", "name")
    return ", ".join(
        setting(key, value) for key, value in group.items() if key not in skipped and not isinstance(value, dict)
    )


def listed(items: list[str]) -> str:
    """``['a', 'b', 'c']`` → ``'a, b and c'``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
