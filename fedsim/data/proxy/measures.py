"""How unlike the clients of a partition are, in size, labels and features: numbers to hold beside another's.

A partition is ``client`` int64[n], whose each row is; ``label`` are classes int64[n] (or numbers), ``embedding`` a few
numbers for each row, float32[n, d] (:mod:`fedsim.data.proxy.embedding`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from fedsim import rng
from fedsim.units import FloatArray, IntArray

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_MOST_CLASSES = 100  # whose shares are looked at one by one
_TREES, _FOLDS, _PER_CLASS = 100, 5, 1500


@dataclass(frozen=True)
class Rows:
    """A partition as arrays of length n: whose each row is, its label, what is known of its features."""

    client: IntArray
    label: IntArray
    embedding: FloatArray

    @property
    def n_clients(self) -> int:
        """How many clients there are; they are numbered from 0 on."""
        return int(self.client.max()) + 1

    def of_clients(self, chosen: IntArray) -> Rows:
        """The rows of these clients, numbered anew in the order given."""
        number = np.full(self.n_clients, -1)
        number[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(number[self.client] >= 0)
        return Rows(number[self.client[rows]], self.label[rows], self.embedding[rows])


def sizes_of(rows: Rows) -> IntArray:
    """Rows of each client, ``int64[n_clients]``."""
    return np.bincount(rows.client, minlength=rows.n_clients)


def one_hot(label: IntArray) -> FloatArray:
    """Indicators of the most frequent classes, ``float64[n, k]``; of two classes one column."""
    classes, n = np.unique(label, return_counts=True)
    kept = classes[np.argsort(-n, kind="stable")[:_MOST_CLASSES]]
    kept = kept[1:] if len(classes) == 2 else kept
    found: FloatArray = (label[:, None] == kept).astype(np.float64)
    return found


def icc(client: IntArray, values: npt.NDArray[np.floating]) -> float:
    """Intraclass correlation of the columns together: the share of their variance that lies between clients.

    One-way analysis of variance with groups of unequal size (Donner 1986); 0 is chance, below 0 clients are more alike
    than chance. NaN where all clients have one row.
    """
    n_rows, n_clients = len(client), int(client.max()) + 1
    n = np.bincount(client, minlength=n_clients).astype(np.float64)
    n_clients = int((n > 0).sum())
    if n_rows == n_clients or n_clients < 2:
        return math.nan
    centred = values - values.mean(axis=0)
    sums = np.stack([np.bincount(client, weights=column, minlength=len(n)) for column in centred.T], axis=1)
    between = float((np.square(sums) / np.maximum(n, 1.0)[:, None]).sum())
    within = float(np.square(centred).sum()) - between
    mean_between, mean_within = between / (n_clients - 1), within / (n_rows - n_clients)
    n_0 = (n_rows - np.square(n).sum() / n_rows) / (n_clients - 1)
    whole = mean_between + (n_0 - 1) * mean_within
    return (mean_between - mean_within) / whole if whole > 0 else 0.0


def style(rows: Rows) -> FloatArray:
    """The embedding without what the label tells: each class's mean taken away."""
    classes, place = np.unique(rows.label, return_inverse=True)
    n = np.bincount(place)
    sums = np.stack([np.bincount(place, weights=column, minlength=len(classes)) for column in rows.embedding.T], axis=1)
    found: FloatArray = rows.embedding - (sums / n[:, None])[place]
    return found


def size_and_label(rows: Rows) -> float:
    """Spearman's correlation of a client's size and its mean label (of many classes: share of the most frequent)."""
    n, share = sizes_of(rows), client_shares(rows)[:, 0]
    if len(n) < 3 or np.ptp(n) == 0 or np.ptp(share) == 0:
        return math.nan
    return float(stats.spearmanr(n, share).statistic)


def client_shares(rows: Rows) -> FloatArray:
    """Shares of the classes in each client, ``float64[n_clients, k]``."""
    hot, n = one_hot(rows.label), np.maximum(sizes_of(rows), 1)
    sums = [np.bincount(rows.client, weights=column, minlength=rows.n_clients) for column in hot.T]
    found: FloatArray = np.stack(sums, axis=1) / n[:, None]
    return found


def summaries(rows: Rows) -> FloatArray:
    """What a classifier sees of a client: size, label shares, mean and spread of the embedding."""
    n = sizes_of(rows)
    moments = []
    for column in rows.embedding.T.astype(np.float64):
        mean = np.bincount(rows.client, weights=column, minlength=len(n)) / np.maximum(n, 1)
        square = np.bincount(rows.client, weights=np.square(column), minlength=len(n)) / np.maximum(n, 1)
        moments += [mean, np.sqrt(np.maximum(square - np.square(mean), 0.0))]
    return np.column_stack([np.log(np.maximum(n, 1)), client_shares(rows)[:, :20], *moments])


def told_apart(one: Rows, other: Rows, *, seed: int) -> float:
    """Classifier two-sample test: AUC with which a forest tells the clients of two partitions apart; 0.5 is best.

    Out of sample, over 1,500 clients of each at most (Lopez-Paz and Oquab 2017).
    """
    parts = [_drawn(rows, seed=seed) for rows in (one, other)]
    n = min(len(part) for part in parts)
    width = min(part.shape[1] for part in parts)
    x = np.concatenate([part[:n, :width] for part in parts])
    y = np.repeat([0, 1], n)
    forest = RandomForestClassifier(_TREES, min_samples_leaf=5, random_state=seed, n_jobs=1)
    probability = cross_val_predict(forest, x, y, cv=_FOLDS, method="predict_proba")[:, 1]
    ranks = stats.rankdata(probability)
    return float((ranks[y == 1].sum() - n * (n + 1) / 2) / (n * n))


def _drawn(rows: Rows, *, seed: int) -> FloatArray:
    found = summaries(rows)
    order = np.argsort(rng.bits(seed, "told apart", np.arange(len(found))), kind="stable")
    return found[order[:_PER_CLASS]]
