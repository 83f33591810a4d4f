"""A decision as one page to forward."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fedsim.decide.decision import Decision
from fedsim.decide.sections import STATE_WORDS, sections, spaced
from fedsim.decide.told import valid_until
from fedsim.decide.verdict import WORDS, Verdict, found_in, tightest
from fedsim.report.exhibit import Page, write_page
from fedsim.report.words import listed

_COLOR: dict[Verdict, Literal["good", "open", "bad"]] = {
    "go": "good", "go_if": "open", "iterate": "open", "no_go": "bad",
}  # fmt: skip
_MOST_TILES = 6


def write_decision(path: Path, decision: Decision) -> Path:
    """Write the page and return its path. It needs no other file."""
    ruling, spec = decision.ruling, decision.spec
    if ruling is None:
        raise ValueError("a page is of a verdict")
    tiles = [
        (
            spaced(each.requirement.name),
            found_in(each).partition(" (")[0],
            f"{STATE_WORDS[each.state]}; {each.requirement.needed}",
        )
        for each in tightest(ruling.proposal.musts)[:_MOST_TILES]
    ]
    page = Page(
        kind=f"fedsim decision · {spec.decision.id} · {spec.decision.owner}",
        title=spec.decision.question,
        lead=lead(decision),
        tiles=tiles,
        sections=sections(decision),
        facts=facts(decision),
        banner=(_COLOR[ruling.verdict], WORDS[ruling.verdict]),
    )
    return write_page(path, page)


def lead(decision: Decision) -> str:
    """Why, under which conditions, and which shoulds fail."""
    ruling = decision.ruling
    if ruling is None:
        return ""
    said = [ruling.sentence]
    for each in ruling.conditions:
        at = "" if each.switching is None else f" (just met at {each.switching:g})"
        fails = f"{spaced(each.after.requirement.name)} fails{at}"
        said.append(f"If {spaced(each.name)} is {each.value} instead of {each.base}, {fails}.")
    failed = [each for each in ruling.proposal.judged if each.requirement.level == "should" and each.state != "PASS"]
    if failed:
        words = "; ".join(
            f"{spaced(each.requirement.name)} {STATE_WORDS[each.state]} ({found_in(each)})" for each in failed
        )
        said.append(f"Of what should be: {words}.")
    n = min((len(each.facts) for each in decision.tried if each.facts), default=0)
    if 0 < n < 3:
        said.append("Not yet replicated three times.")
    return " ".join(said)


def facts(decision: Decision) -> list[tuple[str, str]]:
    """What the page rests on."""
    spec, n_runs = decision.spec, sum(len(each.facts) for each in decision.tried)
    ruling, looks = decision.ruling, listed([str(n) for n in spec.looks])
    best = ruling.proposal.candidate if ruling is not None else None
    return [
        ("proposal", best.label if best is not None else "none"),
        ("decide by", str(spec.decision.decide_by or "no date")),
        ("valid until", valid_until(decision) or "no date"),
        ("confidence", f"{spec.confidence:.0%}; each look at an interval of {decision.level:.1%}"),
        (
            "runs",
            f"{n_runs} trained, of {len(decision.tried)} candidates; looks after {looks} seeds",
        ),
        ("specification", f"{spec.path.name}, sha256 {spec.sha256[:16]}"),
    ]
