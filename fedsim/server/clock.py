"""The loop of a run. SimPy keeps the clock in whole microseconds; here alone they meet the seconds of the tables.

What happens at one instant, in this order:

1. Sessions that end then have ended; reports that arrive then have arrived (by end, then by session number).
2. Reports ingested then take effect, and steps happen (by ingestion, then by arrival, then by session number).
3. Rounds close: a report at exactly the deadline counts, a device that asks to upload at exactly the closing
   instant is told that it is not needed.
4. Devices are assigned, from the newest version.
5. At the end of the run's time everything up to and including that instant happens, and nothing is assigned.

Jobs on one clock take their turns by ``(time, rank)``: a job does all of this before the next one does. The order in
which events were put on the clock decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Protocol

import simpy
from simpy.events import EventPriority

from fedsim.units import US_PER_S, to_us

Process = Generator[simpy.Event, Any, None]


class Decides(Protocol):
    """A state machine that is called when its time has come."""

    def decide(self, now: float) -> float:
        """Do what is due at ``now``; the instant of the next call (inf: it is over)."""
        ...


class Instant(simpy.Event):
    """An instant on the clock, in microseconds; of equal ones the lower rank comes first."""

    def __init__(self, env: simpy.Environment, at_us: int, rank: int) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority=EventPriority(rank), delay=at_us - env.now)


def play(env: simpy.Environment, running: Decides, *, rank: int) -> Process:
    """The one process of a job: it waits for the instant its state machine named, and lets it decide."""
    at = 0.0
    while math.isfinite(at):
        at_us = int(to_us(at))
        yield Instant(env, at_us, rank)
        at = running.decide(at_us / US_PER_S)
