"""Play what the peers have answered in fedsim and compare; usage: compare.py RECORDED_FOLDER RUNS_FOLDER REPORT.md.

Ends with exit code 1 if a number differs by more than its arm allows.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fedsim_side
import flash
import shelf

from fedsim.files import write_text

RELATIVE = 1e-9
PHASES_S = 1.5e-6  # three phases of a session, each rounded to the nearest microsecond
ROUNDING_S = 1e-9  # of sums of instants in float64, besides
PEERS = ("appfl", "fedscale")

# What a name stands for. In an arm with arbitrary speeds instants are sums of rounded phases, so lengths are compared.
WORDS = {
    "compute_s": "training time",
    "communication_s": "down and up",
    "is_active": "active at an instant",
    "session_device": "device of each update",
    "session_start_s": "start of each session",
    "session_end_s": "end of each session",
    "session_length_s": "length of each session",
    "session_staleness": "staleness of each update",
    "step_at_s": "instant of each step",
    "step_model": "model after each step",
    "round_start_s": "start of each round",
    "round_close_s": "close of each round",
    "round_length_s": "length of each round",
    "round_is_committed": "round counts",
    "round_accepted": "devices that count",
    "accepted_length_s": "length of each session",
    "round_model": "model after each round",
}
# Arms in which a peer departs from its own rules, for a reason that README tells: how often is counted.
DEPARTS = ("fedscale_windows_asked_often", "fedscale_windows_to_the_end")
SUMS = ("session_start_s", "session_end_s", "step_at_s", "round_start_s", "round_close_s")


@dataclass(frozen=True)
class Line:
    """One line of the table: the largest difference between two lists of numbers, relative or in seconds."""

    who: str
    arm: str
    what: str
    n: int
    difference: float
    is_absolute: bool

    @property
    def is_met(self) -> bool:
        """Whether it is as small as it must be."""
        return self.difference <= (PHASES_S + ROUNDING_S if self.is_absolute else RELATIVE)

    @property
    def text(self) -> str:
        """The line as Markdown."""
        found = f"{1e6 * self.difference:.2f} µs" if self.is_absolute else f"{self.difference:.1e}"
        allowed = f"{1e6 * PHASES_S:g} µs" if self.is_absolute else f"{RELATIVE:g}"
        verdict = "" if self.is_met else " **differs**"
        return f"| {self.who} | {self.arm} | {self.what} | {self.n} | {found} | {allowed}{verdict} |"


def flat(values: Any) -> list[float]:
    """The numbers of nested lists, in order."""
    if not isinstance(values, list):
        return [float(values)]
    return [number for value in values for number in flat(value)]


def difference(ours: Any, theirs: Any, *, is_absolute: bool) -> float:
    """The largest difference; lists that differ in shape differ without bound."""
    pairs = list(zip(flat(ours), flat(theirs), strict=False))
    if _shape(ours) != _shape(theirs) or not pairs:
        return float("inf")
    if is_absolute:
        return max(abs(a - b) for a, b in pairs)
    return max(abs(a - b) / (max(abs(a), abs(b)) or 1.0) for a, b in pairs)


def _shape(values: Any) -> Any:
    return [_shape(value) for value in values] if isinstance(values, list) else None


def lines_of(who: str, arm: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Line]:
    """Every number that both have answered."""
    if arm in DEPARTS:
        return
    is_float = arm.endswith("_floats")
    for name in [name for name in WORDS if name in ours and name in theirs]:
        if is_float and name in SUMS:
            continue
        is_absolute = is_float and name.endswith("_s")
        found = difference(ours[name], theirs[name], is_absolute=is_absolute)
        yield Line(who, arm, WORDS[name], len(flat(theirs[name])), found, is_absolute)


def departures(who: str, arm: str, ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """A sentence on an arm in which a peer departs from its own rules."""
    if arm in DEPARTS:
        pairs = list(zip(flat(ours["is_active"]), flat(theirs["is_active"]), strict=True))
        n = sum(a != b for a, b in pairs)
        yield f"{arm}: {n} of {len(pairs)} answers of {who} are not those of its own windows."


def compared(recorded: Path, runs: Path, names: Container[str] | None = None) -> tuple[list[Line], list[str]]:
    """The recorded arms (``names``: these alone): how far fedsim is from them, and where a peer departs."""
    inputs, lines, departing = shelf.load(recorded / "inputs.json"), list[Line](), list[str]()
    for peer in PEERS:
        answers = shelf.load(recorded / f"{peer}.json")
        who = f"{answers['peer']['package']} {answers['peer']['version']}"
        for name in [name for name in answers if name != "peer" and (names is None or name in names)]:
            theirs = answers[name]
            ours = fedsim_side.play(inputs[name], theirs.get("picks", []), runs / name)
            lines += lines_of(who, name, ours, theirs)
            departing += departures(who, name, ours, theirs)
    return lines, departing


def by_hand(runs: Path) -> list[Line]:
    """The examples worked out by hand."""
    what = "ends of download, training, upload"
    return [
        Line("FLASH, by hand", name, what, len(theirs), difference(ours, theirs, is_absolute=False), False)
        for name, ours, theirs in flash.played(runs / "flash")
    ]


def report(lines: Iterable[Line], departing: Iterable[str]) -> str:
    """The table, and below it the departures."""
    head = ["peer", "arm", "what", "n", "largest difference", "allowed"]
    rows = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *(line.text for line in lines)]
    return "\n".join([*rows, "", *(f"- {sentence}" for sentence in departing)]) + "\n"


def main(recorded: Path, runs: Path, target: Path) -> int:
    """Write the table; 1 if something differs."""
    lines, departing = compared(recorded, runs)
    lines += by_hand(runs)
    write_text(target, report(lines, departing))
    print(report(lines, departing))
    return 0 if all(line.is_met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
