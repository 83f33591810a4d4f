"""Held-out metrics, as scikit-learn defines them, of all examples or of some.

A metric says first what it keeps of each example of a batch, then what comes of what was kept: so that outputs need not
be held for all examples at once, and the same pass serves every group of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn import metrics as sk

from fedsim.errors import InputError
from fedsim.training.loss import NO_LABEL, Loss
from fedsim.units import IntArray

Array = npt.NDArray[Any]
Kept = Mapping[str, Array]  # columns with a row for each example


class Metric(Protocol):
    """One figure of merit; ``better`` ("higher" or "lower", higher if it does not say) tells the best version."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def check(self, loss: Loss, y: Array) -> None:
        """Refuse a loss or held-out labels for which it is not defined with an :class:`InputError`."""

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """What is kept of a batch: columns ``[n, …]`` from labels and the loss's scores."""

    def value(self, kept: Kept) -> float:
        """The metric of the examples kept; NaN where it is not defined for them."""


@dataclass(frozen=True)
class Mean:
    """A metric that is a sum over labels divided by their number, both kept by example."""

    name: str

    def check(self, loss: Loss, y: Array) -> None:
        """A class for each label."""
        _refuse(self.name, loss, ("list_net", "squared_error"), allowed="a loss of classes")

    def value(self, kept: Kept) -> float:
        """The mean over labels."""
        n = kept["n"].sum()
        return float(kept["sum"].sum() / n) if n else math.nan

    def _kept(self, of_label: torch.Tensor, y: torch.Tensor) -> dict[str, Array]:
        """Sum and number of each example's known labels."""
        is_known = y != NO_LABEL
        summed = of_label.double().masked_fill(~is_known, 0.0).reshape(len(y), -1).sum(1)
        return {"sum": summed.numpy(), "n": is_known.reshape(len(y), -1).sum(1).numpy()}


@dataclass(frozen=True)
class TopK(Mean):
    """Share of labels that are among the ``k`` most probable classes; of a binary label and k = 1 at 0.5."""

    k: int

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """Labels found."""
        if scores.dim() == y.dim():
            return self._kept((scores > 0.5) == (y > 0), y)
        if self.k == 1:
            return self._kept(scores.argmax(-1) == y, y)
        best = scores.topk(min(self.k, scores.shape[-1]), dim=-1).indices
        return self._kept((best == y[..., None]).any(-1), y)


@dataclass(frozen=True)
class LogLoss(Mean):
    """Mean of minus the logarithm of the label's probability; perplexity is its exponential."""

    better = "lower"

    is_exponential: bool = False

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """The labels' losses."""
        if scores.dim() == y.dim():
            probability = torch.where(y > 0, scores, 1 - scores)
        else:
            probability = scores.gather(-1, y.clamp(min=0)[..., None])[..., 0]
        return self._kept(-probability.clamp(min=torch.finfo(torch.float64).eps).log(), y)

    def value(self, kept: Kept) -> float:
        """The mean over labels, or its exponential."""
        mean = super().value(kept)
        return math.exp(mean) if self.is_exponential else mean


@dataclass(frozen=True)
class MeanSquaredError(Mean):
    """Of labels that are numbers."""

    better = "lower"

    def check(self, loss: Loss, y: Array) -> None:
        """Numbers."""
        _refuse(self.name, loss, ("list_net", "cross_entropy", "binary_cross_entropy"), allowed="squared_error")

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """Squared differences."""
        return {"sum": (scores - y).square().numpy(), "n": np.ones(len(y), dtype=np.int64)}


