"""Everything a report counts about sessions, in one pass over batches of rows and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.results.binning import Grid, log_histogram, padded_sum, spread, weighted_counts
from fedsim.schema import NETWORKS, OUTCOMES
from fedsim.units import BoolArray, FloatArray, IntArray

Column = npt.NDArray[Any]

# fmt: off
COLUMNS = (
    "base_trace", "participation", "assigned_at", "download_end_at", "train_end_at", "upload_end_at", "end_at",
    "outcome", "staleness", "compute_s", "download_bytes", "upload_bytes", "download_j", "compute_j", "upload_j",
    "network", "battery_start_percent", "battery_used_percent",
)
# fmt: on
PHASES = ("download", "training", "upload", "waiting")
MILLIPERCENT = 1000.0  # a log histogram begins at 0.001: of battery used, that is a millionth of a percent
AGGREGATED = OUTCOMES.index("AGGREGATED")
STALE = OUTCOMES.index("STALE")


@dataclass(frozen=True)
class SessionTotals:
    """Sums over sessions; the first axis of the per-outcome arrays is the index into ``OUTCOMES``.

    A session's seconds run from assignment to its end. They are the sum of four phases: download
    (with the wait for the connection), training, upload, and waiting for the server after the
    upload; the phase that a session ended in is booked as far as it came.
    """

    n: IntArray  # [outcome] sessions
    download_bytes: IntArray  # [outcome]
    upload_bytes: IntArray  # [outcome]
    compute_s: FloatArray  # [outcome] seconds of local training done
    phase_j: FloatArray  # [phase, outcome] joules of download, training and upload
    n_by_network: IntArray  # [network] sessions by the network they began on
    bytes_by_network: FloatArray  # [network] both ways
    joules_by_network: FloatArray  # [network]
    battery_start: IntArray  # [whole percent] sessions by the level of their phone at assignment, if known
    battery_used: IntArray  # [log bin] thousandths of a percent of a full battery, if known
    phase_s: FloatArray  # [phase, outcome] device-seconds
    n_reached: IntArray  # [phase] sessions that entered the phase
    ended: IntArray  # [outcome, bin] sessions by the bin of their end
    in_flight_s: FloatArray  # [bin] device-seconds in a session
    reports_by_bin: IntArray  # [bin] uploads that ended
    download_by_bin: FloatArray  # [bin] bytes, spread evenly over each session's download
    upload_by_bin: FloatArray  # [bin] bytes, spread evenly over each session's upload
    session_histogram: IntArray  # [log bin] seconds of whole sessions
    phase_histogram: IntArray  # [phase, log bin] seconds of sessions that completed the phase
    nth_session: IntArray  # [k] rows that are their device's session number k
    base_trace: IntArray  # [base trace] sessions
    staleness: IntArray  # [is stale, staleness] aggregated (0) and refused (1) updates
    # Of sessions ended after the previous instant:
    ended_device_s: FloatArray  # [instant] device-seconds
    ended_bytes: FloatArray  # [instant] bytes both ways
    ended_j: FloatArray  # [instant] joules

    @property
    def device_s(self) -> FloatArray:
        """Device-seconds per outcome."""
        total: FloatArray = self.phase_s.sum(axis=0)
        return total

    @property
    def joules(self) -> FloatArray:
        """Joules of training and radio per outcome."""
        total: FloatArray = self.phase_j.sum(axis=0)
        return total

    def __add__(self, other: SessionTotals) -> SessionTotals:
        """The totals of both sets of sessions; series of different length are padded."""
        return SessionTotals(*(padded_sum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


def total_sessions(batches: Iterable[pa.Table], grid: Grid, instants: FloatArray) -> SessionTotals:
    """Totals of all batches.

    ``instants`` are sorted; ``ended_device_s[i]`` covers sessions that ended at or before instant i
    and after instant i-1. Series over the grid leave out what happens after its horizon.
    """
    empty = pa.table({name: pa.array([], pa.float64()) for name in COLUMNS})
    return reduce(SessionTotals.__add__, (_total(b, grid, instants) for b in batches), _total(empty, grid, instants))


def _total(batch: pa.Table, grid: Grid, instants: FloatArray) -> SessionTotals:
    column = {name: batch.column(name).to_numpy() for name in COLUMNS}
    outcome = column["outcome"].astype(np.int64)
    end = column["end_at"]
    stops, is_completed = _phase_stops(column)
    phase_s = np.diff(stops, axis=0)
    device_s = end - column["assigned_at"]
    phases_j = [column[name] for name in ("download_j", "compute_j", "upload_j")]
    network = column["network"].astype(np.int64)
    n_bytes = column["download_bytes"] + column["upload_bytes"]
    joules = sum(phases_j, start=np.zeros(len(end)))

    def by_outcome(values: Column) -> FloatArray:
        return weighted_counts(outcome, values, len(OUTCOMES))

    return SessionTotals(
        n=_counts(outcome, len(OUTCOMES)),
        # float64 adds whole numbers exactly up to 9 PB a batch
        download_bytes=by_outcome(column["download_bytes"]).astype(np.int64),
        upload_bytes=by_outcome(column["upload_bytes"]).astype(np.int64),
        compute_s=by_outcome(column["compute_s"]),
        phase_j=np.stack([by_outcome(joules) for joules in phases_j]),
        n_by_network=_counts(network, len(NETWORKS)),
        bytes_by_network=weighted_counts(network, n_bytes, len(NETWORKS)),
        joules_by_network=weighted_counts(network, joules, len(NETWORKS)),
        battery_start=_counts(_known(column["battery_start_percent"]), 101),
        battery_used=log_histogram(MILLIPERCENT * _known(column["battery_used_percent"])),
        phase_s=np.stack([by_outcome(seconds) for seconds in phase_s]),
        n_reached=np.concatenate([[len(end)], is_completed[:-1].sum(axis=1)]),
        ended=_ended(grid, outcome, end),
        in_flight_s=spread(grid, column["assigned_at"], end, device_s),
        reports_by_bin=_reports(grid, _known(column["upload_end_at"])),
        download_by_bin=spread(grid, stops[0], stops[1], column["download_bytes"]),
        upload_by_bin=spread(grid, stops[2], stops[3], column["upload_bytes"]),
        session_histogram=log_histogram(device_s),
        phase_histogram=np.stack([log_histogram(s[done]) for s, done in zip(phase_s, is_completed, strict=True)]),
        nth_session=_counts(column["participation"], 0),
        base_trace=_counts(column["base_trace"], 0),
        staleness=_staleness(outcome, column["staleness"]),
        ended_device_s=_sum_until(end, device_s, instants),
        ended_bytes=_sum_until(end, n_bytes, instants),
        ended_j=_sum_until(end, joules, instants),
    )


def _phase_stops(column: dict[str, Column]) -> tuple[FloatArray, BoolArray]:
    """Instants between phases ``float64[5, n]``, cut at the session's end; which phases were completed ``[4, n]``."""
    end = column["end_at"]
    stamps = np.stack([column[name] for name in ("download_end_at", "train_end_at", "upload_end_at")])
    stops: FloatArray = np.concatenate([column["assigned_at"][None], np.fmin(stamps, end), end[None]])
    is_reached = ~np.isnan(stamps)
    # Waiting for the server begins with the end of the upload and always ends with the session.
    return stops, np.concatenate([is_reached, is_reached[-1:]])


