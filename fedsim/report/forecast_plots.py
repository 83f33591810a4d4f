"""The figures of a forecast as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from fedsim.report.plots import HEIGHT_IN, ROUND, WIDTH_IN, drawn
from fedsim.report.svg import color
from fedsim.report.words import Unit
from fedsim.units import format_count

_COLORS = ("blue", "orange", "green")
_DASHES: tuple[object, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))


@drawn
def by_hour(loads: Mapping[str, Sequence[float]], *, label: str, unit: Unit) -> Figure:
    """Mean load in each hour of the day."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), shade, dashes in zip(loads.items(), _COLORS, _DASHES, strict=False):
        edges = np.arange(25)
        axes.stairs(
            np.array(values) / unit.size, edges, baseline=None, color=color(shade), linestyle=dashes, linewidth=1.6,
            label=name,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.set(xlabel="hour of day", ylabel=label, xlim=(0, 24), ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@drawn
def shares(names: Sequence[str], values: Sequence[float], *, label: str) -> Figure:
    """What each part comes to."""
    figure = Figure(figsize=(WIDTH_IN, 0.6 + 0.34 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    bars = axes.barh(places, values, color=color("blue"), height=0.65)
    total = sum(values) or 1.0
    texts = [f"{format_count(value)}, {value / total:.0%}" for value in values]
    axes.bar_label(bars, texts, padding=4, fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_yticks(places, list(names))
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.set(xlabel=label, xlim=(0, 1.45 * max(*values, 1e-12)))
    return figure
