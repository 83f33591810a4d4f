"""A decision as Markdown, for a pull request; and what a decision would do, before it does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsim.decide.campaign import asked_runs
from fedsim.decide.decision import Decision, candidates_of
from fedsim.decide.page import facts, lead
from fedsim.decide.place import STAGES
from fedsim.decide.sections import sections
from fedsim.decide.spec import Spec
from fedsim.decide.verdict import WORDS
from fedsim.plan.store import Store
from fedsim.report.exhibit import Exhibit


def markdown(decision: Decision) -> str:
    """All sections without their figures."""
    word = WORDS[decision.ruling.verdict] if decision.ruling is not None else "No verdict yet"
    parts = [f"# {word}: {decision.spec.decision.question}", lead(decision)]
    parts.append("\n".join(f"- {name}: {text}" for name, text in facts(decision)))
    for title, exhibits in sections(decision):
        parts.append(f"## {title}")
        parts += [_exhibit(each) for each in exhibits]
    return "\n\n".join(part for part in parts if part).replace("\u00a0", " ") + "\n"


def _exhibit(exhibit: Exhibit) -> str:
    parts = [f"**{exhibit.title}**. {exhibit.caption}"]
    if exhibit.rows:
        lines = [_line(exhibit.header), _line(["---"] * len(exhibit.header)), *map(_line, exhibit.rows)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def stages_text(decision: Decision) -> str:
    """What is finished of a decision that has no verdict."""
    done = [name for name in STAGES if name in decision.place.keys or name == "reasons"]
    parts = [f"finished: {', '.join(done)}; no verdict was asked for"]
    wanted = {
        "constraints": "4", "models": "5", "data": "6", "training": "7", "forecast": "8", "fairness": "10",
    }  # fmt: skip
    numbers = {wanted[name] for name in done if name in wanted}
    for title, exhibits in sections(decision):
        if title.partition(" ")[0] in numbers:
            parts.append(f"## {title}")
            parts += [_exhibit(each) for each in exhibits]
    return "\n\n".join(parts).replace("\u00a0", " ")


def plan_text(spec: Spec, folder: Path) -> str:
    """Stages and runs to do; minutes by the wall time of like runs that were played."""
    store = Store(folder / "runs", n_workers=spec.budget.cores, tell=print)
    rows = []
    for each in candidates_of(spec, spec.constraints.criteria[:1], spec.model_words):
        wanted = asked_runs(each, spec.replications.first)
        missing = len(store.missing(wanted))
        rows.append((each.arm, each.model, str(len(wanted)), str(len(wanted) - missing), str(missing)))
    seconds = [
        run.provenance["wall_s"] for path in sorted(folder.glob("runs/*/summary.json"))
        if (run := store.opened(path.parent.name).run) is not None
    ]  # fmt: skip
    n_missing = sum(int(row[-1]) for row in rows)
    expected = "unknown: none was played yet"
    if seconds:
        expected = (
            f"about {n_missing * sum(seconds) / len(seconds) / spec.budget.cores / 60:.1f} minutes, start-up aside"
        )
    table = [_line(("arm", "model", "runs at first", "there", "to play")), _line(["---"] * 5), *map(_line, rows)]
    return "\n".join(
        [
            f"stages: {' → '.join(STAGES)}",
            f"looks after {', '.join(map(str, spec.looks))} seeds; budget {spec.budget.minutes:g} minutes on "
            f"{spec.budget.cores} cores, sensitivity has what is left",
            "", *table, "", f"time of the first look: {expected}",
            "a costlier model is trained only if none before it passes",
        ]
    )  # fmt: skip
