"""A comparison as a page: curves, what each arm came to, and what can be said of the differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsim.report import compare_plots as plots
from fedsim.report.compare_cells import Grid, differences, same, values
from fedsim.report.compare_text import METHOD, how_paired
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.words import Unit, byte_unit, duration_unit, listed, metric_name
from fedsim.results.compare import Comparison
from fedsim.results.curves import Axis, Band, band
from fedsim.results.numbers import metric_names
from fedsim.units import DAY_S

MAX_DRAWN = len(plots.ARM_COLORS)


def write_comparison(path: Path, comparison: Comparison) -> Path:
    """Write the page and return its path. It needs no other file; the same runs give the same bytes."""
    against, n_runs = comparison.against, sum(len(arm.runs) for arm in comparison.arms)
    lead = f"{n_runs} runs of {len(comparison.arms)} arms"
    if against is not None:
        lead += f", held against {against.label} {how_paired(comparison)}"
    sections = [("How the arms learned", _curves(comparison)), ("What each arm came to", [_values(comparison)])]
    if against is not None:
        sections.append((f"Against {against.label}", [_differences(comparison)]))
    page = Page(
        kind="fedsim comparison",
        title=_title(comparison),
        lead=f"{lead}. {_best(comparison)}".strip(),
        tiles=[],
        sections=[(title, exhibits) for title, exhibits in sections if exhibits],
        facts=_facts(comparison),
    )
    return write_page(path, page)


def _title(comparison: Comparison) -> str:
    names = list(dict.fromkeys(name for arm in comparison.arms for name in arm.values))
    return f"Arms that differ in {listed(names)}" if names else "Runs of one arm"


def _best(comparison: Comparison) -> str:
    """How the arms stand in the measure that is asked about first, if there is a verdict."""
    measure = next((each for each in comparison.measures if each.better is not None), None)
    if measure is None or comparison.against is None:
        return ""
    found = [(arm.label, comparison.difference(measure, arm)) for arm in comparison.arms]
    told = {
        word: [label for label, each in found if each is not None and each.verdict == word]
        for word in ("better", "worse")
    }
    said = [f"{listed(labels)} {'is' if len(labels) == 1 else 'are'} {word}" for word, labels in told.items() if labels]
    return f"In {measure.name}, {', '.join(said)}." if said else f"In {measure.name} no arm can be told from it."


def _curves(comparison: Comparison) -> list[Exhibit]:
    runs = [run for arm in comparison.arms for run in arm.runs]
    metrics = list(dict.fromkeys(name for run in runs for name in metric_names(run)))
    if not metrics:
        return [Exhibit("Model quality", "Not drawn: no run trained a model, or evaluated one.")]
    asked = [target.metric for target in comparison.targets]
    return [_curve(comparison, metric) for metric in sorted(metrics, key=lambda name: name not in asked)]


def _curve(comparison: Comparison, metric: str) -> Exhibit:
    name, drawn = metric_name(metric), comparison.arms[:MAX_DRAWN]
    panels = [
        _panel(comparison, metric, "simulated time", lambda curve: curve.at, _time_unit),
        _panel(comparison, metric, "device-hours of ended sessions", lambda curve: curve.device_h, _hours),
        _panel(comparison, metric, "bytes both ways", lambda curve: curve.n_bytes, byte_unit),
    ]  # fmt: skip
    title = f"Held-out {name}"
    if not all(panel.bands for panel in panels):
        return Exhibit(title, "Not drawn: the runs were evaluated once.")
    caption = "Mean over the seeds of each arm, as far as all of them came, and the 95 % interval of that mean."
    if len(drawn) < len(comparison.arms):
        caption += f" The first {MAX_DRAWN} of {len(comparison.arms)} arms."
    return Exhibit(title, caption, plots.curves(panels, metric=name), is_wide=True)


def _panel(comparison: Comparison, metric: str, name: str, axis: Axis, unit: plots.UnitOf) -> plots.Panel:
    found = [band(arm.label, arm.runs, metric, axis) for arm in comparison.arms[:MAX_DRAWN]]
    bands: Sequence[Band] = [each for each in found if each is not None]
    return plots.Panel(name, unit(max((float(each.x[-1]) for each in bands), default=1.0)), bands)


def _hours(_: float) -> Unit:
    return Unit("h", 1)


def _time_unit(longest_s: float) -> Unit:
    return Unit("days", DAY_S) if longest_s > 2 * DAY_S else duration_unit(longest_s)


def _values(comparison: Comparison) -> Exhibit:
    caption = f"{METHOD} {same(comparison)}".strip()
    return _table("Means", caption, values(comparison))


def _differences(comparison: Comparison) -> Exhibit:
    caption = (
        "Amounts in per cent of the other arm's mean, shares in points, other numbers as they are; in brackets the "
        "95 % interval of the difference. What cannot be told says how many seeds would tell the difference that is "
        "seen with a chance of 80 %."
    )
    return _table("Differences", caption, differences(comparison))


def _table(title: str, caption: str, grid: Grid) -> Exhibit:
    return Exhibit(title, caption, None, grid.header, grid.rows, is_wide=True)


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    arms = [(arm.label, f"seeds {', '.join(map(str, arm.seeds))}") for arm in comparison.arms]
    versions = {
        str((run.provenance.get("versions") or {}).get("fedsim-fleet", "unknown"))
        for arm in comparison.arms
        for run in arm.runs
    }
    targets = [("target", f"{target}, at the first evaluation that meets it") for target in comparison.targets]
    return [
        *arms,
        *targets,
        ("fedsim", ", ".join(sorted(versions))),
        *(("remark", line) for line in comparison.remarks),
    ]
