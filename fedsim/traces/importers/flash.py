"""FLASH state traces: phones' battery, charger, network, screen and lock logs as one JSON file.

Format: ``{"0": {"guid", "model", "messages"}, …}`` where ``messages`` are lines ``YYYY-MM-DD HH:MM:SS \\tEVENT``.
Source: Yang et al., WWW 2021 (FLASH), ``data/state_traces.json``.

- The clock is the phone's own wall clock without a zone: instants are naive, the host's time zone plays no part.
- Lines without the blank before the TAB were added by the recorder to close a log; they become sentinels.
- ``Unknown`` says "none or not classified", so the network becomes unknown, not ``none``.
- Every log ends with a sentinel whole days after its first line; that is the period.
- ``guid`` repeats the key and is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.errors import InputError, shown
from fedsim.traces.canonical import CHANNEL_CODE, NETWORK_CODE, Events, TraceSet
from fedsim.traces.clock import MAX_MS, MIN_MS, PLAUSIBLE, date_of
from fedsim.traces.folder import TraceWriter
from fedsim.traces.importers.json_entries import json_entries
from fedsim.traces.importers.source import Source, plain, source_file
from fedsim.traces.validation import MAX_WINDOW_MS, validate
from fedsim.units import DAY_MS

_SOURCE = Source(
    "flash", "FLASH state traces (Yang et al., WWW 2021)", "BSD-2-Clause, as stated by the FLASH repository"
)
_TRANSFORMS = (
    "lines without a blank before the TAB marked as sentinels",
    "network event Unknown stored as unknown",
    "period: first line to last sentinel",
)
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)( ?)\t(\S+)", re.ASCII)
_LEVEL = re.compile(r"(\d+\.\d)%", re.ASCII)
_UNKNOWN = float("nan")
_MEANING: Mapping[str, tuple[str, float]] = {
    "screen_on": ("screen", 1.0),
    "screen_off": ("screen", 0.0),
    "screen_lock": ("locked", 1.0),
    "screen_unlock": ("locked", 0.0),
    "battery_charged_on": ("charging", 1.0),
    "battery_charged_off": ("charging", 0.0),
    "Unknown": ("network", _UNKNOWN),
    **{word: ("network", float(NETWORK_CODE[word.lower()])) for word in ("wifi", "2G", "3G", "4G", "5G")},
}
_BATCH = 1000  # phones held as arrays at once
_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)


def import_flash(src: Path, dst: Path) -> None:
    """FLASH state_traces.json: battery, charger, network, screen and lock logs of real phones.

    Raises:
        InputError: naming the file, device, line number and content of the first bad line.
    """
    source_file(src, "FLASH state traces")
    first_ms = min((log.first_ms for log in _logs(src)), default=None)
    if first_ms is None:
        raise InputError("FLASH state traces hold no device", where=src, allowed='{"0": {…}, …}')
    midnight_ms, logs = first_ms // DAY_MS * DAY_MS, _logs(src)
    with TraceWriter(dst) as writer:
        while batch := list(islice(logs, _BATCH)):
            traces = _trace_set(batch, midnight_ms)
            validate(traces, where=src)
            writer.add(traces)
        writer.provenance = _SOURCE.provenance([src], _TRANSFORMS, {"first_midnight": date_of(midnight_ms)})


def _logs(src: Path) -> Iterator[_Log]:
    """One phone after the other."""
    for device, entry in json_entries(src, "FLASH state traces"):
        yield _Log.of(device, entry, f"device {shown(device)} of {src}")


@dataclass(frozen=True)
class _Log:
    """One phone's log; ``first_ms`` counts from 1970 on the phone's own wall clock."""

    device: str
    model: str
    first_ms: int
    period_ms: int
    events: Events

    @classmethod
    def of(cls, device: str, entry: Any, where: str) -> _Log:
        if not isinstance(entry, dict):
            raise InputError("an entry must be an object", where=where, allowed="guid, model, messages")
        plain(device, "device", where)
        lines = _text(entry, "messages", where).rstrip("\n").split("\n")
        rows = [_row(line, f"line {number} of {where}") for number, line in enumerate(lines, start=1)]
        at_s, channels, values, are_sentinels = (np.array(column) for column in zip(*rows, strict=True))
        backwards = np.flatnonzero(np.diff(at_s) < 0)
        if backwards.size:
            number = int(backwards[0]) + 2
            raise InputError("time goes backwards", value=lines[number - 1], where=f"line {number} of {where}")
        at_ms = (at_s - at_s[0]) * 1000
        if not are_sentinels[-1] or at_ms[-1] == 0 or at_ms[-1] % DAY_MS:
            raise InputError(
                "the log is cut off: its last line closes no whole number of days",
                value=lines[-1],
                where=f"line {len(lines)} of {where}",
            )
        if at_ms[-1] > MAX_WINDOW_MS:
            days, longest = at_ms[-1] // DAY_MS, f"{MAX_WINDOW_MS // DAY_MS:,}"
            raise InputError("too many days in one log", value=int(days), where=where, allowed=longest)
        events = Events(at_ms, channels.astype(np.int8), values.astype(np.float32), are_sentinels)
        return cls(device, _text(entry, "model", where), int(at_s[0]) * 1000, int(at_ms[-1]), events)


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name!r} must be a text", value=value, where=where)
    return plain(value, name, where)


def _row(line: str, where: str) -> tuple[int, int, float, bool]:
    """Seconds since 1970 on the naive clock, channel, value, is_sentinel."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError("bad line", value=line, where=where, allowed="YYYY-MM-DD HH:MM:SS, TAB, event")
    try:
        instant = datetime.fromisoformat(match[1])
    except ValueError as error:
        raise InputError(f"bad date ({error})", value=line, where=where) from error
    if not MIN_MS <= (instant - _EPOCH) // _SECOND * 1000 < MAX_MS:
        raise InputError("no plausible date", value=line, where=where, allowed=PLAUSIBLE)
    channel, value = _meaning(match[3], line, where)
    return (instant - _EPOCH) // _SECOND, CHANNEL_CODE[channel], value, match[2] == ""


def _meaning(event: str, line: str, where: str) -> tuple[str, float]:
    level = _LEVEL.fullmatch(event)
    if level is not None and float(level[1]) <= 100:
        return "battery", float(level[1])
    if event not in _MEANING:
        raise InputError("unknown event", value=line, where=where, allowed=", ".join((*_MEANING, "0.0% … 100.0%")))
    return _MEANING[event]


def _trace_set(logs: list[_Log], midnight_ms: int) -> TraceSet:
    events = [log.events for log in logs]
    return TraceSet(
        device_id=np.array([log.device for log in logs], dtype=object),
        start_ms=np.array([log.first_ms - midnight_ms for log in logs], dtype=np.int64),
        period_ms=np.array([log.period_ms for log in logs], dtype=np.int64),
        is_local=np.ones(len(logs), dtype=bool),
        facts={
            "model": np.array([log.model for log in logs], dtype=object),
            "ram_gb": np.full(len(logs), np.nan, dtype=np.float32),
            "os_version": np.full(len(logs), np.nan, dtype=np.float32),
        },
        offsets=np.cumsum([0, *(len(log) for log in events)], dtype=np.int64),
        events=Events(
            at_ms=np.concatenate([log.at_ms for log in events]),
            channel=np.concatenate([log.channel for log in events]),
            value=np.concatenate([log.value for log in events]),
            is_sentinel=np.concatenate([log.is_sentinel for log in events]),
        ),
    )
