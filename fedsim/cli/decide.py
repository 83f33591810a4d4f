"""``fedsim decide``: from a specification to a verdict."""

from __future__ import annotations

import sys
from pathlib import Path

from fedsim.decide.decision import decide
from fedsim.decide.page import write_decision
from fedsim.decide.place import STAGES
from fedsim.decide.spec import read_spec
from fedsim.decide.text import markdown, plan_text, stages_text
from fedsim.decide.told import told
from fedsim.errors import IterateError, NoGoError
from fedsim.files import write_json, write_text
from fedsim.plan.quantities import QUANTITIES

_FILES = ("verdict.json", "decision.md", "decision.html")


def metrics() -> None:
    """Print what a requirement may be about."""
    for name, each in QUANTITIES.items():
        print(f"{name:45} {each.unit:9} {each.meaning}")
    print("METRIC                                        number    any metric that the runs evaluate: auc, log_loss …")
    print("METRIC.min_group                              number    the same of the worst group of phones (fairness)")
    print("days_to.METRIC                                days      until it is at its target: a number, or central - …")


def main(spec_file: Path, *, is_plan: bool, until: str, out: Path | None, is_strict: bool) -> None:
    """Decide, and write ``decision.html``, ``decision.md`` and ``verdict.json``; exit codes 4 and 5 as errors.

    Without a verdict (``until``) what was found so far is printed, and no file of a verdict is written.
    """
    spec = read_spec(spec_file)
    folder = Path("decide") / spec.decision.id if out is None else out
    if is_plan:
        print(plan_text(spec, folder))
        return
    if until == STAGES[-1]:  # an older verdict is not to stand beside a decision that was stopped
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
    found = decide(spec, folder, tell=_tell, until=until)
    if found.ruling is None:
        print(stages_text(found))
        return
    write_json(folder / "verdict.json", told(found))
    write_text(folder / "decision.md", markdown(found))
    page = write_decision(folder / "decision.html", found)
    print(f"{found.ruling.verdict}: {found.ruling.sentence}\n{page}")
    if found.ruling.verdict == "no_go":
        raise NoGoError(f"no-go: {found.ruling.sentence}")
    if found.ruling.verdict == "iterate" or (is_strict and found.ruling.verdict == "go_if"):
        raise IterateError(f"{found.ruling.verdict}: {found.ruling.sentence}")


def _tell(line: str) -> None:
    print(f"fedsim: {line}", file=sys.stderr)
