"""Trace sets written by hand, a row per change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.traces.canonical import CHANNEL_CODE, FACTS, NETWORK_CODE, Events, TraceSet
from fedsim.traces.validation import validate


def events_of(rows: Sequence[tuple[float, str, object]]) -> Events:
    """Events from ``(seconds, channel, value)`` rows; for hand-written traces and tests."""
    at_s, channels, values = zip(*rows, strict=True) if rows else ((), (), ())
    return Events(
        at_ms=np.rint(np.asarray(at_s, dtype=np.float64) * 1000).astype(np.int64),
        channel=np.array([CHANNEL_CODE[c] for c in channels], dtype=np.int8),
        value=np.array([_number(v) for v in values], dtype=np.float32),
        is_sentinel=np.zeros(len(rows), dtype=bool),
    )


def _number(value: object) -> float:
    if value is None:
        return float("nan")
    return float(NETWORK_CODE[value]) if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def traces_of(
    logs: Sequence[Events],
    *,
    period_s: float | Sequence[float],
    start_s: float | Sequence[float] = 0.0,
    is_local: bool = True,
    facts: Mapping[str, Sequence[Any]] | None = None,
) -> TraceSet:
    """A trace set from one event log per device; for hand-written traces and generators."""
    n = len(logs)
    counts = np.array([len(log) for log in logs], dtype=np.int64)
    columns = {
        name: np.concatenate([getattr(log, name) for log in logs])
        for name in ("at_ms", "channel", "value", "is_sentinel")
    }
    traces = TraceSet(
        device_id=np.array([str(i) for i in range(n)], dtype=object),
        start_ms=np.broadcast_to(np.rint(np.asarray(start_s) * 1000).astype(np.int64), n).copy(),
        period_ms=np.broadcast_to(np.rint(np.asarray(period_s) * 1000).astype(np.int64), n).copy(),
        is_local=np.full(n, is_local),
        facts=_fact_columns(facts or {}, n),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        events=Events(**columns),
    )
    validate(traces, where="hand-written traces")
    return traces


def _fact_columns(facts: Mapping[str, Sequence[Any]], n: int) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in FACTS:
        values = list(facts.get(name, [None] * n))
        dtype = object if name == "model" else np.float32
        columns[name] = np.array(values, dtype=dtype)
    return columns
