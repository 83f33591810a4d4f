"""An answer in words: one sentence, tables, what it rests on; and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedsim.plan.answer import Answer
from fedsim.plan.arms import HEADLINE, unit_of
from fedsim.plan.trials import Row, room
from fedsim.report.amounts import amount, with_half_width
from fedsim.report.words import UNKNOWN, listed

_PLAIN = ("days", "device_hours")
CHOSEN = "▶"


class Table(NamedTuple):
    """A header and rows of as many cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def sentence(answer: Answer) -> str:
    """The answer in one sentence."""
    spec = answer.spec
    if answer.start is not None:
        start = answer.start
        return (
            f"Start by {start.date}: one campaign is done within {start.days:.3g} days at {start.level:.0%} confidence "
            f"(mean {start.mean:.3g})."
        )
    if spec.find in ("what_if", "criteria"):
        return _of_changes(answer)
    if spec.find == "front":
        labels = [row.candidate.label for row in answer.chosen]
        goals = listed([each.name for each in spec.objectives])
        return f"Not dominated in {goals}: {'; '.join(labels)}." if labels else "No candidate meets the requirements."
    name = spec.variables[0].key
    if not answer.chosen:
        return f"No value of {name} that was tried meets the requirements."
    value = answer.chosen[0].candidate.values[0][1]
    return f"The {spec.find} {name} that meets the requirements is {value}."


def _of_changes(answer: Answer) -> str:
    told = [each for each in answer.changes if each.name in _PLAIN and each.told.verdict != "cannot be told"]
    by_arm: dict[str, list[str]] = {}
    for each in told:
        by_arm.setdefault(each.arm, []).append(f"{each.name.replace('_', ' ')} {_relative(each.before, each.after)}")
    said = [f"{arm}: {', '.join(changes)}" for arm, changes in by_arm.items()]
    return "; ".join(said) + "." if said else "No change of days or device-hours can be told."


def _relative(before: float, after: float) -> str:
    if before == after:
        return "the same"
    return f"{after / before - 1:+.1%}" if before else f"from 0 to {after:.4g}"


def tables(answer: Answer) -> list[Table]:
    """The candidates, or the changes arm by arm."""
    if answer.spec.find in ("what_if", "criteria"):
        return [_changes(answer, arm) for arm in dict.fromkeys(each.arm for each in answer.changes)]
    return [_candidates(answer)]


def _changes(answer: Answer, arm: str) -> Table:
    first = "all criteria" if answer.spec.find == "criteria" else "as it is"
    rows = []
    for each in answer.changes:
        if each.arm == arm:
            unit = unit_of(each.name)
            rows.append(
                (each.name, amount(each.before, unit), amount(each.after, unit), _difference(each.told, unit),
                 _relative(each.before, each.after), each.told.verdict)
            )  # fmt: skip
    return Table(("", first, arm, "difference, seed by seed", "relative", "so it is"), rows)


def _difference(told: Any, unit: str) -> str:
    if math.isnan(told.center):
        return UNKNOWN
    unit = "number" if unit == "fraction" else unit
    return spread(told.center, (told.high - told.low) / 2, unit)


def spread(center: float, half: float, unit: str) -> str:
    """``12.1 ± 0.4 h``; without an interval the number alone."""
    if math.isnan(half) or half <= 0 or math.isnan(center):
        return f"{'−' if center < 0 else ''}{amount(abs(center), unit)}"
    text = with_half_width(abs(center), half, unit) if center else amount(0.0, unit)
    return f"{'−' if center < 0 else ''}{text}"


def columns(answer: Answer) -> list[str]:
    """Figures that the table of candidates shows: objectives, what is required, days and device-hours."""
    spec = answer.spec
    asked = [each.name for each in spec.objectives] + [each.metric for each in spec.requirements]
    return [name for name in dict.fromkeys([*asked, *_PLAIN]) if not name.startswith("days_to.")]


def _candidates(answer: Answer) -> Table:
    names, keys = columns(answer), [each.key for each in answer.spec.variables]
    header = ("", *(keys or ["campaign"]), "says", *names, "foretold days", "binds", "seeds")
    rows = [row for row in answer.rows if row.seeds]
    return Table(header, [_cells(answer, row, names) for row in rows])


def _cells(answer: Answer, row: Row, names: Sequence[str]) -> tuple[str, ...]:
    chosen = {each.candidate for each in answer.chosen}
    values = [str(value) for _, value in row.candidate.values] or ["as it is"]
    return (
        CHOSEN if row.candidate in chosen else "",
        *values,
        state_of(row),
        *(figure(row, name) for name in names),
        "" if math.isnan(row.foretold_days) else f"{row.foretold_days:.3g}",
        binds(row),
        f"{len(row.seeds)}{', trained' if row.is_trained else ''}",
    )


def state_of(row: Row) -> str:
    """PASS, FAIL …, with its reason where that is not a requirement."""
    if row.failures:
        return f"FAIL: {row.failures[0]}"
    if row.n_unfinished:
        return f"FAIL: {row.n_unfinished} of {len(row.seeds)} not done in time"
    return row.state


