"""A model of availability that walks windows one by one in whole microseconds."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet, Region
from fedsim.traces.canonical import Events
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.units import FloatArray, IntArray
from tests.hand import events_of, traces_of

Spans = list[tuple[int, int]]  # half-open, in ms since the trace's first instant
US = 1_000_000


@dataclass(frozen=True)
class Phone:
    """One cell in whole microseconds: nothing but ``%`` and comparisons."""

    spans: Spans
    period_us: int
    phase_us: int

    def is_open(self, at: int) -> bool:
        position = (at + self.phase_us) % self.period_us
        return any(start * 1000 <= position < end * 1000 for start, end in self.spans)

    def change_after(self, at: int) -> float:
        """The next instant (µs) at which ``is_open`` differs (inf: never)."""
        lap = (at + self.phase_us) // self.period_us
        edges = [
            edge * 1000 + k * self.period_us - self.phase_us
            for k in range(lap, lap + 3)
            for span in self.spans
            for edge in span
        ]
        return min((edge for edge in edges if edge > at and self.is_open(edge) != self.is_open(at)), default=math.inf)

    def finish(self, at: int, work: int) -> float:
        """When work that pauses while the phone is away is done."""
        if work == 0 and self.spans:
            return at
        while True:
            if not self.is_open(at):
                start = self.change_after(at)
                if math.isinf(start):
                    return math.nan
                at = int(start)
            until = self.change_after(at)
            if at + work <= until:
                return at + work
            work -= int(until) - at
            at = int(until)

    def open_us(self, start: int, end: int) -> int:
        total, at = 0, start
        while at < end:
            stop = min(self.change_after(at), end)
            total += int(stop - at) if self.is_open(at) else 0
            at = int(stop)
        return total


@dataclass(frozen=True)
class World:
    """A fleet of a few phones, and the model of each of its cells."""

    availability: Availability
    phones: list[Phone]

    @property
    def fleet(self) -> Fleet:
        return self.availability.fleet

    @property
    def longest_us(self) -> int:
        return max(phone.period_us for phone in self.phones)


def log_of(spans: Spans) -> Events:
    """An event log that charges exactly in the spans."""
    edges = [(0.0, "charging", 0)] if not spans or spans[0][0] else []
    for start, end in spans:
        edges += [(start / 1000, "charging", 1), (end / 1000, "charging", 0)]
    return events_of(edges)


def world(
    traces: list[Spans],
    periods_ms: list[int],
    starts_ms: list[int] | None = None,
    *,
    n_devices: int | None = None,
    regions: dict[str, Region] | None = None,
    jitter_s: float = 0.0,
) -> World:
    """A fleet over hand-made windows; as it is (replay) unless ``n_devices`` is given."""
    trace_set = traces_of(
        [log_of(spans) for spans in traces],
        period_s=[period / 1000 for period in periods_ms],
        start_s=[start / 1000 for start in starts_ms or [0] * len(traces)],
        is_local=False,
    )
    is_replay = n_devices is None
    n = n_devices or len(traces)
    fleet = Fleet(trace_set, n_devices=n, seed=5, is_replay=is_replay, regions=regions, jitter_s=jitter_s)
    windows = compile_rule(trace_set, Rule.parse("charging"), unknown="ineligible")
    phones = [
        Phone(traces[trace], periods_ms[trace] * 1000, int(phase))
        for trace, phase in zip(fleet.cell_trace.tolist(), fleet.cell_phase_us.tolist(), strict=True)
    ]
    return World(Availability(fleet, windows), phones)


@st.composite
def spans_of(draw: st.DrawFn, n_ticks: int, tick_ms: int) -> Spans:
    """Windows with gaps between them; none, whole, and touching either end are all likely."""
    kind = draw(st.sampled_from(["cuts", "cuts", "cuts", "never", "always", "both ends"]))
    if kind == "never":
        return []
    if kind == "always":
        return [(0, n_ticks * tick_ms)]
    cuts = draw(st.sets(st.integers(0, n_ticks), min_size=2, max_size=8))
    if kind == "both ends":
        cuts |= {0, n_ticks}
    edges = sorted(cuts)
    edges = edges[: len(edges) // 2 * 2]
    return [(a * tick_ms, b * tick_ms) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    n = draw(st.integers(1, 4))
    tick_ms = draw(st.sampled_from([1, 500, 61_007, 3_600_000]))
    n_ticks = draw(st.lists(st.integers(2, 50), min_size=n, max_size=n))
    traces = [draw(spans_of(ticks, tick_ms)) for ticks in n_ticks]
    starts = draw(st.lists(st.integers(0, 200_000_000), min_size=n, max_size=n))
    periods = [ticks * tick_ms for ticks in n_ticks]
    if draw(st.booleans()):
        return world(traces, periods, starts)
    hours = draw(st.lists(st.integers(-48, 56).map(lambda quarters: quarters / 4), min_size=1, max_size=3))
    regions = {str(i): Region(1 / len(hours), offset) for i, offset in enumerate(hours)}
    jitter_s = draw(st.sampled_from([0.0, 0.0, 1.0, 7000.7]))
    return world(traces, periods, starts, n_devices=draw(st.integers(1, 60)), regions=regions, jitter_s=jitter_s)


@st.composite
def questions(draw: st.DrawFn, max_size: int = 25) -> tuple[World, list[tuple[int, int]]]:
    """A world and (cell, instant in µs): anywhere, and on, before and after a change."""
    made = draw(worlds())
    laps = 4 * made.longest_us
    asked = []
    for _ in range(draw(st.integers(1, max_size))):
        cell = draw(st.integers(0, len(made.phones) - 1))
        at = draw(st.integers(-laps, 2 * laps))
        change = made.phones[cell].change_after(at)
        if math.isfinite(change):
            at = draw(st.sampled_from([at, int(change), int(change) - 1, int(change) + 1]))
        asked.append((cell, at))
    return made, asked


def columns(asked: list[tuple[int, int]]) -> tuple[IntArray, FloatArray]:
    cells, at = np.array(asked, dtype=np.int64).T
    return cells, at / US


def seconds(us: list[float]) -> list[float]:
    return [value / US for value in us]
