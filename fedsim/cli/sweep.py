"""What becomes of jobs, whatever process or machine they run in: a file in the sweep's folder for each that failed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode

from fedsim.cli.outcome import explained
from fedsim.files import read_json, write_json

_FOLDER = ".failed"


class Ledger(Callback):
    """Hydra's word in the process that starts the jobs: it knows where the sweep is."""

    folder: Path | None = None  # of the failures of this process's sweep; Hydra has one at a time
    error: Exception | None = None  # of the one job that is no sweep's

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Forget what failed in an earlier sweep of the same folder."""
        Ledger.folder = Path(config.hydra.sweep.dir) / _FOLDER
        shutil.rmtree(Ledger.folder, ignore_errors=True)


def is_sweep(hydra_config: Any) -> bool:
    """Whether a job is one of several."""
    return bool(hydra_config.mode == RunMode.MULTIRUN)


def note_failure(hydra_config: Any, error: Exception) -> None:
    """Write down that this job failed, and why."""
    number, (code, line) = int(hydra_config.job.num), explained(error)
    said = {"job": number, "overrides": list(hydra_config.overrides.task), "line": line, "exit_code": code}
    write_json(Path(hydra_config.sweep.dir) / _FOLDER / f"{number:06d}.json", said)


def failures() -> list[str]:
    """A line for each job of this process's sweep that failed, in the order of their numbers."""
    files = sorted(Ledger.folder.glob("*.json")) if Ledger.folder is not None else []
    jobs = [read_json(file, "failure of a job") for file in files]
    return [f"job {job['job']} ({' '.join(job['overrides'])}): {job['line']}" for job in jobs]
