"""Asks `fedsim plan` six questions and writes a page of the answers; usage: puzzles.py PAGE.md FOLDER."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fedsim.cli.main import main as fedsim
from fedsim.files import write_text

Found = dict[str, Any]  # what plan.json holds


class Puzzle(NamedTuple):
    """A question, the rule of thumb, the flags of the command, and what the figures of the answer say."""

    question: str
    rule: str
    words: str
    insight: Callable[[Found], str]


def figures(found: Found, name: str) -> list[float]:
    """Means of a figure, candidate by candidate."""
    return [each["figures"][name]["mean"] for each in found["candidates"] if each["seeds"]]


def change(found: Found, arm: str, name: str) -> dict[str, Any]:
    """The change of a figure in the arm whose name ends so."""
    return next(each for each in found["changes"] if each["arm"].endswith(arm) and each["figure"] == name)


def of_goals(found: Found) -> str:
    """What becomes of the days as rounds grow."""
    days = figures(found, "days")
    return (
        f"Eight times the updates a round take {days[-1] / days[0]:.2f} times the days. A round ends with one "
        "report of "
        "its cohort, and that is the same quantile of the session time in a cohort of any size. What grows is the "
        "device-hours."
    )


def of_over_selection(found: Found) -> str:
    """What spare phones buy."""
    days, hours = figures(found, "days"), figures(found, "device_hours")
    return (
        "Without spare phones every round waits for its deadline, since some phone always leaves: 30 % more "
        "phones make "
        f"it {days[0] / days[2]:.1f} times as fast for {hours[2] / hours[0] - 1:.0%} more device-hours. From 1.6 to 2 "
        f"the next quarter buys {1 - days[4] / days[3]:.0%} for {hours[4] / hours[3] - 1:.0%}."
    )


def of_criteria(found: Found) -> str:
    """What is left of the number of phones."""
    told = change(found, "charging", "admitted_fraction.mean")
    days = change(found, "charging", "days")
    wifi = change(found, "wifi", "days")
    return (
        f"Without `charging` there are {told['after'] / told['before']:.1f} times as many phones, and the "
        "days change by "
        f"{days['difference'] / days['before']:+.1%} ({days['verdict']}): a cohort of 130 finds its phones either way. "
        f"Without `network == wifi` there are more phones too and it takes {wifi['difference'] / wifi['before']:+.1%}: "
        "a rule is a choice of links and of how long phones stay, and only then one of how many there are."
    )


def of_concurrency(found: Found) -> str:
    """How far Little's law goes."""
    days, hours = figures(found, "days"), figures(found, "device_hours")
    told = [each["foretold_days"] for each in found["candidates"]]
    eligible = 50_000 * figures(found, "admitted_fraction.mean")[0]
    return (
        f"Little's law foretells {told[0] / told[1]:.1f} times the speed at each step of this table. From 100 to 400 "
        f"phones in flight it is {days[0] / days[1]:.1f} times; at 6,400 it is slower than at 400 "
        f"({days[3] / days[1]:.2f} times the days) for {hours[3] / hours[1] - 1:.0%} more device-hours. Of 50,000 "
        f"phones some {eligible:,.0f} are eligible at a time, and one that has trained rests for a day: soon there is "
        "nobody left to ask, and many of those that were asked together come back with a version too old to count."
    )


def of_workers(found: Found) -> str:
    """What bursts make of a queue."""
    rows = [each for each in found["candidates"] if each["seeds"]]
    days, told = figures(found, "days"), [each["foretold_days"] for each in rows]
    busy = 40 * 100 * 0.1 / (days[0] * 86_400)  # rounds, reports of each, seconds of a worker for one
    return (
        f"One worker is busy {busy:.0%} of the time with the reports that count, and yet sixteen make the campaign "
        f"{days[0] / days[-1]:.2f} times as fast: the reports of a cohort come within seconds, and most of them wait. "
        "Allen and Cunneen's queue, which knows only how much the gaps vary, foretells "
        f"{told[0] / told[-1]:.2f} times. "
        f"Four workers have most of it already; from four to sixteen it is {days[2] / days[-1]:.2f} times."
    )


def of_model(found: Found) -> str:
    """What is left of the bytes."""
    size, days = change(found, "model=clicks", "bytes_per_device_month.p50"), change(found, "model=clicks", "days")
    return (
        f"{size['before'] / size['after']:,.0f} times fewer bytes make the campaign "
        f"{days['before'] / days['after']:.1f} "
        "times as fast. The server's step of 15 s and the connection stay, however small the model is."
    )


PUZZLES = (
    Puzzle(
        "Does a round of eight times the updates take eight times as long?",
        "Twice the report goal, twice the round.",
        "--vary server.report_goal=50,100,200,400 --minimise days,device_hours --steps 60",
        of_goals,
    ),
    Puzzle(
        "What does over-selection of 1.3 cost, and what does it buy?",
        "30 % more phones are 30 % more waste; leave it out to be frugal.",
        "--vary server.over_selection=1.0,1.1,1.3,1.6,2.0 --minimise days,device_hours --updates 6000",
        of_over_selection,
    ),
    Puzzle(
        "Which criterion of the rule costs the days?",
        "The stricter the rule, the fewer the phones, the longer it takes.",
        "--criteria charging 'network == wifi' locked --steps 60",
        of_criteria,
    ),
    Puzzle(
        "Is a buffer four times as fast with four times the phones in flight?",
        "Throughput is concurrency ÷ session time.",
        "--vary server.concurrency=100,400,1600,6400 --minimise days,device_hours --updates 4000 "
        "-- server=buffered fleet.n_devices=50000",
        of_concurrency,
    ),
    Puzzle(
        "How many workers does the aggregator need?",
        "A worker that is busy less than half of the time needs no second one.",
        "--vary server.aggregator.n_workers=1,2,4,8,16 --minimise days,device_hours --steps 40 "
        "-- model=clicks server/aggregator=queue server.aggregator.service_s=0.1",
        of_workers,
    ),
    Puzzle(
        "Does a tiny model make tiny rounds?",
        "Rounds are transfers: a thousandth of the bytes, a thousandth of the time.",
        "--what-if model=clicks --steps 60",
        of_model,
    ),
)


def asked(words: str, folder: Path) -> tuple[str, Found]:
    """What the command prints and writes; a question that fails ends the script with its exit code."""
    said = io.StringIO()
    flags, sign, overrides = words.partition(" -- ")
    places = [*shlex.split(flags), "--runs", str(folder.parent / "by_content"), "--out", str(folder)]
    with contextlib.redirect_stdout(said):
        code = fedsim(["plan", *places, *([sign.strip(), *shlex.split(overrides)] if sign else [])])
    if code:
        raise SystemExit(code)
    return said.getvalue().rpartition("\n\n")[0], json.loads((folder / "plan.json").read_text())


def page(folder: Path) -> str:
    """All puzzles, one after the other."""
    parts = [
        "# Puzzles\n\nSix planning questions that a rule of thumb gets wrong. Everything below is written by "
        "`experiments/puzzles/run.sh`, on the shipped traces, in some minutes on two cores; the sentence after each "
        "table takes its numbers from it."
    ]
    for number, puzzle in enumerate(PUZZLES, start=1):
        text, found = asked(puzzle.words, folder / str(number))
        parts += [
            f"## {number}. {puzzle.question}\n\n*Rule of thumb: {puzzle.rule}*",
            f"```sh\nfedsim plan {puzzle.words}\n```",
            text,
            f"**Insight.** {puzzle.insight(found)}",
        ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page(Path(sys.argv[2])))
