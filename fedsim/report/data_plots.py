"""The figures of a data page as inline SVG."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from fedsim.report.plots import drawn
from fedsim.report.svg import color
from fedsim.units import FloatArray, IntArray, format_count

_WIDE_IN, _HIGH_IN = 5.2, 3.0


@drawn
def sizes(n: IntArray) -> Figure:
    """The share of the clients that hold so many rows at most, on a logarithmic axis."""
    figure = Figure(figsize=(_WIDE_IN, _HIGH_IN), layout="constrained")
    axes = figure.subplots()
    held, clients = np.unique(n, return_counts=True)
    axes.step([held[0], *held], [0, *np.cumsum(clients) / len(n)], where="post", color=color("blue"))
    axes.set(xscale="log", xlabel="rows of a client", ylabel="of clients hold so many at most")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


@drawn
def held_by(n: IntArray) -> Figure:
    """The share of all rows that the largest clients hold."""
    figure = Figure(figsize=(_WIDE_IN, _HIGH_IN), layout="constrained")
    axes = figure.subplots()
    held = np.cumsum(np.sort(n)[::-1]) / n.sum()
    axes.plot(np.arange(1, len(n) + 1) / len(n), held, color=color("blue"))
    axes.plot([0, 1], [0, 1], color=color("muted"), linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set(xlabel="clients, the largest first", ylabel="of all rows")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    return figure


@drawn
def label_shares(shares: FloatArray, expected: FloatArray, *, name: str) -> Figure:
    """How the share of a label differs over clients, beside what chance alone would make of it."""
    figure = Figure(figsize=(_WIDE_IN, _HIGH_IN), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 1, 21)
    for values, tint, label in (
        (shares, "blue", "these clients"),
        (expected, "orange", "if labels were dealt at random"),
    ):
        heights, _ = np.histogram(values, bins=edges)
        axes.stairs(heights / max(len(values), 1), edges, color=color(tint), label=label)
    axes.set(xlabel=f"share of {name} in a client", ylabel="clients")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure
