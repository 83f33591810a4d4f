"""The figures of a plan as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.report.plots import HEIGHT_IN, ROUND, WIDTH_IN, drawn
from fedsim.report.svg import color
from fedsim.units import format_count


class Point(NamedTuple):
    """A candidate: two figures, half of the second's interval, whether it is the answer, and whether it passes.

    ``label`` stands beside points of the answer.
    """

    x: float
    y: float
    half: float
    is_chosen: bool
    is_able: bool
    label: str = ""


_WIDE_IN = 10.2  # of a figure that has the page to itself
_KINDS = (  # name, colour, marker
    ("the answer", "blue", "o"),
    ("meets the requirements", "sky", "o"),
    ("does not", "gray", "x"),
)


@drawn
def candidates(points: Sequence[Point], *, x: str, y: str, limit: float | None) -> Figure:
    """Candidates by two of their figures, with 95 % intervals; the line is what is allowed."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    for kind, (name, shade, marker) in enumerate(_KINDS):
        of_kind = [point for point in points if _kind(point) == kind]
        if of_kind:
            halves = np.nan_to_num([point.half for point in of_kind])
            axes.errorbar(
                [point.x for point in of_kind], [point.y for point in of_kind], halves, linestyle="none",
                marker=marker, markersize=5, color=color(shade), elinewidth=1, label=name,
            )  # fmt: skip
    for point in points:
        if point.is_chosen and point.label:
            axes.annotate(point.label, (point.x, point.y), xytext=(5, 5), textcoords="offset points", fontsize=7.5)
    if limit is not None:
        axes.axhline(limit, color=color("red"), linewidth=1, linestyle=(0, (5, 2)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=ROUND))
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.set(xlabel=x, ylabel=y)
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def _kind(point: Point) -> int:
    return 0 if point.is_chosen else 1 if point.is_able else 2


@drawn
def changes(names: Sequence[str], shares: Sequence[float], halves: Sequence[float]) -> Figure:
    """Relative changes of figures, with 95 % intervals."""
    figure = Figure(figsize=(_WIDE_IN, 0.6 + 0.24 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.barh(places, 100 * np.array(shares), xerr=100 * np.nan_to_num(halves), color=color("blue"), height=0.6)
    axes.axvline(0, color=color("muted"), linewidth=0.8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_yticks(places, list(names))
    axes.tick_params(axis="y", length=0, labelcolor=color("ink"))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel="change (%)")
    return figure
