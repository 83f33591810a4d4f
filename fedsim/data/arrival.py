"""Examples that a client logs as time goes on: a phone trains on what it has by then, as long as it keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np

from fedsim.data.clients import Examples
from fedsim.errors import InputError
from fedsim.ranges import MAX_S, Range
from fedsim.units import DAY_S, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Arrival:
    """What a client may train on at an instant: what it logged up to then.

    The data's time ``starts_at`` is the run's 0, a unit of it ``unit_s`` seconds. Examples older than
    ``retention_days`` are gone (None: never), a client with fewer than ``min_examples`` is not asked, and with
    ``once_only`` it trains only on what it logged since its last session ended, whatever became of that.
    """

    starts_at: float
    unit_s: Annotated[float, Range(1e-9, 1e6)] = 1.0
    retention_days: Annotated[float, Range(1e-3, 1e4)] | None = None
    min_examples: Annotated[int, Range(1, 1_000_000)] = 1
    once_only: bool = False

    def seconds(self, time: FloatArray) -> FloatArray:
        """Instants of the data in seconds of the run."""
        found: FloatArray = (time - self.starts_at) * self.unit_s
        if len(found) and not np.abs(found).max() <= MAX_S:
            value = float(found[np.abs(found).argmax()])
            allowed = f"up to {MAX_S:g} s; see data.arrival.starts_at and unit_s"
            raise InputError("an example arrives at second", value=value, allowed=allowed)
        return found

    def since(self, at: FloatArray, ended_at: FloatArray) -> FloatArray:
        """After which instant examples must have come, for clients at ``at`` whose last session ended then."""
        kept = -np.inf if self.retention_days is None else at - self.retention_days * DAY_S
        return np.broadcast_to(np.maximum(kept, ended_at) if self.once_only else kept, np.shape(at)).astype(np.float64)


@runtime_checkable
class ArrivingClients(Protocol):
    """Client data of which more comes as time goes on; where ``arrival`` is None all is there from the start."""

    arrival: Arrival | None

    def n_between(self, client_ids: IntArray, since: FloatArray, at: FloatArray) -> IntArray:
        """Examples of each client that came after ``since`` and up to ``at``, ``int64[n]``."""

    def fetch_between(self, client_ids: IntArray, since: FloatArray, at: FloatArray) -> Examples:
        """These examples, in the order asked."""


def arriving(data: Any) -> ArrivingClients | None:
    """The data as one whose examples arrive; None if all are there from the start."""
    return data if isinstance(data, ArrivingClients) and data.arrival is not None else None


def first_after(time: FloatArray, low: IntArray, high: IntArray, at: FloatArray) -> IntArray:
    """In each stretch ``low : high`` of ascending times the first place that is later than ``at``, ``int64[n]``."""
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        goes_up: BoolArray = open_ & (time[np.minimum(middle, len(time) - 1)] <= at)
        low = np.where(goes_up, middle + 1, low)
        high = np.where(open_ & ~goes_up, middle, high)
    return low
