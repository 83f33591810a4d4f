"""Ways to say whose each row of a table is: sizes of clients by a law, then rows at random or by what they hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import digamma
from sklearn.cluster import MiniBatchKMeans

from fedsim import rng
from fedsim.data.partition import dirichlet_rows
from fedsim.errors import InputError
from fedsim.units import FloatArray, IntArray

_ROUNDS, _ENOUGH = 500, 1e-6  # of Minka's fixed point
_AT_ONCE = 200_000  # rows
_MOST_ALPHA = 1e4  # of a class: beyond it there is no skew


def sizes_equal(n_rows: int, n_clients: int) -> IntArray:
    """As equal as can be, ``int64[n_clients]``."""
    return np.diff(np.arange(n_clients + 1) * n_rows // n_clients)


def sizes_lognormal(n_rows: int, n_clients: int, *, sigma: float, seed: int) -> IntArray:
    """Lognormal: ``sigma`` of the logarithm."""
    return scaled(np.exp(sigma * rng.normal(seed, "size", np.arange(n_clients))), n_rows)


def sizes_zipf(n_rows: int, n_clients: int, *, exponent: float) -> IntArray:
    """The r-th largest client has a share in proportion to ``r ** -exponent``."""
    return scaled(np.arange(1, n_clients + 1, dtype=np.float64) ** -exponent, n_rows)


def sizes_empirical(n_rows: int, quantiles: FloatArray, *, seed: int) -> IntArray:
    """As large as the clients whose sizes have these quantiles (even steps from 0 to 1), and as many as rows allow."""
    mean = float((quantiles[1:] + quantiles[:-1]).mean() / 2)
    n_clients = max(1, round(n_rows / mean))
    at = (np.arange(n_clients) + rng.uniform(seed, "size", np.arange(n_clients))) / n_clients
    return scaled(np.interp(at, np.linspace(0, 1, len(quantiles)), quantiles), n_rows)


def scaled(weights: npt.NDArray[np.float64], n_rows: int) -> IntArray:
    """Whole sizes in proportion to weights, one row at least, that add up to ``n_rows``."""
    n = len(weights)
    if n > n_rows:
        raise InputError("more clients than rows", value=n, allowed=f"at most {n_rows}")
    exact = weights / weights.sum() * (n_rows - n)
    sizes = np.floor(exact).astype(np.int64)
    left = n_rows - n - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:left]] += 1
    found: IntArray = sizes + 1
    return found


def at_random(sizes: IntArray, *, seed: int) -> IntArray:
    """Rows dealt out at random, ``int64[n_rows]`` of clients."""
    slots = np.repeat(np.arange(len(sizes)), sizes)
    return slots[rng.generator(seed, "deal").permutation(len(slots))]


def by_skew(label: IntArray, sizes: IntArray, alpha: FloatArray, *, seed: int) -> IntArray:
    """Label skew at given sizes: each client's classes are drawn from Dirichlet(alpha), ``alpha`` one for each class.

    A client's rows ask for classes by its own shares; where a class has fewer rows than are asked for, what remains of
    the others is dealt out at random, which weakens the skew a little.
    """
    draw = rng.generator(seed, "skew")
    n_classes, slots = len(alpha), np.repeat(np.arange(len(sizes)), sizes)
    shares = np.cumsum(dirichlet_rows(draw, alpha=alpha, shape=(len(sizes), n_classes)), axis=1)
    asked = np.concatenate([
        (draw.random(len(some))[:, None] > shares[some, :-1]).sum(axis=1).astype(np.int32)
        for some in np.split(slots, np.arange(_AT_ONCE, len(slots), _AT_ONCE))
    ])  # fmt: skip
    client = np.full(len(label), -1)
    free_slots = []
    for each in range(n_classes):
        rows, takers = draw.permutation(np.flatnonzero(label == each)), draw.permutation(np.flatnonzero(asked == each))
        n = min(len(rows), len(takers))
        client[rows[:n]] = slots[takers[:n]]
        free_slots.append(takers[n:])
    rows, takers = np.flatnonzero(client < 0), draw.permutation(np.concatenate(free_slots))
    client[rows] = slots[takers]
    return client


def by_shards(label: IntArray, n_clients: int, *, per_client: int, seed: int) -> IntArray:
    """Rows sorted by class and cut into shards, of which each client gets ``per_client`` (McMahan et al. 2017)."""
    n_shards = n_clients * per_client
    if n_shards > len(label):
        raise InputError("more shards than rows", value=n_shards, allowed=f"at most {len(label)}")
    draw = rng.generator(seed, "shards")
    order = np.lexsort((draw.random(len(label)), label))
    owner = draw.permutation(np.repeat(np.arange(n_clients), per_client))
    client = np.empty(len(label), dtype=np.int64)
    client[order] = np.repeat(owner, np.diff(np.arange(n_shards + 1) * len(label) // n_shards))
    return client


def clusters_of(embedding: FloatArray, n: int, *, seed: int) -> IntArray:
    """Rows in ``n`` clusters by their embedding (k-means), ``int64[n_rows]``."""
    found: IntArray = MiniBatchKMeans(n, random_state=seed, n_init=3).fit_predict(embedding).astype(np.int64)
    return found


def polya_alpha(client: IntArray, label: IntArray, *, n_classes: int) -> FloatArray:
    """Concentrations of the Dirichlet-multinomial law of the clients' classes, ``float64[n_classes]``.

    Maximum likelihood by Minka's fixed point (2000). Where clients are no more unlike than chance the concentrations
    grow to a bound, at which draws have no skew: a Dirichlet cannot express clients that are more alike than that.
    """
    n_clients = int(client.max()) + 1
    counts = np.bincount(client * n_classes + label, minlength=n_clients * n_classes).reshape(n_clients, n_classes)
    totals = counts.sum(axis=1)
    counts, totals = counts[totals > 1], totals[totals > 1]
    alpha = counts.sum(axis=0) / max(counts.sum(), 1) * n_classes + 1e-3
    for _ in range(_ROUNDS):
        above = (digamma(counts + alpha) - digamma(alpha)).sum(axis=0)
        below = (digamma(totals + alpha.sum()) - digamma(alpha.sum())).sum()
        after = np.clip(alpha * above / max(below, 1e-300), 1e-4, _MOST_ALPHA)
        if np.abs(after - alpha).max() <= _ENOUGH * alpha.max() or alpha.max() >= _MOST_ALPHA:
            return np.asarray(after, dtype=np.float64)
        alpha = after
    return np.asarray(alpha, dtype=np.float64)
