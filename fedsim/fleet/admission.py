"""Which devices may take part besides being eligible now: what phone it is, whether it has the app version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.fleet.hardware import Hardware
from fedsim.ranges import Range, Seed, Share01
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S, BoolArray, FloatArray, IntArray


@runtime_checkable
class Gate(Protocol):
    """A condition on eligible devices that the selector checks before it takes one."""

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Which of the devices pass, all at one instant or each at its own, ``bool[n]``."""
        ...

    def share(self, at: float | FloatArray) -> float | FloatArray:
        """Expected share of devices that pass at an instant, or at each, for sizing a search."""
        ...

    def share_by_trace(self, at: float) -> float | FloatArray:
        """Expected share that passes among the devices of each base trace, ``float64[traces]``, or of all alike."""
        ...


class Requirement:
    """The phone itself must meet a rule over facts of its hardware row, for example ``ram_gb >= 2``."""

    def __init__(self, hardware: Hardware, rule: Rule) -> None:
        self._hardware = hardware
        self._is_met = hardware.meets(rule)
        self._share = float(hardware.share_of_rows() @ self._is_met)
        if self._share == 0.0:
            raise InputError("fleet.hardware.requires leaves no phone of the table", value=str(rule))

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Which devices' hardware meets the rule."""
        is_met: BoolArray = self._is_met[self._hardware.row_of(ids)]
        return is_met

    def share(self, at: float | FloatArray) -> float | FloatArray:
        """Population share of the rows that meet the rule."""
        return self._share

    def share_by_trace(self, at: float) -> float | FloatArray:
        """Whether the phone of a trace meets the rule, where it is known by its model."""
        return self._hardware.share_by_trace(self._is_met)


@dataclass(frozen=True)
class Rollout:
    """The app version that can train reaches the fleet: from ``start_share`` linearly to ``end_share`` in ``days``.

    Once a device has the version it keeps it.
    """

    seed: Seed
    start_share: Share01
    end_share: Share01
    days: Annotated[float, Range(0, 10_000)]

    def __post_init__(self) -> None:
        if not 0 <= self.start_share <= self.end_share <= 1:
            raise InputError(
                "fleet.rollout: start_share ≤ end_share", value=(self.start_share, self.end_share), allowed="0 … 1"
            )
        if not self.days >= 0:
            raise InputError("fleet.rollout.days must not be negative", value=self.days)

    def share(self, at: float | FloatArray) -> float | FloatArray:
        """Share of the fleet that has the version."""
        done = 1.0 if self.days == 0 else np.minimum(1.0, at / (self.days * DAY_S))
        return self.start_share + (self.end_share - self.start_share) * done

    def share_by_trace(self, at: float) -> float | FloatArray:
        """The same in all traces."""
        return self.share(at)

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Which devices have the version."""
        return np.asarray(rng.uniform(self.seed, "rollout", ids) < self.share(at))
