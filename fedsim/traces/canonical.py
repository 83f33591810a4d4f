"""The canonical trace set in memory: devices, and a change log over the channels of :data:`fedsim.schema.CHANNELS`.

A channel is unknown before its first event and after a null value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.moved import names_of
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.units import DAY_MS, BoolArray, IntArray

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

CHANNEL_CODE = {name: code for code, name in enumerate(CHANNELS)}
NETWORK_CODE = {name: code for code, name in enumerate(NETWORKS)}
FACTS = ("model", "ram_gb", "os_version")

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Events:
    """A change log as columns of equal length, sorted by time inside each device."""

    at_ms: IntArray
    channel: Int8Array
    value: Float32Array  # NaN = becomes unknown
    is_sentinel: BoolArray

    def __len__(self) -> int:
        return len(self.at_ms)


@dataclass(frozen=True)
class TraceSet:
    """Base traces in memory: device columns of length n, events in CSR order.

    ``offsets[i] : offsets[i + 1]`` are device i's events. ``start_ms`` is the trace's first instant
    counted from the set's own first midnight; the trace repeats after ``period_ms``.
    """

    device_id: npt.NDArray[np.object_]
    start_ms: IntArray
    period_ms: IntArray
    is_local: BoolArray  # False: the hour of day of the trace is unknown
    facts: Mapping[str, npt.NDArray[Any]]  # model (object, None unknown), ram_gb, os_version (NaN unknown)
    offsets: IntArray
    events: Events
    provenance: Mapping[str, Any] = field(default_factory=dict)
    hardware: pa.Table | None = None

    @property
    def n(self) -> int:
        """Number of base traces."""
        return len(self.period_ms)

    @property
    def period_days(self) -> IntArray:
        """Whole days in each trace, at least 1."""
        return np.maximum(self.period_ms // DAY_MS, 1)

    def device_of_event(self) -> npt.NDArray[np.int32]:
        """The device row of every event."""
        return np.repeat(np.arange(self.n, dtype=np.int32), np.diff(self.offsets))

    def channels(self) -> tuple[str, ...]:
        """Names of the channels that have any event."""
        present = np.bincount(self.events.channel, minlength=len(CHANNELS)) > 0
        return tuple(name for name, is_present in zip(CHANNELS, present, strict=True) if is_present)
