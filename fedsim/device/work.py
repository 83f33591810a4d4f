"""What a job asks of its devices: bytes to fetch and to send, and local work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim.data.passes import Passes
from fedsim.errors import InputError
from fedsim.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Assets:
    """Static files beside the model, such as vocabularies, that a device keeps for ``refresh_s`` (None: for good)."""

    n_bytes: int
    refresh_s: float | None = None

    def __post_init__(self) -> None:
        if not self.n_bytes >= 0:
            raise InputError("assets_bytes must not be negative", value=self.n_bytes)
        if self.refresh_s is not None and not self.refresh_s > 0:
            raise InputError("assets must last longer than nothing", value=self.refresh_s, allowed="> 0, or null")


@dataclass(frozen=True)
class Work:
    """What a job asks of its devices.

    A device downloads the model (``download_bytes``), unless it is cached from an earlier session
    (``caches_model``), the plan, ``shipped_bytes_per_example`` for the features of its examples that only the
    server knows, and of the ``assets`` those that it lacks or that have aged.
    """

    download_bytes: int
    upload_bytes: int
    passes: Passes
    plan_bytes: int = 0
    shipped_bytes_per_example: float = 0.0
    assets: tuple[Assets, ...] = ()
    caches_model: bool = False
    examples_each: int = 1  # of the work that is paid for, for each example of the data

    def __post_init__(self) -> None:
        for name in ("download_bytes", "upload_bytes", "plan_bytes", "shipped_bytes_per_example"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative", value=getattr(self, name))
        if not (self.passes.epochs > 0 and self.passes.batch_size > 0):
            raise InputError("epochs and batch_size must be positive", value=self.passes)

    @property
    def assets_bytes(self) -> int:
        """All assets together."""
        return sum(assets.n_bytes for assets in self.assets)

    def sizes(
        self, held_version: npt.NDArray[np.int32], assets_at: FloatArray, n_examples: IntArray, *,
        version: int, at: FloatArray,
    ) -> IntArray:  # fmt: skip
        """Bytes each device downloads at its instant, given what it holds: version −1 and instants −inf are nothing.

        ``assets_at[n, assets]`` are the instants at which it downloaded each of the assets.
        """
        needs_model = (held_version != version) if self.caches_model else np.ones(len(held_version), dtype=bool)
        size: IntArray = self.plan_bytes + needs_model * self.download_bytes
        size = size + self.shipped_sizes(n_examples)
        return size + self.assets_sizes(assets_at, at)

    def assets_sizes(self, assets_at: FloatArray, at: FloatArray) -> IntArray:
        """Bytes of assets that each device downloads at its instant."""
        if not self.assets:
            return np.zeros(len(at), dtype=np.int64)
        sizes: IntArray = self.needs_assets(assets_at, at) @ np.array([assets.n_bytes for assets in self.assets])
        return sizes

    def full_sizes(self, n_examples: IntArray) -> IntArray:
        """Bytes that devices download which hold nothing."""
        everything = self.plan_bytes + self.download_bytes + self.assets_bytes
        return everything + self.shipped_sizes(n_examples)

    def shipped_sizes(self, n_examples: IntArray) -> IntArray:
        """Bytes of features that the server ships for so many examples."""
        sizes: IntArray = np.rint(n_examples * self.shipped_bytes_per_example).astype(np.int64)
        return sizes

    def needs_assets(self, assets_at: FloatArray, at: FloatArray) -> BoolArray:
        """Which assets each device lacks or has too old at its instant, ``bool[n, assets]``."""
        ages = [np.inf if assets.refresh_s is None else assets.refresh_s for assets in self.assets]
        lacks: BoolArray = ~(assets_at > at[:, None] - np.array(ages))
        return lacks

    def n_steps(self, n_examples: IntArray) -> IntArray:
        """Local optimiser steps of devices with so many examples of the data, ``int64[n]``."""
        return self.passes.n_steps(self._paid(n_examples))

    def n_visits(self, n_examples: IntArray) -> IntArray:
        """Examples that these steps see, one as often as it is visited, ``int64[n]``."""
        return self.passes.n_visits(self._paid(n_examples))

    def visited_fraction(self, n_examples: IntArray, n_steps: IntArray) -> FloatArray:
        """Share of the planned visits that the first ``n_steps`` make; 1 where none are planned."""
        n_paid = self._paid(n_examples)
        planned, visited = self.passes.n_visits(n_paid), self.passes.n_visits(n_paid, n_steps)
        return np.divide(visited, planned, out=np.ones(len(planned)), where=planned > 0)

    def steps_on_data(self, n_examples: IntArray, n_steps: IntArray) -> IntArray:
        """Steps on the data for ``n_steps`` of what is paid for: their share of the plan, rounded down, at least one.

        They differ only where another model is paid for, which has ``examples_each`` for each example of the data.
        """
        planned, paid = self.passes.n_steps(n_examples), self.n_steps(n_examples)
        steps: IntArray = np.maximum(planned * n_steps // np.maximum(paid, 1), np.minimum(planned, 1))
        return steps

    def _paid(self, n_examples: IntArray) -> IntArray:
        return n_examples * self.examples_each
