"""A decision in fifteen sections, each as tables and figures: what the page and the Markdown text have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedsim.decide.campaign import Tried
from fedsim.decide.decision import Decision
from fedsim.decide.evidence import (
    carried,
    fairness,
    held,
    learning,
    money,
    participants,
    phones,
    privacy,
    trainable,
)
from fedsim.decide.sensitivity import Effect, shown_value
from fedsim.decide.verdict import found_in, relative_room, tightest
from fedsim.plan.judge import Judged
from fedsim.plan.words import amount_of
from fedsim.report.decision_plots import Bar, tornado
from fedsim.report.exhibit import Exhibit

Section = tuple[str, Sequence[Exhibit]]
_LEAST_SHIFT = 0.01
STATE_WORDS = {"PASS": "passes", "FAIL": "FAILS", "UNDECIDED": "undecided", "UNKNOWN": "unknown"}


def sections(decision: Decision) -> list[Section]:
    """All sections behind the header, in their order."""
    judged = decision.ruling.proposal.judged if decision.ruling is not None else ()
    return [
        ("1 · Scorecard", [scorecard(judged)]),
        ("2 · What would change the verdict", changes(decision)),
        ("3 · Why federated learning", [reasons(decision)]),
        ("4 · Who takes part", participants(decision)),
        ("5 · Can phones train it", trainable(decision)),
        ("6 · What phones hold", held(decision)),
        ("7 · Does it learn", learning(decision)),
        ("8 · What must be carried", carried(decision)),
        ("9 · Money, energy, carbon", money(decision)),
        ("10 · Phones and people", [*phones(decision), *fairness(decision)]),
        ("11 · Privacy and security", privacy(decision)),
        ("12 · Candidates tried", [candidates(decision)]),
        ("13 · Assumptions the verdict rests on", assumptions(decision)),
        ("14 · Reproduce and sign", [signing(decision)]),
    ]


def spaced(name: str) -> str:
    """``worst_group`` → ``worst group``."""
    return name.replace("_", " ")


def scorecard(judged: Sequence[Judged]) -> Exhibit:
    """Every requirement with its state, the least room first."""
    rows = [
        (
            spaced(each.requirement.name),
            each.requirement.level,
            each.requirement.needed,
            found_in(each) + (f"; {each.note}" if each.note else ""),
            "no seed changes it" if each.is_fixed else f"{each.n} seeds",
            STATE_WORDS[each.state],
            room_of(each),
            evidence_of(each),
        )
        for each in tightest(judged)
    ]
    caption = (
        "Room: distance to the limit as a share of the limit and, in brackets, in half-widths of the interval. A "
        "requirement passes if its whole interval is on the good side, fails if it is on the bad side, and is "
        "undecided between, or from fewer than three seeds."
    )
    header = ("requirement", "level", "needed", "found", "from", "state", "room", "evidence")
    return Exhibit("Requirements", caption, None, header, rows, is_wide=True)


def room_of(judged: Judged) -> str:
    """``+38 % (4.1)``."""
    if math.isnan(judged.estimate) or math.isinf(judged.estimate):
        return "–"
    if not judged.requirement.limit:
        return "at the limit" if judged.estimate == judged.requirement.limit else f"{relative_room(judged):+.3g}"
    text = f"{100 * relative_room(judged):+.3g} %"
    return text if math.isinf(judged.room) or math.isnan(judged.room) else f"{text} ({_rounded(judged.room)})"


def evidence_of(judged: Judged) -> str:
    """How it is known: measured on traces, simulated, or not at all."""
    if judged.state == "UNKNOWN":
        return "none"
    return "traces" if judged.requirement.about.stage == "constraints" else "simulated"


def changes(decision: Decision) -> list[Exhibit]:
    """Tornado of the two musts with the least room, values at which the verdict turns, levers."""
    found = decision.sensitivity
    if found is None or decision.ruling is None:
        return [Exhibit("Sensitivity", "Not run.")]
    musts = [each for each in tightest(decision.ruling.proposal.musts) if math.isfinite(each.estimate)]
    drawn = [_tornado(each, found.assumptions) for each in musts]
    told = [each for each in drawn if each is not None][:2]
    return [
        *told,
        _table("Values that turn a must", "Assumptions one at a time; the value at which the requirement is just met.",
               ("assumption", "now", "at", "requirement", "turns", "just met at"),
               [_turn(each) for each in decision.ruling.conditions], "No stated value makes a must fail."),
        _table("Levers", "What the owner can change, one at a time, on the same seeds.",
               ("lever", "now", "then", "requirement", "found", "state"),
               [row for each in found.levers if (row := _lever(each)) is not None], "None of them moves a must."),
    ]  # fmt: skip


def _tornado(judged: Judged, effects: Sequence[Effect]) -> Exhibit | None:
    """How the assumptions move one requirement; None: none of them does."""
    of_it = [each for each in effects if each.after.requirement.name == judged.requirement.name]
    moved = [each for each in of_it if math.isfinite(each.after.estimate) and _is_moved(each)]
    if not moved:
        return None
    unit, name = judged.requirement.about.unit, spaced(judged.requirement.name)
    bars = [Bar(_at(each), each.after.estimate) for each in moved]
    rows = [
        (_at(each), amount_of(each.after.estimate, unit), STATE_WORDS[each.after.state])
        for each in sorted(moved, key=lambda each: -abs(each.after.estimate - judged.estimate))
    ]
    label = name if unit in ("number", "fraction", "count") or unit == name else f"{name} ({unit})"
    svg = tornado(bars, base=judged.estimate, limit=judged.requirement.limit, label=label)
    caption = f"Needed: {judged.requirement.needed}. Found: {found_in(judged)}."
    return Exhibit(f"What moves {name}", caption, svg, ("assumption", name, "state"), rows)


def _rounded(room: float) -> str:
    return f"{room:.2g}" if abs(room) < 10 else f"{room:,.0f}"


def _at(effect: Effect) -> str:
    """``bandwidth 0.3``."""
    return f"{spaced(effect.name)} {shown_value(effect.value)}"


def _is_moved(effect: Effect) -> bool:
    """Whether the estimate moves by a hundredth of itself."""
    shift = abs(effect.after.estimate - effect.before.estimate)
    return shift > _LEAST_SHIFT * max(abs(effect.before.estimate), 1e-12)


def _table(title: str, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], otherwise: str) -> Exhibit:
    if not rows:
        return Exhibit(title, otherwise)
    return Exhibit(title, caption, None, header, rows, is_wide=True)


def _turn(effect: Effect) -> tuple[str, ...]:
    just = "not looked for" if effect.switching is None else f"{effect.switching:g}"
    return (
        effect.name, shown_value(effect.base), shown_value(effect.value), effect.after.requirement.name, effect.turns,
        just,
    )  # fmt: skip


def _lever(effect: Effect) -> tuple[str, ...] | None:
    """A lever's effect on a must; None: it does not move it."""
    is_must = effect.after.requirement.level == "must"
    if not is_must or math.isnan(effect.after.estimate) or not (_is_moved(effect) or effect.turns):
        return None
    return (
        effect.name, shown_value(effect.base), shown_value(effect.value), effect.after.requirement.name,
        found_in(effect.after), effect.turns or STATE_WORDS[effect.after.state],
    )  # fmt: skip


