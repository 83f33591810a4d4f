"""Availability against a model that walks windows one by one in whole microseconds."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet, Region
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import Rule, Windows, compile_channel, compile_rule
from fedsim.units import FloatArray, IntArray

Spans = list[tuple[int, int]]  # half-open, in ms since the trace's first instant
US = 1_000_000


# ------------------------------------------------------------------------------------------- the model


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

    def finish(self, at: int, work: int, interruption: str) -> float:
        if interruption == "ignore":
            return at + work if self.is_open(at + work) else math.nan
        if interruption == "abort":
            return at + work if self.is_open(at) and at + work <= self.change_after(at) else math.nan
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
    return Events.of(edges)


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
    trace_set = TraceSet.of(
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


# ------------------------------------------------------------------------------------------ properties


@given(question=questions())
def test_at_is_the_model(question: tuple[World, list[tuple[int, int]]]) -> None:
    made, asked = question
    cells, now = columns(asked)
    is_open, until = made.availability.at_cells(cells, now)
    assert is_open.tolist() == [made.phones[cell].is_open(at) for cell, at in asked]
    assert until.tolist() == seconds([made.phones[cell].change_after(at) for cell, at in asked])


@given(question=questions())
def test_an_instant_given_back_falls_on_the_other_side(question: tuple[World, list[tuple[int, int]]]) -> None:
    made, asked = question
    cells, now = columns(asked)
    is_open, until = made.availability.at_cells(cells, now)
    some = np.isfinite(until)
    assert (until[some] > now[some]).all()
    assert (made.availability.at_cells(cells[some], until[some])[0] == ~is_open[some]).all()
    assert (made.availability.at_cells(cells[some], until[some] - 1e-6)[0] == is_open[some]).all()


@given(made=worlds(), data=st.data())
def test_questions_by_device_are_those_of_its_cell(made: World, data: st.DataObject) -> None:
    fleet, availability = made.fleet, made.availability
    ids = np.array(data.draw(st.lists(st.integers(0, fleet.n_devices - 1), min_size=1, max_size=20)))
    at = data.draw(st.integers(0, 3 * made.longest_us))
    cells = fleet.cell_of(ids)
    is_open, until = availability.at(ids, at / US)
    assert is_open.tolist() == [made.phones[cell].is_open(at) for cell in cells]
    starts = availability.next_start(ids, at / US)
    assert starts.tolist() == np.where(is_open, at / US, until).tolist()
    some = np.isfinite(starts)
    assert availability.at(ids[some], starts[some])[0].all()
    for how in ("abort", "pause", "ignore"):
        by_id, by_cell = (
            availability.finish(ids, at / US, 3.5, how),
            availability.finish_cells(cells, at / US, 3.5, how),
        )
        assert np.array_equal(by_id, by_cell, equal_nan=True)


@pytest.mark.parametrize("interruption", ["abort", "pause", "ignore"])
@given(question=questions(), data=st.data())
def test_finish_is_the_model(
    interruption: str, question: tuple[World, list[tuple[int, int]]], data: st.DataObject
) -> None:
    made, asked = question
    work = []
    for cell, at in asked:
        phone = made.phones[cell]
        change = phone.change_after(at)
        exactly = [int(change) - at] if math.isfinite(change) else []
        open_us = phone.open_us(0, phone.period_us)
        # Up to a few laps of open time: work that ends with a window, with a lap, and a tick beside.
        ends = [0, 1, open_us, open_us + 1, 2 * open_us, 2 * open_us + 1, *exactly, *(x + 1 for x in exactly)]
        work.append(data.draw(st.sampled_from(ends) | st.integers(0, 3 * max(open_us, 1))))
    cells, start = columns(asked)
    end = made.availability.finish_cells(cells, start, np.array(work) / US, interruption)  # type: ignore[arg-type]
    wanted = [made.phones[c].finish(at, w, interruption) for (c, at), w in zip(asked, work, strict=True)]
    assert np.array_equal(np.isnan(end), np.isnan(wanted))
    assert np.nan_to_num(end).tolist() == pytest.approx(np.nan_to_num(seconds(wanted)).tolist(), abs=1e-9, rel=1e-15)


@given(question=questions(max_size=12), data=st.data())
def test_open_s_is_the_model(question: tuple[World, list[tuple[int, int]]], data: st.DataObject) -> None:
    made, asked = question
    lengths = [data.draw(st.integers(0, 3 * made.phones[cell].period_us)) for cell, _ in asked]
    cells, start = columns(asked)
    end = np.array([at + length for (_, at), length in zip(asked, lengths, strict=True)]) / US
    wanted = [made.phones[c].open_us(at, at + length) / US for (c, at), length in zip(asked, lengths, strict=True)]
    assert made.availability.open_s(cells, start, end).tolist() == wanted


@given(question=questions(max_size=12), work=st.integers(1, 10**8))
def test_paused_work_takes_its_length_of_open_time(question: tuple[World, list[tuple[int, int]]], work: int) -> None:
    made, asked = question
    cells, start = columns(asked)
    end = made.availability.finish_cells(cells, start, work / US, "pause")
    some = ~np.isnan(end)
    assert made.availability.open_s(cells[some], start[some], end[some]) == pytest.approx(work / US, abs=1e-6)
    assert made.availability.at_cells(cells[some], end[some] - 1e-6)[0].all()  # it ends while the device is there


@given(made=worlds(), data=st.data())
def test_all_cells_are_the_same_in_any_query_order(made: World, data: st.DataObject) -> None:
    everywhere = np.arange(made.fleet.n_cells)
    at = 0
    for _ in range(data.draw(st.integers(1, 25))):
        change = made.availability.next_change(at / US)
        steps = [at + 1, at - data.draw(st.integers(0, made.longest_us)), at]
        if math.isfinite(change):
            on_change = round(change * US)
            steps += [on_change, on_change, on_change - 1, on_change + 1, on_change + made.longest_us]
        at = data.draw(st.sampled_from(steps))
        is_open, until = made.availability.cells_at(at / US)
        fresh_open, fresh_until = made.availability.at_cells(everywhere, at / US)
        assert is_open.tolist() == fresh_open.tolist() == [phone.is_open(at) for phone in made.phones]
        assert until.tolist() == fresh_until.tolist()


@given(made=worlds(), data=st.data())
def test_questions_about_the_fleet_are_the_model(made: World, data: st.DataObject) -> None:
    fleet, availability = made.fleet, made.availability
    homes = fleet.cell_of(np.arange(fleet.n_devices)).tolist()
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 3 * made.longest_us))
        here = [made.phones[cell].is_open(at) for cell in homes]
        assert availability.eligible_fraction(at / US) == pytest.approx(sum(here) / len(here), abs=1e-12)
        away = [made.phones[cell].change_after(at) for cell, is_here in zip(homes, here, strict=True) if not is_here]
        assert availability.earliest_start(at / US) == min(away, default=math.inf) / US
        assert availability.next_change(at / US) == min(phone.change_after(at) for phone in made.phones) / US


@given(made=worlds(), at=st.integers(0, 10**11))
def test_an_instant_may_be_one_for_all_or_one_each(made: World, at: int) -> None:
    cells = np.arange(made.fleet.n_cells)
    one, each = (made.availability.at_cells(cells, now) for now in (at / US, np.full(len(cells), at / US)))
    assert one[0].tolist() == each[0].tolist()
    assert one[1].tolist() == each[1].tolist()


# ---------------------------------------------------------------------------------------- golden cases


def answers(made: World, at: list[float], cell: int = 0) -> list[tuple[bool, float]]:
    is_open, until = made.availability.at_cells(np.full(len(at), cell), np.array(at))
    return list(zip(is_open.tolist(), until.tolist(), strict=True))


def test_windows_are_half_open() -> None:
    phone = world([[(2000, 5000)]], [10_000])
    assert answers(phone, [0, 2, 4.999999, 5, 9.999999, 10, 12]) == [
        (False, 2), (True, 5), (True, 5), (False, 12), (False, 12), (False, 12), (True, 15),
    ]  # fmt: skip


def test_a_window_over_the_wrap_is_one_window() -> None:
    phone = world([[(0, 2000), (8000, 10_000)]], [10_000])
    assert answers(phone, [0, 1, 2, 8, 9.5, 10, 11, 12]) == [
        (True, 2), (True, 2), (False, 8), (True, 12), (True, 12), (True, 12), (True, 12), (False, 18),
    ]  # fmt: skip
    cells = np.array([0])
    assert phone.availability.finish_cells(cells, 8.5, 3.5, "abort").tolist() == [12.0]
    assert np.isnan(phone.availability.finish_cells(cells, 8.5, 3.500001, "abort")).all()


def test_always_and_never() -> None:
    made = world([[(0, 10_000)], []], [10_000, 10_000])
    assert answers(made, [0, 9.999999, 10, 1e8], cell=0) == [(True, math.inf)] * 4
    assert answers(made, [0, 9.999999, 10, 1e8], cell=1) == [(False, math.inf)] * 4
    assert made.availability.next_start(np.array([0, 1]), 7.0).tolist() == [7.0, math.inf]
    both = np.array([0, 1])
    for how in ("abort", "pause", "ignore"):
        end = made.availability.finish_cells(both, 7.0, 1e6, how)
        assert end[0] == 1e6 + 7
        assert np.isnan(end[1])
    assert made.availability.open_s(both, 5.0, 12_345.0).tolist() == [12_340.0, 0.0]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_trace_without_windows_among_others(where: int) -> None:
    """Its empty stretch of the window table must not be read as a neighbour's."""
    traces: list[Spans] = [[(1000, 3000)], [(4000, 6000)]]
    traces.insert(where, [])
    made = world(traces, [10_000] * 3)
    is_open, until = made.availability.at_cells(np.arange(3), 5.0)
    wanted = [(False, 11.0), (True, 6.0)]
    wanted.insert(where, (False, math.inf))
    assert list(zip(is_open.tolist(), until.tolist(), strict=True)) == wanted
    paused = made.availability.finish_cells(np.arange(3), 5.0, 1.5, "pause").tolist()
    assert math.isnan(paused.pop(where))
    assert paused == [12.5, 14.5]


