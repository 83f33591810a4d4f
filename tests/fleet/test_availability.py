"""Availability against a model that walks windows one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.traces.criteria import Windows
from tests.fleet.walked import US, Spans, World, columns, questions, seconds, world, worlds
from tests.hand import events_of, traces_of

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


@pytest.mark.slow
@given(made=worlds(), data=st.data())
def test_questions_by_device_are_those_of_its_cell(made: World, data: st.DataObject) -> None:
    fleet, availability = made.fleet, made.availability
    ids = np.array(data.draw(st.lists(st.integers(0, fleet.n_devices - 1), min_size=1, max_size=20)))
    at = data.draw(st.integers(0, 3 * made.longest_us))
    cells = fleet.cell_of(ids)
    is_open, until = availability.at(ids, at / US)
    assert is_open.tolist() == [made.phones[cell].is_open(at) for cell in cells]
    by_cell = availability.at_cells(cells, at / US)
    assert (is_open.tolist(), until.tolist()) == (by_cell[0].tolist(), by_cell[1].tolist())


@pytest.mark.slow
@given(question=questions(), data=st.data())
def test_paused_work_ends_as_in_the_model(question: tuple[World, list[tuple[int, int]]], data: st.DataObject) -> None:
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
    end = made.availability.finish_paused(cells, start, np.array(work) / US)
    wanted = [made.phones[c].finish(at, w) for (c, at), w in zip(asked, work, strict=True)]
    assert np.array_equal(np.isnan(end), np.isnan(wanted))
    assert np.nan_to_num(end).tolist() == pytest.approx(np.nan_to_num(seconds(wanted)).tolist(), abs=1e-9, rel=1e-15)


@pytest.mark.slow
@given(question=questions(max_size=12), data=st.data())
def test_open_s_is_the_model(question: tuple[World, list[tuple[int, int]]], data: st.DataObject) -> None:
    made, asked = question
    lengths = [data.draw(st.integers(0, 3 * made.phones[cell].period_us)) for cell, _ in asked]
    cells, start = columns(asked)
    end = np.array([at + length for (_, at), length in zip(asked, lengths, strict=True)]) / US
    wanted = [made.phones[c].open_us(at, at + length) / US for (c, at), length in zip(asked, lengths, strict=True)]
    assert made.availability.open_s(cells, start, end).tolist() == wanted


@pytest.mark.slow
@given(question=questions(max_size=12), work=st.integers(1, 10**8))
def test_paused_work_takes_its_length_of_open_time(question: tuple[World, list[tuple[int, int]]], work: int) -> None:
    made, asked = question
    cells, start = columns(asked)
    end = made.availability.finish_paused(cells, start, work / US)
    some = ~np.isnan(end)
    assert made.availability.open_s(cells[some], start[some], end[some]) == pytest.approx(work / US, abs=1e-6)
    assert made.availability.at_cells(cells[some], end[some] - 1e-6)[0].all()  # it ends while the device is there


@pytest.mark.slow
@given(made=worlds(), data=st.data())
def test_all_cells_are_the_same_in_any_query_order(made: World, data: st.DataObject) -> None:
    everywhere, watch = np.arange(made.fleet.n_cells), made.availability.watch()
    at = 0
    for _ in range(data.draw(st.integers(1, 25))):
        change = watch.next_change(at / US)
        steps = [at + 1, at - data.draw(st.integers(0, made.longest_us)), at]
        if math.isfinite(change):
            on_change = round(change * US)
            steps += [on_change, on_change, on_change - 1, on_change + 1, on_change + made.longest_us]
        at = data.draw(st.sampled_from(steps))
        is_open, until = watch.cells_at(at / US)
        fresh_open, fresh_until = made.availability.at_cells(everywhere, at / US)
        assert is_open.tolist() == fresh_open.tolist() == [phone.is_open(at) for phone in made.phones]
        assert until.tolist() == fresh_until.tolist()


@pytest.mark.slow
@given(made=worlds(), data=st.data())
def test_questions_about_the_fleet_are_the_model(made: World, data: st.DataObject) -> None:
    fleet, availability = made.fleet, made.availability
    watch = availability.watch()
    homes = fleet.cell_of(np.arange(fleet.n_devices)).tolist()
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 3 * made.longest_us))
        here = [made.phones[cell].is_open(at) for cell in homes]
        assert availability.eligible_fraction(at / US) == pytest.approx(sum(here) / len(here), abs=1e-12)
        away = [made.phones[cell].change_after(at) for cell, is_here in zip(homes, here, strict=True) if not is_here]
        assert watch.earliest_start(at / US) == min(away, default=math.inf) / US
        assert watch.next_change(at / US) == min(phone.change_after(at) for phone in made.phones) / US


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
    assert phone.availability.finish_paused(np.array([0]), 8.5, 3.5).tolist() == [12.0]


def test_always_and_never() -> None:
    made = world([[(0, 10_000)], []], [10_000, 10_000])
    assert answers(made, [0, 9.999999, 10, 1e8], cell=0) == [(True, math.inf)] * 4
    assert answers(made, [0, 9.999999, 10, 1e8], cell=1) == [(False, math.inf)] * 4
    both = np.array([0, 1])
    end = made.availability.finish_paused(both, 7.0, 1e6)
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
    paused = made.availability.finish_paused(np.arange(3), 5.0, 1.5).tolist()
    assert math.isnan(paused.pop(where))
    assert paused == [12.5, 14.5]


def test_a_set_without_any_window() -> None:
    made = world([[], []], [10_000, 20_000], n_devices=7)
    cells = np.arange(2)
    watch = made.availability.watch()
    is_open, until = watch.cells_at(3.0)
    assert not is_open.any()
    assert np.isinf(until).all()
    assert np.isnan(made.availability.finish_paused(cells, 3.0, 1.0)).all()
    assert made.availability.open_s(cells, 0.0, 50.0).tolist() == [0.0, 0.0]
    assert made.availability.eligible_fraction(3.0) == 0.0
    assert watch.earliest_start(3.0) == watch.next_change(3.0) == math.inf


def test_pause_goes_on_in_the_next_windows() -> None:
    phone = world([[(0, 2000), (5000, 6000)]], [10_000])
    finish = phone.availability.finish_paused
    cell = np.zeros(1, dtype=np.int64)
    cases = [(1, 1, 2), (1, 1.5, 5.5), (1, 2, 6), (1, 2.5, 10.5), (3, 1, 6), (3, 3, 12), (3, 6, 22), (3, 0, 3)]
    for start, work, end in cases:
        assert finish(cell, float(start), float(work)).tolist() == [end], (start, work)


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
    traces = traces_of([events_of([])] * n, period_s=(windows.period_ms / 1000).tolist(), is_local=False)
    availability = Availability(Fleet(traces, n_devices=n, seed=0, is_replay=True), windows)
    now = draw.uniform(1000, 4000, n)
    is_open, until = availability.at(np.arange(n), now)
    ids, work_s = np.flatnonzero(is_open), scale / rate
    assert ids.size > 0.4 * n
    share = float((now[ids] + work_s <= until[ids]).mean())
    wanted = math.exp(-rate * work_s)
    assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / ids.size))
