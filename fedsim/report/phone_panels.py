"""What the work took from the phones: energy by phase, battery per session, level at assignment."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsim.report import plots
from fedsim.report.figures import Panel
from fedsim.report.words import Unit, percent
from fedsim.results.binning import LOG_BIN_EDGES
from fedsim.results.run import Run
from fedsim.results.sessions import AGGREGATED, MILLIPERCENT
from fedsim.units import J_PER_KWH

NO_BATTERY = "Not drawn: batteries were not modelled (device/battery=none)."
BINS_PER_BAR = 20  # log bins of 1.2 %: a bar is a quarter wider than its left edge
PERCENT_PER_BAR, LOW_PERCENT = 5, 20


def phone_panels(run: Run, numbers: dict[str, Any]) -> list[Panel]:
    """Energy by phase, and the battery where it is modelled; nothing for a run without sessions."""
    if not numbers["n_sessions"]:
        return []
    panels = [_energy_panel(run, numbers)]
    if numbers["battery_used_median_percent"] is None:
        return [*panels, Panel("Battery taken by a session", NO_BATTERY)]
    return [*panels, _used_panel(run, numbers), _start_panel(run, numbers)]


def _energy_panel(run: Run, numbers: dict[str, Any]) -> Panel:
    title = "Energy by phase"
    if numbers["joules_per_session"] is None:
        return Panel(title, "Not drawn: no energy was booked.")
    phase_j = run.totals.phase_j
    useful = phase_j[:, AGGREGATED]
    share = phase_j.sum(axis=1) / phase_j.sum()
    caption = (
        f"Download {percent(share[0])}, training {percent(share[1])}, upload {percent(share[2])} of "
        f"{numbers['energy_kwh']:.3g} kWh; {percent(numbers['wasted_energy_fraction'])} went into sessions that "
        "did not count."
    )
    unit = Unit("kWh", J_PER_KWH) if numbers["energy_kwh"] >= 1 else Unit("kJ", 1000.0)
    return Panel(title, caption, plots.energy_by_phase(np.stack([useful, phase_j.sum(axis=1) - useful]), unit))


def _used_panel(run: Run, numbers: dict[str, Any]) -> Panel:
    median, p95 = numbers["battery_used_median_percent"], numbers["battery_used_p95_percent"]
    counts, edges = _bars(run.totals.battery_used)
    caption = f"Half of the sessions take less than {median:.2g} % of a full battery, 95 % less than {p95:.2g} %."
    return Panel("Battery taken by a session", caption, plots.battery_used(counts, edges / MILLIPERCENT))


def _bars(histogram: Any) -> tuple[Any, Any]:
    """Log bins gathered into bars, empty ends cut off; counts and the edges of the bars."""
    starts = np.arange(0, len(histogram), BINS_PER_BAR)
    counts = np.add.reduceat(histogram, starts)
    filled = np.flatnonzero(counts)
    first, last = filled[0], filled[-1]
    edges = LOG_BIN_EDGES[np.append(starts, len(histogram))]
    return counts[first : last + 1], edges[first : last + 2]


def _start_panel(run: Run, numbers: dict[str, Any]) -> Panel:
    start = run.totals.battery_start
    low = start[:LOW_PERCENT].sum() / start.sum()
    caption = (
        f"Half of the sessions began above {numbers['battery_start_median_percent']} %, "
        f"{percent(low)} below {LOW_PERCENT} %."
    )
    whole = np.append(start[:99], start[99:].sum())  # a full battery belongs to the last bar
    bars = whole.reshape(-1, PERCENT_PER_BAR).sum(axis=1)
    return Panel("Battery at assignment", caption, plots.battery_start(bars, PERCENT_PER_BAR))
