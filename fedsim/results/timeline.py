"""A run as a Chrome trace: rounds, the aggregator and a sample of phones with their phases, for Perfetto to draw.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (trace events).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.errors import InputError
from fedsim.results.run import Run
from fedsim.schema import NETWORKS, OUTCOMES
from fedsim.targets import whole_file
from fedsim.units import US_PER_S, IntArray

SERVER, PHONES = 1, 2  # processes of the trace
_STEPS, _AGGREGATOR = 1, 2  # threads of the server
_COLUMNS = (
    "session_id", "device_id", "version", "network", "assigned_at", "download_end_at", "train_end_at",
    "upload_end_at", "ingest_start_at", "ingested_at", "end_at", "outcome", "staleness", "download_bytes",
    "upload_bytes",
)  # fmt: skip
_PHASES = (("download", "download_end_at"), ("train", "train_end_at"), ("upload", "upload_end_at"))
Event = dict[str, Any]


def write_timeline(path: Path, run: Run, *, n_devices: int) -> int:
    """Write the trace of a run with a sample of its phones (gzip if the name ends in ``.gz``); how many events it has.

    Raises :class:`InputError` for no phones.
    """
    if n_devices < 1:
        raise InputError("--devices", value=n_devices, allowed="1 and more")
    n = 0
    with whole_file(path) as temporary, _opened(temporary, is_gzip=path.suffix == ".gz") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for event in events(run, n_devices=n_devices):
            file.write((",\n" if n else "") + json.dumps(event))
            n += 1
        file.write("\n]}\n")
    return n


def _opened(path: Path, *, is_gzip: bool) -> Any:
    return gzip.open(path, "wt", encoding="utf-8") if is_gzip else open(path, "w", encoding="utf-8")


def events(run: Run, *, n_devices: int) -> Iterator[Event]:
    """Names first, then steps, counters, and session by session with the phases inside it."""
    chosen = _sample(run, n_devices)
    yield from _names(chosen)
    yield from _steps(run)
    yield from _counters(run)
    for row in _sessions_of(run, chosen):
        yield from _session(row, thread=int(np.searchsorted(chosen, row["device_id"])) + 1)


def _sample(run: Run, n_devices: int) -> IntArray:
    """Phones that had a session, evenly taken from their numbers, ascending."""
    parts = [pc.unique(batch.column("device_id")) for batch in run.session_batches(("device_id",))]
    ids = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(part.to_numpy() for part in parts)]))
    places = np.unique(np.linspace(0, len(ids) - 1, min(n_devices, len(ids))).round().astype(np.int64))
    chosen: IntArray = ids[places] if len(ids) else ids
    return chosen


def _names(chosen: IntArray) -> Iterator[Event]:
    yield _name("process_name", SERVER, 0, "server")
    yield _name("thread_name", SERVER, _STEPS, "steps")
    yield _name("thread_name", SERVER, _AGGREGATOR, "aggregator")
    yield _name("process_name", PHONES, 0, f"phones, a sample of {len(chosen)}")
    for thread, device in enumerate(chosen.tolist(), start=1):
        yield _name("thread_name", PHONES, thread, f"phone {device}")


def _name(kind: str, process: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "ts": 0, "args": {"name": name}}


def _span(name: str, process: int, thread: int, start: float, end: float, args: Event) -> Event:
    at, until = _us(start), _us(end)
    return {"ph": "X", "name": name, "pid": process, "tid": thread, "ts": at, "dur": until - at, "args": args}


def _us(seconds: float) -> int:
    return round(seconds * US_PER_S)


def _steps(run: Run) -> Iterator[Event]:
    """Rounds, or buffers that fill: one after the other, so they share a thread."""
    for row in run.step_table.sort_by("step").to_pylist():
        name = f"version {row['version']}" if row["is_committed"] else "abandoned"
        told = {key: row[key] for key in ("n_assigned", "n_aggregated", "mean_staleness", "train_loss")}
        yield _span(name, SERVER, _STEPS, row["started_at"], row["closed_at"], told)


def _counters(run: Run) -> Iterator[Event]:
    for row in run.gauge_table.to_pylist():
        levels = {"in flight": row["in_flight_mean"], "waiting reports": row["waiting_mean"]}
        for name, value in levels.items():
            yield {"ph": "C", "name": name, "pid": SERVER, "tid": 0, "ts": _us(row["at"]), "args": {"mean": value}}


def _sessions_of(run: Run, chosen: IntArray) -> Iterator[Event]:
    wanted = pa.array(chosen)
    for batch in run.session_batches(_COLUMNS):
        yield from batch.filter(pc.is_in(batch.column("device_id"), wanted)).to_pylist()


def _session(row: Event, *, thread: int) -> Iterator[Event]:
    """The session, and inside it its phases as far as it came; its ingestion at the aggregator, which may overlap."""
    told = {key: row[key] for key in ("session_id", "version", "staleness", "download_bytes", "upload_bytes")}
    outcome = OUTCOMES[row["outcome"]]
    told |= {"outcome": outcome, "network": NETWORKS[row["network"]]}
    yield _span(outcome.lower(), PHONES, thread, row["assigned_at"], row["end_at"], told)
    start = row["assigned_at"]
    for name, end_at in _PHASES:
        end = row["end_at"] if row[end_at] is None else min(row[end_at], row["end_at"])
        if end > start:
            yield _span(name, PHONES, thread, start, end, {})
        if row[end_at] is None:
            break
        start = end
    if row["ingest_start_at"] is not None and row["ingested_at"] is not None:
        for phase, at in (("b", row["ingest_start_at"]), ("e", row["ingested_at"])):
            yield {
                "ph": phase, "cat": "ingest", "id": row["session_id"], "name": "ingest", "pid": SERVER,
                "tid": _AGGREGATOR, "ts": _us(at), "args": {},
            }  # fmt: skip