def _reports(grid: Grid, arrived_at: FloatArray) -> IntArray:
    return _counts(grid.index(arrived_at[arrived_at <= grid.horizon_s]), grid.n_bins)


def _ended(grid: Grid, outcome: IntArray, end: FloatArray) -> IntArray:
    """Sessions by outcome and bin of their end, those that outlive the run left out."""
    is_within = end <= grid.horizon_s
    cells = outcome[is_within] * grid.n_bins + grid.index(end[is_within])
    return _counts(cells, len(OUTCOMES) * grid.n_bins).reshape(len(OUTCOMES), -1)


def _counts(values: Column, minlength: int) -> IntArray:
    return np.bincount(values.astype(np.int64), minlength=minlength)


def _known(values: Column) -> FloatArray:
    """The values that are not null."""
    values = values.astype(np.float64)
    return values[~np.isnan(values)]


def _staleness(outcome: IntArray, staleness: FloatArray) -> IntArray:
    """Counts ``[2, staleness]`` of aggregated and of refused updates; null staleness is skipped."""
    known = ~np.isnan(staleness)
    rows = [_counts(staleness[known & (outcome == kind)], 1) for kind in (AGGREGATED, STALE)]
    counts = np.zeros((2, max(map(len, rows))), dtype=np.int64)
    for total, row in zip(counts, rows, strict=True):
        total[: len(row)] = row
    return counts


def _sum_until(end: FloatArray, spent: Column, instants: FloatArray) -> FloatArray:
    """What the sessions spent that ended between each instant and the one before it."""
    bins = np.searchsorted(instants, end, side="left")
    return weighted_counts(bins, spent, len(instants) + 1)[: len(instants)]
