"""Amounts with their units in few digits, and with what chance leaves of them."""

from __future__ import annotations

import math

from fedsim.report.words import UNKNOWN, Unit, byte_unit, duration, duration_unit, large, percent, size
from fedsim.units import DAY_S

_MOST_DECIMALS = 6
_MOST_DIGITS = 5


def amount(number: float, unit: str) -> str:
    """A number with its unit in three digits or four; NaN was not measured, infinity was not reached.

    ``unit`` is s, bytes, bytes/s, fraction, kWh, count, number, or what is to stand behind the number.
    """
    if math.isnan(number):
        return UNKNOWN
    if math.isinf(number):
        return "not reached"
    if unit == "fraction":
        return percent(number)
    if unit == "s":
        return duration(number)
    if unit in ("bytes", "bytes/s"):
        return size(number) + unit.removeprefix("bytes")
    if unit == "number":
        return f"{number:.4g}"
    scale = _unit(number, unit)
    value = number / scale.size
    text = large(value) if value >= 1000 or unit in ("count", "h") else f"{value:.3g}"
    return f"{text}\u00a0{scale.name}" if scale.name else text


def with_half_width(center: float, half: float, unit: str) -> str:
    """``0.847 ± 0.021``: the half width of an interval to two digits, the mean as exactly, in five digits at most."""
    scale = _unit(center, unit)
    half, center = half / scale.size, center / scale.size
    of_center = _MOST_DIGITS - 1 - math.floor(math.log10(abs(center))) if center else _MOST_DECIMALS
    n = min(_MOST_DECIMALS, max(0, min(1 - math.floor(math.log10(half)), of_center)))
    if not round(half, n):
        return amount(center * scale.size, unit)
    return f"{center:,.{n}f} ± {half:,.{n}f}" + (f"\u00a0{scale.name}" if scale.name else "")


def _unit(number: float, unit: str) -> Unit:
    """The unit that suits a number which is in ``unit``."""
    if unit == "s":
        if number < 1:
            return Unit("ms", 1e-3)
        return Unit("days", DAY_S) if number >= 2 * DAY_S else duration_unit(number)
    if unit in ("bytes", "bytes/s"):
        found = byte_unit(number)
        return Unit(found.name + unit.removeprefix("bytes"), found.size)
    if unit == "kWh" and number < 1:
        return Unit("Wh", 1e-3)
    if unit == "fraction":
        return Unit("%", 0.01)
    return Unit("" if unit in ("count", "number") else unit, 1)
