"""What the clients hold: the one protocol behind which every data set stands.

A *client* is the learning role of a device. Clients are numbered 0 … n_clients-1, and their
examples are handed over laid end to end, so that nothing here loops over clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.data.partition import ends, iid
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


def place_among(keys: Array, ids: Array) -> IntArray:
    """Where each id stands among ascending keys, ``int64[n]``; -1 of one that is not there."""
    place = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
    found: IntArray = np.where(keys[place] == ids, place, -1)
    return found


def positions_in_runs(lengths: IntArray) -> IntArray:
    """0 … length-1 for each run, laid end to end: ``[2, 3] → [0, 1, 0, 1, 2]``."""
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(ends(lengths)[:-1], lengths)


class CsrClients:
    """Client data that lies client by client: client ``i`` holds rows ``offsets[i] : offsets[i + 1]``.

    Arrays may be files that are mapped. Held out are ``held_out``, or the rows after the last client's.
    ``held_out_clients`` int64[n] tells whose those are, -1 of people who are no clients (None: it is not known),
    ``sizes`` what a model may have to know, by its arguments' names.
    """

    def __init__(
        self, x: Array, y: Array, *, offsets: IntArray, held_out: tuple[Array, Array] | None = None,
        held_out_clients: IntArray | None = None, sizes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self._x, self._y, self._offsets = x, y, offsets
        n = int(offsets[-1])
        self._held_out = (x[n:], y[n:]) if held_out is None else held_out
        self.held_out_clients = held_out_clients
        self.sizes = dict(sizes or {})

    def _rows(self, first: IntArray, lengths: IntArray) -> Examples:
        """Stretches of rows end to end."""
        rows = np.repeat(first, lengths) + positions_in_runs(lengths)
        return Examples(np.asarray(self._x[rows]), np.asarray(self._y[rows]), ends(lengths))

    @property
    def n_clients(self) -> int:
        """How many clients there are."""
        return len(self._offsets) - 1

    def n_examples(self, client_ids: IntArray) -> IntArray:
        """Training examples of each client, ``int64[n]``."""
        check_ids(client_ids, self.n_clients)
        lengths: IntArray = np.asarray(self._offsets[client_ids + 1] - self._offsets[client_ids])
        return lengths

    def fetch(self, client_ids: IntArray) -> Examples:
        """The training examples of these clients, in the order asked."""
        return self._rows(np.asarray(self._offsets[client_ids]), self.n_examples(client_ids))

    def held_out(self) -> tuple[Array, Array]:
        """``(x, y)`` of the examples that no client trains on."""
        return self._held_out

    def sha256(self) -> str:
        """Hex digest of all arrays, their shapes and types."""
        n = int(self._offsets[-1])
        return digest_of(self._x[:n], self._y[:n], self._offsets, *self._held_out)


def digest_of(*arrays: Array) -> str:
    """Hex digest of arrays, their shapes and types."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class ArrayClients(CsrClients):
    """Client data in memory, of which client ``i`` holds the rows ``order[offsets[i] : offsets[i + 1]]``."""

    def __init__(
        self, x: Array, y: Array, *, order: IntArray, offsets: IntArray, held_out: tuple[Array, Array],
        held_out_clients: IntArray | None = None, sizes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            x[order], y[order], offsets=offsets, held_out=held_out, held_out_clients=held_out_clients, sizes=sizes
        )


class PooledClients(ArrayClients):
    """All training examples, shuffled, with one client: the central baseline, trained by the same code.

    Keeps a copy of all examples in memory.
    """

    def __init__(self, data: ClientData, *, seed: int = 0) -> None:
        if data.n_clients > MAX_POOLED_CLIENTS:
            raise InputError("too many clients to pool", value=data.n_clients, allowed=f"at most {MAX_POOLED_CLIENTS}")
        pool = data.fetch(np.arange(data.n_clients, dtype=np.int64))
        order, offsets = iid(len(pool.y), n_clients=1, seed=seed)
        sizes = getattr(data, "sizes", {})
        super().__init__(pool.x, pool.y, order=order, offsets=offsets, held_out=data.held_out(), sizes=sizes)