def test_a_set_without_any_window() -> None:
    made = world([[], []], [10_000, 20_000], n_devices=7)
    cells = np.arange(2)
    is_open, until = made.availability.cells_at(3.0)
    assert not is_open.any()
    assert np.isinf(until).all()
    for how in ("abort", "pause", "ignore"):
        assert np.isnan(made.availability.finish_cells(cells, 3.0, 1.0, how)).all()
    assert made.availability.open_s(cells, 0.0, 50.0).tolist() == [0.0, 0.0]
    assert made.availability.eligible_fraction(3.0) == 0.0
    assert made.availability.earliest_start(3.0) == made.availability.next_change(3.0) == math.inf


def test_pause_goes_on_in_the_next_windows() -> None:
    phone = world([[(0, 2000), (5000, 6000)]], [10_000])
    finish = phone.availability.finish_cells
    cell = np.zeros(1, dtype=np.int64)
    cases = [(1, 1, 2), (1, 1.5, 5.5), (1, 2, 6), (1, 2.5, 10.5), (3, 1, 6), (3, 3, 12), (3, 6, 22), (3, 0, 3)]
    for start, work, end in cases:
        assert finish(cell, float(start), float(work), "pause").tolist() == [end], (start, work)


def test_ignore_looks_at_the_end_alone() -> None:
    phone = world([[(0, 2000), (5000, 6000)]], [10_000])
    end = phone.availability.finish_cells(np.zeros(3, dtype=np.int64), 3.0, np.array([1.0, 2.5, 7.5]), "ignore")
    assert np.array_equal(end, [np.nan, 5.5, 10.5], equal_nan=True)