def figure(row: Row, name: str) -> str:
    """A figure with its 95 % interval; of runs that were cut the time is a bound, and what it took is not known."""
    if row.n_unfinished:
        return f"> {amount(row.mean(name), unit_of(name))}" if name == "days" else UNKNOWN
    return spread(row.mean(name), row.half_width(name), unit_of(name))


def binds(row: Row) -> str:
    """The requirement with the least room and how much there is."""
    found = row.binding
    if found is None:
        return ""
    least = room(found)
    return f"{found.requirement.name} ({'beyond every limit' if math.isinf(least) else f'{least:+.1%}'})"


def grounds(answer: Answer) -> list[str]:
    """What the answer rests on: confidence, runs, the check with fresh seeds, what it was not able to do."""
    spec, check = answer.spec, answer.check
    lines = [
        f"Rests on {answer.n_runs} runs, the same seeds for every candidate; intervals in the table are of the mean "
        "at 95 %."
    ]
    if spec.requirements:
        lines.append(
            f"A candidate passes where the interval at {answer.level:.2%} of each look is on the good side, so that a "
            f"wrong pass has a chance of {spec.alpha:.0%} at most over all looks and candidates."
        )
    if spec.find in ("smallest", "largest"):
        lines.append("Bisection: it is taken that beyond a value that is enough every value is.")
        lines += _undecided(answer)
    if spec.find == "front" and not spec.requirements:
        lines.append("The front is by means; no error rate is claimed for who is on it.")
    lines += [f"Not simulated: {n} candidates that a closed form, or the grid, left out." for n in _left_out(answer)]
    if check is not None:
        held = "the answer held" if check.has_held else "THE ANSWER DID NOT HOLD IN ALL"
        lines.append(
            f"Fresh seeds {', '.join(map(str, check.seeds))}: {held}: {check.n_held} of {check.n} {check.what}."
        )
    if answer.spent is not None:
        lines.append(
            f"The budget ({answer.spent}) was spent before the search was done: the best that was found so far."
        )
    return [*lines, *answer.remarks]


def _undecided(answer: Answer) -> list[str]:
    """A value that might be enough and was not shown to be is not the answer, and is named."""
    labels = [row.candidate.label for row in answer.rows if row.seeds and row.state == "UNDECIDED"]
    n = answer.spec.replications.at_most
    return [f"Undecided after {n} seeds, and so not taken: {'; '.join(labels)}."] if labels else []


def _left_out(answer: Answer) -> list[int]:
    if answer.spec.find != "front" or answer.spec.method != "grid":
        return []
    n = answer.spec.n_candidates - sum(bool(row.seeds) for row in answer.rows)
    return [n] if n > 0 else []


def markdown(answer: Answer) -> str:
    """The whole answer for a terminal."""
    question = [f"**{answer.spec.question}**"] if answer.spec.question else []
    parts = [*question, sentence(answer), *map(_markdown, tables(answer)), "\n".join(f"- {x}" for x in grounds(answer))]
    return "\n\n".join(part for part in parts if part).replace("\u00a0", " ")


def _markdown(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def told(answer: Answer) -> dict[str, Any]:
    """The answer as JSON; what is not known is null."""
    check, start = answer.check, answer.start
    return {
        "question": answer.spec.question,
        "find": answer.spec.find,
        "answer": sentence(answer),
        "base": list(answer.spec.base),
        "confidence": {"alpha": answer.spec.alpha, "level_of_a_look": answer.level},
        "candidates": [_row(row, row.candidate in {each.candidate for each in answer.chosen}) for row in answer.rows],
        "changes": [
            {"arm": e.arm, "figure": e.name, "unit": unit_of(e.name), "before": _known(e.before),
             "after": _known(e.after), "difference": _known(e.told.center), "low": _known(e.told.low),
             "high": _known(e.told.high), "verdict": e.told.verdict, "n_pairs": e.told.n_pairs}
            for e in answer.changes
        ],
        "start": None if start is None else {"date": str(start.date), "days": start.days, "mean_days": start.mean},
        "check": None if check is None else
        {"seeds": list(check.seeds), "held": check.n_held, "of": check.n, "what": check.what, "runs": list(check.keys)},
        "spent": answer.spent,
        "grounds": grounds(answer),
        "n_runs": answer.n_runs,
    }  # fmt: skip


def _row(row: Row, is_chosen: bool) -> dict[str, Any]:
    names = [
        name for name in (row.values or {}) if name in HEADLINE or name in {j.requirement.metric for j in row.judged}
    ]
    return {
        "values": dict(row.candidate.values),
        "is_answer": is_chosen,
        "state": row.state,
        "why": state_of(row),
        "seeds": list(row.seeds),
        "is_trained": row.is_trained,
        "n_unfinished": row.n_unfinished,
        "foretold_days": _known(row.foretold_days),
        "binds": None if row.binding is None else row.binding.requirement.name,
        "figures": {name: _mean(row, name) for name in names},
        "requirements": [
            {"name": j.requirement.name, "needed": j.requirement.needed, "state": j.state,
             "estimate": _known(j.estimate), "low": _known(j.low), "high": _known(j.high), "room": _known(room(j))}
            for j in row.judged
        ],
        "runs": list(row.keys),
    }  # fmt: skip


def _mean(row: Row, name: str) -> dict[str, float | None]:
    return {"mean": _known(row.mean(name)), "half_width": _known(row.half_width(name))}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
