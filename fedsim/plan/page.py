"""An answer as a page: the sentence, its figure, the tables, and what all of it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fedsim.plan.answer import Answer
from fedsim.plan.arms import Change, unit_of
from fedsim.plan.text import Table, grounds, sentence, tables
from fedsim.plan.trials import Row
from fedsim.report import plan_plots as plots
from fedsim.report.amounts import amount
from fedsim.report.exhibit import Exhibit, Page, write_page

_TITLES = {
    "smallest": "The smallest value that is enough",
    "largest": "The largest value that is allowed",
    "front": "What cannot be had together",
    "launch": "The latest start",
    "criteria": "What each criterion costs",
    "what_if": "What a change does",
}


def write_plan(path: Path, answer: Answer) -> Path:
    """Write the page and return its path. It needs no other file; the same runs give the same bytes."""
    page = Page(
        kind="fedsim plan",
        title=answer.spec.question or _TITLES[answer.spec.find],
        lead=sentence(answer),
        tiles=_tiles(answer),
        sections=[("The answer", _exhibits(answer)), ("What it rests on", [_grounds(answer), _requirements(answer)])],
        facts=_facts(answer),
    )
    return write_page(path, page)


def _tiles(answer: Answer) -> list[tuple[str, str, str]]:
    check = answer.check
    tiles = [("Runs", str(answer.n_runs), "behind the answer")]
    if check is not None:
        tiles.append(("Fresh seeds", "held" if check.has_held else "did not hold", f"{check.n_held} of {check.n}"))
    if len(answer.chosen) == 1:
        row = answer.chosen[0]
        shown = [name for name in ("days", "device_hours") if len(row.figure(name))]
        tiles += [(name.replace("_", " "), amount(row.mean(name), unit_of(name)), "mean") for name in shown]
    return tiles


def _exhibits(answer: Answer) -> list[Exhibit]:
    found = tables(answer)
    if answer.changes:
        arms = list(dict.fromkeys(each.arm for each in answer.changes))
        return [_of_arm(answer, arm, table) for arm, table in zip(arms, found, strict=True)]
    caption = "In each row the requirement with the least room, and how much of its limit that is."
    return [Exhibit("Candidates", caption, _drawn(answer), found[0].header, found[0].rows, is_wide=True)]


def _of_arm(answer: Answer, arm: str, table: Table) -> Exhibit:
    of_arm = [each for each in answer.changes if each.arm == arm and each.before and not math.isnan(each.told.center)]
    moved = [each for each in of_arm if each.told.center]  # what stays the same is in the table
    names = [each.name.replace("_", " ") for each in moved]
    svg = plots.changes(names, *zip(*map(_share, moved), strict=True)) if moved else None
    caption = "Each figure relative to what it was, with the 95 % interval of the difference seed by seed."
    return Exhibit(arm, caption, svg, table.header, table.rows, is_wide=True)


def _share(change: Change) -> tuple[float, float]:
    half = (change.told.high - change.told.low) / 2
    return change.told.center / abs(change.before), half / abs(change.before)


def _drawn(answer: Answer) -> str | None:
    """Two objectives against each other, or what is required against the one variable; None: nothing to draw."""
    spec = answer.spec
    rows = [row for row in answer.rows if row.seeds and not row.failures and not row.n_unfinished]
    if spec.find == "front" and len(spec.objectives) > 1:
        x, y = (each.name for each in spec.objectives[:2])
        return _points(answer, rows, [row.mean(x) for row in rows], _axis(x), y)
    if len(spec.variables) != 1 or not all(isinstance(row.candidate.values[0][1], int | float) for row in rows):
        return None
    name = spec.objectives[0].name if spec.objectives else spec.requirements[0].metric
    xs = [float(row.candidate.values[0][1]) for row in rows]
    return _points(answer, rows, xs, spec.variables[0].key, name)


def _points(answer: Answer, rows: Sequence[Row], xs: Sequence[float], x: str, y: str) -> str | None:
    chosen = {row.candidate for row in answer.chosen}
    points = [
        plots.Point(place, row.mean(y), row.half_width(y), row.candidate in chosen, row.state == "PASS", _label(row))
        for place, row in zip(xs, rows, strict=True)
        if not math.isnan(place + row.mean(y))
    ]
    limits = [each.limit for each in answer.spec.requirements if each.metric == y]
    return plots.candidates(points, x=x, y=_axis(y), limit=limits[0] if limits else None) if points else None


def _label(row: Row) -> str:
    return ", ".join(str(value) for _, value in row.candidate.values)


def _axis(name: str) -> str:
    unit = unit_of(name)
    text = name.replace("_", " ")
    return text if unit in ("number", "count", text) else f"{text} ({unit})"


def _grounds(answer: Answer) -> Exhibit:
    lines = grounds(answer)
    rows = [(str(n), line) for n, line in enumerate(lines, start=1)]
    return Exhibit("How sure it is", "Confidence, runs, and the check with fresh seeds.", None, ("", ""), rows, True)


def _requirements(answer: Answer) -> Exhibit:
    rows = [(each.name, each.metric, each.needed, each.level) for each in answer.spec.requirements]
    if not rows:
        return Exhibit("Requirements", "None: the figures are compared, not judged.")
    return Exhibit(
        "Requirements", "What a candidate has to meet.", None, ("", "quantity", "needed", "level"), rows, True
    )


def _facts(answer: Answer) -> list[tuple[str, str]]:
    spec = answer.spec
    work = (
        f"{spec.work.updates:,} updates"
        if spec.work.updates
        else f"{spec.work.steps:,} steps"
        if spec.work.steps
        else ""
    )
    keys = sorted({key for row in answer.rows for key in row.keys} | set(answer.check.keys if answer.check else ()))
    return [
        ("base", " ".join(spec.base) or "the shipped defaults"),
        ("campaign", work or "as the base says when it ends"),
        ("seeds", f"0 to {spec.replications.at_most - 1} at most, as many as it takes to decide"),
        ("runs", ", ".join(keys)),
    ]
