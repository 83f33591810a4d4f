"""What ``training.loss`` and ``training.metrics`` name: a shipped one, or a class of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsim.config.build import build
from fedsim.config.roles import LOSS, METRIC


def loss_of(said: Any) -> Any:
    """The name of a loss, or the loss that a group with ``_target_`` builds."""
    return said if isinstance(said, str) else build(said, "training.loss", role=LOSS)


def metrics_of(said: Sequence[Any]) -> list[Any]:
    """Names of metrics, or the metrics that groups with ``_target_`` build."""
    return [
        metric if isinstance(metric, str) else build(metric, f"training.metrics[{place}]", role=METRIC)
        for place, metric in enumerate(said)
    ]
