"""The figures of a check as inline SVG."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.report.plots import ROUND, drawn
from fedsim.report.svg import color
from fedsim.units import FloatArray, format_count

_WIDE_IN, _HIGH_IN = 8.2, 3.0


@drawn
def curve(
    versions: FloatArray, before: FloatArray, sd: FloatArray, after: FloatArray, *, metric: str, difference: FloatArray,
    spread: FloatArray, margin: float | None,
) -> Figure:  # fmt: skip
    """Held-out metric of the runs within the band of their baseline, and how far the two are apart."""
    figure = Figure(figsize=(_WIDE_IN, _HIGH_IN), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.fill_between(versions, before - 2 * sd, before + 2 * sd, color=color("gray"), alpha=0.3, linewidth=0)
    left.plot(versions, before, color=color("muted"), label="baseline, ± 2 standard deviations of its seeds")
    left.plot(versions, after, color=color("orange"), linestyle=(0, (4, 2)), label="these runs")
    left.set(ylabel=f"held-out {metric}")
    right.axhline(0.0, color=color("muted"), linewidth=0.8)
    right.fill_between(
        versions, difference - spread, difference + spread, color=color("orange"), alpha=0.25, linewidth=0
    )
    right.plot(versions, difference, color=color("orange"), linestyle=(0, (4, 2)))
    if margin is not None:
        for edge in (-margin, margin):
            right.axhline(edge, color=color("ink"), linewidth=0.9, linestyle=(0, (1, 2)))
    right.set(ylabel=f"difference of {metric}")
    for axes in (left, right):
        _versions(axes)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure


def _versions(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel="model version")
