"""Several runs, opened once for whoever asks: folders of runs and of whole sweeps."""

from __future__ import annotations

import html
import importlib
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.errors import InputError, one_line
from fedsim.files import existing
from fedsim.results.arms import arms_of
from fedsim.results.run import Run
from fedsim.units import format_duration

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

    from fedsim.results.datasets import Filter

_MARKS = ("summary.json", "config.yaml")  # of a run folder, complete or not


class Runs(Sequence[Run]):
    """Runs in the order of their folders, and the arms that they fall into.

    ``steps``, ``evals``, ``gauges``, ``summary`` and :meth:`sessions` are frames of all runs together: a column ``run``
    (place in this sequence), one ``seed``, and one for each value in which the arms differ, then the columns of a run.
    ``left_out`` says in a line each what was found and cannot be used.
    """

    def __init__(self, runs: Iterable[Run], left_out: Iterable[str] = ()) -> None:
        self._runs = tuple(runs)
        self.arms, repeated = arms_of(self._runs)
        self.left_out = (*left_out, *repeated)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, place: Any) -> Any:
        return self._runs[place]

    @cached_property
    def labels(self) -> list[dict[str, Any]]:
        """What tells each run from the others: its place, its seed and the values in which the arms differ."""
        arm_of = {id(run): arm for arm in self.arms for run in arm.runs}
        found = []
        for place, run in enumerate(self._runs):
            values = arm_of[id(run)].values if id(run) in arm_of else {}
            found.append({"run": place, "seed": run.summary["seed"], **values})
        return found

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per run: the numbers of its ``summary.json``, metrics and outcomes as columns of their own."""
        rows = [
            {**label, "is_complete": run.is_complete, **_flat(run.summary)}
            for label, run in zip(self.labels, self._runs, strict=True)
        ]
        made: pd.DataFrame = _pandas().DataFrame(rows)
        return made

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Server steps of all runs."""
        return self._together(run.steps for run in self._runs)

    @cached_property
    def evals(self) -> pd.DataFrame:
        """Held-out metrics of all runs."""
        return self._together(run.evals for run in self._runs)

    @cached_property
    def gauges(self) -> pd.DataFrame:
        """Means and maxima over intervals of simulated time, of all runs."""
        return self._together(run.gauges for run in self._runs)

    def sessions(self, columns: Sequence[str] | None = None, *, filters: Sequence[Filter] = ()) -> pd.DataFrame:
        """Sessions of all runs, as :meth:`Run.sessions`."""
        return self._together(run.sessions(columns, filters=filters) for run in self._runs)

    def dataset(self, name: str) -> ds.Dataset:
        """A table of all runs as an Arrow dataset, its rows in the order of the runs; nothing is read yet."""
        found: ds.Dataset = importlib.import_module("pyarrow.dataset").dataset(
            [run.dataset(name) for run in self._runs]
        )
        return found

    def _together(self, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        labelled = [_labelled(frame, label) for label, frame in zip(self.labels, frames, strict=True)]
        made: pd.DataFrame = _pandas().concat(labelled, ignore_index=True)
        return made

    def __repr__(self) -> str:
        return f"Runs({len(self)} of {len(self.arms)} arms)"

    def _repr_html_(self) -> str:
        """How a notebook shows it: one row per arm, and what was left out."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(arm.label)}</td><td>{len(arm.runs)}</td>"
            f"<td>{html.escape(', '.join(str(run.summary['seed']) for run in arm.runs))}</td></tr>"
            for arm in self.arms
        )
        notes = "".join(f"<p>left out: {html.escape(line)}</p>" for line in self.left_out)
        return f"<table><tr><th>arm</th><th>runs</th><th>seeds</th></tr>{rows}</table>{notes}"


def open_runs(*folders: Path | str) -> Runs:
    """Every run in the folders: a folder is a run's, or it is searched for those of runs (a sweep's, say).

    Runs that are not complete are opened as far as they came, with a warning each; so are those left out: broken ones,
    those of another schema, and the second of two runs of one configuration and seed. Raises :class:`InputError` if
    nothing is left.
    """
    runs = found_runs(folders)
    for line in runs.left_out:
        warnings.warn(f"left out: {line}", stacklevel=2)
    for run in runs:
        if not run.is_complete:
            came = format_duration(run.summary["simulated_s"])
            warnings.warn(f"run is not complete, it came to {came} of simulated time: {run.folder}", stacklevel=2)
    return runs


def found_runs(folders: Sequence[Path | str], *, may_be_incomplete: bool = True) -> Runs:
    """As :func:`open_runs`, without warnings: ``left_out`` has the lines; runs that are not complete if they may be."""
    runs: dict[Path, Run] = {}
    left_out = []
    for folder in folders:
        inside = run_folders(existing(folder, "run directory"))
        if not inside:
            left_out.append(f"no run is in {one_line(folder)}")
        for place in inside:
            if place.resolve() in runs:
                left_out.append(f"named twice: {one_line(place)}")
                continue
            try:
                runs[place.resolve()] = Run.load(place, may_be_incomplete=may_be_incomplete)
            except InputError as error:
                left_out.append(str(error))
    if not runs:
        raise InputError("no run to read" + (f": {left_out[0]}" if left_out else ""))
    return Runs(runs.values(), left_out)


def run_folders(folder: Path) -> list[Path]:
    """The folder, if it is a run's; else those of runs below it, however deep, numbers in their order."""
    if _is_run(folder):
        return [folder]
    found = []
    for place, inside, _ in os.walk(folder):
        if _is_run(Path(place)):
            found.append(Path(place))
            inside.clear()
        inside[:] = [name for name in inside if not name.startswith(".")]
    return sorted(found, key=_in_numbers)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MARKS)


def _in_numbers(path: Path) -> list[tuple[int, int | str]]:
    """``10`` comes after ``9``."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _labelled(frame: pd.DataFrame, label: dict[str, Any]) -> pd.DataFrame:
    """The frame with what tells its run in front; a value that has the name of a column becomes ``arm.NAME``."""
    label = {f"arm.{name}" if name in frame else name: value for name, value in label.items()}
    return frame.assign(**label)[[*label, *frame]]


def _flat(summary: dict[str, Any]) -> dict[str, Any]:
    """Plain numbers and words of a summary; of groups each entry by itself, lists are left out."""
    found: dict[str, Any] = {}
    for name, value in summary.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": item for key, item in value.items()}
        elif not isinstance(value, list):
            found[name] = value
    found.pop("seed", None)
    return found


def _pandas() -> Any:
    """A lazy door: pandas is needed for frames alone."""
    return importlib.import_module("pandas")
