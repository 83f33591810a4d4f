"""Amounts of the quantities in words."""

from __future__ import annotations

import math

from fedsim.report.words import large, percent, size

_DAY_H = 24.0


def amount_of(number: float, unit: str) -> str:
    """A number of a quantity's unit as a reader wants it; NaN is unknown, infinity was not reached."""
    if math.isnan(number):
        return "unknown"
    if math.isinf(number):
        return "not reached"
    if unit == "fraction":
        return percent(number)
    if unit in ("bytes", "bytes/s"):
        return size(number) + unit.removeprefix("bytes")
    if unit == "days" and 0 < abs(number) < 1:
        return f"{number * _DAY_H:.3g}\u00a0h"
    text = f"{number:.3g}" if abs(number) < 1000 else large(number)
    return text if unit in ("number", "count", "") else f"{text}\u00a0{unit}"


def with_interval(estimate: float, low: float, high: float, unit: str) -> str:
    """``0.61 h (0.4 … 0.9 h)``: an estimate, and its interval where there is one."""
    if not math.isfinite(estimate) or math.isnan(low + high) or not high > low:
        return amount_of(estimate, unit)
    return f"{amount_of(estimate, unit)} ({amount_of(low, unit)} … {amount_of(high, unit)})"
