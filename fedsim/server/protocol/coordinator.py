"""What protocols have in common: in a run, a coordinator is a SimPy process that drives a job."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import simpy

from fedsim.server.job import Job

Process = Generator[simpy.Event, Any, None]


def wait(env: simpy.Environment, until: float) -> simpy.Event:
    """Let the clock run to an instant; it may miss it by one rounding, so coordinators keep their own ``now``."""
    return env.timeout(max(until - env.now, 0.0))


class Running(Protocol):
    """A coordinator in a run: what it waits for, and who is under way."""

    def run(self, env: simpy.Environment) -> Process:
        """Drive the job until its stop condition is met."""
        ...

    def in_flight(self, now: float) -> int:
        """Devices in a session at ``now``."""
        ...

    def n_waiting(self, now: float) -> int:
        """Reports that wait for an aggregator worker at ``now``."""
        ...


class Coordinator(Protocol):
    """A protocol of training: when devices are assigned and when updates are aggregated. It holds configuration."""

    name: str
    max_staleness: int

    def start(self, job: Job) -> Running:
        """The coordinator at the start of a run of the job."""
        ...
