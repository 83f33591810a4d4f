"""A baseline: what runs of one configuration came to, in a text file small enough to be reviewed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.files import read_json, write_text
from fedsim.results.arms import CONTENT, Arm
from fedsim.results.measures import Target
from fedsim.results.numbers import metric_names
from fedsim.results.regress.hashes import fingerprint, table_digests
from fedsim.results.regress.invariants import violations
from fedsim.results.regress.quantities import Curve, curve_of, quantities, thinned
from fedsim.results.run import Run

FORMAT = "fedsim baseline 1"
# Where files are, and what is made of them: not for whoever plays the configuration again.
_NOT_PLAYED = ("seed", "report", "force", "objective", "estimate")


@dataclass(frozen=True)
class Played:
    """One run as a baseline keeps it."""

    seed: int
    digests: dict[str, str]  # of its tables
    draws: str  # fingerprint
    quantities: dict[str, float]  # NaN: not measured
    curves: dict[str, Curve]

    @classmethod
    def of(cls, run: Run, targets: Sequence[Target]) -> Played:
        """What is kept of a run; it reads the sessions three times."""
        return cls(
            run.summary["seed"],
            table_digests(run),
            fingerprint(run),
            quantities(run, targets),
            {metric: thinned(curve_of(run, metric)) for metric in metric_names(run)},
        )


@dataclass(frozen=True)
class Baseline:
    """Runs of one configuration, by seed.

    ``overrides`` are what it was composed of, without the seed, ``config`` its values as dotted keys, ``content`` what
    else it rests on (digests of traces and data).
    """

    overrides: tuple[str, ...]
    targets: tuple[Target, ...]
    content: dict[str, Any]
    config: dict[str, Any]
    about: dict[str, Any]  # identity, versions and commit that recorded it; nothing is judged by them
    runs: tuple[Played, ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [run.seed for run in self.runs]


def recorded(arms: Sequence[Arm], targets: Sequence[Target]) -> Baseline:
    """The baseline of the runs of one arm.

    Raises :class:`InputError` for several arms, for runs that break an invariant, for a target that is not measured.
    """
    if len(arms) > 1:
        labels = "; ".join(arm.label for arm in arms)
        raise InputError("a baseline is of one configuration, these runs are of several", value=labels)
    (arm,) = arms
    for run in arm.runs:
        broken = violations(run)
        if broken:
            raise InputError(f"this run is no baseline, it contradicts itself ({broken[0]})", where=run.folder)
    first = arm.runs[0]
    for target in targets:
        if target.metric not in metric_names(first):
            known = ", ".join(metric_names(first)) or "nothing was evaluated"
            raise InputError("--target: the runs do not measure", value=target.metric, allowed=known)
    return Baseline(
        overrides=played_again(first.provenance.get("overrides", [])),
        targets=tuple(targets),
        content=content_of(arm),
        config=config_of(arm),
        about={name: first.provenance.get(name) for name in ("identity", "commit", "versions")},
        runs=tuple(Played.of(run, targets) for run in arm.runs),
    )


def played_again(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides that make the configuration, whatever the seed and whatever is made of a run."""
    return tuple(text for text in overrides if text.lstrip("+~").partition("=")[0] not in _NOT_PLAYED)


def content_of(arm: Arm) -> dict[str, Any]:
    """Digests of the traces and of the data; of data that differ from seed to seed None."""
    traces = arm.runs[0].provenance.get("traces") or {}
    data = {run.provenance.get("data_sha256") for run in arm.runs}
    return {
        "devices_sha256": traces.get("devices_sha256"),
        "events_sha256": traces.get("events_sha256"),
        "data_sha256": data.pop() if len(data) == 1 else None,
    }


def config_of(arm: Arm) -> dict[str, Any]:
    """The values of an arm's configuration."""
    return {key: value for key, value in arm.flat.items() if not key.startswith(f"{CONTENT}.")}


# ------------------------------------------------------------------------------------ the file


def write(path: Path, baseline: Baseline) -> None:
    """Write the file: a line for each value of the configuration, and one for each run."""
    write_text(path, text_of(baseline))


def text_of(baseline: Baseline) -> str:
    """JSON in which a change is seen line by line; quantities have twelve digits, curves six."""
    parts = {
        "format": json.dumps(FORMAT),
        "about": _line(baseline.about),
        "overrides": _line(list(baseline.overrides)),
        "targets": _line([[target.metric, target.value] for target in baseline.targets]),
        "content": _line(baseline.content),
        "config": _lines([f"{json.dumps(k)}: {_line(v)}" for k, v in sorted(baseline.config.items())], "{", "}"),
        "runs": _lines([_line(_told(run)) for run in baseline.runs], "[", "]"),
    }
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {text}" for name, text in parts.items()) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def _lines(items: Sequence[str], start: str, end: str) -> str:
    return start + "\n  " + ",\n  ".join(items) + "\n " + end if items else start + end


def _told(run: Played) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "digests": run.digests,
        "draws": run.draws,
        "quantities": {name: _rounded(value) for name, value in run.quantities.items()},
        "curves": {metric: [curve.versions.tolist(), curve.values.tolist()] for metric, curve in run.curves.items()},
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.12g}")


def read(path: Path) -> Baseline:
    """The baseline of a file, or an :class:`InputError` that says what is wrong with it."""
    told = read_json(path, "baseline")
    if not isinstance(told, Mapping) or not str(told.get("format", "")).startswith("fedsim baseline"):
        raise InputError("this is no baseline", where=path, allowed="a file that fedsim baseline record has written")
    if told["format"] != FORMAT:
        raise InputError("baseline of another format", value=told["format"], where=path, allowed=FORMAT)
    try:
        return _read(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"baseline cannot be read ({type(error).__name__}: {error})", where=path) from error


def _read(told: Mapping[str, Any]) -> Baseline:
    return Baseline(
        overrides=tuple(told["overrides"]),
        targets=tuple(Target(metric, float(value)) for metric, value in told["targets"]),
        content=dict(told["content"]),
        config=dict(told["config"]),
        about=dict(told.get("about") or {}),
        runs=tuple(sorted((_read_run(run) for run in told["runs"]), key=lambda run: run.seed)),
    )


def _read_run(told: Mapping[str, Any]) -> Played:
    return Played(
        seed=int(told["seed"]),
        digests=dict(told["digests"]),
        draws=str(told["draws"]),
        quantities={name: math.nan if value is None else float(value) for name, value in told["quantities"].items()},
        curves={
            metric: Curve(np.array(versions, dtype=np.int64), np.array(values, dtype=np.float64))
            for metric, (versions, values) in told["curves"].items()
        },
    )