def test_an_unknown_interruption_is_refused() -> None:
    made = world([[(0, 1000)]], [10_000])
    with pytest.raises(InputError, match=r"'stop'.*abort, pause, ignore"):
        made.availability.finish(np.array([0]), 0.0, 1.0, "stop")  # type: ignore[arg-type]


def test_instants_after_thirty_years_are_as_sharp_as_the_first() -> None:
    phone = world([[(2000, 5000)]], [10_000])
    late = 10.0 * 94_672_800
    wanted = [(False, late + 2), (True, late + 5), (False, late + 12)]
    assert answers(phone, [late + 1.999999, late + 2, late + 5]) == wanted


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_exponential_stays_finish_by_their_law(scale: float) -> None:
    """Stays of rate λ, work w, abort: the share that finishes is exp(−λw), wherever inside a stay it begins."""
    n, rate = 20_000, 1 / 600
    draw = np.random.default_rng(4)
    lengths_ms = np.maximum(np.rint(draw.exponential(600_000, (n, 40))), 1).astype(np.int64)
    edges = np.cumsum(lengths_ms, axis=1)
    windows = Windows(
        offsets=np.arange(0, 20 * n + 1, 20),
        start_ms=edges[:, 0::2].ravel(),
        end_ms=edges[:, 1::2].ravel(),
        period_ms=edges[:, -1] + 1000,
        trace_start_ms=np.zeros(n, dtype=np.int64),
        is_local=np.zeros(n, dtype=bool),
    )
    traces = TraceSet.of([Events.of([])] * n, period_s=(windows.period_ms / 1000).tolist(), is_local=False)
    availability = Availability(Fleet(traces, n_devices=n, seed=0, is_replay=True), windows)
    now = draw.uniform(1000, 4000, n)
    is_open, _ = availability.at(np.arange(n), now)
    ids, work_s = np.flatnonzero(is_open), scale / rate
    assert ids.size > 0.4 * n
    share = float((~np.isnan(availability.finish(ids, now[ids], work_s, "abort"))).mean())
    wanted = math.exp(-rate * work_s)
    assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / ids.size))


