"""What protocols have in common: in a run, a coordinator is a state machine that drives a job."""

from __future__ import annotations

from typing import Protocol

from fedsim.server.clock import Decides
from fedsim.server.job import Job


class Coordinator(Protocol):
    """A protocol of training: when devices are assigned and when updates are aggregated. It holds configuration."""

    name: str
    max_staleness: int

    def start(self, job: Job) -> Decides:
        """The coordinator at the start of a run of the job; it is called at instant 0 first (see ``server.clock``)."""
        ...
