"""Shaded tables of hours: opacity is the share, relative to the whole figure's highest or to the row's own."""

import re

from fedsim.report import trace_plots


def shades(svg: str) -> list[float]:
    """Opacity of every green box, in the order drawn."""
    return [float(n or 1) for n in re.findall(r'fill: var\(--green\)(?:; opacity: ([\d.]+))?"', svg)]


def test_a_week_is_shaded_up_to_its_highest_hour() -> None:
    svg = trace_plots.hour_of_week([[0.1, 0.4] + [0.0] * 22, [None] * 12 + [0.2] * 12], ["a", "b"])
    assert shades(svg)[:2] == [0.25, 1]
    assert shades(svg)[2:14] == [0.5] * 12
    assert svg.count("fill: var(--grid)") == 12  # what was not recorded; nothing is drawn for a share of nothing
    assert "40.0 %" in svg


def test_rules_are_shaded_up_to_their_own_highest_hour() -> None:
    svg = trace_plots.hours_by_rule([[0.1, 0.4] + [0.0] * 22, [0.01, 0.005] + [None] * 22], ["a", "b"])
    assert shades(svg) == [0.25, 1, 1, 0.5]
    assert svg.count("fill: var(--grid)") == 22


def test_bars_carry_their_shares() -> None:
    svg = trace_plots.shares_left(["one", "two"], {"devices": [0.5, 0.0004], "device_hours": [1.0, 0.0]})
    texts = re.findall(r">([^<>]*%)</text>", svg)
    assert [text.replace("\u00a0", " ") for text in texts] == ["50.0 %", "&lt; 0.1 %", "100 %", "0 %"]
