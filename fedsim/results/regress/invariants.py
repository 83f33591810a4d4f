"""What holds in every run, whatever was drawn: nothing is lost, nothing is counted twice, time goes forward.

A run in which one of it does not hold is wrong; no statistics are asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.results.run import Run
from fedsim.schema import OUTCOMES
from fedsim.units import J_PER_KWH, FloatArray, IntArray

# fmt: off
_COLUMNS = (
    "session_id", "version", "assigned_at", "download_end_at", "train_end_at", "upload_end_at", "ingest_start_at",
    "ingested_at", "end_at", "outcome", "staleness", "weight", "download_bytes", "assets_bytes", "shipped_bytes",
    "plan_bytes", "upload_bytes", "download_j", "compute_j", "upload_j",
)
# fmt: on
_PHASES = ("assigned_at", "download_end_at", "train_end_at", "upload_end_at", "ingest_start_at", "ingested_at")
_AMOUNTS = ("download_bytes", "upload_bytes", "assets_bytes", "shipped_bytes", "plan_bytes")
_JOULES = ("download_j", "compute_j", "upload_j")
_TINY = 1e-9  # of sums of weights and of instants: what float64 leaves
_ROUNDED = 1e-6  # of sums of energy, which a summary adds up in whole microjoules
Columns = dict[str, npt.NDArray[Any]]


def violations(run: Run) -> list[str]:
    """A line for each thing that does not hold, with its numbers; all rows are read once, in batches."""
    found, totals = list[str](), _Totals(run)
    for batch in run.session_batches(_COLUMNS):
        column = {name: batch.column(name).to_numpy() for name in _COLUMNS}
        found += _of_rows(column, batch, outcomes_without_report(run))
        totals.add(column)
    lines = [*found, *totals.lines(), *_of_steps(run), *_of_evaluations(run)]
    return list(dict.fromkeys(lines))  # once each, whatever the number of batches


def outcomes_without_report(run: Run) -> list[int]:
    """Outcomes of sessions whose upload did not end; where interruptions are ignored, its end may be cut off."""
    names = {"ABORTED", "INTERRUPTED", "FAILED"}
    if run.config.get("device", {}).get("interruption") == "ignore":
        names.remove("INTERRUPTED")
    return [OUTCOMES.index(name) for name in sorted(names)]


def _of_rows(column: Columns, batch: pa.Table, without_report: list[int]) -> Iterator[str]:
    """What holds in each row by itself."""
    for before, after in pairwise(_PHASES):
        is_wrong = column[after] < column[before]
        is_wrong |= np.isnan(column[before]) & ~np.isnan(column[after])
        yield from _said(is_wrong, f"sessions whose {after} is before their {before}")
    for name in _PHASES[:4]:  # a report may be ingested when its device is long free
        yield from _said(column[name] > column["end_at"] + _TINY, f"sessions whose {name} is after their end_at")
    for name in (*_AMOUNTS, *_JOULES):
        yield from _said(column[name] < 0, f"sessions whose {name} is negative")
    parts = column["assets_bytes"] + column["shipped_bytes"] + column["plan_bytes"]
    yield from _said(parts > column["download_bytes"] + 3, "sessions whose parts of the download exceed it")
    outcome = column["outcome"]
    has_reported = ~np.isnan(column["upload_end_at"])
    lost = np.isin(outcome, without_report)
    yield from _said(has_reported & lost, "reports that arrived and were neither aggregated, late, stale nor open")
    counts = np.isin(outcome, [OUTCOMES.index("AGGREGATED"), OUTCOMES.index("STALE"), OUTCOMES.index("LATE")])
    yield from _said(~has_reported & counts, "sessions that were aggregated, late or stale without a report")
    aggregated = outcome == OUTCOMES.index("AGGREGATED")
    weighted = ~batch.column("weight").is_null().to_numpy()
    yield from _said(
        aggregated != weighted, "sessions with a weight that were not aggregated, or without one that were"
    )


def _said(is_wrong: npt.NDArray[Any], what: str) -> Iterator[str]:
    n = int(np.count_nonzero(is_wrong))
    if n:
        yield f"{n:,} {what}"


class _Totals:
    """Sums over all sessions, held against the summary and the steps."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ids: list[IntArray] = []
        self._n = np.zeros(len(OUTCOMES), dtype=np.int64)
        self._bytes, self._joules = np.zeros(2, dtype=np.int64), 0.0
        self._n_timed_out_reports = 0
        n_versions = int(run.summary["n_versions"])
        self._n_by_version, self._weight_by_version = (np.zeros(n_versions + 1) for _ in range(2))
        self._staleness_by_version = np.zeros(n_versions + 1)
        self._stalest, self._freshest, self._n_beyond = 0, 0, 0

    def add(self, column: Columns) -> None:
        outcome = column["outcome"].astype(np.int64)
        self._ids.append(column["session_id"].astype(np.int64))
        self._n += np.bincount(outcome, minlength=len(OUTCOMES))
        self._bytes += [int(column[name].sum()) for name in ("download_bytes", "upload_bytes")]
        self._joules += float(sum(column[name].sum() for name in _JOULES))
        timed_out = outcome == OUTCOMES.index("TIMEOUT")
        self._n_timed_out_reports += int((timed_out & ~np.isnan(column["upload_end_at"])).sum())
        aggregated = outcome == OUTCOMES.index("AGGREGATED")
        staleness = column["staleness"][aggregated].astype(np.int64)
        version = column["version"][aggregated].astype(np.int64) + staleness + 1
        self._stalest = max(self._stalest, int(staleness.max(initial=0)))
        self._freshest = min(self._freshest, int(staleness.min(initial=0)))
        is_known = version < len(self._n_by_version)
        self._n_beyond += int((~is_known).sum())
        version, staleness, n = version[is_known], staleness[is_known], len(self._n_by_version)
        self._n_by_version += np.bincount(version, minlength=n)
        self._staleness_by_version += np.bincount(version, weights=staleness, minlength=n)
        weights = column["weight"][aggregated][is_known].astype(np.float64)
        self._weight_by_version += np.bincount(version, weights=weights, minlength=n)

    def lines(self) -> Iterator[str]:
        yield from self._of_summary()
        yield from self._of_versions()
        yield from self._of_abandoned()
        most = _most_stale(self._run)
        if self._freshest < 0 or self._stalest > most:
            yield f"staleness of aggregated updates from {self._freshest} to {self._stalest}, allowed 0 to {most:g}"

    def _of_summary(self) -> Iterator[str]:
        summary = self._run.summary
        ids = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *self._ids]))
        if len(ids) != summary["n_sessions"] or (ids != np.arange(len(ids))).any():
            yield f"{summary['n_sessions']:,} sessions began and {len(np.unique(ids)):,} of them have a row"
        for name, n in zip(OUTCOMES, self._n.tolist(), strict=True):
            if n != summary["outcomes"].get(name, 0):
                yield f"{n:,} rows of outcome {name}, {summary['outcomes'].get(name, 0):,} in the summary"
        for name, n in zip(("download_bytes", "upload_bytes"), self._bytes.tolist(), strict=True):
            if n != summary.get(name, n):
                yield f"{n:,} {name} in the sessions, {summary[name]:,} in the summary"
        told_j = summary.get("energy_kwh", self._joules / J_PER_KWH) * J_PER_KWH
        if abs(self._joules - told_j) > _ROUNDED * (len(ids) + abs(told_j)):
            yield f"{self._joules:.9g} joules in the sessions, {told_j:.9g} in the summary"

    def _of_versions(self) -> Iterator[str]:
        """Each step aggregated what its sessions say, with weights that add up to one."""
        steps = self._run.step_table.filter(pc.field("is_committed")).sort_by("step")
        version = steps.column("version").to_numpy()
        if len(version) != len(self._n_by_version) - 1 or (version != np.arange(1, len(version) + 1)).any():
            yield f"the committed steps are not the versions 1 to {len(self._n_by_version) - 1:,}"
            return
        n, told = self._n_by_version[1:], steps.column("n_aggregated").to_numpy()
        if self._n_beyond or (n != told).any():
            yield f"steps aggregated {told.sum():,} updates, sessions say {int(n.sum()) + self._n_beyond:,}"
        yield from self._of_weights()
        staleness = np.divide(self._staleness_by_version[1:], n, out=np.zeros(len(n)), where=n > 0)
        told_staleness = np.nan_to_num(steps.column("mean_staleness").to_numpy().astype(np.float64))
        if (np.abs(staleness - told_staleness) > _TINY * (1 + staleness)).any():
            yield "the mean staleness of steps is not that of their sessions"

    def _of_weights(self) -> Iterator[str]:
        if self._run.summary["protocol"] not in ("sync", "buffered"):
            return  # how a protocol of the user's own weights its updates is not known
        weight, n = self._weight_by_version[1:], self._n_by_version[1:]
        may_be_less = self._run.config.get("server", {}).get("divisor") == "buffer_size"
        is_off = (weight > 1 + _TINY) if may_be_less else (np.abs(weight - 1) > _TINY)
        is_off &= n > 0
        if is_off.any():
            low, high = weight[is_off].min(), weight[is_off].max()
            yield f"the weights of {is_off.sum():,} steps add up to {low:.6g} … {high:.6g}, not to 1"

    def _of_abandoned(self) -> Iterator[str]:
        n_abandoned = int(pc.sum(pc.invert(self._run.step_table.column("is_committed"))).as_py() or 0)
        if self._n_timed_out_reports and not n_abandoned:
            yield f"{self._n_timed_out_reports:,} reports timed out though no round was abandoned"


