"""Parts of a run with a fault in each, which GATE_FAULT switches on: the same configuration, other code.

Without a fault each part is exactly the one it stands for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim import rng
from fedsim.server.protocol.buffered import BufferedCoordinator
from fedsim.server.protocol.sync import Rounds, SyncCoordinator
from fedsim.training.algorithm.sgd import LocalSgd
from fedsim.training.server import FederatedTrainer
from fedsim.training.trainer import StepResult, Updates

FAULT = os.environ.get("GATE_FAULT", "none")
_FACTORS = {"lr98": 0.98, "digits": 1 + 2e-7}  # of the local learning rate
_LOST = 0.05


@dataclass(frozen=True, kw_only=True)
class Local(LocalSgd):
    """lr98: the learning rate is 2 % too low. digits: what another machine's last digits would make."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "learning_rate", self.learning_rate * _FACTORS.get(FAULT, 1.0))


class Trainer(FederatedTrainer):
    """drop5: every twentieth update is lost in training, and the others' weights stay as they are."""

    def step(self, updates: Updates) -> StepResult:
        """As the trainer's, of what is not lost."""
        if FAULT != "drop5":
            return super().step(updates)
        kept = np.flatnonzero(rng.uniform(0, "lost", updates.seeds.astype(np.int64)) >= _LOST)
        return super().step(updates.take(kept))


class Sync(SyncCoordinator):
    """drop5r: every twentieth report is lost at the server, and the others are weighted up."""

    def start(self, job: Any) -> Rounds:
        """The rounds of a run."""
        return Losing(self, job) if FAULT == "drop5r" else super().start(job)


class Losing(Rounds):
    """Rounds that lose reports between their ingestion and the step."""

    def _step(self, now: float) -> float:
        self._reported = [rows[rng.uniform(1, "lost", rows["session_id"]) >= _LOST] for rows in self._reported]
        return super()._step(now)


class Buffered(BufferedCoordinator):
    """stale1: an update counts as one version staler than it is."""

    def coefficients(self, rows: Any, staleness: Any) -> Any:
        """Weights of the updates of a step."""
        return super().coefficients(rows, staleness + (1 if FAULT == "stale1" else 0))


if FAULT == "draws":  # as a refactoring would that names its draws anew
    drawn = rng.normal
    rng.normal = lambda seed, name, *given: drawn(seed, name + "'", *given)
