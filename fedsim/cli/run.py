"""``fedsim run``: the Hydra application."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from fedsim.cli.progress import shown
from fedsim.cli.sweep import Ledger, failures, is_sweep, note_failure
from fedsim.config.compose import explained, on_values, plain
from fedsim.config.estimate import estimate
from fedsim.config.objective import objectives, value_of
from fedsim.config.play import not_reached, play, remarks
from fedsim.config.simulation import build_simulation
from fedsim.errors import FedsimError, NotReachedError, SweepError
from fedsim.files import shipped


def run(config: DictConfig, hydra_config: Any) -> float | tuple[float, ...]:
    """Play one configuration into Hydra's run directory; returns what a sweeper is to minimise or maximise."""
    folder, given = Path(hydra_config.runtime.output_dir), hydra_config.overrides
    values = plain(config)
    simulation = build_simulation(values)
    wanted = objectives(values)
    for line in simulation.remarks:
        print(f"fedsim: {line}", file=sys.stderr)
    if values["estimate"]:
        print(estimate(simulation).text(folder))
        _sweep_away(folder)
        return float("nan")
    with shown() as on_progress:
        overrides = on_values([*given.hydra, *given.task])
        result = play(simulation, values, folder, overrides=overrides, on_progress=on_progress)
    print(folder)
    stop = simulation.task.stop
    for line in remarks(result.summary, stop):
        print(f"fedsim: {line}", file=sys.stderr)
    if stop.is_required and not_reached(result.summary, stop):
        raise NotReachedError(f"{stop.metric} was required (stop.is_required)")
    found = [value_of(result.summary, name) for name in wanted]
    return found[0] if len(found) == 1 else tuple(found)


def _job(config: DictConfig) -> float | tuple[float, ...]:
    """One job; in a sweep a failure is written down, and the sweep goes on with its next job."""
    hydra_config = HydraConfig.get()
    try:
        return run(config, hydra_config)
    except Exception as error:
        _sweep_away(Path(hydra_config.runtime.output_dir))
        if is_sweep(hydra_config):
            note_failure(hydra_config, error)
        else:
            Ledger.error = error  # Hydra would print lines of its own
        n_wanted = len(config["objective"]) if isinstance(config.get("objective"), list) else 1
        return float("nan") if n_wanted == 1 else (float("nan"),) * n_wanted


def _sweep_away(folder: Path) -> None:
    """Hydra makes the folder before anything is checked: a refused run leaves none."""
    with suppress(OSError):  # it holds something, or is not there
        folder.rmdir()


def main(overrides: Sequence[str]) -> None:
    """Hand the command line to Hydra; its errors come back as one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints the error itself and exits with 1
    Ledger.folder = Ledger.error = None
    before, sys.argv = sys.argv, ["fedsim run", *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(shipped("configs")), config_name="config")(_job)()
    except MissingConfigException as error:  # to Python an OSError, to the user an option that is none
        raise explained(error) from error
    except (FedsimError, MemoryError, OSError):
        raise
    except Exception as error:  # what a job raises is kept: this is Hydra's, which has many kinds of error
        raise explained(error) from error
    finally:
        sys.argv = before
    if Ledger.error is not None:
        raise Ledger.error
    failed = failures()
    for line in failed:
        print(f"fedsim: {line}", file=sys.stderr)
    if failed:
        raise SweepError(f"{len(failed)} of the sweep's jobs failed")
