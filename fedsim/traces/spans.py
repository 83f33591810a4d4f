"""Spans of availability (device, start, end) as canonical traces over one window of whole days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.traces.canonical import CHANNEL_CODE, Events, TraceSet
from fedsim.traces.clock import date_of
from fedsim.units import DAY_MS, IntArray


@dataclass(frozen=True)
class Window:
    """The days that the traces cover, sorted, counted from instant 0; days that are left out close up."""

    days: IntArray
    is_local: bool

    @classmethod
    def of(cls, first_ms: int, last_ms: int, *, is_local: bool) -> Window:
        """All days from that of ``first_ms`` to that of ``last_ms``; a relative clock starts at its own 0."""
        first_day = first_ms // DAY_MS if is_local else 0
        return cls(np.arange(first_day, max((last_ms - 1) // DAY_MS, first_day) + 1), is_local)

    @property
    def first_ms(self) -> int:
        """The instant at which it opens."""
        return int(self.days[0]) * DAY_MS

    @property
    def period_ms(self) -> int:
        """Length of the window."""
        return len(self.days) * DAY_MS

    def at_ms(self, instant_ms: IntArray) -> IntArray:
        """Where instants fall in the window."""
        return np.searchsorted(self.days, instant_ms // DAY_MS) * DAY_MS + instant_ms % DAY_MS

    def covered_until_ms(self, instant_ms: IntArray) -> IntArray:
        """The instant at which the unbroken run of days that holds each instant ends."""
        last_of_run = np.append(np.flatnonzero(np.diff(self.days) != 1), len(self.days) - 1)
        day = np.searchsorted(self.days, instant_ms // DAY_MS)
        ends: IntArray = (self.days[last_of_run[np.searchsorted(last_of_run, day)]] + 1) * DAY_MS
        return ends

    def said(self) -> dict[str, Any]:
        """What provenance tells about it."""
        said: dict[str, Any] = {"n_days": len(self.days)}
        if self.is_local:
            said["first_midnight"] = date_of(self.first_ms)
        return said


def device_rows(names: pa.ChunkedArray) -> tuple[npt.NDArray[np.object_], IntArray]:
    """The distinct names of a sorted column, and the row of each value among them."""
    encoded = names.combine_chunks().dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), dtype=object), encoded.indices.to_numpy().astype(np.int64)


def merged(device: IntArray, start_ms: IntArray, end_ms: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Spans of each device with those that overlap made one; sorted by device and start.

    Spans that touch stay two, and spans without length stay where they are: closing gaps is a step of its own.
    """
    if not len(device):
        return device, start_ms, end_ms
    reach = int(end_ms.max()) + 1
    until = np.maximum.accumulate(device * reach + end_ms) - device * reach  # the latest end so far, of this device
    is_new = np.append(True, (np.diff(device) != 0) | (start_ms[1:] >= until[:-1]))
    first = np.flatnonzero(is_new)
    return device[first], start_ms[first], until[np.append(first[1:], len(device)) - 1]


def availability(offsets: IntArray, start_ms: IntArray, end_ms: IntArray) -> tuple[IntArray, Events]:
    """Offsets and events of the channel ``available`` for spans in CSR order: not available at 0, then span by span.

    Outside its spans a device is *not available*, so every trace opens with that: nothing is unknown.
    """
    n_spans = np.diff(offsets)
    device = np.repeat(np.arange(len(n_spans)), n_spans)
    opening = 2 * offsets + np.arange(len(offsets))
    begins = 2 * np.arange(len(device)) + device + 1
    at_ms = np.zeros(opening[-1], dtype=np.int64)
    value = np.zeros(opening[-1], dtype=np.float32)
    at_ms[begins], at_ms[begins + 1], value[begins] = start_ms, end_ms, 1
    channel = np.full(len(at_ms), CHANNEL_CODE["available"], dtype=np.int8)
    return opening, Events(at_ms, channel, value, np.zeros(len(at_ms), dtype=bool))


def unknown_facts(n: int) -> dict[str, npt.NDArray[Any]]:
    """Fact columns of devices of which nothing is known."""
    unknown = np.full(n, np.nan, dtype=np.float32)
    return {"model": np.full(n, None, dtype=object), "ram_gb": unknown, "os_version": unknown}


def traces_of_spans(
    names: npt.NDArray[np.object_],
    device: IntArray,
    start_ms: IntArray,
    end_ms: IntArray,
    *,
    window: Window,
    counts: dict[str, int],
) -> TraceSet:
    """Traces of disjoint spans, given in positions of the window and sorted by device and start."""
    offsets, events = availability(np.searchsorted(device, np.arange(len(names) + 1)), start_ms, end_ms)
    return TraceSet(
        device_id=names,
        start_ms=np.zeros(len(names), dtype=np.int64),
        period_ms=np.full(len(names), window.period_ms, dtype=np.int64),
        is_local=np.full(len(names), window.is_local),
        facts=unknown_facts(len(names)),
        offsets=offsets,
        events=events,
        provenance={"counts": counts},
    )
