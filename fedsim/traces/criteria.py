"""Eligibility: a rule over a trace set compiled once to windows of time, and channels to step functions.

Both are CSR arrays over all base traces, computed for all events at once. Events that share one
millisecond of a device are applied in file order and then looked at once; sentinels are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError
from fedsim.schema import CHANNELS
from fedsim.traces.canonical import CHANNEL_CODE, FACTS, Float32Array, Int8Array, TraceSet
from fedsim.traces.expression import TRUE, UNKNOWN, Comparison, atoms, is_unknown
from fedsim.traces.rule import Rule
from fedsim.units import BoolArray, IntArray

Unknown = Literal["ineligible", "eligible"]
_UNKNOWNS = ("ineligible", "eligible")


@dataclass(frozen=True)
class Windows:
    """Half-open spans ``[start_ms, end_ms)`` in which each trace is eligible.

    Trace i has windows ``offsets[i] : offsets[i + 1]``, inside ``0 … period_ms[i]``, sorted and separated by gaps.
    """

    offsets: IntArray  # int64[n + 1]
    start_ms: IntArray  # int64[m], since the trace's first instant
    end_ms: IntArray  # int64[m]
    period_ms: IntArray  # int64[n]
    trace_start_ms: IntArray  # int64[n], since the set's first midnight
    is_local: BoolArray  # bool[n], False: hour of day unknown

    def closed(self) -> Windows:
        """The windows with their last instant in them: each ends a millisecond later, the grid of traces.

        So a recorder means it whose comparisons include both bounds (FedScale's). Where the next window, or the next
        period, begins at that instant, it stays as it is.
        """
        latest = self.period_ms[self.trace_of_window]
        is_followed = self.trace_of_window[1:] == self.trace_of_window[:-1]
        latest[:-1][is_followed] = self.start_ms[1:][is_followed] - 1  # windows stay apart
        end_ms = np.minimum(self.end_ms + 1, latest)
        return replace(self, end_ms=end_ms)

    @property
    def n(self) -> int:
        """Number of traces."""
        return len(self.period_ms)

    @property
    def open_ms(self) -> IntArray:
        """Eligible time of each trace within one period, int64[n]."""
        total = np.concatenate([[0], np.cumsum(self.end_ms - self.start_ms)])
        return np.diff(total[self.offsets])

    @property
    def trace_of_window(self) -> npt.NDArray[np.int32]:
        """The trace of every window, int32[m]."""
        return np.repeat(np.arange(self.n, dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True)
class Levels:
    """One channel as a step function: ``value[k]`` holds from ``at_ms[k]`` to the next entry of the trace.

    Every trace has an entry at 0, NaN if the channel is unknown there. Entries are strictly increasing
    in a trace and lie inside ``0 … period_ms``.
    """

    offsets: IntArray  # int64[n + 1]
    at_ms: IntArray  # int64[m], since the trace's first instant
    value: Float32Array  # float32[m], NaN unknown
    period_ms: IntArray  # int64[n]
    trace_start_ms: IntArray  # int64[n]

    @property
    def hold_ms(self) -> IntArray:
        """How long each entry holds, int64[m]."""
        until_ms = np.append(self.at_ms[1:], 0)
        until_ms[self.offsets[1:] - 1] = self.period_ms
        return until_ms - self.at_ms

    @property
    def device(self) -> IntArray:
        """The trace of every entry, int64[m]."""
        return np.repeat(np.arange(len(self.period_ms)), np.diff(self.offsets))

    def at(self, device: IntArray, at_ms: IntArray) -> Float32Array:
        """The value at an instant of each of some traces, float32, NaN unknown."""
        span = self.period_ms.max() + 1
        row = np.searchsorted(self.device * span + self.at_ms, device * span + at_ms, side="right") - 1
        value: Float32Array = self.value[row]
        return value


@dataclass(frozen=True)
class _Log:
    """The events of a few channels, and the rows that are the last of their instant."""

    device: npt.NDArray[np.int32]
    at_ms: IntArray
    channel: Int8Array
    value: Float32Array
    first_row: npt.NDArray[np.int32]  # of the row's device, per row in `last`
    last: npt.NDArray[np.int32]  # rows at which the state of a device is looked at

    @classmethod
    def of(cls, traces: TraceSet, channels: frozenset[str]) -> _Log:
        events = traces.events
        is_wanted = np.isin(CHANNELS, sorted(channels))
        keep = is_wanted[events.channel] & ~events.is_sentinel
        _check_channels(channels, events.channel[keep], traces.channels())
        kept_before = np.append(0, np.cumsum(keep))[traces.offsets]
        device = np.repeat(np.arange(traces.n, dtype=np.int32), np.diff(kept_before))
        at_ms = events.at_ms[keep]
        is_last = np.ones(len(at_ms), dtype=bool)
        is_last[:-1] = (device[1:] != device[:-1]) | (at_ms[1:] != at_ms[:-1])
        is_last &= at_ms < traces.period_ms[device]  # what happens at the very end never holds
        last = np.flatnonzero(is_last).astype(np.int32)
        first_row = kept_before[device[last]].astype(np.int32)
        return cls(device, at_ms, events.channel[keep], events.value[keep], first_row, last)

    def state(self, channel: str) -> Float32Array:
        """Value of the channel at each row of ``last``, NaN before the device's first event of it."""
        row = np.arange(len(self.channel), dtype=np.int32)
        row[self.channel != CHANNEL_CODE[channel]] = -1
        row = np.maximum.accumulate(row)[self.last]
        return np.where(row >= self.first_row, self.value[row], np.float32(np.nan))


def _check_channels(channels: frozenset[str], present: Int8Array, known: tuple[str, ...]) -> None:
    n_events = np.bincount(present, minlength=len(CHANNELS))
    missing = [name for name in sorted(channels) if not n_events[CHANNEL_CODE[name]]]
    if missing:
        allowed = ", ".join(known) or "none, the set has no events"
        raise InputError("the trace set has no event of channel", value=missing[0], allowed=allowed)


class RuleCompiler:
    """Compiles rules over one trace set: events are read once, and each channel, comparison and fact is looked at once.

    ``rules`` name all the comparisons that :meth:`windows` may meet; any rule made of these can be compiled.
    ``unknown`` decides what an unknown outcome of a whole rule counts as.

    Raises:
        InputError: a rule names a channel of which the set has no event, or a fact of which it has no value.
    """

    def __init__(self, traces: TraceSet, rules: Sequence[Rule], *, unknown: Unknown) -> None:
        if unknown not in _UNKNOWNS:
            raise InputError("unknown must be decided", value=unknown, allowed=" or ".join(_UNKNOWNS))
        for rule in rules:
            _check_facts(traces, rule)
        log = _Log.of(traces, frozenset().union(*(rule.channels for rule in rules)))
        device = log.device[log.last]
        self._traces = traces
        self._lowest = TRUE if unknown == "ineligible" else UNKNOWN
        # One row per look at a device: its unknown start, then every instant with an event.
        self._first = np.searchsorted(device, np.arange(traces.n + 1)) + np.arange(traces.n + 1)
        self._from_ms = np.zeros(len(device) + traces.n, dtype=np.int64)
        row = np.arange(len(device)) + device + 1
        self._from_ms[row] = log.at_ms[log.last]
        self._is_first = np.zeros(len(self._from_ms), dtype=bool)
        self._is_first[self._first[:-1]] = True
        self._truth = self._of_channels(log, row, rules) | self._of_facts(rules)

    def _of_channels(self, log: _Log, row: IntArray, rules: Sequence[Rule]) -> dict[Comparison, Int8Array]:
        """Truth of every comparison of a channel in every row, int8."""
        truths = {}
        asked = {atom for rule in rules for atom in atoms(rule.expression) if atom.name in CHANNELS}
        for channel in {atom.name for atom in asked}:
            state = log.state(channel)
            for atom in asked:
                if atom.name == channel:
                    truths[atom] = np.full(len(self._from_ms), UNKNOWN)
                    truths[atom][row] = atom.truth(state)
        return truths

    def _of_facts(self, rules: Sequence[Rule]) -> dict[Comparison, Int8Array]:
        """Truth of every comparison of a fact in every row, int8."""
        asked = {atom for rule in rules for atom in atoms(rule.expression) if atom.name in FACTS}
        n_rows = np.diff(self._first)
        return {atom: np.repeat(atom.truth(self._traces.facts[atom.name]), n_rows) for atom in asked}

    def windows(self, rule: Rule) -> Windows:
        """The windows in which each trace meets the rule: runs of rows that are open."""
        is_open = rule.truth(self._truth.__getitem__, len(self._from_ms)) >= self._lowest
        is_last = np.append(self._is_first[1:], True)
        opens = np.flatnonzero(is_open & (self._is_first | ~np.append(False, is_open[:-1])))
        closes = np.flatnonzero(is_open & (is_last | ~np.append(is_open[1:], False)))
        start_ms, end_ms = self._from_ms[opens], self._until_ms(closes)
        is_real = end_ms > start_ms  # an event at instant 0 leaves the unknown start no time
        return Windows(
            offsets=np.searchsorted(opens[is_real], self._first).astype(np.int64),
            start_ms=start_ms[is_real],
            end_ms=end_ms[is_real],
            period_ms=self._traces.period_ms,
            trace_start_ms=self._traces.start_ms,
            is_local=self._traces.is_local,
        )

    def _until_ms(self, row: IntArray) -> IntArray:
        """When the row's state ends: at the device's next row, or with its trace."""
        following = np.minimum(row + 1, len(self._from_ms) - 1)
        is_last = self._is_first[following] | (following == row)
        device = np.searchsorted(self._first, row, side="right") - 1
        return np.where(is_last, self._traces.period_ms[device], self._from_ms[following])


def compile_rule(traces: TraceSet, rule: Rule, *, unknown: Unknown) -> Windows:
    """The windows in which each trace meets the rule; for several rules at once see :class:`RuleCompiler`."""
    return RuleCompiler(traces, [rule], unknown=unknown).windows(rule)


def _check_facts(traces: TraceSet, rule: Rule) -> None:
    known = [name for name, values in traces.facts.items() if not is_unknown(values).all()]
    missing = sorted(rule.facts.difference(known))
    if missing:
        allowed = ", ".join(known) or "none, the set has no facts"
        where = f"rule {rule.text!r}"
        raise InputError("no device of the trace set has the fact", value=missing[0], where=where, allowed=allowed)


def compile_channel(traces: TraceSet, channel: str) -> Levels:
    """The value of one channel over time; the last value of a millisecond wins.

    Raises:
        InputError: unknown channel, or the set has no event of it.
    """
    if channel not in CHANNELS:
        raise InputError("unknown channel", value=channel, allowed=", ".join(CHANNELS))
    log = _Log.of(traces, frozenset([channel]))
    device, at_ms = log.device[log.last], log.at_ms[log.last]
    first = np.searchsorted(device, np.arange(traces.n))
    has_event_at_0 = np.zeros(traces.n, dtype=bool)
    has_event_at_0[device[at_ms == 0]] = True
    unknown_start = first[~has_event_at_0]  # np.insert puts the entry before this row
    return Levels(
        offsets=np.append(first, len(device)) + np.append(0, np.cumsum(~has_event_at_0)),
        at_ms=np.insert(at_ms, unknown_start, 0),
        value=np.insert(log.value[log.last], unknown_start, np.float32(np.nan)),
        period_ms=traces.period_ms,
        trace_start_ms=traces.start_ms,
    )
