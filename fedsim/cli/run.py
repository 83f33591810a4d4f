"""``fedsim run``: the Hydra application."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsim.cli.progress import shown
from fedsim.config.compose import explained, plain
from fedsim.config.simulation import build_simulation
from fedsim.config.trainer import central_metrics
from fedsim.errors import FedsimError
from fedsim.files import shipped, write_json, write_text
from fedsim.provenance import describe_run


def run(config: DictConfig) -> float:
    """Play one configuration into Hydra's run directory; returns the first metric for sweepers (NaN: none)."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    simulation = build_simulation(plain(config))
    values = plain(config)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    central = central_metrics(values, simulation.clients)
    with shown() as on_progress:
        result = simulation.run(folder, on_progress=on_progress, central_metrics=central)
    provenance = describe_run(
        traces=[Path(folder) for folder in values["traces"]["mixture"] or [values["traces"]["folder"]]],
        trace_provenance=simulation.fleet.traces.provenance,
        data_sha256=simulation.clients.sha256(),
        seed=simulation.seed,
        overrides=list(hydra_config.overrides.task),
        wall_s=result.wall_s,
    )
    write_json(folder / "provenance.json", provenance)
    write_json(folder / "summary.json", result.summary)
    if values["report"]:
        importlib.import_module("fedsim.report.html").write_report(folder)  # a lazy door: it loads matplotlib
    print(folder)
    return next(iter(result.summary["metrics"].values()), float("nan"))


def main(overrides: Sequence[str]) -> None:
    """Hand the command line to Hydra; its errors come back as one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints the error itself and exits with 1
    refused: list[FedsimError] = []

    def job(config: DictConfig) -> float:
        try:
            return run(config)
        except FedsimError as error:  # Hydra would print lines of its own; a sweep goes on with its next job
            refused.append(error)
            return float("nan")

    before, sys.argv = sys.argv, ["fedsim run", *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(shipped("configs")), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error
    finally:
        sys.argv = before
    if refused:
        raise refused[0]
