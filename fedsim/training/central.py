"""The central baseline: what the same model, data and code reach when all examples lie in one place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim import rng
from fedsim.data.clients import ClientData, PooledClients
from fedsim.training.trainer import Trainer, Updates


def train_central(
    trainer: Callable[[ClientData], Trainer],
    data: ClientData,
    *,
    epochs: int,
    seed: int,
    batch_size: int | None = None,
) -> list[dict[str, float]]:
    """Held-out metrics after each epoch of training on the pooled data.

    ``trainer`` builds a trainer on the data it is given. Without ``batch_size`` the pool is one
    client, and an epoch is one server step with its local work: local SGD on all data. With it the
    pool is dealt out to clients of at most ``batch_size`` examples, an epoch is one server step for
    each of them in an order shuffled anew, and what is trained centrally is the server's optimiser
    (FedAdam: Adam), given local work of one step.
    """
    n_batches = 1
    if batch_size is not None:
        n_batches = -(-int(data.n_examples(np.arange(data.n_clients)).sum()) // batch_size)
    central = trainer(PooledClients(data, n_clients=n_batches, seed=seed))
    whole = np.ones(1)
    results = []
    for epoch in range(epochs):
        for batch in rng.generator(seed, f"central epoch {epoch}").permutation(n_batches)[:, None]:
            key = rng.bits(seed, "central", batch, np.array([epoch]))
            central.step(Updates(batch, np.array([central.version]), whole, key))
        results.append(central.evaluate())
    return results
