"""A trace set cut into spans in which nothing changes: what is exposed to which change, when and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedsim.traces import clock
from fedsim.traces.canonical import NETWORK_CODE, TraceSet
from fedsim.traces.criteria import Levels, compile_channel
from fedsim.traces.generator.parameters import LEVEL_EDGES, PROCESSES
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

UNKNOWN = 2  # third value of an on/off process
N_BANDS = len(LEVEL_EDGES) - 1
_HOUR_MS = HOUR_S * 1000


@dataclass(frozen=True)
class Segments:
    """Spans in which no channel changes and no hour ends, sorted by phone and time; columns of length m."""

    n: int  # phones
    phone: IntArray
    seconds: FloatArray
    hour: IntArray  # of the local day
    process: IntArray  # [m, names]: 0 off, 1 on, 2 unknown
    locked: FloatArray  # NaN unknown
    band: IntArray  # of the battery level between LEVEL_EDGES, N_BANDS unknown
    continues: BoolArray  # the next segment is the same phone's
    names: tuple[str, ...] = PROCESSES

    @classmethod
    def of(cls, traces: TraceSet) -> Segments:
        """The segments of a set with a local clock that records network, charging, screen, locked and battery.

        An unknown network counts as none: recorders write it when there is none. Whether a phone would use
        cellular data is unknown while it is on wifi.
        """
        clock.require_local(traces.is_local)
        levels = {
            name: compile_channel(traces, name) for name in ("network", "charging", "screen", "locked", "battery")
        }
        phone, at_ms = cuts(traces, levels.values())
        value = {name: level.at(phone, at_ms).astype(np.float64) for name, level in levels.items()}
        continues = np.append(phone[1:] == phone[:-1], False)
        end_ms = np.where(continues, np.append(at_ms[1:], 0), traces.period_ms[phone])
        is_wifi = value["network"] == NETWORK_CODE["wifi"]
        processes = (
            _on_off(value["charging"] == 1, np.isnan(value["charging"])),
            _on_off(is_wifi, np.zeros(len(phone), dtype=bool)),
            _on_off(value["network"] >= NETWORK_CODE["2g"], is_wifi),
            _on_off(value["screen"] == 1, np.isnan(value["screen"])),
        )
        band = np.clip(np.searchsorted(LEVEL_EDGES, value["battery"]) - 1, 0, N_BANDS - 1)
        return cls(
            n=traces.n,
            phone=phone,
            seconds=(end_ms - at_ms) / 1000,
            hour=(traces.start_ms[phone] + at_ms) // _HOUR_MS % clock.HOURS_OF_DAY,
            process=np.stack(processes, axis=1),
            locked=value["locked"],
            band=np.where(np.isnan(value["battery"]), N_BANDS, band),
            continues=continues,
        )

    @classmethod
    def of_channel(cls, traces: TraceSet, channel: str) -> Segments:
        """The segments of one on-off channel alone; with a relative clock all hours are the first."""
        levels = compile_channel(traces, channel)
        phone, at_ms = cuts(traces, [levels])
        value = levels.at(phone, at_ms).astype(np.float64)
        continues = np.append(phone[1:] == phone[:-1], False)
        end_ms = np.where(continues, np.append(at_ms[1:], 0), traces.period_ms[phone])
        hour = (traces.start_ms[phone] + at_ms) // _HOUR_MS % clock.HOURS_OF_DAY
        return cls(
            n=traces.n,
            phone=phone,
            seconds=(end_ms - at_ms) / 1000,
            hour=np.where(traces.is_local[phone], hour, 0),
            process=_on_off(value == 1, np.isnan(value))[:, None],
            locked=np.full(len(phone), np.nan),
            band=np.full(len(phone), N_BANDS),
            continues=continues,
            names=(channel,),
        )

    def starts(self, process: int) -> BoolArray:
        """Whether a stay of the process, known or not, begins with the segment."""
        value = self.process[:, process]
        return np.append(True, ~self.continues[:-1] | (value[1:] != value[:-1]))


def _on_off(is_on: BoolArray, is_unknown: BoolArray) -> IntArray:
    return np.where(is_unknown, UNKNOWN, is_on.astype(np.int64))


def cuts(traces: TraceSet, levels: Iterable[Levels]) -> tuple[IntArray, IntArray]:
    """Phone and instant of every change of any channel and of every full hour, sorted, without repeats."""
    n_hours = traces.period_ms // _HOUR_MS
    hour_phone = np.repeat(np.arange(traces.n), n_hours)
    hour = np.arange(len(hour_phone)) - np.repeat(np.cumsum(n_hours) - n_hours, n_hours)
    hour_ms = hour * _HOUR_MS + (-traces.start_ms % _HOUR_MS)[hour_phone]
    phones, instants = zip((hour_phone, hour_ms), *((level.device, level.at_ms) for level in levels), strict=True)
    span = int(traces.period_ms.max()) + 1
    key = np.unique(np.concatenate(phones) * span + np.concatenate(instants))
    return key // span, key % span
