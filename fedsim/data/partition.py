"""Who holds which example: a partition of examples 0 … n-1 as CSR ``(order, offsets)``.

Client ``i`` holds the examples ``order[offsets[i] : offsets[i + 1]]``; every example has one holder.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.units import FloatArray, IntArray

Partition = tuple[IntArray, IntArray]


def ends(lengths: IntArray) -> IntArray:
    """CSR offsets ``int64[n + 1]`` of runs of these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def by_client(client: IntArray, *, n_clients: int) -> Partition:
    """The partition that gives example ``j`` to client ``client[j]``; examples keep their order."""
    return np.argsort(client, kind="stable"), ends(np.bincount(client, minlength=n_clients))


def natural(ids: npt.NDArray[np.generic]) -> Partition:
    """One client for each distinct id (user, writer, …), numbered in ascending order of the id."""
    distinct, client = np.unique(ids, return_inverse=True)
    return by_client(client, n_clients=len(distinct))


def iid(n_examples: int, *, n_clients: int, seed: int) -> Partition:
    """Shuffled and dealt out evenly: client sizes differ by one at most."""
    _check_enough(n_examples, n_clients=n_clients, min_examples=1)
    order = rng.generator(seed, "partition").permutation(n_examples)
    return order, np.arange(n_clients + 1) * n_examples // n_clients


def dirichlet(labels: IntArray, *, n_clients: int, alpha: float, min_examples: int, seed: int) -> Partition:
    """Label skew: each class is spread over the clients by its own draw from Dirichlet(alpha).

    Small ``alpha`` gives each class to few clients, large ``alpha`` is nearly iid (Yurochkin et al.
    2019; Li et al. 2022). Simplification: clients left with fewer than ``min_examples`` are filled up
    with random examples of clients that have more, instead of drawing until chance fills them.
    """
    if not alpha > 0:
        raise InputError("alpha of the Dirichlet partition", value=alpha, allowed="> 0")
    _check_enough(len(labels), n_clients=n_clients, min_examples=min_examples)
    draw = rng.generator(seed, "partition")
    classes, label = np.unique(labels, return_inverse=True)
    last = np.cumsum(dirichlet_rows(draw, alpha=alpha, shape=(len(classes), n_clients)), axis=1)
    # One sorted search serves all classes: class k's cumulated shares lie in k … k+1.
    searched = label + draw.random(len(labels))
    last += np.arange(len(classes))[:, None]
    found = np.searchsorted(last.reshape(-1), searched, side="right") - label * n_clients
    client = _filled_up(np.minimum(found, n_clients - 1), n_clients=n_clients, min_examples=min_examples, draw=draw)
    return by_client(client, n_clients=n_clients)


def _check_enough(n_examples: int, *, n_clients: int, min_examples: int) -> None:
    if n_clients < 1 or n_clients * min_examples > n_examples:
        allowed = f"1 to {n_examples // max(min_examples, 1)} for {n_examples} examples, {min_examples} or more each"
        raise InputError("n_clients of the partition", value=n_clients, allowed=allowed)


def dirichlet_rows(draw: np.random.Generator, *, alpha: float | FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Rows from Dirichlet(alpha, …), one alpha for all or one for each column.

    By gamma draws in logarithms, since tiny alphas must not underflow to 0/0:
    log Gamma(a) = log Gamma(a + 1) + log(U) / a in distribution (Marsaglia and Tsang 2000).
    """
    log_gamma = np.log(draw.standard_gamma(alpha + 1, shape)) + np.log1p(-draw.random(shape)) / alpha
    shares: FloatArray = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _filled_up(client: IntArray, *, n_clients: int, min_examples: int, draw: np.random.Generator) -> IntArray:
    """Move random surplus examples to the clients that hold fewer than ``min_examples``."""
    lacking = np.maximum(min_examples - np.bincount(client, minlength=n_clients), 0)
    shuffled = draw.permutation(len(client))
    order, offsets = by_client(client[shuffled], n_clients=n_clients)
    is_surplus = np.ones(len(client), dtype=bool)
    kept = offsets[:-1, None] + np.arange(min_examples)
    is_surplus[order[kept[kept < offsets[1:, None]]]] = False
    moved = shuffled[np.flatnonzero(is_surplus)[: lacking.sum()]]
    client = client.copy()
    client[moved] = np.repeat(np.arange(n_clients), lacking)
    return client
