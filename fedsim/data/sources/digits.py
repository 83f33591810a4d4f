"""The 1,797 handwritten digits (8 × 8 pixels) that come with scikit-learn, split by label skew."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from sklearn.datasets import load_digits

from fedsim import rng
from fedsim.data.clients import ArrayClients
from fedsim.data.partition import dirichlet
from fedsim.errors import InputError
from fedsim.ranges import Count, Range, Seed, Share01

MAX_PIXEL, N_CLASSES = 16.0, 10


class Digits(ArrayClients):
    """scikit-learn's digits: x float32[., 64] in 0 … 1, y 0 … 9 (UCI Optdigits, Alpaydin and Kaynak 1998).

    A share of ``test_fraction`` is held out at random; the rest goes to ``n_clients`` clients by a
    Dirichlet partition with ``alpha`` and at least one example each.
    """

    def __init__(
        self, *, n_clients: Count, alpha: Annotated[float, Range(1e-9, 1e9)], test_fraction: Share01, seed: Seed
    ) -> None:
        if not 0 < test_fraction < 1:
            raise InputError("test_fraction of the digits", value=test_fraction, allowed="between 0 and 1")
        bunch = load_digits()
        x = (bunch.data / MAX_PIXEL).astype(np.float32)
        y = bunch.target.astype(np.int64)
        shuffled = rng.generator(seed, "held out").permutation(len(y))
        test, train = np.split(shuffled, [round(test_fraction * len(y))])
        order, offsets = dirichlet(y[train], n_clients=n_clients, alpha=alpha, min_examples=1, seed=seed)
        sizes = {"n_inputs": x.shape[1], "n_classes": N_CLASSES}
        super().__init__(x, y, order=train[order], offsets=offsets, held_out=(x[test], y[test]), sizes=sizes)
