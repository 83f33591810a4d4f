"""Playing a configuration into a run directory: what ``fedsim run`` and :func:`simulate` share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fedsim.config.compose import as_yaml, composed, on_values
from fedsim.config.simulation import build_simulation
from fedsim.config.trainer import central_metrics
from fedsim.errors import InputError
from fedsim.files import write_json, write_text
from fedsim.provenance import describe_run
from fedsim.results.run import Run, open_run
from fedsim.simulation import Progress, Result, Simulation


def play(
    simulation: Simulation,
    values: dict[str, Any],
    folder: Path,
    *,
    overrides: Sequence[str],
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Play a simulation and write all files of its run; ``summary.json`` comes last, the report after it.

    ``values`` are what ``simulation`` was built from, ``overrides`` what they were composed with. The folder is made
    if need be.
    """
    if not isinstance(values.get("report"), bool):
        raise InputError("report must be given", value=values.get("report"), allowed="true, false")
    write_text(folder / "config.yaml", as_yaml(values))
    central = central_metrics(values, simulation.task.clients)
    result = simulation.run(folder, on_progress=on_progress, central_metrics=central)
    provenance = describe_run(
        traces=[Path(folder) for folder in values["traces"]["mixture"] or [values["traces"]["folder"]]],
        trace_provenance=simulation.world.fleet.traces.provenance,
        data_sha256=simulation.task.clients.sha256(),
        seed=simulation.seed,
        overrides=list(overrides),
        wall_s=result.wall_s,
    )
    write_json(folder / "provenance.json", provenance)
    write_json(folder / "summary.json", result.summary)
    if values["report"]:
        importlib.import_module("fedsim.report.html").write_report(folder)  # a lazy door: it loads matplotlib
    return result


def simulate(*overrides: str, folder: Path | str | None = None) -> Run:
    """Play one run in this process, as ``fedsim run`` would with these overrides, and open it.

    Overrides are Hydra's: ``simulate("server=buffered", "seed=7")``; ``hydra.searchpath=[...]`` and FEDSIM_CONFIGS find
    YAML of the user's own. Files go to ``folder``, which must be new or empty (None: a new one below ``runs/``); no
    report is written unless ``report=true`` is given. Raises :class:`InputError` for bad input, before anything is
    written, and :class:`SimulationError` where the simulated world cannot go on.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise InputError("an override must be a string", value=override, allowed="'key=value', 'group=option'")
        if not on_values([override]):
            raise InputError("no job of Hydra's runs here", value=override, allowed="folder=FOLDER for the results")
    values = composed(["report=false", *overrides])
    simulation = build_simulation(values)
    place = _place(folder)
    play(simulation, values, place, overrides=overrides)
    return open_run(place)


def _place(folder: Path | str | None) -> Path:
    try:
        return _fresh() if folder is None else _empty(Path(folder))
    except OSError as error:
        raise InputError(f"folder for the run cannot be made ({error.strerror})", value=error.filename) from error


def _fresh() -> Path:
    """A new folder ``runs/<date>/<time>``; of runs that start in the same second each gets its own."""
    started = Path(f"runs/{datetime.now():%Y-%m-%d/%H-%M-%S}")
    folder, n = started, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            n += 1
            folder = started.with_name(f"{started.name}-{n}")


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError("folder for the run is not empty", value=str(folder), allowed="a new or empty folder")
    return folder
