"""What a number of a configuration may be: ranges, stated in the annotations of the parameters that take them.

``n_workers: Annotated[int, Range(1, 100)]`` says it where the parameter stands; the names below are ranges that many
share. They are held against values that a configuration gives (:mod:`fedsim.config.build`). Bounds are what is
computed without loss: beyond them instants, sizes and powers leave float64 or int64, or a run does not end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included unless open; NaN is in no range."""

    low: float
    high: float
    is_low_open: bool = False
    is_high_open: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range."""
        is_above = self.low < value if self.is_low_open else self.low <= value
        return is_above and (value < self.high if self.is_high_open else value <= self.high)

    def __str__(self) -> str:
        """``0 … 1``, or with an open end ``0 < … ≤ 1``."""
        low, high = f"{self.low:.15g}", f"{self.high:.15g}"
        if not (self.is_low_open or self.is_high_open):
            return f"{low} … {high}"
        return f"{low} {'<' if self.is_low_open else '≤'} … {'<' if self.is_high_open else '≤'} {high}"


MAX_S = 1e9  # 32 years; instants are exact to the microsecond for 71

Count = Annotated[int, Range(1, 10_000_000)]  # of what is kept one by one
Seed = Annotated[int, Range(0, 2**63 - 1)]
DeviceCount = Annotated[int, Range(1, 2**62)]  # of devices or clients that are functions of their number
VersionCount = Annotated[int, Range(0, 2**31 - 1)]
Steps = Annotated[int, Range(1, 2**31 - 1)]
Epochs = Annotated[float, Range(1e-6, 10_000)]
BatchSize = Annotated[int, Range(1, 1_000_000)]
Threads = Annotated[int, Range(1, 1024)]

Positive = Annotated[float, Range(1e-9, 1e21)]
NotNegative = Annotated[float, Range(0, 1e15)]
Rate = Annotated[float, Range(1e-3, 1e15)]  # bytes per second
Bytes = Annotated[float, Range(0, 1e12)]
Watts = Annotated[float, Range(0, 1e6)]
WattHours = Annotated[float, Range(1e-6, 1e6)]
LatencyMs = Annotated[float, Range(0, 1e9)]

DurationS = Annotated[float, Range(0, MAX_S)]
SomeTimeS = Annotated[float, Range(1e-3, MAX_S)]  # longer than nothing
IntervalS = Annotated[float, Range(1e-2, MAX_S)]  # between things that are done again and again
TickS = Annotated[float, Range(1e-6, MAX_S)]  # of a grid that is walked from event to event; at least the clock's
StepS = Annotated[float, Range(0, 1e6)]  # a part of a session that is multiplied by many

Share01 = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, is_low_open=True)]
Percent = Annotated[float, Range(0, 100)]
Sigma = Annotated[float, Range(0, 3)]  # of a logarithm: beyond, the largest of many factors is past all use
LearningRate = Annotated[float, Range(0, 1e30, is_low_open=True)]
Fraction = Annotated[float, Range(0, 1, is_high_open=True)]
