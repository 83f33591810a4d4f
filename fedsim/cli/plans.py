"""The flags of ``fedsim plan``; what answers it is imported when it is asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedsim.cli.commands import door

PLAN_HELP = """\
Plan backwards: from what must hold to the setting, the date, the change that brings it.

  fedsim plan --smallest server.report_goal=20..400 --updates 20000 --require 'days<=1'
  fedsim plan --smallest server.over_selection=1.0..2.0:0.05 --steps 200 --require 'days<=0.5' -- server.report_goal=200
  fedsim plan --largest server.report_goal=20..400 --steps 200 --require 'days<=1'
  fedsim plan --launch 2026-03-01 --updates 50000 -- server=buffered
  fedsim plan --criteria charging 'network == wifi' locked --steps 100
  fedsim plan --what-if 'fleet.rule=charging & network == wifi,server.over_selection=1.5' --steps 100
  fedsim plan --vary server.report_goal=50,100,200 --vary server.over_selection=1.1,1.3,1.6 \\
    --minimise days,device_hours --updates 20000
  fedsim plan SPEC.yaml --out plan                 the same, and more, from a file

What follows `--` are overrides of `fedsim run`. Runs are schedules without training, but where a requirement is of a
model: --require 'auc>=0.8' or 'days_to.auc(0.8)<=2', or --train. Every run is kept by its content (--runs), so that
nothing is played twice, and a plan that was stopped goes on when it is started again. The answer says how sure it is,
and is checked with fresh seeds. Prints Markdown; writes plan.json and plan.html.

A file has the groups plan, base, work, search, requirements, minimise, replications, budget, launch, criteria,
what_if; docs/puzzles.md has answers to look at."""


def add_plan(commands: Any) -> None:
    """Add the sub-command."""
    plan = commands.add_parser(
        "plan",
        help="plan backwards: the setting that meets a deadline, the latest start, what a change would do",
        description=PLAN_HELP.replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument("words", nargs="*", metavar="SPEC.yaml | -- OVERRIDE…", help="a plan; overrides of every run")
    plan.add_argument("--smallest", metavar="KEY=VALUES", help="the smallest value that meets the requirements")
    plan.add_argument("--largest", metavar="KEY=VALUES", help="the largest one")
    plan.add_argument("--vary", action="append", default=[], metavar="KEY=VALUES", help="a variable of a Pareto front")
    plan.add_argument("--minimise", metavar="NAME,…", help="quantities of the front; metrics are made large or small")
    plan.add_argument("--require", action="append", default=[], metavar="CONDITION", help="as 'days<=7', 'auc>=0.8'")
    plan.add_argument("--launch", metavar="DATE", help="the latest start for this date")
    plan.add_argument("--criteria", nargs="+", metavar="RULE", help="what each of these rules costs, all but it held")
    plan.add_argument("--what-if", metavar="OVERRIDE,…", help="what changes with these, figure by figure")
    plan.add_argument("--updates", type=int, metavar="N", help="a campaign is done after so many updates in the model")
    plan.add_argument("--steps", type=int, metavar="N", help="a campaign is done after so many server steps")
    plan.add_argument("--train", action="store_true", help="train in every run that is compared")
    plan.add_argument("--seeds", type=int, metavar="N", help="at most so many seeds of a candidate; none: 10")
    plan.add_argument("--cores", type=int, metavar="N", help="runs at once; none: 2")
    plan.add_argument("--minutes", type=float, metavar="N", help="begin no run after so many; none: until it is done")
    plan.add_argument("--runs", type=Path, default=Path("runs/by_content"), metavar="DIR", help="where runs are kept")
    plan.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder for the files; none: the current one"
    )
    plan.set_defaults(action=_plan)


def _plan(arguments: argparse.Namespace) -> None:
    flags = dict(vars(arguments))
    words, runs, out = flags.pop("words"), flags.pop("runs"), flags.pop("out")
    file = Path(words[0]) if words and words[0].endswith((".yaml", ".yml")) and "=" not in words[0] else None
    flags["overrides"] = words[1:] if file is not None else words
    door("fedsim.cli.plan").main(file, flags, runs=runs, out=out)
