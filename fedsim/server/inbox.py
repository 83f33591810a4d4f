"""Reports on their way through the aggregator: from their arrival to their ingestion."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from fedsim.device.session import Sessions, joined
from fedsim.moved import names_of
from fedsim.server.aggregator import Queue
from fedsim.units import FloatArray

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted


class Inbox:
    """The reports of one run that have arrived and are not yet ingested, in order of ingestion.

    ``on_wait`` is told from when until when each report waited for a worker.
    """

    def __init__(self, queue: Queue, upload_bytes: int, on_wait: Callable[[FloatArray, FloatArray], None]) -> None:
        self._queue, self._upload_bytes, self._on_wait = queue, upload_bytes, on_wait
        self._parts: deque[Sessions] = deque()  # each in order, and all of them one after the other

    def arrive(self, rows: Sessions) -> FloatArray:
        """Put reports in the queue, in order of arrival within and across calls; the instants they are ingested."""
        if not len(rows):
            return np.zeros(0)
        starts, done = self._queue.serve(rows["upload_end_at"], self._upload_bytes)
        self._on_wait(rows["upload_end_at"], starts)
        rows["ingest_start_at"], rows["ingested_at"] = starts, done
        is_in_order = (done[1:] >= done[:-1]).all()
        self._insert(rows if is_in_order else rows.take(np.argsort(done, kind="stable")))
        return done

    def _insert(self, rows: Sessions) -> None:
        """Only reports still in service are ingested after a new one, so only the end of the line is sorted again."""
        later: list[Sessions] = []
        while self._parts and self._parts[-1]["ingested_at"][-1] > rows["ingested_at"][0]:
            part = self._parts.pop()
            n = int(np.searchsorted(part["ingested_at"], rows["ingested_at"][0], side="right"))
            later.insert(0, part[n:])
            if n:
                self._parts.append(part[:n])
        if later:
            rows = joined([*later, rows])
            rows = rows.take(np.argsort(rows["ingested_at"], kind="stable"))
        self._parts.append(rows)

    def take(self, until: float) -> Sessions:
        """Reports ingested by ``until``, in order; they leave the inbox."""
        taken: list[Sessions] = []
        while self._parts and self._parts[0]["ingested_at"][0] <= until:
            part = self._parts.popleft()
            n = int(np.searchsorted(part["ingested_at"], until, side="right"))
            taken.append(part[:n])
            if n < len(part):
                self._parts.appendleft(part[n:])
        return joined(taken)

    def put_back(self, rows: Sessions) -> None:
        """Reports that were taken and not used: they come first again."""
        if len(rows):
            self._parts.appendleft(rows)

    def rest(self) -> Sessions:
        """Everything that is still here."""
        return joined(list(self._parts))

    @property
    def next_at(self) -> float:
        """The instant at which the next report is ingested (inf: none is here)."""
        return float(self._parts[0]["ingested_at"][0]) if self._parts else math.inf
