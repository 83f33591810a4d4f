"""What went on at once, by a walk over all instants at which anything changes."""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.alone.phone import US
from tests.alone.server import Server, Session
from tests.alone.trip import DOWNLOAD, TRAINING, UPLOAD, us_of

Change = tuple[float, float]  # instant, by how much


@dataclass(frozen=True)
class Curve:
    """A quantity that jumps: its values between instants in ascending order."""

    jumps: list[Change]

    @classmethod
    def of(cls, spans: Iterable[tuple[float, float, float]]) -> Curve:
        """The sum of spans (from, to, how much)."""
        by: dict[float, float] = defaultdict(float)
        for start, end, much in spans:
            if start < end:
                by[start] += much
                by[end] -= much
        return cls(sorted(by.items()))

    def over(self, start: float, end: float) -> tuple[float, float]:
        """Mean and maximum over a stretch that does not hold its end."""
        first, stop = (bisect(self.jumps, limit, key=lambda jump: jump[0]) for limit in (start, end))
        value = math.fsum(by for _, by in self.jumps[:first])
        at, area, largest = start, 0.0, value
        for instant, by in self.jumps[first:stop]:
            area += value * (instant - at)
            value, at = value + by, instant
            largest = max(largest, value) if instant < end else largest
        return (area + value * (end - at)) / (end - start), largest


def gauges_of(server: Server) -> list[dict[str, Any]]:
    """The rows of the table."""
    end, interval = server.ended_at, us_of(server.setup.gauge_interval_s)
    curves = {
        "in_flight": Curve.of((s.trip.at, s.end, 1) for s in server.sessions),
        "free_eligible": Curve.of(_free(server)),
        "waiting": Curve.of((s.arrival[0], min(s.ingest_start, end), 1) for s in _arrived(server)),
        "download_bytes_per_s": Curve.of((leg.start, leg.end, leg.rate) for leg in flow_of(server, DOWNLOAD)),
        "upload_bytes_per_s": Curve.of((leg.start, leg.end, leg.rate) for leg in flow_of(server, UPLOAD)),
    }
    share = Curve.of(_eligible(server))
    rows: list[dict[str, Any]] = []
    start = 0.0
    while start < end:
        until = min(start + interval, end)
        row: dict[str, Any] = {"at": start, "until": until, "eligible_fraction_mean": share.over(start, until)[0]}
        for name, curve in curves.items():
            row[f"{name}_mean"], row[f"{name}_max"] = curve.over(start, until)
        row["version"] = sum(step.published_at is not None and step.closed_at <= start for step in server.steps)
        rows.append(row)
        start += interval
    return rows


def _arrived(server: Server) -> list[Session]:
    """Sessions whose report has come."""
    return [s for s in server.sessions if s.reports and s.outcome != "ABORTED" and s.arrival[0] <= server.ended_at]


def _windows(server: Server, device: int) -> Iterable[tuple[float, float]]:
    """When a device is eligible within the run."""
    phone, at = server.setup.phones[device], 0.0
    while at < server.ended_at:
        until = min(phone.change_after(int(at), lambda state: state.is_eligible), server.ended_at)
        if phone.at(int(at))[0].is_eligible:
            yield at, until
        at = until


def _eligible(server: Server) -> Iterable[tuple[float, float, float]]:
    n = len(server.seats)
    for device in range(n):
        for start, end in _windows(server, device):
            yield start, end, 1 / n


def _free(server: Server) -> Iterable[tuple[float, float, float]]:
    for device in range(len(server.seats)):
        busy = [(s.trip.at, s.end) for s in server.sessions if s.trip.device == device]
        edges = sorted({at for span in busy for at in span})
        for start, end in _windows(server, device):
            stops = [start, *(at for at in edges if start < at < end), end]
            for a, b in pairwise(stops):
                yield a, b, 1 - sum(begin <= a < stop for begin, stop in busy)


@dataclass(frozen=True)
class Leg:
    """A transfer from the start of its phase to its end, or the run's; ``would_end`` if the run went on."""

    start: float
    end: float
    would_end: float
    n_bytes: float

    @property
    def rate(self) -> float:
        """Bytes per second if its whole bytes are spread evenly."""
        return round(self.n_bytes) / (self.would_end - self.start) * US


def flow_of(server: Server, phase: int) -> Iterable[Leg]:
    """All transfers one way; a run that ends within one cuts it off at its rate."""
    for s in server.sessions:
        start = s.trip.at if phase == DOWNLOAD else s.trip.ends[TRAINING]
        end = min(s.trip.ends[phase], s.would_end)
        if start < min(end, server.ended_at):
            n_bytes = s.trip.used(s.would_end).n_bytes[0 if phase == DOWNLOAD else 1]
            yield Leg(start, min(end, server.ended_at), end, n_bytes)
