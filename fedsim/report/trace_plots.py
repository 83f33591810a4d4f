"""The figures of the trace pages as inline SVG, from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from fedsim.report.plots import HEIGHT_IN, ROUND, WIDTH_IN, drawn
from fedsim.report.svg import color
from fedsim.report.words import percent
from fedsim.units import DAY_S, HOUR_S, MINUTE_S, FloatArray

Share = float | None  # None: nothing to take a share of

_WIDE_IN = 7.6
_NETWORK_COLORS = {
    "wifi": "green",
    "5g": "sky",
    "4g": "blue",
    "3g": "orange",
    "2g": "brown",
    "none": "gray",
    "unknown": "grid",
}
_PATH_COLORS = ("blue", "orange", "green", "pink")
_KIND_COLORS = {"devices": "blue", "sessions": "orange", "device_hours": "green"}
_LENGTH_TICKS = (
    (1, "1 s"),
    (10, "10 s"),
    (MINUTE_S, "1 min"),
    (10 * MINUTE_S, "10 min"),
    (HOUR_S, "1 h"),
    (6 * HOUR_S, "6 h"),
    (DAY_S, "1 day"),
    (7 * DAY_S, "1 week"),
)


@drawn
def hour_of_week(share: Sequence[Sequence[Share]], days: Sequence[str]) -> Figure:
    """Eligible share of device-time in each hour of the week, one row a day."""
    highest = max((value for row in share for value in row if value is not None), default=0.0)
    figure, axes = _shaded(share, days, highest=[highest] * len(days), height_in=2.6)
    _scale(axes.inset_axes((0.0, 1.06, 0.32, 0.05)), highest)
    return figure


@drawn
def hours_by_rule(share: Sequence[Sequence[Share]], labels: Sequence[str]) -> Figure:
    """Share of device-hours left in each hour of the day, one row a rule, shaded up to the row's own highest."""
    highest = [max((value for value in row if value is not None), default=0.0) for row in share]
    figure, _ = _shaded(share, labels, highest=highest, height_in=0.75 + 0.27 * len(labels))
    return figure


def _shaded(
    share: Sequence[Sequence[Share]], labels: Sequence[str], *, highest: Sequence[float], height_in: float
) -> tuple[Figure, Axes]:
    """A table of 24 hours a row; shade is opacity, so that it reads on light and on dark paper."""
    figure = Figure(figsize=(_WIDE_IN, height_in), layout="constrained")
    axes = figure.add_subplot()
    for row, values in enumerate(share):
        for hour, value in enumerate(values):
            if value is None:
                axes.add_patch(Rectangle((hour, row), 1, 1, facecolor=color("grid"), linewidth=0))
            elif value > 0:
                box = Rectangle((hour, row), 1, 1, facecolor=color("green"), alpha=value / highest[row], linewidth=0)
                axes.add_patch(box)
    axes.set(xlim=(0, 24), ylim=(len(labels), 0), xlabel="hour of local day")
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels)
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.grid(visible=False)
    return figure, axes


def _scale(axes: Axes, highest: float) -> None:
    for step in range(10):
        axes.add_patch(Rectangle((step, 0), 1, 1, facecolor=color("green"), alpha=(step + 1) / 10, linewidth=0))
    axes.set(xlim=(0, 10), ylim=(0, 1))
    axes.set_xticks([0, 10], ["0", f"{100 * highest:.1f} %"])
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.tick_params(length=0)


