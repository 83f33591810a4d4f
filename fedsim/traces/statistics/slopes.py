"""How fast batteries fall and rise: slopes between successive readings of the level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Levels, compile_channel
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

_HOUR_MS = HOUR_S * 1000
_MOSTLY_OFF, _MOSTLY_ON = 0.05, 0.5  # share of the time between two readings with the screen on
_MIN_HOURS = 1.0  # of a device, for a slope of its own


@dataclass(frozen=True)
class Slopes:
    """Pairs of successive battery readings, columns of length m, and which of them tell a slope.

    A slope is read off charging pairs that do not fall from below 100 %, and off unplugged pairs that do
    not rise from above 0 %: the rest is calibration of the gauge, or a charger that the log missed.
    """

    n: int  # devices
    device: IntArray
    hours: FloatArray
    change: FloatArray  # %
    is_charging: BoolArray
    is_idle: BoolArray  # unplugged, screen off
    is_active: BoolArray  # unplugged, screen on at least half of the time
    is_unplugged: BoolArray

    @classmethod
    def of(cls, traces: TraceSet) -> Slopes:
        """Slopes of a set that records battery, charging and screen; an :class:`InputError` if it does not."""
        battery = compile_channel(traces, "battery")
        level = battery.value.astype(np.float64)
        charging, screen = (_mean_between(traces, battery, name) for name in ("charging", "screen"))
        change = np.diff(level)
        is_pair = (np.diff(battery.device) == 0) & ~np.isnan(change)
        is_unplugged = is_pair & (charging == 0) & (change <= 0) & (level[:-1] > 0)
        return cls(
            n=traces.n,
            device=battery.device[:-1].astype(np.int64),
            hours=battery.hold_ms[:-1] / _HOUR_MS,
            change=change,
            is_charging=is_pair & (charging == 1) & (change >= 0) & (level[:-1] < 100),
            is_idle=is_unplugged & (screen < _MOSTLY_OFF),
            is_active=is_unplugged & (screen > _MOSTLY_ON),
            is_unplugged=is_unplugged,
        )

    def mean(self, chosen: BoolArray) -> float:
        """Size of the slope over all devices, % per h."""
        return float(np.abs(self.change[chosen]).sum() / self.hours[chosen].sum())

    def per_device(self, chosen: BoolArray) -> FloatArray:
        """Size of the slope of each device with an hour of such pairs, % per h."""
        change, hours = self.totals(chosen)
        has_enough = hours >= _MIN_HOURS
        return change[has_enough] / hours[has_enough]

    def totals(self, chosen: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Size of the changes and the hours of each device, float64[n] both."""
        device = self.device[chosen]
        change = np.bincount(device, np.abs(self.change[chosen]), self.n)
        hours = np.bincount(device, self.hours[chosen], self.n)
        return np.asarray(change, dtype=np.float64), np.asarray(hours, dtype=np.float64)


def _mean_between(traces: TraceSet, grid: Levels, channel: str) -> FloatArray:
    """Mean of an on/off channel between successive entries of ``grid``; NaN where it starts out unknown."""
    level = compile_channel(traces, channel)
    is_on = np.nan_to_num(level.value.astype(np.float64))
    on_ms = np.append(0.0, np.cumsum(is_on * level.hold_ms))
    entry = np.searchsorted(_key(level, level.device, level.at_ms), _key(level, grid.device, grid.at_ms), "right") - 1
    until_ms = on_ms[entry] + is_on[entry] * (grid.at_ms - level.at_ms[entry])
    mean = np.diff(until_ms) / np.maximum(np.diff(grid.at_ms), 1)
    return np.where(np.isnan(level.value[entry[:-1]]), np.nan, mean)


def _key(level: Levels, device: IntArray, at_ms: IntArray) -> IntArray:
    """One number that sorts by device, then time."""
    return device.astype(np.int64) * (int(level.period_ms.max()) + 1) + at_ms
