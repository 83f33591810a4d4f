"""The figures of a report as inline SVG; the one door to matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from fedsim.report.svg import color, inline
from fedsim.report.words import Unit, byte_unit, duration_unit, percent
from fedsim.results.numbers import OutcomeRow, Series, StepTimes
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, HOUR_S, MINUTE_S, FloatArray, IntArray, format_count

# Small figures with large type: two stand side by side on a desk, one fills a phone.
WIDTH_IN, HEIGHT_IN = 4.6, 2.75
MAX_POINTS = 500
ROUND = [1, 2, 2.5, 5, 10]  # steps between ticks, times a power of ten
OUTCOME_COLORS = dict(zip(OUTCOMES, ("blue", "orange", "pink", "gray", "red", "sky", "brown", "green"), strict=True))
# Any: the stubs list the keys of one release by name.
STYLE: Any = {
    "font.size": 9.0,
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": color("muted"),
    "axes.labelcolor": color("ink"),
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
    "legend.columnspacing": 1.0,
    "lines.linewidth": 1.6,
}
P = ParamSpec("P")


def drawn(paint: Callable[P, Figure]) -> Callable[P, str]:
    """Make a function that paints a figure return its SVG, described by the first line of its docstring."""

    @wraps(paint)
    def draw(*args: P.args, **kwargs: P.kwargs) -> str:
        buffer = io.StringIO()
        with rc_context({**STYLE, "svg.hashsalt": paint.__name__}):
            paint(*args, **kwargs).savefig(buffer, format="svg", metadata={"Date": None})
        return inline(buffer.getvalue(), description=(paint.__doc__ or "").splitlines()[0])

    return draw


@drawn
def eligible_over_time(at: FloatArray, share: FloatArray) -> Figure:
    """Eligible share of the fleet over a simulated week."""
    figure, axes = _axes()
    unit = _time_axis(axes, float(at[-1] + at[1] - at[0]))
    x, y = _thin(at / unit.size), _thin(100 * share)
    axes.fill_between(x, y, color=color("green"), alpha=0.18, linewidth=0)
    axes.plot(x, y, color=color("green"))
    axes.set(ylabel="eligible devices (% of fleet)", ylim=(0, None))
    return figure


@drawn
def eligible_by_hour(share: FloatArray) -> Figure:
    """Eligible share of the fleet by hour of day."""
    figure, axes = _axes()
    axes.bar(np.arange(24) + 0.5, 100 * share, width=0.86, color=color("green"))
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.set(xlabel="hour of day", ylabel="eligible devices (% of fleet)", xlim=(0, 24), ylim=(0, None))
    return figure


@drawn
def devices_in_flight(series: Series, *, mean: float) -> Figure:
    """Devices in a session over simulated time."""
    figure, axes = _axes()
    unit = _time_axis(axes, series.grid.horizon_s)
    edges = series.grid.edges() / unit.size
    axes.stairs(series.values, edges, fill=True, color=color("blue"), alpha=0.22, linewidth=0)
    axes.stairs(series.values, edges, color=color("blue"), baseline=None)
    _reference_line(axes, mean, f"mean over the run ({format_count(mean)})")
    _short_numbers(axes)
    axes.set(ylabel="devices in a session", ylim=(0, None))
    figure.legend(loc="outside upper left")
    return figure


@drawn
def outcomes_over_time(series: Series) -> Figure:
    """Sessions ended per hour of simulated time, stacked by outcome."""
    figure, axes = _axes()
    unit = _time_axis(axes, series.grid.horizon_s)
    edges, below = series.grid.edges() / unit.size, np.zeros(series.grid.n_bins)
    for name, rate in zip(OUTCOMES, series.per_hour(), strict=True):
        if rate.any():
            shade = color(OUTCOME_COLORS[name])
            axes.stairs(below + rate, edges, baseline=below, fill=True, color=shade, label=name.lower(), linewidth=0)
            below = below + rate
    _short_numbers(axes)
    axes.set(ylabel="sessions ended per hour", ylim=(0, None))
    n_shown = len(axes.get_legend_handles_labels()[1])
    figure.legend(loc="outside upper left", ncols=n_shown if n_shown <= 5 else 4)
    return figure


@drawn
def step_time_distribution(seconds: FloatArray, *, label: str) -> Figure:
    """Distribution of the time per server step."""
    figure, axes = _axes()
    unit = duration_unit(float(np.median(seconds)))
    values = seconds / unit.size
    is_wide = values.min() > 0 and values.max() > 20 * values.min()
    n_bins = int(np.clip(np.sqrt(values.size), 8, 50))
    bins = np.geomspace(values.min(), values.max(), n_bins).tolist() if is_wide else n_bins
    axes.hist(values, bins=bins, color=color("blue"), alpha=0.85)
    if is_wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    for fraction, name in ((0.5, "median"), (0.95, "p95")):
        value = float(np.quantile(values, fraction))
        dashes = (0, (4, 2)) if name == "median" else (0, (1, 2))
        text = f"{name} {value:.3g} {unit.name}"
        axes.axvline(value, color=color("ink"), linewidth=1.2, linestyle=dashes, label=text)
    axes.set(xlabel=f"{label} ({unit.name})", ylabel="server steps")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def step_times_over_time(times: StepTimes, *, label: str, horizon_s: float) -> Figure:
    """Time per server step over simulated time."""
    figure, axes = _axes()
    unit, duration = _time_axis(axes, horizon_s), duration_unit(float(np.median(times.seconds)))
    x, y = times.at / unit.size, times.seconds / duration.size
    if len(x) <= MAX_POINTS:
        axes.plot(x, y, "o", color=color("blue"), markersize=2.6, markeredgewidth=0, clip_on=False)
    else:
        groups = np.array_split(np.arange(len(x)), MAX_POINTS // 4)
        low, middle, high = np.array([np.quantile(y[group], (0.05, 0.5, 0.95)) for group in groups]).T
        centre = np.array([x[group].mean() for group in groups])
        axes.fill_between(centre, low, high, color=color("blue"), alpha=0.3, linewidth=0, label="5 – 95 %")
        axes.plot(centre, middle, color=color("blue"), label="median")
        figure.legend(loc="outside upper left", ncols=2)
    axes.set(ylabel=f"{label} ({duration.name})", ylim=(0, None))
    return figure


@drawn
def metric_over_time(
    at: FloatArray, value: FloatArray, *, metric: str, central: float | None, horizon_s: float
) -> Figure:
    """Held-out metric over simulated time."""
    figure, axes = _axes()
    unit = _time_axis(axes, horizon_s)
    _metric_line(axes, at / unit.size, value, metric=metric, central=central)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def metric_over_device_hours(device_h: FloatArray, value: FloatArray, *, metric: str, central: float | None) -> Figure:
    """Held-out metric over the device-hours spent."""
    figure, axes = _axes()
    _metric_line(axes, device_h, value, metric=metric, central=central)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.set(xlabel="device-hours of ended sessions", xlim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def traffic(download: Series, upload: Series) -> Figure:
    """Bytes per hour to and from the devices."""
    figure, axes = _axes()
    horizon = _time_axis(axes, download.grid.horizon_s)
    rates = {"download": download.per_hour(), "upload": upload.per_hour()}
    unit = byte_unit(max(float(rate.max()) for rate in rates.values()))
    for (name, rate), shade in zip(rates.items(), ("blue", "orange"), strict=True):
        edges = download.grid.edges() / horizon.size
        axes.stairs(rate / unit.size, edges, color=color(shade), baseline=None, linewidth=1.4, label=name)
    axes.set(ylabel=f"{unit.name} per hour", ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def wasted_work(rows: list[OutcomeRow]) -> Figure:
    """Device-hours of sessions that did not count, by outcome."""
    rows = sorted((row for row in rows if not row.is_useful and row.n), key=lambda row: row.device_s)
    total_s = sum(row.device_s for row in rows)
    figure, axes = _axes()
    names, hours = [row.outcome.lower() for row in rows], [row.device_s / HOUR_S for row in rows]
    positions = np.arange(len(rows))
    bars = axes.barh(positions, hours, color=[color(OUTCOME_COLORS[row.outcome]) for row in rows], height=0.7)
    labels = [f"{format_count(hour)} h, {percent(hour * HOUR_S / total_s)}" for hour in hours]
    axes.bar_label(bars, labels, padding=4, fontsize=8.5)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.set_yticks(positions, names)
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.set(xlabel="device-hours", xlim=(0, 1.3 * max(hours)))
    return figure


@drawn
def staleness_histogram(counts: IntArray) -> Figure:
    """Staleness of the updates that reached the server."""
    figure, axes = _axes()
    below = np.zeros(counts.shape[1])
    width = 0.9
    for row, name in zip(counts, ("AGGREGATED", "STALE"), strict=True):
        if row.any():
            label = {"AGGREGATED": "aggregated", "STALE": "refused as stale"}[name]
            axes.bar(
                np.arange(len(row)), row, bottom=below, width=width, color=color(OUTCOME_COLORS[name]), label=label
            )
            below = below + row
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=ROUND, integer=True))
    _short_numbers(axes)
    axes.set(xlabel="staleness (server versions)", ylabel="updates")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def energy_by_phase(joules: FloatArray, unit: Unit) -> Figure:
    """Energy of download, training and upload, useful and wasted."""
    figure, axes = _axes()
    left = np.zeros(joules.shape[1])
    for row, name, shade in zip(joules / unit.size, ("aggregated", "wasted"), ("blue", "orange"), strict=True):
        axes.barh(np.arange(3), row, left=left, height=0.6, color=color(shade), label=name)
        left = left + row
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(3), ["download", "training", "upload"])
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel=f"energy ({unit.name})", xlim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def battery_used(counts: IntArray, edges: FloatArray) -> Figure:
    """Share of a full battery that a session took."""
    figure, axes = _axes()
    axes.stairs(counts, edges, fill=True, color=color("blue"), alpha=0.85)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _short_numbers(axes)
    axes.set(xlabel="taken by a session (% of a full battery)", ylabel="sessions")
    return figure


@drawn
def battery_start(counts: IntArray, width: int) -> Figure:
    """Battery level of the phones when they were assigned."""
    figure, axes = _axes()
    axes.bar(np.arange(len(counts)) * width + width / 2, counts, width=0.9 * width, color=color("green"))
    _short_numbers(axes)
    axes.set(xlabel="battery at assignment (%)", ylabel="sessions", xlim=(0, 100))
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    return figure, axes


def _time_axis(axes: Axes, horizon_s: float) -> Unit:
    """Label the x axis as simulated time with at most ten round ticks, and return its unit."""
    rhythms: tuple[int, ...]
    if horizon_s > 2 * DAY_S:
        unit, rhythms = Unit("days", DAY_S), (1, 2, 7, 14, 28)
    elif horizon_s > 3 * HOUR_S:
        unit, rhythms = Unit("hours", HOUR_S), (1, 3, 6)
    else:
        unit, rhythms = Unit("minutes", MINUTE_S), (1, 5, 15, 30)
    length = horizon_s / unit.size
    fitting = [rhythm for rhythm in rhythms if 1 < length / rhythm <= 10]
    axes.xaxis.set_major_locator(MultipleLocator(fitting[0]) if fitting else MaxNLocator(8, steps=ROUND))
    axes.grid(axis="x", visible=unit.name == "days")
    axes.set(xlabel=f"simulated time ({unit.name})", xlim=(0, length))
    return unit


def _short_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))


def _reference_line(axes: Axes, value: float, label: str) -> None:
    axes.axhline(value, color=color("ink"), linewidth=1, linestyle=(0, (4, 2)), label=label)


def _metric_line(axes: Axes, x: FloatArray, value: FloatArray, *, metric: str, central: float | None) -> None:
    axes.plot(
        _thin(x),
        _thin(value),
        color=color("blue"),
        marker="o" if len(x) <= 40 else None,
        markersize=3,
        label="federated",
        clip_on=False,
    )
    if central is not None:
        _reference_line(axes, central, f"central training ({central:.3f})")
    axes.set(ylabel=f"held-out {metric.replace('_', ' ')}")


def _thin(values: FloatArray) -> FloatArray:
    """At most ``MAX_POINTS`` of the values, evenly taken, the first and the last among them."""
    if len(values) <= MAX_POINTS:
        return values
    thinned: FloatArray = values[np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(np.int64)]
    return thinned
