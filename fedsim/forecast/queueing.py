"""How many workers of the aggregator it takes: the measured arrivals, played through a queue again."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from fedsim.errors import InputError
from fedsim.results.run import Run
from fedsim.units import FloatArray

_MOST_WORKERS = 10_000


@dataclass(frozen=True)
class Service:
    """What ingesting one report takes a worker: seconds, and seconds per byte of it."""

    report_s: float
    bytes_per_s: float

    def seconds(self, n_bytes: FloatArray) -> FloatArray:
        """Service times of reports of these sizes, ``float64[n]``."""
        return self.report_s + n_bytes / self.bytes_per_s


@dataclass(frozen=True)
class Workers:
    """So many workers under the measured arrivals: their utilisation, and how long reports wait for one.

    ``formula_s`` is Allen and Cunneen's mean wait of a G/G/c queue: what a textbook says beside the replay.
    """

    n: int
    utilisation: float
    wait_mean_s: float
    wait_p95_s: float
    wait_p99_s: float
    wait_max_s: float
    formula_s: float


def arrivals(run: Run) -> tuple[FloatArray, FloatArray]:
    """Instants and bytes of all reports of a run, ``float64[n]`` each, by instant."""
    at, n_bytes = [np.zeros(0)], [np.zeros(0)]
    for batch in run.session_batches(("upload_end_at", "upload_bytes")):
        instants = batch.column("upload_end_at").to_numpy()
        known = ~np.isnan(instants)
        at.append(instants[known])
        n_bytes.append(batch.column("upload_bytes").to_numpy()[known].astype(np.float64))
    instants = np.concatenate(at)
    order = np.argsort(instants, kind="stable")
    return instants[order], np.concatenate(n_bytes)[order]


def workers_for(at: FloatArray, service_s: FloatArray, *, wait_p99_s: float) -> Workers:
    """The fewest workers with which 99 % of the reports wait no longer than this.

    Raises :class:`InputError` if ten thousand are too few, and without reports.
    """
    if not len(at):
        raise InputError("no report arrived, so no worker is needed")
    low, high = 1, 1
    while waits(at, service_s, high)[1] > wait_p99_s:
        low, high = high + 1, 2 * high
        if high > _MOST_WORKERS:
            raise InputError("so short a wait takes more than 10,000 workers", value=wait_p99_s)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if waits(at, service_s, middle)[1] <= wait_p99_s else (middle + 1, high)
    return replayed(at, service_s, low)


def waits(at: FloatArray, service_s: FloatArray, n: int) -> tuple[FloatArray, float]:
    """Seconds that each report waits for one of ``n`` workers, first come first served, and their 99 % quantile."""
    free = [-math.inf] * n
    waited = np.empty(len(at))
    for place, (arrived_at, seconds) in enumerate(zip(at.tolist(), service_s.tolist(), strict=True)):
        start = max(arrived_at, free[0])
        heapq.heapreplace(free, start + seconds)
        waited[place] = start - arrived_at
    return waited, float(np.quantile(waited, 0.99, method="inverted_cdf")) if len(at) else 0.0


def replayed(at: FloatArray, service_s: FloatArray, n: int) -> Workers:
    """What ``n`` workers do with these arrivals."""
    waited, p99_s = waits(at, service_s, n)
    span_s = max(float(at[-1] - at[0]), float(service_s.sum()) / n)
    return Workers(
        n=n,
        utilisation=float(service_s.sum()) / (n * span_s),
        wait_mean_s=float(waited.mean()),
        wait_p95_s=float(np.quantile(waited, 0.95, method="inverted_cdf")),
        wait_p99_s=p99_s,
        wait_max_s=float(waited.max()),
        formula_s=allen_cunneen_s(at, service_s, n),
    )


def allen_cunneen_s(at: FloatArray, service_s: FloatArray, n: int) -> float:
    """Mean wait of a G/G/c queue by Allen and Cunneen: Erlang's C, scaled by the variation of both laws.

    NaN from fewer than three reports, or without rest (infinite): the load is too high for so many workers.
    """
    gaps = np.diff(at)
    if len(gaps) < 2 or gaps.mean() <= 0:
        return math.nan
    offered = float(service_s.mean() / gaps.mean())
    if offered >= n:
        return math.inf
    variation = (gaps.var() / gaps.mean() ** 2 + service_s.var() / service_s.mean() ** 2) / 2
    return float(erlang_c(n, offered) * service_s.mean() / (n - offered) * variation)


def erlang_c(n: int, offered: float) -> float:
    """Chance that an arrival waits in an M/M/c queue with ``n`` workers and so many Erlangs offered."""
    blocked = 1.0
    for k in range(1, n + 1):  # Erlang's B by its recursion, which stays small
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1 - offered / n * (1 - blocked))
