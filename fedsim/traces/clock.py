"""Hours of the local day: how spans of time, and the hours they touch, fall into them.

Sums over millions of spans cost one pass: time up to an instant is whole days plus a rest, and the
difference of two such sums splits every span exactly at the bounds of the hours.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

HOURS_OF_DAY, HOURS_OF_WEEK = 24, 168
HOUR_MS = HOUR_S * 1000
_EPOCH = date(1970, 1, 1)
MIN_MS, MAX_MS = 946_684_800_000, 4_102_444_800_000  # 2000-01-01 and 2100-01-01: no phone recorded before or after
MAX_RELATIVE_MS = 3_653 * 24 * HOUR_MS  # ten years since a log began
PLAUSIBLE = "2000-01-01 … 2099-12-31; is the unit or the date wrong?"
PLAUSIBLE_RELATIVE = "0 … 10 years; is the unit wrong?"


def date_of(at_ms: int) -> str:
    """The date of an instant that counts from 1970 on its own clock, YYYY-MM-DD."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat()


def instant_of(at_ms: int) -> str:
    """An instant that counts from 1970 as people write it, or as it is where no calendar reaches."""
    try:
        return (datetime(1970, 1, 1) + timedelta(milliseconds=at_ms)).isoformat(" ")
    except OverflowError:
        return f"{at_ms} ms since 1970"


def ms_by_hour(start_ms: IntArray, end_ms: IntArray, *, n_hours: int = HOURS_OF_DAY) -> FloatArray:
    """Sum of the time inside the spans in each hour of a cycle that starts at midnight, float64[n_hours]."""
    return _by_cell(end_ms, HOUR_MS, n_hours) - _by_cell(start_ms, HOUR_MS, n_hours)


def touched_by_hour(trace: npt.NDArray[np.int32], start_ms: IntArray, end_ms: IntArray) -> FloatArray:
    """How many hours (counted once for each trace and date) the spans touch, by hour of day, float64[24].

    Spans of one trace are sorted and do not overlap.
    """
    first, last = start_ms // HOUR_MS, (end_ms - 1) // HOUR_MS
    first = np.where(_continues(trace, first, last), first + 1, first)
    return _by_cell(last + 1, 1, HOURS_OF_DAY) - _by_cell(first, 1, HOURS_OF_DAY)


def _continues(trace: npt.NDArray[np.int32], first: IntArray, last: IntArray) -> BoolArray:
    """Whether a span begins in the cell in which the span before it, of the same trace, ends."""
    return np.append(False, (trace[1:] == trace[:-1]) & (first[1:] == last[:-1]))[: len(first)]


def n_touched(trace: npt.NDArray[np.int32], start_ms: IntArray, end_ms: IntArray, *, cell_ms: int) -> int:
    """How many cells of that length (counted once for each trace) the spans touch."""
    first, last = start_ms // cell_ms, (end_ms - 1) // cell_ms
    return int((last - first + 1).sum() - np.count_nonzero(_continues(trace, first, last)))


def _by_cell(until: IntArray, size: int, n_cells: int) -> FloatArray:
    """Sum over all spans 0 … until of what falls into each cell of a cycle; exact below 2**53."""
    cycles, rest = np.divmod(until, size * n_cells)
    cell, inside = np.divmod(rest, size)
    n_ending = np.bincount(cell, minlength=n_cells)
    n_past = n_ending[::-1].cumsum()[::-1] - n_ending
    total: FloatArray = (cycles.sum() + n_past) * float(size) + np.bincount(cell, inside, n_cells)
    return total


def require_local(is_local: BoolArray) -> None:
    """Refuse traces whose hour of day is unknown."""
    n_relative = int(np.count_nonzero(~is_local))
    if n_relative:
        raise InputError("hour of day is unknown: traces with a relative clock", value=n_relative)