def reasons(decision: Decision) -> Exhibit:
    """Why at all, and what else could be done."""
    rows = [(each.kind, each.text, each.evidence) for each in decision.spec.reasons]
    others = "; ".join(decision.spec.decision.alternatives) or "none are named"
    caption = f"What a no-go means: {others}."
    if not rows:
        return Exhibit("Reasons", f"None is given. {caption}")
    return Exhibit("Reasons", caption, None, ("kind", "reason", "evidence"), rows, is_wide=True)


def candidates(decision: Decision) -> Exhibit:
    """Every candidate with the states of all musts; those that no other beats in days and device-hours are marked."""
    musts = [each for each in decision.requirements if each.level == "must"]
    points = {each.candidate.label: _point(each) for each in decision.tried}
    rows = []
    for each in decision.tried:
        by_name = {judged.requirement.name: judged for judged in each.judged}
        days, hours = points[each.candidate.label]
        rows.append(
            (
                each.candidate.arm, each.candidate.model, each.candidate.rule, f"{len(each.facts)}",
                "not run" if math.isnan(days) else f"{days:.3g}", "not run" if math.isnan(hours) else f"{hours:,.4g}",
                "yes" if _is_best(points[each.candidate.label], list(points.values())) else "",
                *(STATE_WORDS[by_name[must.name].state] for must in musts),
            )
        )  # fmt: skip
    header = (
        "arm",
        "model",
        "criterion",
        "seeds",
        "days",
        "device-hours",
        "Pareto",
        *(spaced(each.name) for each in musts),
    )
    caption = "Means over seeds; Pareto: no other candidate has both fewer days and fewer device-hours."
    return Exhibit("Candidates", caption, None, header, rows, is_wide=True)


