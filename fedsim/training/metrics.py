"""Held-out metrics, as scikit-learn defines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from fedsim.errors import InputError
from fedsim.training.loss import Loss
from fedsim.units import FloatArray

Array = npt.NDArray[Any]
Metric = Callable[[Array, FloatArray], float]


def _accuracy(y: Array, probability: FloatArray) -> float:
    predicted = probability > 0.5 if probability.ndim == 1 else probability.argmax(axis=1)
    return float(sk.accuracy_score(y, predicted))


def _log_loss(y: Array, probability: FloatArray) -> float:
    n_classes = 2 if probability.ndim == 1 else probability.shape[1]
    return float(sk.log_loss(y, probability, labels=np.arange(n_classes)))


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "auc": lambda y, probability: float(sk.roc_auc_score(y, probability)),
    "aupr": lambda y, probability: float(sk.average_precision_score(y, probability)),
}
RANKING = ("auc", "aupr")  # of a binary label, and only where both classes occur


def check_metrics(names: Sequence[str], loss: Loss, y: Array) -> None:
    """Refuse metrics that do not exist or cannot be computed for this loss and these labels."""
    for name in names:
        if name not in METRICS:
            raise InputError("training.metrics", value=name, allowed=", ".join(METRICS))
        if name in RANKING and not loss.is_binary:
            raise InputError("metric needs a binary label", value=name, allowed="training.loss=binary_cross_entropy")
        if name in RANKING and len(np.unique(y)) < 2:
            raise InputError("metric needs held-out examples of both classes", value=name)


def measured(names: Sequence[str], y: Array, probability: FloatArray) -> dict[str, float]:
    """Each metric's value; ``probability`` is float64[n] of class 1, or float64[n, n_classes]."""
    return {name: METRICS[name](y, probability) for name in names}
