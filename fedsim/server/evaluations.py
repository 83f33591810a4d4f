"""When the newest model is evaluated in a run, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedsim.errors import InputError, SimulationError
from fedsim.log import RowLog
from fedsim.server.task import Evaluation, Stop
from fedsim.training.trainer import Trainer


class Evaluations:
    """The evaluations of one run; ``metrics`` are the latest, each version is evaluated once."""

    def __init__(self, trainer: Trainer, when: Evaluation, stop: Stop, log: RowLog) -> None:
        self._trainer, self._when, self._stop, self._log = trainer, when, stop, log
        self.metrics: dict[str, float] = {}
        self.has_reached_target = False
        self._version = -1
        self._next_at = 0.0

    def until(self, at: float, version: int) -> None:
        """Evaluate at every scheduled instant up to ``at``, at all of which ``version`` was the newest."""
        while self._next_at <= at:
            self.evaluate(self._next_at, version)
            self._next_at += self._when.every_s or math.inf

    def stepped(self, at: float, version: int) -> None:
        """Evaluate a version just made if it is one of those to be evaluated."""
        if self._when.every_steps and version % self._when.every_steps == 0:
            self.evaluate(at, version)

    def end(self, at: float, version: int) -> None:
        """Evaluate the last version, unless that has been done."""
        self.until(at, version)
        if self._version != version or not self._log.rows:
            self.evaluate(at, version)

    def evaluate(self, at: float, version: int) -> None:
        """Log the metrics of the newest version at ``at``."""
        if self._version != version:
            self.metrics = _numbers(self._trainer.evaluate(), version)
            self._version = version
        for name, value in self.metrics.items():
            self._log.add(at=at, version=version, metric=name, value=value)
        if self._stop.metric is not None and self.metrics:
            self._check_target()

    def _check_target(self) -> None:
        metric, goal = self._stop.metric, self._stop.metric_at_least
        if metric not in self.metrics:
            raise InputError("stop.metric is not evaluated", value=metric, allowed=", ".join(self.metrics))
        if goal is not None and self.metrics[metric] >= goal:
            self.has_reached_target = True


def _numbers(metrics: Mapping[str, float], version: int) -> dict[str, float]:
    """Metrics as a trainer of one's own may give them, as plain floats; what no table can hold ends the run."""
    try:
        found = {str(name): float(value) for name, value in metrics.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SimulationError(f"the trainer's metrics of version {version} are no numbers by name ({error})") from error
    wrong = [name for name, value in found.items() if not math.isfinite(value)]
    if wrong:
        raise SimulationError(f"metric {wrong[0]} of version {version} is {found[wrong[0]]}")
    return found