@drawn
def session_survival(seconds: FloatArray, sessions: FloatArray, time: FloatArray) -> Figure:
    """Share of sessions that last at least as long, and of the time in them, both axes logarithmic."""
    figure, axes = _axes()
    axes.plot(seconds, 100 * sessions, color=color("blue"), label="of the sessions")
    axes.plot(seconds, 100 * time, color=color("orange"), label="of their time")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = seconds[0], max(seconds[-1], 10 * seconds[0])
    ticks = [(at, text) for at, text in _LENGTH_TICKS if low <= at <= high]
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="length of a session", ylabel="at least as long (%)", xlim=(low, high))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def availability_of_devices(devices: FloatArray, share: FloatArray, *, mean: float) -> Figure:
    """Eligible share of time of every device, from the most to the least available."""
    figure, axes = _axes()
    axes.fill_between(100 * devices, 100 * share, color=color("green"), alpha=0.2, linewidth=0)
    axes.plot(100 * devices, 100 * share, color=color("green"))
    axes.axhline(100 * mean, color=color("ink"), linewidth=1, linestyle=(0, (4, 2)), label="mean over device-time")
    axes.set(xlabel="devices, most available first (%)", ylabel="of its time (%)", xlim=(0, 100), ylim=(0, None))
    figure.legend(loc="outside upper left")
    return figure


@drawn
def battery_paths(paths: Sequence[tuple[str, FloatArray, FloatArray]]) -> Figure:
    """Battery level of a few devices, hours counted from the midnight before each one's start."""
    figure, axes = _axes()
    for (name, hours, level), shade in zip(paths, _PATH_COLORS, strict=False):
        axes.plot(hours / 24, level, color=color(shade), drawstyle="steps-post", linewidth=1.2, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="x", visible=True)
    axes.set(xlabel="days", ylabel="battery (%)", xlim=(0, None), ylim=(0, 101))
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@drawn
def battery_by_hour(band: FloatArray) -> Figure:
    """Battery level over all devices by hour of day: median, middle half and 5 to 95 % range."""
    figure, axes = _axes()
    hours = np.arange(len(band)) + 0.5
    axes.fill_between(hours, band[:, 0], band[:, 4], color=color("blue"), alpha=0.15, linewidth=0, label="5 – 95 %")
    axes.fill_between(hours, band[:, 1], band[:, 3], color=color("blue"), alpha=0.3, linewidth=0, label="25 – 75 %")
    axes.plot(hours, band[:, 2], color=color("blue"), label="median")
    _hours_axis(axes)
    axes.set(ylabel="battery (%)", ylim=(0, 101))
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@drawn
def network_by_hour(shares: Mapping[str, FloatArray]) -> Figure:
    """Share of device-time on each network by hour of day, stacked."""
    figure, axes = _axes()
    below = np.zeros(24)
    for name, shade in _NETWORK_COLORS.items():
        share = 100 * shares[name]
        if share.any():
            edges = np.arange(25)
            axes.stairs(below + share, edges, baseline=below, fill=True, color=color(shade), label=name, linewidth=0)
            below = below + share
    _hours_axis(axes)
    axes.set(ylabel="of device-time (%)", ylim=(0, 100))
    figure.legend(loc="outside upper left", ncols=7, columnspacing=0.8, handletextpad=0.4)
    return figure


@drawn
def shares_left(labels: Sequence[str], left: Mapping[str, Sequence[float]]) -> Figure:
    """Shares of devices, sessions and device-hours, one bar for each label."""
    height_in = 0.9 + 0.27 * len(labels)
    figure = Figure(figsize=(_WIDE_IN, height_in), layout="constrained")
    positions = np.arange(len(labels))
    for axes, (kind, shares) in zip(figure.subplots(1, len(left), sharey=True), left.items(), strict=True):
        bars = axes.barh(positions, [100 * share for share in shares], color=color(_KIND_COLORS[kind]), height=0.72)
        axes.bar_label(bars, [percent(share) for share in shares], padding=3, fontsize=8.5)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MultipleLocator(50))
        axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
        axes.set_yticks(positions, labels)
        axes.set(xlabel=f"{kind.replace('_', '-')} left (%)", xlim=(0, 132), ylim=(len(labels) - 0.4, -0.6))
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    return figure, axes


def _hours_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.set(xlabel="hour of local day", xlim=(0, 24))
