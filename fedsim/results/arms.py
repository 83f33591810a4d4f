"""What differs between runs: those that differ in their seed alone are one arm, the rest tells the arms apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.results.run import Run

# Where files are, what is made of them, what the server's phones would cost: none of it changes what happens in a run.
_NOT_PART = ("report", "paths", "hydra", "force", "objective", "estimate", "cost")
_CONTENT = "content"  # what a run rests on besides its configuration stands under this name
Flat = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, one for each seed, by seed; ``values`` is what tells it from the other arms."""

    label: str
    values: Flat
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [run.summary["seed"] for run in self.runs]


def arms_of(runs: Sequence[Run]) -> tuple[tuple[Arm, ...], list[str]]:
    """The arms, in the order in which they first come, and a line for each run that repeats another one.

    Runs of one configuration and seed that rest on different commits are different arms; else the first one counts.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(seedless(run)), []).append(run)
    split = [part for group in groups.values() for part in _by_commit(group)]
    repeated: list[str] = []
    kept = [_one_a_seed(group, repeated) for group in split]
    values = labels_of([group[0] for group in kept])
    return tuple(
        Arm(_label(each), each, tuple(sorted(group, key=lambda run: run.summary["seed"])))
        for each, group in zip(values, kept, strict=True)
    ), repeated


def _by_commit(group: list[Run]) -> list[list[Run]]:
    """The group, or one for each commit if a seed was played by several."""
    seeds = [run.summary["seed"] for run in group]
    if len(set(seeds)) == len(seeds):
        return [group]
    parts: dict[Any, list[Run]] = {}
    for run in group:
        parts.setdefault(run.provenance.get("commit"), []).append(run)
    return list(parts.values())


def _one_a_seed(group: list[Run], repeated: list[str]) -> list[Run]:
    kept: dict[int, Run] = {}
    for run in group:
        first = kept.setdefault(run.summary["seed"], run)
        if first is not run:
            repeated.append(f"the same configuration and seed as {first.folder}: {run.folder}")
    return list(kept.values())


def seedless(run: Run) -> Flat:
    """The configuration as dotted keys, without the run's seed wherever it stands, and what else the run rests on."""
    values = {name: value for name, value in run.config.items() if name not in _NOT_PART}
    seed = run.summary["seed"]
    found = {
        key: value
        for key, value in _dotted(values, "")
        if not (key.rpartition(".")[2] == "seed" and value == seed and not isinstance(value, bool))
    }
    traces = run.provenance.get("traces") or {}
    found[f"{_CONTENT}.traces"] = traces.get("events_sha256")
    found[f"{_CONTENT}.version"] = (run.provenance.get("versions") or {}).get("fedsim-fleet")
    return found


def _dotted(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _key(flat: Flat) -> tuple[Any, ...]:
    return tuple(sorted((key, repr(value)) for key, value in flat.items()))


def labels_of(runs: Sequence[Run]) -> list[Flat]:
    """For one run of each arm what tells it from the others, in the words in which it was asked for.

    That is the overrides in which they differ, an arm without one with the value of its configuration; where these do
    not tell all apart, values of the configuration, and then the commit.
    """
    flats = [seedless(run) for run in runs]
    asked = [_overrides(run) for run in runs]
    names = list(dict.fromkeys(name for each in asked for name in each))
    told = [{name: _value(name, given, flat) for name in names} for given, flat in zip(asked, flats, strict=True)]
    told = _varying(told)
    for more in (flats, [{"commit": str(run.provenance.get("commit"))[:9]} for run in runs]):
        if _all_different(told):
            break
        told = [one | two for one, two in zip(told, _varying(more), strict=True)]
    return [_short(each, told) for each in told]


def _overrides(run: Run) -> Flat:
    """What was asked of a run, by key; its seed and what does not change what happens in it are left out."""
    pairs = [text.lstrip("+~").partition("=") for text in run.provenance.get("overrides", [])]
    return {key: value for key, _, value in pairs if key != "seed" and key.partition(".")[0] not in _NOT_PART}


def _value(name: str, given: Flat, flat: Flat) -> Any:
    """Of a value what the configuration holds; of a group what was chosen."""
    return flat[name] if name in flat else given.get(name, "default")


def _varying(rows: Sequence[Flat]) -> list[Flat]:
    names = [
        name for name in dict.fromkeys(n for row in rows for n in row) if len({repr(r.get(name)) for r in rows}) > 1
    ]
    return [{name: row[name] for name in names if name in row} for row in rows]


def _all_different(rows: Sequence[Flat]) -> bool:
    return len({_key(row) for row in rows}) == len(rows)


def _short(row: Flat, rows: Sequence[Flat]) -> Flat:
    """The keys by their last name where that is clear."""
    names = list(dict.fromkeys(name for each in rows for name in each))
    lasts = [_last(name) for name in names]
    return {_last(name) if lasts.count(_last(name)) == 1 else name: value for name, value in row.items()}


def _last(name: str) -> str:
    last = name.replace("/", ".").rpartition(".")[2]
    return name if last == "seed" else last  # a seed by itself is the run's


def _label(values: Flat) -> str:
    return " ".join(f"{name}={'null' if value is None else value}" for name, value in values.items()) or "all runs"
