"""What the clients hold: the one protocol behind which every data set stands.

A *client* is the learning role of a device. Clients are numbered 0 … n_clients-1, and their
examples are handed over laid end to end, so that nothing here loops over clients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.units import IntArray

Array = npt.NDArray[Any]

MAX_POOLED_CLIENTS = 10_000_000


@dataclass(frozen=True)
class Examples:
    """Examples of several clients: client ``i`` of the request holds rows ``offsets[i] : offsets[i + 1]``."""

    x: Array  # [total, ...]: float32 features or int64 ids
    y: Array  # int64[total]
    offsets: IntArray  # int64[n + 1]

    @property
    def n_examples(self) -> IntArray:
        """Examples of each client, ``int64[n]``."""
        return np.diff(self.offsets)


class ClientData(Protocol):
    """A federated data set: who holds how much, the examples of asked clients, and a held-out set."""

    @property
    def n_clients(self) -> int:
        """How many clients there are."""

    def n_examples(self, client_ids: IntArray) -> IntArray:
        """Training examples of each client, ``int64[n]``; cheap, because device time depends on it."""

    def fetch(self, client_ids: IntArray) -> Examples:
        """The training examples of these clients, in the order asked; an id may be asked twice."""

    def held_out(self) -> tuple[Array, Array]:
        """``(x, y)`` of the examples that no client trains on."""

    def sha256(self) -> str:
        """Hex digest that changes when the data does; for a generator, of its parameters."""


def client_of(device_ids: npt.ArrayLike, *, n_clients: int, seed: int) -> IntArray:
    """Which client's data each device holds, ``int64[n]``: a pure function of the device id.

    Simplification: when there are more devices than clients, several devices hold the same data.
    """
    return rng.integers(seed, "client", device_ids, n_clients)


def check_ids(client_ids: IntArray, n_clients: int) -> None:
    """Refuse client ids outside 0 … n_clients-1 with an :class:`InputError`."""
    outside = (client_ids < 0) | (client_ids >= n_clients)
    if outside.any():
        raise InputError("no such client", value=int(client_ids[outside][0]), allowed=f"0 to {n_clients - 1}")


def ends(lengths: IntArray) -> IntArray:
    """CSR offsets ``int64[n + 1]`` of runs of these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def positions_in_runs(lengths: IntArray) -> IntArray:
    """0 … length-1 for each run, laid end to end: ``[2, 3] → [0, 1, 0, 1, 2]``."""
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(ends(lengths)[:-1], lengths)


class ArrayClients:
    """Client data that lies in memory, in CSR order: client ``i`` holds ``order[offsets[i] : offsets[i + 1]]``."""

    def __init__(
        self, x: Array, y: Array, *, order: IntArray, offsets: IntArray, held_out: tuple[Array, Array]
    ) -> None:
        self._x, self._y = x[order], y[order]
        self._offsets = offsets
        self._held_out = held_out

    @property
    def n_clients(self) -> int:
        """How many clients there are."""
        return len(self._offsets) - 1

    def n_examples(self, client_ids: IntArray) -> IntArray:
        """Training examples of each client, ``int64[n]``."""
        check_ids(client_ids, self.n_clients)
        return self._offsets[client_ids + 1] - self._offsets[client_ids]

    def fetch(self, client_ids: IntArray) -> Examples:
        """The training examples of these clients, in the order asked."""
        lengths = self.n_examples(client_ids)
        rows = np.repeat(self._offsets[client_ids], lengths) + positions_in_runs(lengths)
        return Examples(self._x[rows], self._y[rows], ends(lengths))

    def held_out(self) -> tuple[Array, Array]:
        """``(x, y)`` of the examples that no client trains on."""
        return self._held_out

    def sha256(self) -> str:
        """Hex digest of all arrays, their shapes and types."""
        digest = hashlib.sha256()
        for array in (self._x, self._y, self._offsets, *self._held_out):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


class PooledClients:
    """All training examples as one client: the central baseline, trained by the same code."""

    n_clients = 1

    def __init__(self, data: ClientData) -> None:
        if data.n_clients > MAX_POOLED_CLIENTS:
            raise InputError("too many clients to pool", value=data.n_clients, allowed=f"at most {MAX_POOLED_CLIENTS}")
        self._data = data
        self._ids = np.arange(data.n_clients, dtype=np.int64)
        self._total = int(data.n_examples(self._ids).sum())

    def n_examples(self, client_ids: IntArray) -> IntArray:
        """The number of all training examples, for the one client there is."""
        check_ids(client_ids, self.n_clients)
        return np.full(len(client_ids), self._total, dtype=np.int64)

    def fetch(self, client_ids: IntArray) -> Examples:
        """All training examples, once; the pool is too large to be handed out twice in one call."""
        check_ids(client_ids, self.n_clients)
        if len(client_ids) != 1:
            raise InputError("the pooled client is fetched alone", value=len(client_ids), allowed="1 client id")
        pool = self._data.fetch(self._ids)
        return Examples(pool.x, pool.y, np.array([0, self._total], dtype=np.int64))

    def held_out(self) -> tuple[Array, Array]:
        """The held-out examples of the data that were pooled."""
        return self._data.held_out()

    def sha256(self) -> str:
        """The digest of the data that were pooled."""
        return self._data.sha256()
