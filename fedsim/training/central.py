"""The central baseline: what the same model, data and code reach when all examples lie in one place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim import rng
from fedsim.data.clients import ClientData, PooledClients
from fedsim.training.trainer import Trainer, Updates


def train_central(
    trainer: Callable[[ClientData], Trainer], data: ClientData, *, epochs: int, batch_size: int, seed: int
) -> list[dict[str, float]]:
    """Held-out metrics after each epoch of minibatch training on the pooled data.

    The pool is dealt out to clients of about ``batch_size`` examples, and each server step takes one
    of them, in an order shuffled anew every epoch. ``trainer`` builds a trainer on the data it is
    given; if its local work is one step of at least ``batch_size`` examples, this is central
    training with the server's optimiser: SGD for FedAvg, Adam for FedAdam.
    """
    n_examples = int(data.n_examples(np.arange(data.n_clients, dtype=np.int64)).sum())
    n_batches = -(-n_examples // batch_size)
    central = trainer(PooledClients(data, n_clients=n_batches, seed=seed))
    whole = np.ones(1)
    results = []
    for epoch in range(epochs):
        for batch in rng.generator(seed, f"central epoch {epoch}").permutation(n_batches)[:, None]:
            key = rng.bits(seed, "central", batch, np.array([epoch]))
            central.step(Updates(batch, np.array([central.version]), whole, key))
        results.append(central.evaluate())
    return results
