"""What differs between runs: those that differ in their seed alone are one arm, the rest tells the arms apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.files import portable
from fedsim.results.run import Run

# Where files are, what is made of them, what the server's phones would cost: none of it changes what happens in a run.
_NOT_PART = ("report", "paths", "hydra", "force", "objective", "estimate", "cost")
FOLLOWS = "${seed}"  # a seed that is the run's
CONTENT = "content"  # what a run rests on besides its configuration stands under this name
Flat = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, one for each seed, by seed; ``values`` is what tells it from the other arms.

    ``flat`` is their configuration as dotted keys, ``${seed}`` where it follows the run's seed.
    """

    label: str
    values: Flat
    runs: tuple[Run, ...]
    flat: Flat

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [run.summary["seed"] for run in self.runs]


def arms_of(runs: Sequence[Run]) -> tuple[tuple[Arm, ...], list[str]]:
    """The arms, in the order in which they first come, and a line for each run that repeats another one.

    Runs of one configuration and seed that rest on different commits are different arms; else the first one counts.
    """
    flats = _resolved([flat_config(run) for run in runs], [_seed(run) for run in runs])
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, flat in enumerate(flats):
        groups.setdefault(_key(flat), []).append(place)
    split = [part for group in groups.values() for part in _by_commit(group, runs)]
    repeated: list[str] = []
    kept = [_one_a_seed(group, runs, repeated) for group in split]
    firsts = [group[0] for group in kept]
    values = _told_apart([runs[place] for place in firsts], [flats[place] for place in firsts])
    arms = [
        Arm(_label(each), each, tuple(sorted((runs[place] for place in group), key=_seed)), flats[group[0]])
        for each, group in zip(values, kept, strict=True)
    ]
    return tuple(arms), repeated


def _seed(run: Run) -> int:
    seed: int = run.summary["seed"]
    return seed


def _by_commit(group: list[int], runs: Sequence[Run]) -> list[list[int]]:
    """The group, or one for each commit if a seed was played by several."""
    seeds = [_seed(runs[place]) for place in group]
    if len(set(seeds)) == len(seeds):
        return [group]
    parts: dict[Any, list[int]] = {}
    for place in group:
        parts.setdefault(runs[place].provenance.get("commit"), []).append(place)
    return list(parts.values())


def _one_a_seed(group: list[int], runs: Sequence[Run], repeated: list[str]) -> list[int]:
    kept: dict[int, int] = {}
    for place in group:
        first = kept.setdefault(_seed(runs[place]), place)
        if first != place:
            hashes = {runs[each].provenance.get("data_sha256") for each in (first, place)}
            but = "" if len(hashes) == 1 else ", but data of another content, which is left out,"
            repeated.append(f"the same configuration and seed{but} as {runs[first].folder}: {runs[place].folder}")
    return list(kept.values())


def flat_config(run: Run) -> Flat:
    """The configuration as :func:`flat_values`, and what else the run rests on."""
    found = flat_values(run.config, seed=_seed(run))
    traces = run.provenance.get("traces") or {}
    found[f"{CONTENT}.traces"] = str(traces.get("events_sha256"))[:12]
    found[f"{CONTENT}.version"] = (run.provenance.get("versions") or {}).get("fedsim-fleet")
    return found


def flat_values(values: Mapping[str, Any], *, seed: int) -> Flat:
    """A configuration as dotted keys, the same on every machine; ``${seed}`` stands for the run's seed elsewhere."""
    kept = portable(
        {name: value for name, value in values.items() if name not in (*_NOT_PART, "seed")}, _folders(values)
    )
    if isinstance(kept.get("traces"), Mapping):  # their content tells them, their place depends on the machine
        mixture = list((kept["traces"].get("mixture") or {}).values())
        kept["traces"] = {**kept["traces"], "folder": None, "mixture": mixture}
    return {key: FOLLOWS if _is_seed(key) and value == seed else value for key, value in _dotted(kept, "")}


def _folders(values: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: str(folder) for name, folder in (values.get("paths") or {}).items()}


def _resolved(flats: Sequence[Flat], seeds: Sequence[int]) -> list[Flat]:
    """Of a seed of a part that equals the run's by chance its value, where all other runs have that value for good.

    Such are data of seed 0 and the run of seed 0, beside runs of other seeds.
    """
    plain = [_key({key: value for key, value in flat.items() if not _is_seed(key)}) for flat in flats]
    found = [dict(flat) for flat in flats]
    for flat, group, seed in zip(found, plain, seeds, strict=True):
        beside = [each for each, other in zip(flats, plain, strict=True) if other == group]
        for key in [key for key, value in flat.items() if value == FOLLOWS]:
            n_follow = sum(each.get(key) == FOLLOWS for each in beside)
            if n_follow == 1 and any(each.get(key) == seed for each in beside):
                flat[key] = seed
    return found


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


def _dotted(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _key(flat: Flat) -> tuple[Any, ...]:
    return tuple(sorted((key, repr(value)) for key, value in flat.items()))


def _told_apart(runs: Sequence[Run], flats: Sequence[Flat]) -> list[Flat]:
    """For one run of each arm what tells it from the others, in the words in which it was asked for.

    That is the overrides in which they differ, an arm without one with the value of its configuration; where these do
    not tell all apart, values of the configuration, and then the commit.
    """
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
