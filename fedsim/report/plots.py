"""The figures of a report as inline SVG; the one door to matplotlib."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from fedsim.report.svg import color, inline
from fedsim.report.tables import OutcomeRow, Series, StepTimes
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, HOUR_S, MINUTE_S, FloatArray, IntArray

# Small figures with large type: two stand side by side on a desk, one fills a phone.
WIDTH_IN, HEIGHT_IN = 4.6, 2.75
MAX_POINTS = 500
OUTCOME_COLORS = dict(zip(OUTCOMES, ("blue", "orange", "pink", "gray", "red", "sky", "brown"), strict=True))
STYLE = {
    "font.size": 9.0,
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": color("muted"),
    "axes.labelcolor": color("ink"),
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": color("grid"),
    "grid.linewidth": 0.7,
    "text.color": color("ink"),
    "xtick.color": color("muted"),
    "ytick.color": color("muted"),
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


class Baseline(NamedTuple):
    """A horizontal line to compare with."""

    value: float
    label: str


class TimeUnit(NamedTuple):
    """The unit of a simulated-time axis."""

    name: str
    seconds: float


def time_unit(horizon_s: float) -> TimeUnit:
    """Days, hours or minutes, so that an axis has a handful of whole ticks."""
    if horizon_s > 2 * DAY_S:
        return TimeUnit("days", DAY_S)
    return TimeUnit("hours", HOUR_S) if horizon_s > 2 * HOUR_S else TimeUnit("minutes", MINUTE_S)


def eligible_over_time(at: FloatArray, share: FloatArray, horizon_s: float) -> str:
    """Eligible share of the fleet over simulated time."""
    with rc_context(STYLE):
        figure, axes = _axes()
        unit = _time_axis(axes, horizon_s)
        at, share = _thin_mean(at, share)
        axes.fill_between(at / unit.seconds, 100 * share, color=color("green"), alpha=0.18, linewidth=0)
        axes.plot(at / unit.seconds, 100 * share, color=color("green"))
        axes.set(ylabel="eligible devices (% of fleet)", ylim=(0, None))
        return _svg(figure, "Eligible share of the fleet over simulated time")


def eligible_by_hour(share: FloatArray) -> str:
    """Eligible share folded by hour of the simulated day; hours never sampled stay empty."""
    with rc_context(STYLE):
        figure, axes = _axes()
        axes.bar(np.arange(24) + 0.5, 100 * share, width=0.86, color=color("green"))
        axes.xaxis.set_major_locator(MultipleLocator(3))
        axes.set(xlabel="hour of day", ylabel="eligible devices (% of fleet)", xlim=(0, 24), ylim=(0, None))
        return _svg(figure, "Eligible share of the fleet by hour of day")


def devices_in_flight(series: Series, mean: float) -> str:
    """Devices in a session over simulated time."""
    with rc_context(STYLE):
        figure, axes = _axes()
        unit = _time_axis(axes, series.grid.horizon_s)
        edges = series.grid.edges() / unit.seconds
        axes.stairs(series.values, edges, fill=True, color=color("blue"), alpha=0.22, linewidth=0)
        axes.stairs(series.values, edges, color=color("blue"), linewidth=1.2, baseline=None)
        _baseline(axes, Baseline(mean, f"mean {mean:,.3g}"))
        axes.set(ylabel="devices in a session", ylim=(0, None))
        return _svg(figure, "Devices in a session over simulated time")


def outcomes_over_time(series: Series) -> str:
    """Sessions ended per hour of simulated time, stacked by outcome; ``series.values`` is [outcome, bin]."""
    with rc_context(STYLE):
        figure, axes = _axes()
        unit = _time_axis(axes, series.grid.horizon_s)
        edges = series.grid.edges() / unit.seconds
        below = np.zeros(series.grid.n_bins)
        for name, rate in zip(OUTCOMES, series.per_hour(), strict=True):
            if rate.any():
                axes.stairs(below + rate, edges, baseline=below, fill=True, color=color(OUTCOME_COLORS[name]), label=name)
                below = below + rate
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        axes.set(ylabel="sessions ended per hour", ylim=(0, None))
        figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure, "Sessions ended per hour by outcome")


def step_time_distribution(seconds: FloatArray, label: str) -> str:
    """Distribution of the time per server step, with median and 95th percentile."""
    with rc_context(STYLE):
        figure, axes = _axes()
        unit = time_unit(float(np.quantile(seconds, 0.95)) * 2) if seconds.max() > 4 * MINUTE_S else TimeUnit("s", 1)
        is_wide = seconds.min() > 0 and seconds.max() > 20 * seconds.min()
        bins = _bins(seconds / unit.seconds, is_logarithmic=is_wide)
        axes.hist(seconds / unit.seconds, bins=bins, color=color("blue"), alpha=0.85)
        if is_wide:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
        for fraction, name in ((0.5, "median"), (0.95, "p95")):
            value = float(np.quantile(seconds, fraction)) / unit.seconds
            axes.axvline(value, color=color("ink"), linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(
                f"{name} {value:.3g}", (value, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
                textcoords="offset points", va="top", fontsize=8.5,
            )  # fmt: skip
        axes.set(xlabel=f"{label} ({unit.name})", ylabel="server steps")
        return _svg(figure, f"Distribution of the {label}")
