"""What a job asks of its devices: bytes to fetch and to send, and local work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim.data import passes
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
    epochs: int
    batch_size: int
    plan_bytes: int = 0
    shipped_bytes_per_example: float = 0.0
    assets: tuple[Assets, ...] = ()
    caches_model: bool = False
    local_steps: int | None = None  # of each session, whatever its examples; None: by epochs

    def __post_init__(self) -> None:
        for name in ("download_bytes", "upload_bytes", "plan_bytes", "shipped_bytes_per_example"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative", value=getattr(self, name))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1", value=getattr(self, name))

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
        if self.shipped_bytes_per_example:
            size += np.rint(n_examples * self.shipped_bytes_per_example).astype(np.int64)
        if self.assets:
            size += self.needs_assets(assets_at, at) @ np.array([assets.n_bytes for assets in self.assets])
        return size

    def full_sizes(self, n_examples: IntArray) -> IntArray:
        """Bytes that devices download which hold nothing."""
        everything = self.plan_bytes + self.download_bytes + self.assets_bytes
        shipped: IntArray = np.rint(n_examples * self.shipped_bytes_per_example).astype(np.int64)
        return everything + shipped

    def needs_assets(self, assets_at: FloatArray, at: FloatArray) -> BoolArray:
        """Which assets each device lacks or has too old at its instant, ``bool[n, assets]``."""
        ages = [np.inf if assets.refresh_s is None else assets.refresh_s for assets in self.assets]
        lacks: BoolArray = ~(assets_at > at[:, None] - np.array(ages))
        return lacks

    def n_steps(self, n_examples: IntArray) -> IntArray:
        """Local optimiser steps: epochs × ⌈examples ÷ batch size⌉, or ``local_steps``."""
        steps: IntArray = passes.n_steps(
            n_examples, epochs=self.epochs, batch_size=self.batch_size, local_steps=self.local_steps
        )
        return steps

    def n_visits(self, n_examples: IntArray) -> IntArray:
        """Examples that these steps see, one as often as it is visited."""
        visits: IntArray = passes.n_visits(
            n_examples, epochs=self.epochs, batch_size=self.batch_size, local_steps=self.local_steps
        )
        return visits
