"""Put trace sets together: the devices of all, each with what is known about its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.errors import InputError
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.assemble import joined
from fedsim.units import DAY_MS


def merge(sets: Sequence[TraceSet]) -> TraceSet:
    """One set with the devices of all sets, in their order; clocks may differ from device to device.

    Dates are kept if every set with local clocks says when its first midnight was, else only the hours of day are.
    Device classes are drawn in proportion to the devices of the set they come from. Identifiers are kept as they
    are, so two sets may use the same one; ``sources`` in the provenance says whose rows are whose.
    """
    if len(sets) < 2:
        raise InputError("merging needs at least two trace sets", value=len(sets))
    first_midnight = _first_midnight(sets)
    dated = sets if first_midnight is None else [_on_calendar(traces, first_midnight) for traces in sets]
    provenance = _provenance(sets) | ({} if first_midnight is None else {"first_midnight": first_midnight.isoformat()})
    return replace(joined(dated), provenance=provenance, hardware=_hardware(sets))


def _first_midnight(sets: Sequence[TraceSet]) -> date | None:
    """The earliest first midnight; None if there is no local clock, or one without a date."""
    local = [traces.provenance.get("first_midnight") for traces in sets if traces.is_local.any()]
    dates = [date.fromisoformat(text) for text in local if text is not None]
    return min(dates) if dates and len(dates) == len(local) else None


def _on_calendar(traces: TraceSet, first_midnight: date) -> TraceSet:
    """Local starts counted from a midnight that all sets share."""
    if not traces.is_local.any():
        return traces
    days = (date.fromisoformat(traces.provenance["first_midnight"]) - first_midnight).days
    return replace(traces, start_ms=traces.start_ms + np.where(traces.is_local, days * DAY_MS, 0))


def _provenance(sets: Sequence[TraceSet]) -> dict[str, Any]:
    bounds = np.cumsum([0, *(traces.n for traces in sets)]).tolist()
    said = [traces.provenance for traces in sets]
    return {
        "source": "; ".join(_distinct(said, "source")),
        "licence": "; ".join(_distinct(said, "licence")),
        "importer": "merge",
        "files": [file for one in said for file in one.get("files", [])],
        "transforms": [f"merged {len(sets)} sets of {', '.join(str(traces.n) for traces in sets)} devices"],
        "sources": [
            {"first_device": first, "n_devices": stop - first, "provenance": dict(one)}
            for first, stop, one in zip(bounds[:-1], bounds[1:], said, strict=True)
        ],
    }


def _distinct(said: Sequence[Any], name: str) -> list[str]:
    return list(dict.fromkeys(str(one.get(name, "unknown")) for one in said))


def _hardware(sets: Sequence[TraceSet]) -> pa.Table | None:
    """Device classes of all sets that have any, those of one set weighing as much as its devices."""
    tables = []
    for traces in sets:
        if traces.hardware is not None:
            table = HARDWARE.check(traces.hardware, where="hardware")
            weight = table.column("weight").to_numpy()
            scaled = pa.array(weight * (traces.n / weight.sum()))
            tables.append(table.set_column(table.column_names.index("weight"), "weight", scaled))
    return pa.concat_tables(tables) if tables else None
