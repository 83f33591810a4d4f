"""A click-through task whose client data is a function of the client id: a billion clients cost no memory."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import Annotated

import numpy as np

from fedsim import rng
from fedsim.data.clients import Array, Examples, check_ids, positions_in_runs
from fedsim.data.partition import ends
from fedsim.errors import InputError
from fedsim.ranges import DeviceCount, Range, Seed, Sigma
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class SyntheticClicks:
    """Impressions with ``n_fields`` categorical fields, and clicks drawn from a hidden logistic model.

    x int64[., n_fields] holds ids of one table of ``n_fields × values_per_field`` ids, field ``f``
    owning ``f × values_per_field`` and the ids after it; popular values are more frequent (the value
    is ``values_per_field × u²``). The first half of the fields describes the client and is the same
    in all its examples, the rest the impression. A click has the probability
    ``sigmoid(bias + Σ weight[id] + client bias)``, weights N(0, ``weight_sigma``), client bias
    N(0, ``client_bias_sigma``): what a model cannot learn from the fields. Sizes are lognormal by
    median and sigma, clipped to 1 … ``max_examples``. Held out are ``n_held_out_clients`` ids that
    no client has.
    """

    n_clients: DeviceCount
    n_fields: Annotated[int, Range(1, 1000)]
    values_per_field: Annotated[int, Range(1, 1_000_000)]
    examples_median: Annotated[float, Range(1e-6, 1e6)]
    examples_sigma: Sigma
    max_examples: Annotated[int, Range(1, 1_000_000)]
    bias: Annotated[float, Range(-100, 100)]
    weight_sigma: Sigma
    client_bias_sigma: Sigma
    n_held_out_clients: Annotated[int, Range(1, 1_000_000)]
    seed: Seed

    def __post_init__(self) -> None:
        positive = ("n_clients", "n_fields", "values_per_field", "max_examples", "n_held_out_clients")
        for name in (*positive, "examples_median"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the synthetic clicks", value=getattr(self, name), allowed="> 0")
        for name in ("examples_sigma", "weight_sigma", "client_bias_sigma"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} of the synthetic clicks", value=getattr(self, name), allowed=">= 0")

    @property
    def n_values(self) -> int:
        """Ids in the table of all fields: what an embedding needs to hold."""
        return self.n_fields * self.values_per_field

    @property
    def sizes(self) -> dict[str, int]:
        """What a model may have to know, by its arguments' names."""
        return {"n_values": self.n_values, "n_fields": self.n_fields}

    def n_examples(self, client_ids: IntArray) -> IntArray:
        """Training examples of each client, ``int64[n]``."""
        check_ids(client_ids, self.n_clients)
        return self._sizes(client_ids)

    def fetch(self, client_ids: IntArray) -> Examples:
        """The training examples of these clients, in the order asked."""
        check_ids(client_ids, self.n_clients)
        return self._examples(client_ids)

    def held_out(self) -> tuple[Array, Array]:
        """``(x, y)`` of clients that take no part in training."""
        examples = self._examples(np.arange(self.n_clients, self.n_clients + self.n_held_out_clients))
        return examples.x, examples.y

    def sha256(self) -> str:
        """Hex digest of the parameters, which are all there is."""
        return hashlib.sha256(f"{type(self).__name__}{astuple(self)}".encode()).hexdigest()

    def _sizes(self, client_ids: IntArray) -> IntArray:
        size = rng.lognormal(
            self.seed, "clicks size", client_ids, median=self.examples_median, sigma=self.examples_sigma
        )
        return np.clip(np.rint(size), 1, self.max_examples).astype(np.int64)

    def _examples(self, client_ids: IntArray) -> Examples:
        lengths = self._sizes(client_ids)
        owner = np.repeat(client_ids, lengths)
        position = positions_in_runs(lengths)
        x = self._ids(owner, position)
        is_click = rng.uniform(self.seed, "clicks label", owner, position) < self._click_probability(owner, x)
        return Examples(x, is_click.astype(np.int64), ends(lengths))

    def _ids(self, owner: IntArray, position: IntArray) -> IntArray:
        """Table ids ``int64[n, n_fields]``; the client's own fields ignore the position."""
        field = np.arange(self.n_fields)
        is_own = field < self.n_fields // 2
        draw = np.where(is_own, field, self.n_fields * (position[:, None] + 1) + field)
        u = rng.uniform(self.seed, "clicks field", np.repeat(owner, self.n_fields), draw.reshape(-1))
        value = (self.values_per_field * np.square(u)).astype(np.int64).reshape(draw.shape)
        return value + field * self.values_per_field

    def _click_probability(self, owner: IntArray, x: IntArray) -> FloatArray:
        weight = self.weight_sigma * rng.normal(self.seed, "clicks weight", np.arange(self.n_values))
        own = self.client_bias_sigma * rng.normal(self.seed, "clicks client", owner)
        logit = self.bias + weight[x].sum(axis=1) + own
        probability: FloatArray = 1 / (1 + np.exp(-logit))
        return probability