def _most_stale(run: Run) -> float:
    """Bound of the staleness of what is aggregated; a protocol of the user's own may have none."""
    known: float | None = run.config.get("server", {}).get("max_staleness")
    if known is not None:
        return known
    return 0 if run.summary["protocol"] == "sync" else math.inf


def _of_steps(run: Run) -> Iterator[str]:
    """Steps come one after the other."""
    steps = run.step_table.sort_by("step")
    at = [steps.column(name).to_numpy().astype(np.float64) for name in ("opened_at", "started_at", "closed_at")]
    published = steps.column("published_at").to_numpy().astype(np.float64)
    for before, after, name in ((at[0], at[1], "started"), (at[1], at[2], "closed"), (at[2], published, "published")):
        yield from _said(after < before, f"steps that were {name} too early")
    yield from _said(np.diff(at[2]) < 0, "steps that closed before the one before them")
    n_committed = int(pc.sum(steps.column("is_committed")).as_py() or 0)
    if n_committed != run.summary["n_steps"]:
        yield f"{n_committed:,} committed steps, {run.summary['n_steps']:,} in the summary"


def _of_evaluations(run: Run) -> Iterator[str]:
    at: FloatArray = run.eval_table.column("at").to_numpy()
    version: IntArray = run.eval_table.column("version").to_numpy()
    yield from _said(np.diff(version[np.argsort(at, kind="stable")]) < 0, "evaluations of an older version than before")
    yield from _said(version > run.summary["n_versions"], "evaluations of versions that do not exist")
