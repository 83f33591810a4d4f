"""``fedsim plan``: questions asked backwards, answered by search over runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim.files import write_json
from fedsim.plan.answer import answered
from fedsim.plan.basis import shipped_basis
from fedsim.plan.flags import condition, span, split_changes
from fedsim.plan.page import write_plan
from fedsim.plan.spec import read_spec, spec_of, words_of
from fedsim.plan.store import Store
from fedsim.plan.text import markdown, told


def main(file: Path | None, flags: Mapping[str, Any], *, runs: Path, out: Path) -> None:
    """Print the answer and write ``plan.json`` and ``plan.html`` into ``out``; runs are kept in ``runs``."""
    spec = spec_of(_merged(read_spec(file) if file is not None else {}, from_flags(flags)))
    store = Store(runs, n_workers=spec.budget.cores, tell=_tell)
    answer = answered(spec, store, shipped_basis())
    out.mkdir(parents=True, exist_ok=True)
    _tell(f"{answer.n_played} runs were played now, {max(0, answer.n_runs - answer.n_played)} were there")
    print(markdown(answer))
    write_json(out / "plan.json", told(answer))
    print(f"\n{write_plan(out / 'plan.html', answer)}")


def _tell(line: str) -> None:
    print(f"fedsim: {line}", file=sys.stderr, flush=True)


def from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The groups of a file that flags stand for; flags that were not given are none."""
    told: dict[str, Any] = {"base": list(flags["overrides"])}
    for find in ("smallest", "largest"):
        if flags[find]:
            told |= {"plan": {"find": find}, "search": dict([span(flags[find])])}
    if flags["vary"]:
        told["search"] = dict(span(each) for each in flags["vary"])
    if flags["require"]:
        asked = [condition(each) for each in flags["require"]]
        told["requirements"] = {_name(each, asked): each for each in asked}
    if flags["minimise"]:
        told["minimise"] = flags["minimise"].split(",")
    if flags["what_if"]:
        told["what_if"] = split_changes(flags["what_if"])
    work = {name: flags[name] for name in ("updates", "steps") if flags[name] is not None}
    budget = {name: flags[name] for name in ("cores", "minutes") if flags[name] is not None}
    replications = {"at_most": flags["seeds"]} if flags["seeds"] is not None else {}
    others = {"work": work, "budget": budget, "replications": replications}
    others |= {name: flags[name] for name in ("launch", "criteria")}
    told |= {name: value for name, value in others.items() if value}
    if flags["train"]:
        told["plan"] = {**told.get("plan", {}), "train": True}
    return told


def _name(one: Mapping[str, Any], asked: list[dict[str, Any]]) -> str:
    """What the table calls a requirement: its quantity, with a number where two are of the same."""
    same = [each for each in asked if each["metric"] == one["metric"]]
    return str(one["metric"]) + (f"_{same.index(dict(one)) + 1}" if len(same) > 1 else "")


def _merged(told: Mapping[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """A file with flags on top of it: groups key by key, overrides at the end."""
    merged = dict(told)
    for name, value in flags.items():
        before = merged.get(name)
        if name == "base":
            merged[name] = before if not value else [*words_of(() if before is None else before, name), *value]
        else:
            merged[name] = {**before, **value} if isinstance(before, Mapping) and isinstance(value, dict) else value
    return {name: value for name, value in merged.items() if value is not None}
