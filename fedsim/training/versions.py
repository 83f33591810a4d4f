"""The model versions that devices may still be training from."""

from __future__ import annotations

from collections import deque

import torch

from fedsim.errors import SimulationError


class Versions:
    """The newest ``max_kept`` versions, each a flat float32 vector; version 0 is the initial model."""

    def __init__(self, initial: torch.Tensor, *, max_kept: int) -> None:
        self._kept: deque[torch.Tensor] = deque([initial], maxlen=max_kept)
        self.newest_version = 0

    @property
    def newest(self) -> torch.Tensor:
        """The newest version's vector."""
        return self._kept[-1]

    def get(self, version: int) -> torch.Tensor:
        """The vector of a version; :class:`SimulationError` if it was dropped or does not exist yet."""
        age = self.newest_version - version
        if not 0 <= age < len(self._kept):
            oldest = self.newest_version - len(self._kept) + 1
            raise SimulationError(f"model version {version} is not kept: only {oldest} to {self.newest_version} are")
        return self._kept[-1 - age]

    def add(self, vector: torch.Tensor) -> None:
        """Make ``vector`` the newest version and drop the oldest if too many are kept."""
        self._kept.append(vector)
        self.newest_version += 1
