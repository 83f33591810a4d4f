"""Runs against their baseline, level by level: the same bytes, what always holds, the same draws, other draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedsim.results.regress import paired, unpaired
from fedsim.results.regress.baseline import Baseline, Played
from fedsim.results.regress.finding import Finding
from fedsim.results.regress.hashes import table_digests
from fedsim.results.regress.invariants import violations
from fedsim.results.run import Run

Level = Literal["bytes", "invariants", "paired", "unpaired"]
Status = Literal["held", "regressed", "undecided", "draws changed"]
MOST_SEEDS = 10
_REGRESSED = ("regressed", "changed")
_WORDS = {"changed": "changed (which way is better is not known)"}


@dataclass(frozen=True)
class Check:
    """What came of it: the level that decided, one line, and what was found of each quantity."""

    level: Level
    status: Status
    line: str
    seeds: tuple[int, ...]
    broken: tuple[str, ...]  # what must hold and does not
    findings: tuple[Finding, ...]
    runs: tuple[Played, ...]  # none of runs that contradict themselves

    def told(self) -> dict[str, Any]:
        """For a JSON file; null is what cannot be known."""
        rows = [{name: _known(value) for name, value in finding._asdict().items()} for finding in self.findings]
        return {
            "level": self.level, "status": self.status, "line": self.line, "seeds": list(self.seeds),
            "broken": list(self.broken), "findings": rows,
        }  # fmt: skip


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def judged(baseline: Baseline, runs: Sequence[Run], *, may_grow: bool = False) -> Check:
    """Hold runs, of seeds that the baseline has, against it; the first level that can decide does.

    With other draws nothing is tested while more seeds may come (``may_grow``): to look twice would alarm more often.
    """
    seeds = tuple(run.summary["seed"] for run in runs)
    before = {run.seed: run for run in baseline.runs}
    if all(table_digests(run) == before[seed].digests for seed, run in zip(seeds, runs, strict=True)):
        line = f"held: identical, {len(seeds)} of {len(seeds)} seeds"
        return Check("bytes", "held", line, seeds, (), (), tuple(before[seed] for seed in seeds))
    broken = [f"seed {seed}: {line}" for seed, run in zip(seeds, runs, strict=True) for line in violations(run)]
    if broken:  # numbers of a run that contradicts itself are none
        return _broken(broken, seeds, ())
    played = tuple(Played.of(run, baseline.targets) for run in runs)
    lost = [line for run in played for line in _missing(before[run.seed], run)]
    if lost:
        return _broken(lost, seeds, played)
    if all(run.draws == before[run.seed].draws for run in played):
        found = tuple(paired.findings(baseline, played))
        return Check("paired", *_of_pairs(found, len(seeds)), seeds, (), found, played)
    if may_grow:
        return Check("unpaired", "draws changed", "draws changed: more seeds are needed", seeds, (), (), played)
    found = tuple(unpaired.findings(baseline, played))
    return Check("unpaired", *_of_others(found, len(seeds), len(baseline.runs)), seeds, (), found, played)


def _broken(lines: Sequence[str], seeds: tuple[int, ...], played: tuple[Played, ...]) -> Check:
    line = f"regressed: {lines[0]}" + (f"; and {len(lines) - 1} more" if len(lines) > 1 else "")
    return Check("invariants", "regressed", line, seeds, tuple(lines), (), played)


def _missing(before: Played, after: Played) -> list[str]:
    """What the baseline measured and the run does not."""
    lost = [
        name
        for name, value in before.quantities.items()
        if not math.isnan(value) and math.isnan(after.quantities.get(name, math.nan))
    ]
    return [f"seed {after.seed}: {name} is not measured any more" for name in lost]


def _of_pairs(found: Sequence[Finding], n_seeds: int) -> tuple[Status, str]:
    worse = [each for each in found if each.verdict in _REGRESSED]
    if worse:
        return "regressed", _line("regressed", worse, n_seeds)
    open_ones = [each for each in found if each.verdict == "undecided"]
    if open_ones:
        return "undecided", _line("undecided", open_ones, n_seeds)
    better = [each for each in found if each.verdict == "improved"]
    if better:
        return "held", _line("held, and improved", better, n_seeds) + "; a new baseline would keep it"
    changed = [each for each in found if each.difference]
    if not changed:
        return "held", f"held: no quantity changed, {n_seeds} seeds"
    return "held", _line("held, changed by less than does harm", _by_margin(changed), n_seeds)


def _of_others(found: Sequence[Finding], n_seeds: int, n_before: int) -> tuple[Status, str]:
    worse = [each for each in found if each.verdict in _REGRESSED]
    if worse:
        return "regressed", _line("regressed, other draws", worse, n_seeds, is_paired=False)
    return "draws changed", (
        f"draws changed: {_blindness(found)} with {n_seeds} seeds against {n_before}; "
        "a new baseline would see such changes again"
    )


def _blindness(found: Sequence[Finding]) -> str:
    """What would have been seen: of the first quantity, as the others are alike."""
    if not found:
        return "nothing could be seen"
    first = found[0]
    return f"no change of the {first.quantity} would be seen below {_share(first, first.margin)}"


def _by_margin(found: Sequence[Finding]) -> list[Finding]:
    return sorted(found, key=lambda each: -abs(each.difference) / each.margin if each.margin else 0.0)


def _line(status: str, found: Sequence[Finding], n_seeds: int, *, is_paired: bool = True) -> str:
    """Of the first of them, and how many more there are."""
    first = found[0]
    word = f" {_WORDS[first.verdict]}" if first.verdict in _WORDS else ""
    parts = [f"{status}: {first.quantity}{word} {_share(first, first.difference, sign='+')}"]
    if not math.isnan(first.low):
        parts[0] += f" ({_share(first, first.low)} … {_share(first, first.high)})"
    if is_paired:
        parts.append(f"harmless ±{_share(first, first.margin)}")
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    return ", ".join([*parts, f"{n_seeds} seed{'' if n_seeds == 1 else 's'}"]) + more


def _share(finding: Finding, value: float, sign: str = "") -> str:
    """A difference as a share of what the quantity was; of a logarithm it is one already."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    of = 1.0 if finding.quantity.startswith("log time") else abs(finding.before)
    return f"{100 * value / of:{sign}.2g} %" if of else f"{value:{sign}.3g}"
