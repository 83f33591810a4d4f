"""Playing a configuration into a run directory: what ``fedsim run`` and :func:`simulate` share."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fedsim.config.checkpoints import FOLDER, require_apart, write_module
from fedsim.config.compose import as_yaml, composed, on_values
from fedsim.config.estimate import warn_of_disk
from fedsim.config.identity import identity
from fedsim.config.run_folder import opened
from fedsim.config.simulation import build_simulation
from fedsim.config.task import sized
from fedsim.config.trainer import central_evaluation
from fedsim.errors import InputError
from fedsim.files import write_json, write_text
from fedsim.provenance import describe_run
from fedsim.results.run import Run, open_run
from fedsim.server.task import Stop
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
    require_apart(values["model"].get("init_from"), folder)
    with opened(folder, force=values["force"]):
        return _play(simulation, values, folder, overrides, on_progress)


def _play(
    simulation: Simulation,
    values: dict[str, Any],
    folder: Path,
    overrides: Sequence[str],
    on_progress: Callable[[Progress], None] | None,
) -> Result:
    write_text(folder / "config.yaml", as_yaml(values))
    provenance = _provenance(simulation, values, overrides)
    write_json(folder / "provenance.json", provenance)  # a run that is stopped has it too
    told = warn_of_disk(folder, on_progress)
    try:
        metrics, central = central_evaluation(values, simulation.task.clients, folder / FOLDER)
        result = simulation.run(folder, on_progress=told, central_metrics=metrics, central=central)
    finally:  # a run that is stopped leaves models too
        if (folder / FOLDER).exists():
            write_module(folder, sized(values["model"]["module"], lambda: simulation.task.clients))
    write_json(folder / "provenance.json", provenance | {"wall_s": round(result.wall_s, 3)})
    write_json(folder / "summary.json", result.summary)
    if values["report"]:
        importlib.import_module("fedsim.report.html").write_report(folder)  # a lazy door: it loads matplotlib
    return result


def _provenance(simulation: Simulation, values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    described = describe_run(
        traces=[Path(folder) for folder in values["traces"]["mixture"] or [values["traces"]["folder"]]],
        trace_provenance=simulation.world.fleet.traces.provenance,
        data_sha256=simulation.task.clients.sha256(),
        seed=simulation.seed,
        overrides=list(overrides),
    )
    traces_sha256 = [described["traces"][name] for name in ("devices_sha256", "events_sha256")]
    known = identity(values, traces_sha256=traces_sha256, data_sha256=described["data_sha256"])
    return described | {"identity": known}


def remarks(summary: Mapping[str, Any], stop: Stop) -> list[str]:
    """What a run that ended well still has to say: nothing was committed, or its metric was not reached."""
    said = []
    if not summary["n_steps"]:
        outcomes = ", ".join(f"{n:,} {name}" for name, n in summary["outcomes"].items() if n)
        rounds = f"{summary['n_abandoned_rounds']:,} rounds were abandoned below their quorum; "
        rounds = rounds if summary["n_abandoned_rounds"] else ""
        said.append(f"nothing was committed: {rounds}of {summary['n_sessions']:,} sessions {outcomes or 'none began'}")
    if not_reached(summary, stop):
        value = summary["metrics"].get(stop.metric)
        reached = "is not measured" if value is None else f"came to {value:.6g}"
        said.append(f"{stop.metric} {reached}, not to {stop.metric_at_least:g}")
    return said


def not_reached(summary: Mapping[str, Any], stop: Stop) -> bool:
    """Whether the run was to reach a metric and did not."""
    if stop.metric is None or stop.metric_at_least is None or summary["stop_reason"] == "target":
        return False
    value = summary["metrics"].get(stop.metric)
    return value is None or value < stop.metric_at_least


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
    for line in simulation.remarks:
        warnings.warn(line, stacklevel=2)
    result = play(simulation, values, place, overrides=overrides)
    for line in remarks(result.summary, simulation.task.stop):
        warnings.warn(line, stacklevel=2)
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
