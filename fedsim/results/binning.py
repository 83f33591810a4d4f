"""Time bins and streaming histograms: what a report keeps of tables that do not fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.units import DAY_S, HOUR_S, MINUTE_S, FloatArray, IntArray

BINS_PER_DECADE = 200
SHORTEST_S, LONGEST_S = 1e-3, 1e8
LOG_BIN_EDGES: FloatArray = np.geomspace(
    SHORTEST_S, LONGEST_S, round(BINS_PER_DECADE * np.log10(LONGEST_S / SHORTEST_S)) + 1
)
# Longest run counted by the second and by the minute; others by the hour. So memory stays small for any run.
LONGEST_BY_SECOND_S, LONGEST_BY_MINUTE_S = 6 * HOUR_S, 60 * DAY_S
DISPLAY_WIDTHS_S = (
    *(1, 2, 5, 10, 20, 30),
    *(MINUTE_S * n for n in (1, 2, 5, 10, 20, 30)),
    *(HOUR_S * n for n in (1, 2, 4, 6, 12, 24, 168)),
)


@dataclass(frozen=True)
class Grid:
    """Equal bins from instant 0 to ``horizon_s``; the last takes the rest, between a half and one and a half bins."""

    horizon_s: float
    width_s: float

    @classmethod
    def covering(cls, horizon_s: float) -> Grid:
        """Bins of a second up to 6 hours, of a minute up to 60 days, else of an hour."""
        if horizon_s <= LONGEST_BY_SECOND_S:
            return cls(horizon_s, 1)
        return cls(horizon_s, MINUTE_S if horizon_s <= LONGEST_BY_MINUTE_S else HOUR_S)

    @property
    def n_bins(self) -> int:
        """Number of bins, at least one."""
        return max(1, round(self.horizon_s / self.width_s))

    def index(self, at: FloatArray) -> IntArray:
        """The bin of each instant; the horizon itself belongs to the last bin."""
        bins: IntArray = np.clip((at / self.width_s).astype(np.int64), 0, self.n_bins - 1)
        return bins

    def edges(self) -> FloatArray:
        """``float64[n_bins + 1]`` instants; the last is the horizon."""
        return np.append(np.arange(self.n_bins) * float(self.width_s), self.horizon_s)

    def seconds(self) -> FloatArray:
        """Length of each bin, ``float64[n_bins]``."""
        return np.diff(self.edges())

    def coarser(self, width_s: float) -> Grid:
        """The grid over the same time whose bins are ``width_s`` long, or as long as these if that is longer."""
        return Grid(self.horizon_s, max(width_s, self.width_s))

    def coarsen(self, values: npt.NDArray[Any], grid: Grid) -> FloatArray:
        """Sums of this grid's ``values`` (last axis) in the bins of a ``grid`` made of whole bins of this one."""
        starts = np.arange(grid.n_bins) * round(grid.width_s / self.width_s)
        sums = np.add.reduceat(values, starts, axis=-1)
        return sums.astype(np.float64, copy=False)


def display_width_s(at_least_s: float) -> float:
    """The shortest round width, from a second to a week, that is at least so long; a week if none is."""
    return next((width for width in DISPLAY_WIDTHS_S if width >= at_least_s), DISPLAY_WIDTHS_S[-1])


def spread(grid: Grid, start: FloatArray, end: FloatArray, amount: npt.NDArray[Any]) -> FloatArray:
    """Spread each row's amount evenly over [start, end) and add up per bin, ``float64[n_bins]``.

    With ``amount = end - start`` the result is the exact overlap in seconds. A row of no length
    falls into the bin of its start. What lies beyond the horizon is left out.
    """
    start, end, amount = _cut(start, end, amount, grid.horizon_s)
    first, last, n = grid.index(start), grid.index(end), grid.n_bins
    is_inside = first == last
    binned = weighted_counts(first[is_inside], amount[is_inside], n)
    crossing = ~is_inside
    first, last, start, end = first[crossing], last[crossing], start[crossing], end[crossing]
    rate = amount[crossing] / (end - start)
    binned += weighted_counts(first, rate * ((first + 1) * grid.width_s - start), n)
    binned += weighted_counts(last, rate * (end - last * grid.width_s), n)
    # Whole bins between the first and the last: a rate that is switched on, then off.
    switched = weighted_counts(first + 1, rate, n) - weighted_counts(last, rate, n)
    total: FloatArray = binned + np.cumsum(switched) * grid.width_s
    return total


def _cut(
    start: FloatArray, end: FloatArray, amount: npt.NDArray[Any], horizon_s: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The part of each row before the horizon."""
    first, last = np.minimum(start, horizon_s), np.minimum(end, horizon_s)
    kept = np.where(start <= horizon_s, 1.0, 0.0)
    np.divide(last - first, end - start, out=kept, where=end > start)
    return first, last, amount * kept


def weighted_counts(bins: IntArray, weights: npt.NDArray[Any], n_bins: int) -> FloatArray:
    """Sum of the weights in each bin, at least ``n_bins`` of them."""
    return np.bincount(bins, weights=weights, minlength=n_bins).astype(np.float64, copy=False)


def log_histogram(seconds: FloatArray) -> IntArray:
    """Counts in logarithmic bins 1.2 % wide, from a millisecond to three years; outliers go to the end bins."""
    bins = np.clip(np.searchsorted(LOG_BIN_EDGES, seconds, side="right") - 1, 0, len(LOG_BIN_EDGES) - 2)
    return np.bincount(bins, minlength=len(LOG_BIN_EDGES) - 1)


def log_quantile(counts: IntArray, fraction: float) -> float | None:
    """A quantile of a log histogram, within 0.6 %; what is below a millisecond counts as 0; None if it is empty."""
    index = count_quantile(counts, fraction)
    if not index:
        return None if index is None else 0.0
    return float(np.sqrt(LOG_BIN_EDGES[index] * LOG_BIN_EDGES[index + 1]))


def count_quantile(counts: IntArray, fraction: float) -> int | None:
    """The smallest index at or below which at least ``fraction`` of the counts lie; None if there are none."""
    total = int(counts.sum())
    if total == 0:
        return None
    return int(np.searchsorted(np.cumsum(counts), max(1, np.ceil(fraction * total))))


def padded_sum(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Element-wise sum; the shorter last axis counts as zeros."""
    long, short = (a, b) if a.shape[-1] > b.shape[-1] else (b, a)
    total = long.copy()
    total[..., : short.shape[-1]] += short
    return total
