"""Trace sets from trace sets: take whole devices, and note in the provenance what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedsim.traces.canonical import FACTS, Events, TraceSet
from fedsim.units import IntArray

_COLUMNS = ("at_ms", "channel", "value", "is_sentinel")


def with_transform(traces: TraceSet, text: str) -> TraceSet:
    """The set with one more sentence in its provenance's list of transforms."""
    done = [*traces.provenance.get("transforms", []), text]
    return replace(traces, provenance={**traces.provenance, "transforms": done})


def with_events(traces: TraceSet, events: Sequence[int] | IntArray, offsets: IntArray) -> TraceSet:
    """The set with only these rows of its events, which belong to the devices as ``offsets`` says."""
    columns = {name: getattr(traces.events, name)[events] for name in _COLUMNS}
    return replace(traces, offsets=offsets, events=Events(**columns))


def take(traces: TraceSet, rows: IntArray) -> TraceSet:
    """Whole devices by their rows, in that order; a row may come more than once."""
    counts = np.diff(traces.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    events = np.arange(offsets[-1]) + np.repeat(traces.offsets[rows] - offsets[:-1], counts)
    taken = replace(
        traces,
        device_id=traces.device_id[rows],
        start_ms=traces.start_ms[rows],
        period_ms=traces.period_ms[rows],
        is_local=traces.is_local[rows],
        facts={name: traces.facts[name][rows] for name in FACTS},
    )
    return with_events(taken, events, offsets)


def joined(sets: Sequence[TraceSet]) -> TraceSet:
    """The devices of all sets, one set after the other; provenance and hardware are left to the caller."""
    firsts = np.cumsum([0, *(len(traces.events) for traces in sets)])
    columns = {name: np.concatenate([getattr(traces.events, name) for traces in sets]) for name in _COLUMNS}
    return TraceSet(
        device_id=np.concatenate([traces.device_id for traces in sets]),
        start_ms=np.concatenate([traces.start_ms for traces in sets]),
        period_ms=np.concatenate([traces.period_ms for traces in sets]),
        is_local=np.concatenate([traces.is_local for traces in sets]),
        facts={name: np.concatenate([traces.facts[name] for traces in sets]) for name in FACTS},
        offsets=np.concatenate(
            [[0], *(traces.offsets[1:] + first for traces, first in zip(sets, firsts, strict=False))]
        ).astype(np.int64),
        events=Events(**columns),
    )
