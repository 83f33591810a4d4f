"""Whose the rows of a table without ids could be: each takes the client of a donor's row that is like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from fedsim import rng
from fedsim.data.proxy.measures import Rows
from fedsim.errors import InputError
from fedsim.units import FloatArray, IntArray

CHUNK = 1500  # rows matched at once: the cost of an assignment grows with the cube


@dataclass(frozen=True)
class _Donor:
    """Rows of donor clients, who may be there several times, as different clients."""

    client: IntArray
    label: IntArray
    embedding: FloatArray


def transported(donor: Rows, label: IntArray, embedding: FloatArray, *, seed: int, chunk: int = CHUNK) -> IntArray:
    """A client for each row of a target, ``int64[n]``: sizes, labels and features as the donor's clients have them.

    Whole donor clients are drawn until they have as many rows of each label as the target, then rows of the same label
    are matched one to one, chunk by chunk, at the least sum of squared distances of their embeddings. Raises
    :class:`InputError` where the target has a label that the donor has not.
    """
    unknown = np.setdiff1d(label, donor.label)
    if len(unknown):
        allowed = "the labels of the donor"
        raise InputError("the target has a label that the donor lacks", value=int(unknown[0]), allowed=allowed)
    drawn = _enough(donor, len(label), seed=seed)
    client = np.empty(len(label), dtype=np.int64)
    for each in np.unique(label):
        rows, donors = np.flatnonzero(label == each), np.flatnonzero(drawn.label == each)
        rows = rows[np.argsort(rng.bits(seed, "target row", rows), kind="stable")]
        donors = _as_many(donors, len(rows), seed=seed)
        for first in range(0, len(rows), chunk):
            some, theirs = rows[first : first + chunk], donors[first : first + chunk]
            cost = _distances(embedding[some], drawn.embedding[theirs])
            _, match = linear_sum_assignment(cost)
            client[some] = drawn.client[theirs[match]]
    return np.unique(client, return_inverse=True)[1].astype(np.int64)


def _enough(donor: Rows, n_rows: int, *, seed: int) -> _Donor:
    """Donor clients in random order, over and again as new clients, until they have about so many rows."""
    n_clients, sizes = donor.n_clients, np.bincount(donor.client)
    n_turns = -(-n_rows // len(donor.client))
    order = np.concatenate([
        turn * n_clients + np.argsort(rng.bits(seed, "donor client", np.arange(n_clients), turn), kind="stable")
        for turn in range(n_turns)
    ])  # fmt: skip
    kept = order[: int(np.searchsorted(np.cumsum(sizes[order % n_clients]), n_rows)) + 1]
    by_client = np.argsort(donor.client, kind="stable")
    ends = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.concatenate([by_client[ends[c] : ends[c + 1]] for c in kept % n_clients])
    client = np.repeat(np.arange(len(kept)), sizes[kept % n_clients])
    return _Donor(client, donor.label[rows], donor.embedding[rows])


def _as_many(donors: IntArray, n: int, *, seed: int) -> IntArray:
    """So many of these rows in random order, each as often as any other give or take one."""
    turns = []
    for turn in range(-(-n // max(len(donors), 1))):
        turns.append(donors[np.argsort(rng.bits(seed, "donor row", donors, turn), kind="stable")])
    return np.concatenate(turns)[:n]


def _distances(one: FloatArray, other: FloatArray) -> FloatArray:
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None, :]
    found: FloatArray = squares - 2 * (one @ other.T)
    return found
