"""The figures of a comparison as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.report.plots import ROUND, drawn
from fedsim.report.svg import color
from fedsim.report.words import Unit
from fedsim.results.curves import Band
from fedsim.units import format_count

ARM_COLORS = ("blue", "orange", "green", "pink", "brown", "sky", "red", "gray")
_DASHES: tuple[object, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_WIDE_IN, _HIGH_IN = 10.2, 3.1


UnitOf = Callable[[float], Unit]  # the unit that suits the largest value


class Panel(NamedTuple):
    """Curves against one axis: its name, its unit, a band per arm."""

    name: str
    unit: Unit
    bands: Sequence[Band]


@drawn
def curves(panels: Sequence[Panel], *, metric: str) -> Figure:
    """Held-out metric of each arm: mean over its seeds and the 95 % interval of the mean."""
    figure = Figure(figsize=(_WIDE_IN, _HIGH_IN), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, panel)
    all_axes[0].set(ylabel=f"held-out {metric}")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    for place, band in enumerate(panel.bands):
        shade, dashes = color(ARM_COLORS[place % len(ARM_COLORS)]), _DASHES[place % len(_DASHES)]
        x = band.x / panel.unit.size
        if band.low is not None and band.high is not None:
            axes.fill_between(x, band.low, band.high, color=shade, alpha=0.16, linewidth=0)
        axes.plot(x, band.mean, color=shade, linestyle=dashes, label=band.label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.set(xlabel=f"{panel.name} ({panel.unit.name})", xlim=(0, None))
