"""The rules of the canonical trace format beyond its tables' schemas; the first broken one is an ``InputError``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.errors import InputError
from fedsim.files import json_text
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.units import DAY_MS, BoolArray

if TYPE_CHECKING:
    from fedsim.traces.canonical import Events, TraceSet

MAX_START_MS = 36_525 * DAY_MS  # a century: no two recordings of one set are farther apart
MAX_WINDOW_MS = 7_305 * DAY_MS  # 20 years: no recording of a phone lasts longer
MAX_DEVICE_DAYS = 10**9  # what some figures take memory for
_MAXIMUM = {"battery": 100.0, "network": float(len(NETWORKS) - 1)}  # every other channel is 0 or 1
_POSITIVE_FACTS = ("ram_gb", "os_version")
_POSITIVE_HARDWARE = ("inference_ms_per_sample", "bytes_per_s", "ram_gb")


def validate(traces: TraceSet, *, where: Path | str) -> None:
    """Check devices and events; ``where`` names the source."""
    validate_devices(traces, where=where)
    validate_events(traces, where=where)


def validate_devices(traces: TraceSet, *, where: Path | str) -> None:
    """Clocks, periods and facts of the devices, and that there is one at all."""
    if traces.n == 0:
        raise InputError("a trace set needs at least one device", where=where)
    _refuse(traces.period_ms <= 0, "period_ms must be positive at device", traces.period_ms, where)
    _refuse(traces.period_ms > MAX_WINDOW_MS, "period_ms is over 20 years at device", traces.period_ms, where)
    _refuse(traces.start_ms < 0, "start_ms must not be negative at device", traces.start_ms, where)
    _refuse(traces.start_ms > MAX_START_MS, "start_ms is over 100 years at device", traces.start_ms, where)
    n_days = int(traces.period_days.sum())
    if n_days > MAX_DEVICE_DAYS:
        raise InputError("too many days of all devices", value=n_days, where=where, allowed=f"{MAX_DEVICE_DAYS:,}")
    _refuse(
        traces.is_local & (traces.period_ms % DAY_MS != 0),
        "period_ms of a local clock must be whole days at device",
        traces.period_ms,
        where,
    )
    for name in _POSITIVE_FACTS:
        _refuse(_is_not_positive(traces.facts[name]), f"{name} must be positive at device", traces.facts[name], where)


def validate_events(traces: TraceSet, *, where: Path | str) -> None:
    """Order, instants, channels and values of the events."""
    events = traces.events
    device = traces.device_of_event()
    _refuse(
        (events.at_ms < 0) | (events.at_ms > traces.period_ms[device]),
        "at_ms outside 0 … period_ms at event",
        events.at_ms,
        where,
    )
    backwards = (np.diff(events.at_ms) < 0) & (np.diff(device) == 0)
    _refuse(np.concatenate([[False], backwards]), "at_ms goes backwards at event", events.at_ms, where)
    _refuse((events.channel < 0) | (events.channel >= len(CHANNELS)), "unknown channel at event", events.channel, where)
    _check_values(events, where)


def _check_values(events: Events, where: Path | str) -> None:
    highest = np.array([_MAXIMUM.get(name, 1.0) for name in CHANNELS], dtype=np.float32)[events.channel]
    is_level = events.channel == CHANNELS.index("battery")
    with np.errstate(invalid="ignore"):
        is_bad = (events.value < 0) | (events.value > highest) | (~is_level & (events.value % 1 != 0))
    _refuse(is_bad & ~np.isnan(events.value), "value outside its channel's range at event", events.value, where)


def validate_hardware(hardware: pa.Table, *, where: Path | str) -> None:
    """Weights that can be drawn from, and measurements above zero where they are known."""
    weight = hardware.column("weight").to_numpy()
    _refuse(~(np.isfinite(weight) & (weight >= 0)), "weight must not be negative at row", weight, where)
    if not weight.sum() > 0:
        raise InputError("no device class has a weight above zero", where=where)
    for name in _POSITIVE_HARDWARE:
        values = hardware.column(name).to_numpy()  # null becomes NaN
        _refuse(_is_not_positive(values), f"{name} must be positive at row", values, where)


def validate_provenance(provenance: Any, *, where: Path | str) -> None:
    """An object of plain JSON; the fields that fedsim reads are of their kind, if they are there.

    ``source``, ``licence`` and ``importer`` are texts, ``transforms`` a list of texts, ``first_midnight`` a date and
    ``files`` a list of names and hashes.
    """
    if not isinstance(provenance, dict):
        raise InputError("provenance must be an object", value=type(provenance).__name__, where=where)
    json_text(provenance, where=where)
    for name in ("source", "licence", "importer"):
        if not isinstance(provenance.get(name, ""), str):
            raise InputError(f"{name!r} must be a text", value=provenance[name], where=where)
    files = provenance.get("files", [])
    if not isinstance(files, list) or not all(map(_is_file, files)):
        raise InputError("'files' must be a list", value=files, where=where, allowed='{"name": …, "sha256": …} of each')
    transforms = provenance.get("transforms", [])
    if not isinstance(transforms, list) or not all(isinstance(text, str) for text in transforms):
        raise InputError("'transforms' must be a list of texts", value=transforms, where=where)
    try:
        date.fromisoformat(provenance.get("first_midnight", "1970-01-01"))
    except (TypeError, ValueError) as error:
        value = provenance["first_midnight"]
        raise InputError("'first_midnight' must be a date", value=value, where=where, allowed="YYYY-MM-DD") from error


def _is_file(said: Any) -> bool:
    return isinstance(said, dict) and all(isinstance(said.get(name), str) for name in ("name", "sha256"))


def _is_not_positive(values: npt.NDArray[Any]) -> BoolArray:
    """Known (not NaN) and zero, negative or infinite."""
    is_bad: BoolArray = ~np.isnan(values) & ~((values > 0) & (values < np.inf))
    return is_bad


def _refuse(is_bad: BoolArray, what: str, values: npt.NDArray[Any], where: Path | str) -> None:
    bad = np.flatnonzero(is_bad)
    if bad.size:
        raise InputError(f"{what} {bad[0]}", value=values[bad[0]].item(), where=where)