@dataclass(frozen=True)
class Ranking:
    """How well probabilities order a binary label: ``auc`` or ``aupr``."""

    name: str

    def check(self, loss: Loss, y: Array) -> None:
        """A binary label of which both classes occur."""
        _refuse(self.name, loss, ("cross_entropy", "list_net", "squared_error"), allowed="binary_cross_entropy")
        if len(np.unique(y)) < 2:
            raise InputError("metric needs held-out examples of both classes", value=self.name)

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """Label and probability."""
        return {"y": y.numpy(), "score": scores.numpy()}

    def value(self, kept: Kept) -> float:
        """The area; not defined where one class alone occurs."""
        if len(np.unique(kept["y"])) < 2:
            return math.nan
        area = sk.roc_auc_score if self.name == "auc" else sk.average_precision_score
        return float(area(kept["y"], kept["score"]))


@dataclass(frozen=True)
class Ndcg:
    """Normalised discounted cumulative gain of the first ``k`` of each list, gain 2^relevance - 1, mean over lists.

    Lists without a relevant document say nothing and are left out (Järvelin and Kekäläinen 2002; Burges et al. 2005).
    """

    name: str
    k: int

    def check(self, loss: Loss, y: Array) -> None:
        """Lists."""
        _refuse(self.name, loss, ("cross_entropy", "binary_cross_entropy", "squared_error"), allowed="list_net")

    def keep(self, y: torch.Tensor, scores: torch.Tensor) -> dict[str, Array]:
        """The gain of each list; NaN without a relevant document."""
        is_there = y != NO_LABEL
        gain = torch.where(is_there, 2.0 ** y.double() - 1, 0.0)
        order = scores.masked_fill(~is_there, -torch.inf).argsort(dim=1, descending=True, stable=True)
        found, best = _discounted(gain.gather(1, order), self.k), _discounted(gain.sort(1, descending=True)[0], self.k)
        return {"ndcg": torch.where(best > 0, found / best, torch.nan).numpy()}

    def value(self, kept: Kept) -> float:
        """The mean over lists."""
        known = kept["ndcg"][~np.isnan(kept["ndcg"])]
        return float(known.mean()) if len(known) else math.nan


def _discounted(gain: torch.Tensor, k: int) -> torch.Tensor:
    first = gain[:, :k]
    return (first / torch.arange(2, first.shape[1] + 2).double().log2()).sum(1)


def _refuse(name: str, loss: Loss, losses: Sequence[str], *, allowed: str) -> None:
    """A metric refuses some of the shipped losses; of a loss of the user's own it cannot know."""
    if loss.name in losses:
        raise InputError(f"metric {name} does not suit training.loss", value=loss.name, allowed=allowed)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        TopK("accuracy", 1), TopK("top3_accuracy", 3), TopK("top5_accuracy", 5),
        LogLoss("log_loss"), LogLoss("perplexity", is_exponential=True),
        Ranking("auc"), Ranking("aupr"), Ndcg("ndcg5", 5), Ndcg("ndcg10", 10), MeanSquaredError("mean_squared_error"),
    )
}  # fmt: skip


def metric_named(metric: str | Metric) -> Metric:
    """The metric of this name; one that is built already is given back."""
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        raise InputError("training.metrics", value=metric, allowed=f"{', '.join(METRICS)}, or _target_ of your own")
    return METRICS[metric]


@dataclass(frozen=True)
class Measured:
    """What an evaluation kept of each held-out example, for each metric."""

    metrics: tuple[Metric, ...]
    kept: tuple[Kept, ...]

    @classmethod
    def of_batches(cls, metrics: tuple[Metric, ...], batches: Sequence[Sequence[Kept]]) -> Measured:
        """From what each metric kept of each batch, ``[batch][metric]``."""
        joined = []
        for place in range(len(metrics)):
            parts = [batch[place] for batch in batches]
            joined.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        return cls(metrics, tuple(joined))

    def values(self, rows: IntArray | None = None) -> dict[str, float]:
        """Each metric of all examples, or of these rows, which may be repeated."""
        return {
            metric.name: metric.value(kept if rows is None else {name: column[rows] for name, column in kept.items()})
            for metric, kept in zip(self.metrics, self.kept, strict=True)
        }
