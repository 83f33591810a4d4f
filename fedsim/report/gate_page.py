"""A check as a page: the curves in the band of their baseline, and what was found of each quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedsim.report import gate_plots as plots
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.words import listed, metric_name
from fedsim.results.regress.baseline import Baseline, Played
from fedsim.results.regress.check import Check
from fedsim.results.regress.finding import Finding
from fedsim.units import FloatArray

_LEVELS = {
    "bytes": "every table has the same values",
    "invariants": "what must hold in every run does not",
    "paired": "the draws are the same: seed by seed",
    "unpaired": "the draws are others: many seeds against many, which sees little",
}


def write_check(path: Path, baseline: Baseline, check: Check, *, name: str) -> Path:
    """Write the page of a check against the baseline of this name, and return its path."""
    curves = [each for metric in baseline.runs[0].curves if (each := _curve(baseline, check, metric)) is not None]
    sections = [("Curves", curves), ("What must hold", _broken(check)), ("Quantities", _quantities(check))]
    page = Page(
        kind="fedsim check",
        title=f"{name}: {check.status}",
        lead=check.line,
        tiles=[],
        sections=[(title, exhibits) for title, exhibits in sections if exhibits],
        facts=_facts(baseline, check),
    )
    return write_page(path, page)


def _curve(baseline: Baseline, check: Check, metric: str) -> Exhibit | None:
    versions = _common([*baseline.runs, *check.runs], metric)
    if not check.runs or len(versions) < 2:
        return None
    before, after = (_values(runs, metric, versions) for runs in (baseline.runs, check.runs))
    sd = before.std(axis=0, ddof=1) if len(before) > 1 else np.zeros(len(versions))
    if check.level == "unpaired":
        difference, spread = after.mean(axis=0) - before.mean(axis=0), sd * math.sqrt(1 / len(before) + 1 / len(after))
    else:
        d = after - _values([run for run in baseline.runs if run.seed in check.seeds], metric, versions)
        difference = d.mean(axis=0)
        spread = d.std(axis=0, ddof=1) / math.sqrt(len(d)) if len(d) > 1 else np.zeros(len(versions))
    margin = next((each.margin for each in check.findings if each.quantity == f"{metric} over versions"), None)
    name = metric_name(metric)
    n_outside = int(np.count_nonzero(np.abs(after.mean(axis=0) - before.mean(axis=0)) > 2 * sd))
    where = "inside the band" if not n_outside else f"outside the band at {n_outside} of {len(versions)} versions"
    caption = (
        f"The mean of {len(after)} seeds is {where} of the baseline's {len(before)}. Right: "
        + ("mean difference of the arms" if check.level == "unpaired" else "mean difference seed by seed")
        + " with its standard error"
        + (
            "."
            if margin is None or check.level == "unpaired"
            else "; dotted: what does no harm to the mean of the curve."
        )
    )
    drawn = plots.curve(
        versions.astype(np.float64), before.mean(axis=0), sd, after.mean(axis=0), metric=name, difference=difference,
        spread=spread, margin=None if check.level == "unpaired" else margin,
    )  # fmt: skip
    return Exhibit(f"Held-out {name}", caption, drawn, is_wide=True)


def _common(runs: Sequence[Played], metric: str) -> FloatArray:
    """Versions at which all runs were evaluated."""
    sets = [set(run.curves[metric].versions.tolist()) if metric in run.curves else set() for run in runs]
    return np.array(sorted(set.intersection(*sets)), dtype=np.float64)


def _values(runs: Sequence[Played], metric: str, versions: FloatArray) -> FloatArray:
    """``float64[run, version]``."""
    return np.array([run.curves[metric].values[np.isin(run.curves[metric].versions, versions)] for run in runs])


def _broken(check: Check) -> list[Exhibit]:
    if not check.broken:
        return []
    return [
        Exhibit("Broken", "Each line is wrong whatever was drawn.", None, ("",), [(line,) for line in check.broken])
    ]


def _quantities(check: Check) -> list[Exhibit]:
    if not check.findings:
        return []
    is_paired = check.level == "paired"
    margin = "does no harm up to" if is_paired else "seen from"
    caption = (
        "Candidate − baseline with its 95 % interval; a change counts beyond a tenth of the spread between seeds."
        if is_paired
        else "Candidate − baseline with its 99 % interval; what is smaller than the last column is not seen reliably."
    )
    header = ("quantity", "baseline", "now", "difference", "interval", margin, "verdict")
    rows = [_row(finding) for finding in check.findings]
    return [Exhibit("What was found", caption, None, header, rows, is_wide=True)]


def _row(finding: Finding) -> tuple[str, ...]:
    interval = "" if math.isnan(finding.low) else f"{finding.low:+.3g} … {finding.high:+.3g}"
    numbers = (f"{finding.before:.6g}", f"{finding.after:.6g}", f"{finding.difference:+.3g}", interval)
    return (finding.quantity.replace("_", " "), *numbers, f"{finding.margin:.3g}", finding.verdict)


def _facts(baseline: Baseline, check: Check) -> list[tuple[str, str]]:
    versions = (baseline.about.get("versions") or {}).get("fedsim-fleet", "unknown")
    return [
        ("decided by", _LEVELS[check.level]),
        ("seeds", listed([str(seed) for seed in check.seeds])),
        (
            "baseline",
            f"{len(baseline.runs)} seeds, recorded by fedsim {versions}, commit {baseline.about.get('commit')}",
        ),
        ("configuration", " ".join(baseline.overrides) or "as shipped"),
    ]
