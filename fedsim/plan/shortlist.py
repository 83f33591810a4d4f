"""Closed forms that foretell a candidate's days from one run, so that few have to be simulated.

They are where to begin, never the answer: none knows that phones become scarce at some hour of the day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.forecast.queueing import allen_cunneen_s, arrivals
from fedsim.results.run import Run
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, FloatArray

_NEVER = [OUTCOMES.index(name) for name in ("INTERRUPTED", "TIMEOUT", "FAILED")]
_COLUMNS = ("assigned_at", "upload_end_at", "end_at", "outcome")


@dataclass(frozen=True)
class Trips:
    """Sessions of one run: when they report, what they take, how reports come in.

    ``report_s`` ascending, and ``share[k]`` of all sessions that have reported within ``report_s[k]`` (``float64[n]``).
    """

    report_s: FloatArray
    share: FloatArray
    mean_s: float
    at: FloatArray
    n_bytes: FloatArray

    def quantile(self, share: float) -> float:
        """Seconds within which this share of sessions reports; inf: so many never do."""
        place = int(np.searchsorted(self.share, share - 1e-12))
        return float(self.report_s[place]) if place < len(self.report_s) else math.inf


def trips_of(run: Run) -> Trips | None:
    """The sessions of a run; None: none reported.

    Kaplan and Meier's estimate: a session that was told to stop would have reported later, one that was lost never.
    """
    parts = [[batch[name].to_numpy() for name in _COLUMNS] for batch in run.session_batches(_COLUMNS)]
    if not parts:
        return None
    assigned, uploaded, end, outcome = (np.concatenate(each) for each in zip(*parts, strict=True))
    has_reported = ~np.isnan(uploaded)
    if not has_reported.any():
        return None
    seconds = np.where(has_reported, uploaded, end) - assigned
    seconds = np.where(~has_reported & np.isin(outcome, _NEVER), np.inf, seconds)
    report_s, share = incidence(seconds, has_reported)
    at, n_bytes = arrivals(run)
    return Trips(report_s, share, float((end - assigned).mean()), at, n_bytes)


def incidence(seconds: FloatArray, is_seen: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """Instants of what was seen, ascending, and the share seen until then; what was not is censored at its seconds."""
    order = np.lexsort((~is_seen, seconds))
    seconds, is_seen = seconds[order], is_seen[order]
    at_risk = len(seconds) - np.arange(len(seconds))
    left = np.cumprod(1.0 - is_seen / at_risk)
    return seconds[is_seen], 1.0 - left[is_seen]


def foretold_days(trips: Trips, config: Mapping[str, Any], n_steps: int) -> float:
    """Days of so many steps of a server; NaN of a protocol without a closed form.

    Rounds: the k-th report of a cohort, by order statistics, and the server's step. Buffered (a full buffer is a step,
    however long it is until it is published), by Little's law:
    concurrency ÷ mean session time are the sessions, of which a share reports. Both with the mean wait at the
    aggregator by Allen and Cunneen.
    """
    server = config["server"]
    wait_s = _wait_s(trips, server.get("aggregator") or {})
    if "report_goal" in server:
        return n_steps * (_round_s(trips, server, wait_s) + float(server["server_step_s"])) / DAY_S
    if "buffer_size" in server and "concurrency" in server:
        reports_per_s = server["concurrency"] / (trips.mean_s + wait_s) * float(trips.share[-1])
        return n_steps * float(server["buffer_size"] / reports_per_s) / DAY_S
    return math.nan


def _round_s(trips: Trips, server: Mapping[str, Any], wait_s: float) -> float:
    cohort = math.ceil(server["report_goal"] * server["over_selection"] - 1e-9)
    full = trips.quantile(server["report_goal"] / cohort) + wait_s
    return min(full, math.inf if server["deadline_s"] is None else float(server["deadline_s"]))


def _wait_s(trips: Trips, aggregator: Mapping[str, Any]) -> float:
    """Mean wait and service of a report; where the load has no rest, the time that all reports take the workers."""
    rate = aggregator.get("bytes_per_s")
    service_s = np.full(len(trips.at), float(aggregator.get("service_s") or 0.0))
    service_s += trips.n_bytes / rate if rate else 0.0
    if not service_s.any():
        return 0.0
    n = int(aggregator.get("n_workers", 1))
    waited = allen_cunneen_s(trips.at, service_s, n)
    return float(service_s.mean()) + (waited if math.isfinite(waited) else float(service_s.sum()) / n)
