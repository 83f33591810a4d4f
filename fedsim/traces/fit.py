"""Estimate the trace generator's parameters from any trace set with network, charging, screen, locked, battery.

Rates of change are a product of a phone's own rate and factors of the hour, of the other processes and of
the battery level (a Poisson regression, solved by iterative proportional fitting). With these factors every
stay is measured in operational time; what is left is the law of stays relative to the phone's mean (Kaplan
and Meier 1958, for stays cut by the log's end) and, per phone, fractions and sessions per day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedsim.traces.canonical import NETWORK_CODE, TraceSet
from fedsim.traces.criteria import Levels, compile_channel
from fedsim.traces.parameters import (
    CELLULAR,
    DURATION_PROBABILITIES,
    LAWS,
    LEVEL_EDGES,
    PROCESSES,
    TRAIT_PROBABILITIES,
    TRAIT_Z,
    TRAITS,
    HardwareClass,
    Law,
    SynthesisParameters,
    Trait,
)
from fedsim.units import DAY_MS, DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

_HOUR_MS = HOUR_S * 1000
_UNKNOWN = 2  # third value of a process, third factor, ignored
_PSEUDO_EVENTS = 5.0  # of factor 1, added to each factor: rarely seen contexts stay near 1
_PSEUDO_STAYS = 0.5  # of the population's mean, added to each phone's mean stay
_N_BANDS = len(LEVEL_EDGES) - 1


@dataclass(frozen=True)
class Segments:
    """Spans in which no channel changes and no hour ends, sorted by phone and time; columns of length m."""

    n: int  # phones
    phone: IntArray
    seconds: FloatArray
    hour: IntArray
    process: IntArray  # [m, 4]: 0 off, 1 on, 2 unknown
    network: FloatArray  # NaN unknown
    locked: FloatArray
    band: IntArray  # of the battery level, 5 unknown
    continues: BoolArray  # the next segment is the same phone's

    @classmethod
    def of(cls, traces: TraceSet) -> Segments:
        names = ("network", "charging", "screen", "locked", "battery")
        levels = {name: compile_channel(traces, name) for name in names}
        phone, at_ms = _breakpoints(traces, list(levels.values()))
        value = {name: _at(level, phone, at_ms) for name, level in levels.items()}
        same = np.append(phone[1:] == phone[:-1], False)
        end_ms = np.where(same, np.append(at_ms[1:], 0), traces.period_ms[phone])
        network = value["network"]
        is_cellular = network >= NETWORK_CODE["2g"]
        wifi = _on_off(network == NETWORK_CODE["wifi"], np.isnan(network))
        # whether cellular data would be used is not seen while wifi is
        cellular = _on_off(is_cellular, np.isnan(network) | (wifi == 1))
        charging, screen = (_on_off(value[name] == 1, np.isnan(value[name])) for name in ("charging", "screen"))
        band = np.clip(np.searchsorted(LEVEL_EDGES, value["battery"], side="left") - 1, 0, _N_BANDS - 1)
        return cls(
            n=traces.n,
            phone=phone,
            seconds=(end_ms - at_ms) / 1000,
            hour=(traces.start_ms[phone] + at_ms) // _HOUR_MS % 24,
            process=np.stack([charging, wifi, cellular, screen], axis=1),
            network=network,
            locked=value["locked"],
            band=np.where(np.isnan(value["battery"]), _N_BANDS, band),
            continues=same,
        )


def _on_off(is_on: BoolArray, is_unknown: BoolArray) -> IntArray:
    return np.where(is_unknown, _UNKNOWN, is_on.astype(np.int64))


def _breakpoints(traces: TraceSet, levels: list[Levels]) -> tuple[IntArray, IntArray]:
    """Phone and instant of every change of any channel and of every full hour, sorted, without repeats."""
    n_hours = traces.period_ms // _HOUR_MS
    hour_phone = np.repeat(np.arange(traces.n), n_hours)
    index = np.arange(len(hour_phone)) - np.repeat(np.cumsum(n_hours) - n_hours, n_hours)
    hour_ms = index * _HOUR_MS + (-traces.start_ms % _HOUR_MS)[hour_phone]
    phone = np.concatenate([hour_phone, *(_phone_of(level) for level in levels)])
    at_ms = np.concatenate([hour_ms, *(level.at_ms for level in levels)])
    key = np.unique(phone * _span(traces.period_ms) + at_ms)
    return key // _span(traces.period_ms), key % _span(traces.period_ms)


def _span(period_ms: IntArray) -> int:
    return int(period_ms.max()) + 1


def _phone_of(level: Levels) -> IntArray:
    return np.repeat(np.arange(len(level.period_ms)), np.diff(level.offsets))


def _at(level: Levels, phone: IntArray, at_ms: IntArray) -> FloatArray:
    """The channel's value at each phone and instant."""
    span = _span(level.period_ms)
    key = _phone_of(level) * span + level.at_ms
    return level.value[np.searchsorted(key, phone * span + at_ms, side="right") - 1].astype(np.float64)
