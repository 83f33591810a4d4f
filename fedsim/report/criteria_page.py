"""The criteria table as a page: what each rule leaves alone, jointly, one after the other, and by hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim.report import trace_plots as plots
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.trace_page import RELATIVE, facts
from fedsim.report.words import UNKNOWN, duration, large, percent

_KINDS = ("devices", "sessions", "device_hours")
_MAX_LABEL = 30

Labelled = tuple[str, Mapping[str, Any]]


def write_criteria_page(path: Path, table: Mapping[str, Any], provenance: Mapping[str, Any]) -> Path:
    """Write the page of a table of :func:`fedsim.traces.statistics.stats.criteria_table` and return its path."""
    rows = _labelled(table)
    sections = [("Alone and together", [_shares(rows)])]
    if len(table["funnel"]) > 1:
        sections.append(("One after the other", [_funnel(table["funnel"])]))
    sections.append(("By hour", [_hours(rows)]))
    page = Page(
        kind="fedsim eligibility criteria",
        title=f"{provenance.get('source', 'Traces')}: who is left",
        lead=_lead(rows),
        tiles=_tiles(table),
        sections=sections,
        facts=facts(provenance, unknown=table["unknown_counts_as"]),
    )
    return write_page(path, page)


def _labelled(table: Mapping[str, Any]) -> list[Labelled]:
    """Every row of the table with a label short enough for a figure."""
    rows = [(_label(row["rule"], f"rule {n}"), row) for n, row in enumerate(table["rules"], start=1)]
    if table["combinations"]:
        return rows + [(f"combination {n}", row) for n, row in enumerate(table["combinations"], start=1)]
    return rows if table["joint"] is None else [*rows, ("all together", table["joint"])]


def _label(rule: str, otherwise: str) -> str:
    return rule if len(rule) <= _MAX_LABEL else otherwise


def _lead(rows: Sequence[Labelled]) -> str:
    left = rows[-1][1]["left"]
    return (
        f"“{rows[-1][1]['rule']}” leaves {percent(left['devices'])} of the devices, {percent(left['sessions'])} of the "
        f"sessions and {percent(left['device_hours'])} of the device-hours."
    )


def _tiles(table: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    counts, base = table["base_counts"], table["base"]
    if base is None:
        remarks = ("100 %: all of the set", "100 %: 24 hours of a device each", "100 %: all that is recorded")
    else:
        remarks = (f"100 %: ever “{base}”", f"100 %: sessions of “{base}”", f"100 %: time with “{base}”")
    return [
        (kind.replace("_", "-").capitalize(), large(counts[kind]), remark)
        for kind, remark in zip(_KINDS, remarks, strict=True)
    ]


def _shares(rows: Sequence[Labelled]) -> Exhibit:
    left = {kind: [row["left"][kind] for _, row in rows] for kind in _KINDS}
    cells = [
        (
            row["rule"] if label == row["rule"] else f"{label}: {row['rule']}",
            *(percent(row["left"][kind]) for kind in _KINDS),
            f"{row['sessions_per_device_day']:.2f}",
            *("none" if row["session_s"] is None else duration(row["session_s"][name]) for name in ("p50", "p95")),
        )
        for label, row in rows
    ]
    header = ("rule", "devices", "sessions", "device-hours", "sessions per device-day", "median session", "95 % below")
    caption = "Left is who meets the rule at some moment, and the time for which the rule is met."
    svg = plots.shares_left([label for label, _ in rows], left)
    return Exhibit("What each rule leaves", caption, svg, header, cells, is_wide=True)


def _funnel(funnel: Sequence[Mapping[str, Any]]) -> Exhibit:
    labels = [_label(f"+ {step['rule']}", f"+ rule {n}") for n, step in enumerate(funnel, start=1)]
    left = {kind: [step["left"][kind] for step in funnel] for kind in _KINDS}
    cells = [
        (f"+ {step['rule']}", *(_share(step[part][kind]) for part in ("left", "kept") for kind in _KINDS))
        for step in funnel
    ]
    dearest = min(
        funnel, key=lambda step: 1.0 if step["kept"]["device_hours"] is None else step["kept"]["device_hours"]
    )
    caption = (
        f"Each rule is asked of what the ones above it left. “{dearest['rule']}” costs most: it keeps "
        f"{_share(dearest['kept']['device_hours'])} of the device-hours."
    )
    header = ("rule", *(f"{part} {kind.replace('_', '-')}" for part in ("left", "kept") for kind in _KINDS))
    return Exhibit(
        "What each further rule costs", caption, plots.shares_left(labels, left), header, cells, is_wide=True
    )


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value)


def _hours(rows: Sequence[Labelled]) -> Exhibit:
    title = "Device-hours left by hour of day"
    by_hour = [row["left"]["by_hour"] for _, row in rows]
    if any(shares is None for shares in by_hour):
        return Exhibit(title, RELATIVE)
    shares = [hours["device_hours"] for hours in by_hour]
    labels = [label for label, _ in rows]
    cells = [
        (label, percent(row["left"]["device_hours"]), *_extremes(hours))
        for (label, row), hours in zip(rows, shares, strict=True)
    ]
    caption = "Each row is shaded up to its own highest hour; the numbers say how high that is. Gray: nobody to ask."
    header = ("rule", "all day", "least", "most", "most ÷ least")
    return Exhibit(title, caption, plots.hours_by_rule(shares, labels), header, cells, is_wide=True)


def _extremes(shares: Sequence[float | None]) -> tuple[str, str, str]:
    known = [(value, hour) for hour, value in enumerate(shares) if value is not None]
    (low, low_hour), (high, high_hour) = min(known), max(known)
    ratio = f"{high / low:.1f}" if low else UNKNOWN
    return f"{percent(low)} at {low_hour:02d} h", f"{percent(high)} at {high_hour:02d} h", ratio
