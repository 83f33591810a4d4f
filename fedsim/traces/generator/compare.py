"""How well one trace set stands for another, rule by rule; and a fit held against phones that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from rich.table import Table

from fedsim import rng
from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.assemble import take
from fedsim.traces.generator.generators import Parameters, fit_generator, generate
from fedsim.traces.generator.goodness import Goodness, goodness
from fedsim.traces.rule import Rule

FIT_RULES = ("charging & network == wifi & locked", "charging & network == wifi", "charging", "available")
_COLUMNS = tuple(field.name for field in fields(Goodness))
N_SYNTHETIC, N_DAYS = 500, 7


@dataclass(frozen=True)
class SetComparison:
    """Distances of the set ``made`` from the set ``real`` (named in words) under one rule."""

    rule: str
    made: str
    real: str
    goodness: Goodness


def default_rules(traces: TraceSet) -> list[Rule]:
    """Those of :data:`FIT_RULES` that the set's channels can answer."""
    rules = [Rule.parse(text) for text in FIT_RULES]
    answered = [rule for rule in rules if set(rule.channels) <= set(traces.channels())]
    if not answered:
        raise InputError("the set's channels answer no default rule", value=traces.channels(), allowed="--rule RULE")
    return answered


def compare(made: tuple[str, TraceSet], real: tuple[str, TraceSet], rules: Sequence[Rule]) -> list[SetComparison]:
    """One comparison for each rule; sets come with their names."""
    return [SetComparison(str(rule), made[0], real[0], _goodness(made, real, rule)) for rule in rules]


def _goodness(made: tuple[str, TraceSet], real: tuple[str, TraceSet], rule: Rule) -> Goodness:
    try:
        return goodness(made[1], real[1], rule)
    except InputError as error:
        raise InputError(f"{made[0]} and {real[0]} cannot be compared ({error})", value=str(rule)) from error


def fit_and_compare(
    traces: TraceSet,
    rules: Sequence[Rule],
    *,
    source: str,
    held_out_share: float,
    seed: int,
) -> tuple[Parameters, list[SetComparison]]:
    """Parameters fitted to a set, and how synthetic phones made with them compare with real ones.

    With a share held out, the fit sees the other phones only and is held against those it has not seen; beside it
    stands the seen part itself, which tells how far apart two real parts are. ``seed`` is of the draws.
    """
    if not 0 <= held_out_share < 1:
        raise InputError("--held-out is outside its range", value=held_out_share, allowed="0 … below 1")
    order = rng.generator(seed, "held out").permutation(traces.n)
    n_held_out = round(held_out_share * traces.n)
    if held_out_share and not 0 < n_held_out < traces.n:
        raise InputError("--held-out leaves no phone on one side", value=held_out_share)
    seen = take(traces, np.sort(order[n_held_out:])) if n_held_out else traces
    fitted = fit_generator(seen, source=source)
    made = ("synthetic phones", generate(fitted, n_devices=N_SYNTHETIC, n_days=N_DAYS, seed=seed))
    if not n_held_out:
        return fitted, compare(made, ("the set they were fitted to", traces), rules)
    real = (f"{n_held_out} held-out phones", take(traces, np.sort(order[:n_held_out])))
    yardstick = (f"the {seen.n} phones of the fit", seen)
    return fitted, [row for rule in rules for one in (made, yardstick) for row in compare(one, real, [rule])]


def _cells(found: Goodness) -> list[str]:
    return ["unknown" if value is None else f"{value:.3f}" for value in asdict(found).values()]


def render_comparisons(rows: Sequence[SetComparison]) -> Table:
    """The distances for a terminal of 80 columns."""
    table = Table(title="0 is perfect; shares and hours as differences, the others as distances", title_justify="left")
    for column in (
        "rule",
        "this",
        "against",
        "mean\nshare",
        "hour\nof day",
        "session\nKS",
        "device\nKS",
        "auto-\ncorr.",
    ):
        table.add_column(column, justify="left" if column in ("rule", "this", "against") else "right")
    for row in rows:
        table.add_row(row.rule, row.made, row.real, *_cells(row.goodness))
    return table


def markdown_comparisons(rows: Sequence[SetComparison]) -> str:
    """The distances as a Markdown table."""
    head = ["rule", "this", "against", *(name.replace("_", " ") for name in _COLUMNS)]
    lines = [head, ["---"] * len(head)]
    lines += [[f"`{row.rule}`", row.made, row.real, *_cells(row.goodness)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def json_comparisons(rows: Sequence[SetComparison]) -> list[dict[str, Any]]:
    """The distances as JSON-serialisable values."""
    return [asdict(row) for row in rows]
