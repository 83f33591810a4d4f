"""Phones whose clients have enough to train on: a gate where examples arrive as time goes on."""

from __future__ import annotations

import numpy as np

from fedsim import rng
from fedsim.data.arrival import Arrival, ArrivingClients
from fedsim.device.holders import Holders
from fedsim.fleet.participation import Participation
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

_SAMPLED = 2_000  # devices that stand for the fleet, where the share that passes is asked


class Arrivals:
    """How much the clients of devices may train on at their instants, and who has enough."""

    def __init__(
        self, data: ArrivingClients, holders: Holders, participation: Participation, *, n_devices: int, seed: int
    ) -> None:
        assert data.arrival is not None
        self.rules: Arrival = data.arrival
        self._data, self._holders, self._participation = data, holders, participation
        some = np.arange(min(n_devices, _SAMPLED))
        sampled = some if n_devices <= _SAMPLED else rng.integers(seed, "arrivals", some, n_devices)
        clients = holders.client_of(sampled)
        self._clients = clients[clients >= 0]
        self._shares: dict[int, float] = {}

    def since(self, ids: IntArray, at: FloatArray) -> FloatArray:
        """After which instant examples count, ``float64[n]``."""
        return self.rules.since(at, self._participation.free_at(ids))

    def n_examples(self, clients: IntArray, since: FloatArray, at: FloatArray) -> IntArray:
        """What each client may train on, ``int64[n]``."""
        return self._data.n_between(clients, since, at)

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Whose clients have enough."""
        instants = np.broadcast_to(np.asarray(at, dtype=np.float64), ids.shape)
        clients = self._holders.client_of(ids)
        has_data = clients >= 0
        found = np.zeros(len(ids), dtype=bool)
        some = np.flatnonzero(has_data)
        n = self._data.n_between(clients[some], self.since(ids[some], instants[some]), instants[some])
        found[some] = n >= self.rules.min_examples
        return found

    def share(self, at: float | FloatArray) -> float | FloatArray:
        """Expected share of devices that pass, had none trained yet, by the hour: for sizing a search."""
        hours = np.atleast_1d(np.asarray(at, dtype=np.float64)) // HOUR_S
        found = np.array([self._share_of(int(hour)) for hour in hours.tolist()])
        return float(found[0]) if np.ndim(at) == 0 else found

    def _share_of(self, hour: int) -> float:
        if hour not in self._shares:
            at = np.full(len(self._clients), (hour + 1) * HOUR_S)
            n = self._data.n_between(self._clients, self.rules.since(at, np.full(len(at), -np.inf)), at)
            self._shares[hour] = float((n >= self.rules.min_examples).mean()) if len(n) else 0.0
        return self._shares[hour]

    def share_by_trace(self, at: float) -> float | FloatArray:
        """The same for all traces."""
        return self.share(at)
