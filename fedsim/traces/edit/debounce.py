"""Close short gaps of an on-off channel: an app that goes to the background for a second has not left."""

from __future__ import annotations

import numpy as np

from fedsim.errors import InputError
from fedsim.traces.canonical import CHANNEL_CODE, TraceSet
from fedsim.traces.edit.assemble import with_events, with_transform
from fedsim.traces.expression import ON_OFF
from fedsim.units import BoolArray, IntArray


def debounce(traces: TraceSet, *, gap_s: float, channel: str = "available") -> TraceSet:
    """The set in which every gap of at most ``gap_s`` seconds is closed.

    A gap is a time for which the channel is off, between two times of the same device for which it is on;
    only the last value of a millisecond counts. Unknown is no gap, and neither is what the end of the trace cuts.

    Raises:
        InputError: not an on-off channel, one without events, or a negative gap.
    """
    if channel not in ON_OFF:
        raise InputError("only an on-off channel has gaps", value=channel, allowed=", ".join(ON_OFF))
    if not gap_s >= 0:
        raise InputError("the gap must not be negative", value=gap_s, allowed="seconds")
    events, of_event = traces.events, traces.device_of_event()
    is_behaviour = ~events.is_sentinel & (events.at_ms < traces.period_ms[of_event])  # at the very end nothing holds
    row = np.flatnonzero((events.channel == CHANNEL_CODE[channel]) & is_behaviour)
    if not row.size:
        allowed = ", ".join(name for name in ON_OFF if name in traces.channels() and name != channel) or "none"
        raise InputError("the trace set has no event of channel", value=channel, allowed=allowed)
    device, at_ms = of_event[row], events.at_ms[row]
    instant = _number((device[1:] != device[:-1]) | (at_ms[1:] != at_ms[:-1]))
    last = np.append(instant[1:] != instant[:-1], True)
    is_dropped, n_gaps, n_closed = _closed(device[last], at_ms[last], events.value[row][last], gap_s)
    keep = np.ones(len(events), dtype=bool)
    keep[row[is_dropped[instant]]] = False
    offsets = np.append(0, np.cumsum(keep))[traces.offsets].astype(np.int64)
    text = f"debounced {channel}: {n_closed} of {n_gaps} gaps closed, those of at most {gap_s:g} s"
    return with_transform(with_events(traces, np.flatnonzero(keep), offsets), text)


def _number(is_new: BoolArray) -> IntArray:
    """Numbers from 0 that go up where a row is new compared with the one before it."""
    return np.append(0, np.cumsum(is_new))


def _closed(device: IntArray, at_ms: IntArray, value: IntArray, gap_s: float) -> tuple[BoolArray, int, int]:
    """Which instants to drop: those of a closed gap, and the one that ends it; number of gaps, and of closed ones."""
    is_same_value = (value[1:] == value[:-1]) | (np.isnan(value[1:]) & np.isnan(value[:-1]))
    stretch = _number((device[1:] != device[:-1]) | ~is_same_value)
    first = np.flatnonzero(np.append(True, stretch[1:] != stretch[:-1]))
    owner, state, from_ms = device[first], value[first], at_ms[first]
    is_gap = np.zeros(len(first), dtype=bool)
    before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
    is_gap[here] = (owner[before] == owner[after]) & (state[before] == 1) & (state[here] == 0) & (state[after] == 1)
    until_ms = np.append(from_ms[1:], 0)
    is_closed = is_gap & (until_ms - from_ms <= gap_s * 1000)
    is_dropped = is_closed[stretch]
    is_dropped[first[1:][is_closed[:-1]]] = True
    return is_dropped, int(np.count_nonzero(is_gap)), int(np.count_nonzero(is_closed))
