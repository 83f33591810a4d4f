"""The battery as a state: the trace's level minus what our own work took, restored by charging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.participation import Participation
from fedsim.ranges import Percent, Range, WattHours
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

_ROUNDED_PERCENT = 1e-5  # of a battery: more than the phones that stop at their floor are off for the clock's rounding


@dataclass(frozen=True)
class BatteryLimits:
    """What a battery holds and how far training may take it.

    Work is refused, and ends, at ``floor_percent``. ``assumed_percent`` is the level where the trace
    does not know it.
    """

    capacity_wh: WattHours
    floor_percent: Percent
    charge_percent_per_h: Annotated[float, Range(1e-6, 1e6)]
    assumed_percent: Percent

    def __post_init__(self) -> None:
        if not (self.capacity_wh > 0 and self.charge_percent_per_h > 0):
            raise InputError(
                "battery.capacity_wh and charge_percent_per_h must be positive",
                value=(self.capacity_wh, self.charge_percent_per_h),
            )
        for name in ("floor_percent", "assumed_percent"):
            if not 0 <= getattr(self, name) <= 100:
                raise InputError(f"battery.{name} is outside its range", value=getattr(self, name), allowed="0 … 100")

    def joules(self, percent: FloatArray) -> FloatArray:
        """Energy of a share of a full battery."""
        return percent * (self.capacity_wh * HOUR_S / 100.0)

    def percent(self, joules: FloatArray) -> FloatArray:
        """Share of a full battery that an energy is, in percent."""
        return joules * (100.0 / (self.capacity_wh * HOUR_S))


class Battery:
    """Levels of a fleet's batteries.

    What our work took from a device is its *debt* in percent; it is kept for touched devices. While
    the trace says that the phone charges, the debt shrinks at ``charge_percent_per_h``.
    Simplifications: the trace's own path is taken as it is, and a debt is paid back even in hours in
    which the trace itself was not yet full.
    """

    def __init__(
        self,
        limits: BatteryLimits,
        level: Track | None,
        charging: Availability | None,
        participation: Participation,
    ) -> None:
        self.limits, self._level, self._charging, self._participation = limits, level, charging, participation

    def percent(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> FloatArray:
        """Level of each device at an instant, or at its own, ``float64[n]``, never below 0."""
        if self._level is None:
            of_trace = np.full(len(ids), self.limits.assumed_percent)
        else:
            found, _ = self._level.at_cells(cells, at)
            of_trace = np.where(np.isnan(found), self.limits.assumed_percent, found).astype(np.float64)
        return np.maximum(of_trace - self.debt(ids, cells, at), 0.0)

    def debt(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> FloatArray:
        """Percent that our work took and charging has not restored by then."""
        debt, since = self._participation.debt(ids)
        return self.left(debt, cells, since, np.broadcast_to(at, len(ids)))

    def left(self, debt: FloatArray, cells: IntArray, since: FloatArray, until: FloatArray) -> FloatArray:
        """What is left of debts of one instant at a later one: charging restores them."""
        left = debt.copy()
        owing = np.flatnonzero(debt > 0)
        if owing.size and self._charging is not None:
            begin, end = since[owing], until[owing]
            charged_s = self._charging.open_s(cells[owing], np.minimum(begin, end), end)
            left[owing] -= charged_s * (self.limits.charge_percent_per_h / HOUR_S)
        return np.maximum(left, 0.0)

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        """Which devices are above the floor, by more than an instant's rounding: who stopped at it is at it."""
        return self.percent(ids, cells, at) > self.limits.floor_percent + _ROUNDED_PERCENT

    def share(self, at: float | FloatArray) -> float:
        """Not known ahead: counted as all."""
        return 1.0

    def share_by_trace(self, at: float) -> float | FloatArray:
        """Not known ahead: counted as all."""
        return 1.0