def _point(tried: Tried) -> tuple[float, float]:
    facts = [each["values"] for each in tried.facts if each is not None]
    if not facts:
        return math.nan, math.nan
    days, hours = (sum(each[name] for each in facts) / len(facts) for name in ("days", "device_hours"))
    return days, hours


def _is_best(point: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    if math.isnan(point[0]):
        return False
    return not any(
        other != point and other[0] <= point[0] and other[1] <= point[1] for other in points if other[0] == other[0]
    )


def assumptions(decision: Decision) -> list[Exhibit]:
    """Every value marked assumed that the run read, what simplifies, what was not run."""
    moved: dict[str, list[str]] = {}
    for each in decision.sensitivity.assumptions if decision.sensitivity is not None else ():
        if each.after.requirement.level == "must" and abs(each.influence) >= 0.01:
            moved.setdefault(each.key, []).append(f"{each.after.requirement.name} {each.influence:+.2g}")
    rows = [
        (
            each.key,
            shown_value(each.value),
            each.source,
            "; ".join(moved.get(each.key, [])) or "not varied, or no shift",
        )
        for each in decision.assumed
    ]
    not_run = [*decision.not_evaluated, *(decision.sensitivity.not_run if decision.sensitivity is not None else ())]
    caption = (
        "As the configuration's files say it, with the plausible range. Influence: shift of a must in units of its "
        "distance to the limit, where the specification's sensitivity varies the value."
    )
    return [
        Exhibit("Assumed values", caption, None, ("key", "value", "source", "influence"), rows, is_wide=True),
        Exhibit("Not run", "What this page does not say.", None, ("", ""), [(f"{n}", line) for n, line in
                enumerate(not_run, start=1)], is_wide=True),
        Exhibit(
            "Simplifications that touch a must",
            "Days are shifted without regard to the day of the week. Under a changed assumption the base's learning "
            "curve is laid on the new schedule's steps; who takes part then does not change what is learned. What "
            "could turn a failed must is looked at for the nearest candidate alone. A campaign ends where its run "
            "ended: at the stop that the specification sets. Where that is a metric, the last model is the first "
            "that had it, which flatters it by what the metric varies between evaluations.",
        ),
    ]  # fmt: skip


def signing(decision: Decision) -> Exhibit:
    """Commands and hashes, and who has to sign."""
    spec = decision.spec
    rows = [
        ("command", f"fedsim decide {spec.path.name}"),
        ("specification", f"sha256 {spec.sha256[:16]}"),
        *((f"stage {name}", key) for name, key in decision.place.keys.items() if name != "training"),
        *((f"sign-off: {area}", "") for area in ("privacy", "security", "infrastructure", "client performance")),
    ]
    if decision.ruling is not None:
        words = " ".join(_quoted(word) for word in decision.ruling.proposal.candidate.words)
        rows.insert(1, ("one run of the proposal", f"fedsim run {words}"))
    return Exhibit("Reproduce", "fedsim never signs.", None, ("", ""), rows, is_wide=True)


def _quoted(word: str) -> str:
    return f"'{word}'" if any(sign in word for sign in ' "{}&|<>$!') else word
