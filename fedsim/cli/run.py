"""``fedsim run``: the Hydra application."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fedsim.cli.progress import shown
from fedsim.config.compose import REFUSALS, explained, on_values, plain
from fedsim.config.play import play
from fedsim.config.simulation import build_simulation
from fedsim.errors import FedsimError
from fedsim.files import shipped


def run(config: DictConfig) -> float:
    """Play one configuration into Hydra's run directory; returns the first metric for sweepers (NaN: none)."""
    hydra_config = HydraConfig.get()
    folder, given = Path(hydra_config.runtime.output_dir), hydra_config.overrides
    values = plain(config)
    simulation = build_simulation(values)
    with shown() as on_progress:
        overrides = on_values([*given.hydra, *given.task])
        result = play(simulation, values, folder, overrides=overrides, on_progress=on_progress)
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
    except REFUSALS as error:
        raise explained(error) from error
    finally:
        sys.argv = before
    if refused:
        raise refused[0]
