"""The criteria table for a terminal of 80 columns, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsim.traces.statistics.left import KINDS

_HEADER = ("part", "number", "rule", "hour", *KINDS, *(f"kept_{kind}" for kind in KINDS))


def render_criteria(table: dict[str, Any]) -> RenderableType:
    """The criteria table for a terminal: what is left alone and jointly, one after the other, and by hour."""
    rows = [(str(number), row) for number, row in enumerate(table["rules"], start=1)]
    rows += [(f"c{number}", row) for number, row in enumerate(table["combinations"], start=1)]
    if table["joint"] is not None and not table["combinations"]:
        rows.append(("all", table["joint"]))
    parts: list[RenderableType] = [_heading(table), _shares(rows)]
    parts += [Text(f"{label:>3}  {row['rule']}") for label, row in rows]
    if len(table["funnel"]) > 1:
        parts += [Text("\none after the other: left of all, and kept of the step before"), _steps(table["funnel"])]
    parts += [Text("\nshare of device-hours left by local hour of day")]
    return Group(*parts, *(_hours(label, row["left"]["by_hour"]) for label, row in rows))


def _heading(table: dict[str, Any]) -> Text:
    base, counts = table["base"], table["base_counts"]
    what = f"{table['n_devices']:,} devices, {table['device_days']:,.0f} device-days"
    session = "24 h of a device" if base is None else f"an unbroken time of {base}"
    return Text(
        f"{what}; unknown counts as {table['unknown_counts_as']}\n"
        f"shares of {counts['devices']:,} devices, {counts['sessions']:,} sessions (each {session}), "
        f"{counts['device_hours']:,.0f} device-hours"
    )


def _shares(rows: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    columns = ("rule", "devices", "sessions", "hours", "sessions per day", "session s, p5/25/50/75/95")
    grid = _grid(columns)
    for label, row in rows:
        lengths_s = row["session_s"]
        grid.add_row(
            label,
            *(f"{row['left'][kind]:.3f}" for kind in KINDS),
            f"{row['sessions_per_device_day']:.2f}",
            "none" if lengths_s is None else "/".join(map(_seconds, lengths_s.values())),
        )
    return grid


def _seconds(value: float) -> str:
    """At most five characters up to three years."""
    return f"{value:.0f}" if value < 99_999.5 else f"{value / 1000:.0f}k"


def _steps(funnel: Sequence[dict[str, Any]]) -> Table:
    grid = _grid(("step", *("devices", "sessions", "hours") * 2))
    for number, step in enumerate(funnel, start=1):
        cells = [step[part][kind] for part in ("left", "kept") for kind in KINDS]
        grid.add_row(f"+ {number}", *("–" if share is None else f"{share:.3f}" for share in cells))
    return grid


def _grid(columns: Sequence[str]) -> Table:
    grid = Table()
    for column in columns:
        grid.add_column(column, justify="right", no_wrap="/" in column)
    return grid


def _hours(label: str, by_hour: dict[str, Any] | None) -> Text:
    if by_hour is None:
        return Text(f"{label:>3}  unknown: the set has relative clocks")
    cells = ["     –" if share is None else f"{share:6.3f}" for share in by_hour["device_hours"]]
    lines = [f"{first:02d}–{first + 11:02d} " + "".join(cells[first : first + 12]) for first in (0, 12)]
    return Text(f"{label:>3}\n" + "\n".join(lines))


def criteria_csv(table: dict[str, Any]) -> str:
    """The criteria table as CSV: one line per rule, and one per hour of day where the clock is known.

    ``part`` is alone, combination, joint or funnel; shares are of the base, ``kept_…`` of the step before.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    joint = [] if table["joint"] is None else [table["joint"]]
    for part, rows in (("alone", table["rules"]), ("combination", table["combinations"]), ("joint", joint)):
        for number, row in enumerate(rows, start=1):
            writer.writerows((part, number, row["rule"], *cells) for cells in _lines(row["left"]))
    for number, step in enumerate(table["funnel"], start=1):
        shares = [step[name][kind] for name in ("left", "kept") for kind in KINDS]
        writer.writerow(("funnel", number, step["rule"], "", *shares))
    return out.getvalue()


def _lines(left: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Hour (empty: the whole day), shares, and nothing for what was kept."""
    nothing = ("",) * len(KINDS)
    yield ("", *(left[kind] for kind in KINDS), *nothing)
    if left["by_hour"] is not None:
        columns = [left["by_hour"][kind] or [None] * 24 for kind in KINDS]
        for hour, shares in enumerate(zip(*columns, strict=True)):
            yield (hour, *shares, *nothing)
