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

    ``trainer`` builds a trainer on the data it is given; its local work of one epoch is one epoch
    here. With ``FedAvg(learning_rate=1.0)`` as server optimiser this is plain SGD.
    """
    central = trainer(PooledClients(data))
    pool, whole = np.zeros(1, dtype=np.int64), np.ones(1)
    results = []
    for epoch in range(epochs):
        shuffle = rng.bits(seed, "central", np.array([epoch]))
        central.step(Updates(pool, np.array([central.version]), whole, shuffle))
        results.append(central.evaluate())
    return results
