"""How many devices become eligible in stretches of time: each may check in with the server then."""

from __future__ import annotations

import numpy as np

from fedsim.fleet.fleet import Fleet
from fedsim.traces.criteria import Windows
from fedsim.units import US_PER_MS, FloatArray, IntArray, to_us

_AT_ONCE = 1 << 12  # cells


def openings_per_device(fleet: Fleet, windows: Windows, edges: FloatArray) -> FloatArray:
    """Windows that open in each stretch [edges[i], edges[i + 1]), per device of the fleet, ``float64[n]``.

    ``edges`` are ascending, the first is not negative. A window that goes on across a trace's end opens once; one
    that fills the whole trace never does.
    """
    starts_us, first = _openings(windows)
    weights, edges_us = fleet.cell_weights(), to_us(edges)
    found = np.zeros(len(edges) - 1)
    for begin in range(0, len(weights), _AT_ONCE):
        cells = np.arange(begin, min(begin + _AT_ONCE, len(weights)))
        cells = cells[weights[cells] > 0]
        found += _of_cells(fleet, windows, starts_us, first, cells, weights[cells], edges_us)
    return found


def _openings(windows: Windows) -> tuple[IntArray, IntArray]:
    """Where windows open, ``int64[m]`` µs into their traces, and which of them are of each trace ``[n + 1]``."""
    trace = np.repeat(np.arange(windows.n), np.diff(windows.offsets))
    last = np.maximum(windows.offsets[1:] - 1, 0)
    reaches_end = np.zeros(windows.n, dtype=bool)
    some = np.diff(windows.offsets) > 0
    reaches_end[some] = windows.end_ms[last[some]] == windows.period_ms[some]
    opens = ~((windows.start_ms == 0) & reaches_end[trace])
    first = np.concatenate([[0], np.cumsum(np.bincount(trace[opens], minlength=windows.n))])
    return windows.start_ms[opens] * US_PER_MS, first


def _of_cells(
    fleet: Fleet, windows: Windows, starts_us: IntArray, first: IntArray, cells: IntArray, weights: FloatArray,
    edges_us: IntArray,
) -> FloatArray:  # fmt: skip
    trace = fleet.cell_trace[cells]
    n = first[trace + 1] - first[trace]
    cell = np.repeat(np.arange(len(cells)), n)
    window = np.arange(len(cell)) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first[trace], n)
    period_us = (windows.period_ms * US_PER_MS)[trace][cell]
    at_us = (starts_us[window] - fleet.cell_phase_us[cells][cell]) % period_us
    found = np.zeros(len(edges_us) - 1)
    while len(at_us):
        stretch = np.searchsorted(edges_us, at_us, side="right") - 1
        inside = (stretch >= 0) & (stretch < len(found))
        found += np.bincount(stretch[inside], weights=weights[cell[inside]], minlength=len(found))
        kept = np.flatnonzero(at_us + period_us < edges_us[-1])
        at_us, period_us, cell = at_us[kept] + period_us[kept], period_us[kept], cell[kept]
    return found
