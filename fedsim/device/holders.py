"""Which client's data a device holds: by chance, coupled to its speed, or its own user's."""

from __future__ import annotations

from typing import Annotated, Protocol

import numpy as np

from fedsim import rng
from fedsim.data.clients import ClientData, client_of
from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.ranges import Range, Seed
from fedsim.units import BoolArray, FloatArray, IntArray

_MAX_RANKED_CLIENTS = 20_000_000


class Holders(Protocol):
    """The client behind each device."""

    def client_of(self, ids: IntArray) -> IntArray:
        """Client ids, ``int64[n]``."""
        ...


class RankedPhones(Protocol):
    """Phones that can be put in an order of speed."""

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's slowness in the fleet, ``float64[n]``."""
        ...


class RandomHolders:
    """A device holds the data of a client drawn by a hash of its id: data tells nothing about the phone."""

    def __init__(self, clients: ClientData, *, seed: Seed) -> None:
        self._n_clients, self._seed = clients.n_clients, seed

    def client_of(self, ids: IntArray) -> IntArray:
        """Client ids, ``int64[n]``."""
        return client_of(ids, n_clients=self._n_clients, seed=self._seed)


class OneToOneHolders:
    """Device ``i`` holds the data of client ``i``: each client has its own phone, and no phone two clients'."""

    def __init__(self, clients: ClientData, fleet: Fleet) -> None:
        if fleet.n_devices > clients.n_clients:
            allowed = f"{clients.n_clients} at most: fleet.n_devices of one_to_one are clients"
            raise InputError("holders: more devices than clients", value=fleet.n_devices, allowed=allowed)

    def client_of(self, ids: IntArray) -> IntArray:
        """Client ids, ``int64[n]``."""
        return ids


class SpeedCoupledHolders:
    """Slow phones hold more (``correlation`` > 0, as Papaya saw, Huba et al. 2022) or fewer examples.

    A Gaussian copula: the rank of a device's client by data size and the rank of its slowness have
    the normal correlation ``correlation``.
    """

    def __init__(
        self, clients: ClientData, phones: RankedPhones, *, seed: Seed, correlation: Annotated[float, Range(-1, 1)]
    ) -> None:
        if not -1 <= correlation <= 1:
            raise InputError("holders.correlation is outside its range", value=correlation, allowed="-1 … 1")
        if clients.n_clients > _MAX_RANKED_CLIENTS:
            raise InputError(
                "holders: too many clients to rank by size", value=clients.n_clients, allowed=_MAX_RANKED_CLIENTS
            )
        every = np.arange(clients.n_clients)
        self._by_size = every[np.argsort(clients.n_examples(every), kind="stable")]
        self._phones, self._seed, self._correlation = phones, seed, correlation

    def client_of(self, ids: IntArray) -> IntArray:
        """Client ids, ``int64[n]``."""
        own = np.sqrt(1.0 - self._correlation**2)
        z = self._correlation * self._phones.slowness(ids) + own * rng.normal(self._seed, "holders", ids)
        rank = (normal_cdf(z) * len(self._by_size)).astype(np.int64)
        clients: IntArray = self._by_size[np.minimum(rank, len(self._by_size) - 1)]
        return clients


class OwnDataHolders:
    """A device holds the data of the user whose trace it follows: behaviour and data belong together.

    The trace set's ``device_id`` is compared with the data's natural ids. It is also a gate: devices
    whose user has no data are never assigned.
    """

    def __init__(self, clients: ClientData, fleet: Fleet) -> None:
        keys = getattr(clients, "keys", None)
        if keys is None:
            raise InputError("holders: this data set has no natural ids", value=type(clients).__name__)
        client = {str(key): i for i, key in enumerate(keys)}
        found = [client.get(str(device), -1) for device in fleet.traces.device_id]
        self._client_of_trace, self._fleet = np.array(found, dtype=np.int64), fleet
        has_data = self._client_of_trace >= 0
        if not has_data.any():
            raise InputError(
                "holders: no device_id of the traces is a client of the data",
                value=str(fleet.traces.device_id[0]),
                allowed=f"{keys[0]}, …",
            )
        self._share = float(has_data.mean())

    def client_of(self, ids: IntArray) -> IntArray:
        """Client ids, ``int64[n]``."""
        clients: IntArray = self._client_of_trace[self._fleet.trace_of(ids)]
        return clients

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Which devices' users have data."""
        has_data: BoolArray = self._client_of_trace[self._fleet.cell_trace[cells]] >= 0
        return has_data

    def share(self, at: float | FloatArray) -> float:
        """Share of the base traces whose user has data."""
        return self._share

    def share_by_trace(self, at: float) -> float | FloatArray:
        """Whether the user of each base trace has data."""
        return (self._client_of_trace >= 0).astype(np.float64)


def normal_cdf(z: FloatArray) -> FloatArray:
    """Φ(z) by the logistic approximation of Page (1977), error below 3e-4: ample for ranks."""
    share: FloatArray = 1.0 / (1.0 + np.exp(-1.5976 * z * (1.0 + 0.04471492 * z * z)))
    return share
