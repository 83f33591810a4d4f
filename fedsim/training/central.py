"""The central baseline: what the same model, data and code reach when all examples lie in one place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim import rng
from fedsim.data.clients import ClientData, PooledClients
from fedsim.training.trainer import Trainer, Updates


def train_central(
    trainer: Callable[[ClientData], Trainer], data: ClientData, *, epochs: int, seed: int
) -> list[dict[str, float]]:
    """Held-out metrics after each epoch of training on the pooled data.

    ``trainer`` builds a trainer on the data it is given. The pool is one client, and an epoch is one server step
    with its local work: local SGD on all data.
    """
    central = trainer(PooledClients(data, seed=seed))
    everybody, whole = np.zeros(1, dtype=np.int64), np.ones(1)
    results = []
    for epoch in range(epochs):
        key = rng.bits(seed, "central", everybody, np.array([epoch]))
        central.step(Updates(everybody, np.array([central.version]), whole, key))
        results.append(central.evaluate())
    return results