# ----------------------------------------------------------------------------------------------- track


Step = tuple[int, float | None]  # ms since the trace's first instant, network code or unknown


def track_of(logs: list[list[Step]], periods_ms: list[int], starts_ms: list[int]) -> Track:
    traces = TraceSet.of(
        [Events.of([(at / 1000, "network", value) for at, value in log]) for log in logs],
        period_s=[period / 1000 for period in periods_ms],
        start_s=[start / 1000 for start in starts_ms],
        is_local=False,
    )
    return Track(Fleet(traces, n_devices=len(logs), seed=0, is_replay=True), compile_channel(traces, "network"))


def level(log: list[Step], period_ms: int, start_ms: int, at_us: int) -> tuple[float, int]:
    """Value and the next entry's instant (µs), by going through the log."""
    position = (at_us - start_ms * 1000) % (period_ms * 1000)
    value, following = math.nan, period_ms * 1000
    for at, entry in log:
        if at * 1000 <= position:
            value = math.nan if entry is None else entry
        elif following == period_ms * 1000:
            following = at * 1000
    return value, at_us + following - position


@st.composite
def network_logs(draw: st.DrawFn) -> tuple[list[list[Step]], list[int], list[int]]:
    n = draw(st.integers(1, 4))
    periods = draw(st.lists(st.integers(5, 40), min_size=n, max_size=n))
    starts = draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    value = st.none() | st.integers(0, 5).map(float)
    logs: list[list[Step]] = []
    for period in periods:
        instants = sorted(draw(st.sets(st.integers(0, period - 1), max_size=6)))
        logs.append([(at, draw(value)) for at in instants])
    if not any(logs):
        logs[0] = [(draw(st.integers(0, periods[0] - 1)), 1.0)]
    return logs, periods, starts


@given(made=network_logs(), data=st.data())
def test_track_is_the_log_read_line_by_line(
    made: tuple[list[list[Step]], list[int], list[int]], data: st.DataObject
) -> None:
    logs, periods, starts = made
    ask = st.tuples(st.integers(0, len(logs) - 1), st.integers(-50, 200).map(lambda ms: ms * 500))
    asked = data.draw(st.lists(ask, min_size=1, max_size=30))
    cells, now = columns(asked)
    value, until = track_of(logs, periods, starts).at_cells(cells, now)
    wanted = [level(logs[cell], periods[cell], starts[cell], at) for cell, at in asked]
    assert np.array_equal(value, np.array([value for value, _ in wanted], dtype=np.float32), equal_nan=True)
    assert until.tolist() == seconds([until for _, until in wanted])


def test_a_track_wraps_to_what_its_trace_begins_with() -> None:
    track = track_of([[(3000, 1), (7000, 4)], [(0, 2)]], [10_000, 10_000], [0, 0])
    for now, value, until in [(0.0, math.nan, 3.0), (9.0, 4.0, 10.0), (10.0, math.nan, 13.0), (14.0, 1.0, 17.0)]:
        values, untils = track.at_cells(np.arange(2), now)
        assert np.array_equal(values, np.array([value, 2], dtype=np.float32), equal_nan=True)
        assert untils.tolist() == [until, 10.0 if now < 10 else 20.0]
