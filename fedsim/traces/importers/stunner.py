"""STUNner churn traces: weeks of phones that could serve as peers, one line each.

Format (``peersim_session_*.txt`` of the Gossip Learning Framework): ``USER ONLINE START ZONE D1 D2 …``, separated by
blanks. The phone is online for D1 ms if ONLINE is 1, else offline; then the state turns after each duration. START
is a midnight of UTC in ms since 1970, ZONE the phone's whole hours ahead of UTC.
Source: Berta, Bilicki and Jelasity, P2P 2014 (STUNner). The framework's reader (``TraceProps.java``,
``UserTrace.java``) is what defines the format; no other description of it was found.

- Online means what the file's makers chose: on a charger, connected, behind a NAT that lets peers through, for the
  file of 100 %. It becomes the channel ``available``.
- Every line is a trace of its own, named ``USER@START``: weeks of one user need not follow each other.
- START is in UTC, so ZONE is added to it. That it is not local time was checked on the published files: phones 8 h
  ahead are online from 17 h to 24 h of the raw clock, those 6 h behind from 7 h to 15 h, night after night.
- Zones of half hours are cut to whole ones in the source.
- Lines that do not fill whole days are unknown for the rest of their last day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.errors import InputError
from fedsim.targets import reading
from fedsim.traces.canonical import CHANNEL_CODE, Events, TraceSet
from fedsim.traces.clock import MAX_MS, MIN_MS, PLAUSIBLE, date_of
from fedsim.traces.folder import TraceWriter
from fedsim.traces.importers.source import Source, source_file
from fedsim.traces.spans import unknown_facts
from fedsim.traces.validation import MAX_WINDOW_MS, validate
from fedsim.units import DAY_MS, HOUR_S, IntArray

_SOURCE = Source(
    "stunner",
    "STUNner churn traces (Berta, Bilicki and Jelasity, P2P 2014)",
    "not stated beside the published files; ask their authors before passing them on",
)
_TRANSFORMS = (
    "each line a trace, its start moved from UTC to local time by the line's zone",
    "online stored as available",
    "whole days; what a line leaves of its last day is unknown",
)
_BATCH = 5_000  # lines held as arrays at once
_FIELDS = "USER ONLINE START ZONE D1 D2 …"


def import_stunner(src: Path, dst: Path) -> None:
    """Write one trace per line.

    Raises:
        InputError: naming the number of the first bad line.
    """
    source_file(src, "STUNner traces")
    heads = ((number, _head(words, where)) for number, words, where in _lines(src))
    first_ms = min((start_ms + zone_ms for _, (_, start_ms, zone_ms) in heads), default=None)
    if first_ms is None:
        raise InputError("no line found", where=src, allowed=_FIELDS)
    midnight_ms = first_ms // DAY_MS * DAY_MS
    counts: Counter[str] = Counter()
    lines = _lines(src)
    with TraceWriter(dst) as writer:
        while batch := list(islice(lines, _BATCH)):
            traces = _trace_set([(words, where) for _, words, where in batch], midnight_ms, counts)
            validate(traces, where=src)
            writer.add(traces)
        writer.provenance = _SOURCE.provenance([src], _TRANSFORMS, {"first_midnight": date_of(midnight_ms)}, counts)


def _lines(src: Path) -> Iterator[tuple[int, list[str], str]]:
    """Number, words and place of each line."""
    with reading(src, "STUNner traces"), src.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.split(), f"line {number} of {src}"


def _head(words: list[str], where: str) -> tuple[bool, int, int]:
    """Whether online at first, start and zone in ms."""
    if len(words) < 5:
        raise InputError("bad line", value=" ".join(words), where=where, allowed=_FIELDS)
    if words[4] == ":":
        raise InputError("a line with NAT types", value=" ".join(words[:6]), where=where, allowed=_FIELDS)
    if words[1] not in ("0", "1"):
        raise InputError("ONLINE must be 0 or 1", value=words[1], where=where)
    start_ms, zone_h = _numbers(words[2:4], where)
    if not MIN_MS <= start_ms < MAX_MS or not -24 < zone_h < 24:
        allowed = f"START in ms of {PLAUSIBLE}"
        raise InputError("START or ZONE out of range", value=(start_ms, zone_h), where=where, allowed=allowed)
    return words[1] == "1", start_ms, zone_h * HOUR_S * 1000


def _numbers(words: list[str], where: str) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise InputError(f"not a whole number ({error})", where=where, allowed=_FIELDS) from error


def _durations(words: list[str], where: str) -> IntArray:
    durations_ms = np.array(_numbers(words[4:], where), dtype=object)
    if min(durations_ms) < 0 or not 0 < sum(durations_ms) <= MAX_WINDOW_MS:
        value = min(durations_ms) if sum(durations_ms) <= MAX_WINDOW_MS else sum(durations_ms)
        allowed = f"ms, in all at most {MAX_WINDOW_MS // DAY_MS:,} days"
        raise InputError("durations must be zero or above and last in all", value=value, where=where, allowed=allowed)
    return durations_ms.astype(np.int64)


def _trace_set(lines: list[tuple[list[str], str]], midnight_ms: int, counts: Counter[str]) -> TraceSet:
    heads = [_head(*line) for line in lines]
    logs = [_log(is_online, _durations(*line)) for line, (is_online, _, _) in zip(lines, heads, strict=True)]
    n_events = np.array([len(at_ms) for at_ms, _, _ in logs])
    period_ms = np.array([period for _, _, period in logs], dtype=np.int64)
    start_ms = np.array([start for _, start, _ in heads], dtype=np.int64)
    zone_ms = np.array([zone for _, _, zone in heads], dtype=np.int64)
    value = np.concatenate([value for _, value, _ in logs])
    counts["n_lines"] += len(lines)
    counts["n_lines_without_whole_days"] += int(np.count_nonzero(np.isnan(value)))
    return TraceSet(
        device_id=np.array(
            [_name(words[0], start) for (words, _), (_, start, _) in zip(lines, heads, strict=True)], object
        ),
        start_ms=start_ms + zone_ms - midnight_ms,
        period_ms=period_ms,
        is_local=np.ones(len(lines), dtype=bool),
        facts=unknown_facts(len(lines)),
        offsets=np.append(0, np.cumsum(n_events)),
        events=Events(
            at_ms=np.concatenate([at_ms for at_ms, _, _ in logs]),
            channel=np.full(len(value), CHANNEL_CODE["available"], dtype=np.int8),
            value=value,
            is_sentinel=np.zeros(len(value), dtype=bool),
        ),
    )


def _log(is_online: bool, durations_ms: IntArray) -> tuple[IntArray, Any, int]:
    """Instants and values of one line's events, and its period: whole days, unknown where nothing is said."""
    end_ms = np.cumsum(durations_ms)
    at_ms = end_ms - durations_ms
    value = ((np.arange(len(at_ms)) + is_online) % 2).astype(np.float32)
    period_ms = -(-int(end_ms[-1]) // DAY_MS) * DAY_MS
    if end_ms[-1] < period_ms:
        at_ms, value = np.append(at_ms, end_ms[-1]), np.append(value, np.float32("nan"))
    return at_ms, value, period_ms


def _name(user: str, start_ms: int) -> str:
    return f"{user}@{datetime.fromtimestamp(start_ms / 1000, UTC):%Y-%m-%d}"
