"""What ends in an answer: ``fedsim decide``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedsim.cli.commands import door

DECIDE_HELP = """\
Go, go if, iterate or no-go: from a specification to one page with the evidence and its uncertainty.

  fedsim decide experiments/ads/decision.yaml            all stages; writes decision.html, decision.md, verdict.json
  fedsim decide SPEC.yaml --plan                         what it would do, and how long
  fedsim decide SPEC.yaml --until models                 so far, and no verdict
  fedsim decide --metrics                                what a requirement may be about

Results go to decide/<id of the decision>; what is there is not done again, also after a kill, and a changed threshold
is judged at once. docs/decide.md says what a specification holds and how the verdict comes about."""


def add_decide(commands: Any) -> None:
    """Add the sub-command."""
    decide = commands.add_parser(
        "decide",
        help="go, go if, iterate or no-go, from a specification",
        description=DECIDE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    decide.add_argument("spec", type=Path, nargs="?", metavar="SPEC.yaml", help="the specification")
    decide.add_argument("--metrics", action="store_true", help="list what a requirement may be about")
    decide.add_argument("--plan", action="store_true", help="stages, runs to do, minutes; nothing is done")
    decide.add_argument("--until", metavar="STAGE", default="verdict", help="stop behind this stage")
    decide.add_argument("--out", type=Path, metavar="DIR", help="folder; none: decide/<id of the decision>")
    decide.add_argument("--strict", action="store_true", help="exit code 4 for a go that has conditions")
    decide.set_defaults(action=lambda arguments: _decide(decide, arguments))


def _decide(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.metrics:
        door("fedsim.cli.decide").metrics()
        return
    if arguments.spec is None:
        parser.error("SPEC.yaml must be given")
    door("fedsim.cli.decide").main(
        arguments.spec,
        is_plan=arguments.plan,
        until=arguments.until,
        out=arguments.out,
        is_strict=arguments.strict,
    )
