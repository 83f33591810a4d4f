"""The figures of a decision as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from fedsim.report.plots import HEIGHT_IN, ROUND, WIDTH_IN, drawn
from fedsim.report.svg import color
from fedsim.units import format_count

_COLORS = ("blue", "orange", "green", "pink", "brown", "sky")
_DASHES: tuple[object, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
_MOST_BARS = 14
_FAR = 4.0  # times the largest shift: a limit further away is told in words, so that the bars can be seen


class Bar(NamedTuple):
    """What one value of an assumption makes of a figure."""

    label: str
    value: float


@drawn
def tornado(bars: Sequence[Bar], *, base: float, limit: float, label: str) -> Figure:
    """How far each assumption moves a figure from the base, and where its limit is; the largest shift on top."""
    shown = sorted(bars, key=lambda bar: -abs(bar.value - base))[:_MOST_BARS]
    figure = Figure(figsize=(WIDTH_IN, 1.0 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(shown))
    axes.barh(places, [bar.value - base for bar in shown], left=base, color=color("blue"), height=0.6)
    axes.axvline(base, color=color("ink"), linewidth=1.0)
    reach = max(abs(bar.value - base) for bar in shown)
    is_far = abs(limit - base) > _FAR * reach
    if is_far:
        where = "right" if limit > base else "left"
        figure.text(0.99, 0.99, f"limit {limit:g}: far to the {where}", ha="right", va="top", fontsize=8.5,
                    color=color("red"))  # fmt: skip
    else:
        _draw_limit(axes, limit)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_yticks(places, [bar.label for bar in shown])
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value) if value >= 1 else f"{value:g}"))
    axes.set(xlabel=label)
    return figure


def _draw_limit(axes: Axes, limit: float) -> None:
    axes.axvline(limit, color=color("red"), linewidth=1.4, linestyle=(0, (4, 2)))
    axes.annotate("limit", (limit, 1.0), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                  fontsize=8.5, color=color("red"))  # fmt: skip


@drawn
def shares_by_hour(rows: Mapping[str, Sequence[float]], *, need: float | None) -> Figure:
    """Share of the phones that may be asked in each hour of the day, by criterion, and what is needed."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, values) in enumerate(rows.items()):
        axes.stairs(
            100 * np.array(values), np.arange(25), baseline=None, color=color(_COLORS[place % len(_COLORS)]),
            linestyle=_DASHES[place % len(_DASHES)], linewidth=1.6, label=name,
        )  # fmt: skip
    if need is not None:
        axes.axhline(100 * need, color=color("red"), linewidth=1.3, linestyle=(0, (4, 2)), label="needed")
    axes.xaxis.set_major_locator(MultipleLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel="hour of day", ylabel="% of phones", xlim=(0, 24), ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=1)
    return figure


class Curve(NamedTuple):
    """A metric over days: mean over seeds and the range of the seeds, ``float64[n]`` each."""

    label: str
    days: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@drawn
def learning(curves: Sequence[Curve], *, metric: str, central: float | None, unit: str) -> Figure:
    """Held-out metric of each candidate against time, beside the central model's."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    for place, curve in enumerate(curves):
        shade = color(_COLORS[place % len(_COLORS)])
        axes.fill_between(curve.days, curve.low, curve.high, color=shade, alpha=0.16, linewidth=0)
        axes.plot(curve.days, curve.mean, color=shade, linestyle=_DASHES[place % len(_DASHES)], label=curve.label)
    if central is not None:
        axes.axhline(central, color=color("ink"), linewidth=1.0, linestyle=(0, (1, 1.5)), label="central model")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel=f"simulated time ({unit})", ylabel=f"held-out {metric}", xlim=(0, None))
    figure.legend(loc="outside upper left", ncols=1)
    return figure
