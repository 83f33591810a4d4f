"""What a job is given: what is to be learnt, from whom and until when, and whom it picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fedsim.data.clients import ClientData
from fedsim.device.holders import Holders
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.fleet.admission import Gate
from fedsim.ranges import Count, SomeTimeS, Steps
from fedsim.server.selector.selection import Selector
from fedsim.training.trainer import Trainer


@dataclass(frozen=True)
class Stop:
    """When a run ends: the first of these that is met (None: never).

    A run that ends without its metric being at least so high says so; where it ``is_required``, by its exit code.
    """

    max_steps: Steps | None
    max_s: SomeTimeS | None
    metric: str | None = None
    metric_at_least: float | None = None
    is_required: bool = False

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_s is None:
            raise InputError("stop.max_steps or stop.max_s must be given", value=None)
        if (self.max_steps is not None and self.max_steps < 1) or (self.max_s is not None and self.max_s <= 0):
            raise InputError("stop.max_steps and stop.max_s must be positive", value=(self.max_steps, self.max_s))
        if self.is_required and self.metric is None:
            raise InputError("stop.is_required needs a metric that is to be reached", value=None)
        if (self.metric is None) != (self.metric_at_least is None):
            raise InputError(
                "stop.metric and stop.metric_at_least go together", value=(self.metric, self.metric_at_least)
            )


GROUPINGS = ("tier", "region", "activity", "size", "participation")


@dataclass(frozen=True)
class Evaluation:
    """When the newest model is evaluated on held-out data: every so many steps, seconds, or both.

    ``groups`` are the respects (of :data:`GROUPINGS`) in which the last model is evaluated group by group, over
    ``n_group_devices`` devices drawn from the fleet.
    """

    every_steps: Steps | None
    every_s: SomeTimeS | None
    groups: Sequence[Literal["tier", "region", "activity", "size", "participation"]] = ()
    n_group_devices: Count = 20_000

    def __post_init__(self) -> None:
        if (self.every_steps is not None and self.every_steps < 1) or (self.every_s is not None and self.every_s <= 0):
            raise InputError(
                "evaluation.every_steps and every_s must be positive", value=(self.every_steps, self.every_s)
            )


@dataclass(frozen=True)
class Task:
    """What is learnt, from whom, and until when. ``trainer`` builds a trainer at version 0, anew for each run."""

    clients: ClientData
    holders: Holders
    work: Work
    trainer: Callable[[], Trainer]
    stop: Stop
    evaluation: Evaluation


@dataclass(frozen=True)
class Policy:
    """Whom a job picks, and what devices must be besides eligible."""

    selector: Selector
    gates: Sequence[Gate] = ()
