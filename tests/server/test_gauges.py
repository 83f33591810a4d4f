"""Gauges: exact means and maxima per interval, against a count microsecond by microsecond."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.device.session import SESSION, Sessions
from fedsim.errors import InputError, SimulationError
from fedsim.schema import GAUGES
from fedsim.server import folds, gauges
from fedsim.server.gauges import Changes, Gauges
from fedsim.units import DAY_S, US_PER_S, IntArray

N_DEVICES = 30
MICRO = 1_000_000  # of a device, in which levels are told here


def trips(instants_us: Sequence[Sequence[int]]) -> Sessions:
    """Sessions of (assigned, download end, train end, upload end, end)."""
    rows = np.zeros(len(instants_us), dtype=SESSION)
    for i, name in enumerate(("assigned_at", "download_end_at", "train_end_at", "upload_end_at", "end_at")):
        rows[name] = np.array([row[i] for row in instants_us]) / US_PER_S
    return rows


def bytes_of(*sizes: int) -> IntArray:
    return np.array(sizes, dtype=np.int64)


def curve(at_us: Sequence[int], level: Sequence[int]) -> Changes:
    """Levels in millionths from instants on; the first instant is 0."""
    at, levels = np.array(at_us), np.array(level)

    def changes(start_us: int, stop_us: int) -> tuple[IntArray, IntArray]:
        inner = at[(at > start_us) & (at < stop_us)]
        instants = np.concatenate([[start_us], inner])
        return instants, levels[np.searchsorted(at, instants, side="right") - 1]

    return changes


ALL_THERE = curve([0], [N_DEVICES * MICRO])


def columns(told: Gauges, end_us: int, closed_us: Sequence[int] = ()) -> dict[str, list[Any]]:
    table = told.table(end_us / US_PER_S, np.array(closed_us) / US_PER_S)
    return dict(pa.table(table, schema=GAUGES.arrow()).to_pydict())


# A small world, told in many ways


class World:
    """Random trips, waits and eligible levels on a few µs, so that instants are shared."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.end_us, self.interval_us = int(draw.integers(1, 90)), int(draw.integers(1, 25))
        n = int(draw.integers(0, 40))
        start = draw.integers(0, self.end_us + 3, n)
        phases = np.cumsum(draw.integers(0, draw.choice([3, 60]), (3, n)), axis=0) + start
        end = np.minimum(phases[2], start + draw.integers(0, 80, n))
        self.instants = np.stack([start, *phases, end], axis=1)
        self.sizes = draw.integers(0, 50, (2, n))
        arrivals = draw.integers(0, self.end_us + 3, n)
        self.waits = np.stack([arrivals, arrivals + draw.integers(0, 9, n)], axis=1)
        self.curve_at = np.unique([0, *draw.integers(0, 90, 7)])
        self.levels = draw.integers(0, N_DEVICES * MICRO, len(self.curve_at))
        self.outlives = bool(draw.random() < 0.5)
        middle = (start + end) // 2
        self.present = np.stack([start, middle], axis=1) if self.outlives else np.stack([start, end], axis=1)
        self.closed = np.sort(draw.integers(0, self.end_us + 1, 4))

    def start(self) -> Gauges:
        changes = curve(self.curve_at.tolist(), self.levels.tolist())
        return Gauges(
            self.interval_us / US_PER_S,
            changes=changes,
            scale=MICRO,
            n_devices=N_DEVICES,
            outlives_windows=self.outlives,
        )

    def tell(self, told: Gauges, some: IntArray, waits: IntArray) -> None:
        spells = self.present[some].T / US_PER_S
        rows = trips(self.instants[some].tolist())
        told.sessions(rows, *self.sizes[:, some], present=tuple(spells) if self.outlives else None)
        told.waits(*(self.waits[waits].T / US_PER_S))

    def at_once(self) -> dict[str, list[Any]]:
        told, everything = self.start(), np.arange(len(self.instants))
        self.tell(told, everything, everything)
        return columns(told, self.end_us, self.closed.tolist())

    def in_parts(self, draw: np.random.Generator) -> dict[str, list[Any]]:
        told = self.start()
        bounds = [0, *sorted(draw.integers(0, self.end_us + 1, 6).tolist()), 1000]
        for since, until in pairwise(bounds):
            some = draw.permutation(np.flatnonzero((self.instants[:, 0] >= since) & (self.instants[:, 0] < until)))
            waits = np.flatnonzero((self.waits[:, 0] >= since) & (self.waits[:, 0] < until))
            self.tell(told, some[::2], waits)
            self.tell(told, some[1::2], waits[:0])
            told.advance(min(until, self.end_us) / US_PER_S)
        return columns(told, self.end_us, self.closed.tolist())

    def by_hand(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {column.name: [] for column in GAUGES.columns}
        for at in range(0, self.end_us, self.interval_us):
            until = min(at + self.interval_us, self.end_us)
            row = self.row(range(at, until), is_last=until == self.end_us)
            row |= {"at": at / US_PER_S, "until": until / US_PER_S, "version": int((self.closed <= at).sum())}
            for name, value in row.items():
                found[name].append(value)
        return found

    def row(self, span: range, *, is_last: bool) -> dict[str, float]:
        def count(spells: IntArray, t: int) -> int:
            return sum(start <= t < stop for start, stop in spells.tolist())

        flying = [count(self.instants[:, [0, 4]], t) for t in span]
        waiting = [count(self.waits, t) for t in span]
        eligible = [int(self.levels[self.curve_at <= t][-1]) for t in span]
        present = [count(self.present, t) for t in span]
        free = [level - MICRO * busy for level, busy in zip(eligible, present, strict=True)]
        down_mean, down_max = self.moved(0, span, is_last=is_last)
        up_mean, up_max = self.moved(1, span, is_last=is_last)
        n = len(span)
        return {
            "eligible_fraction_mean": float(Fraction(sum(eligible), MICRO * N_DEVICES * n)),
            "in_flight_mean": float(Fraction(sum(flying), n)),
            "in_flight_max": max(flying),
            "waiting_mean": float(Fraction(sum(waiting), n)),
            "waiting_max": max(waiting),
            "download_bytes_per_s_mean": down_mean,
            "download_bytes_per_s_max": down_max,
            "upload_bytes_per_s_mean": up_mean,
            "upload_bytes_per_s_max": up_max,
            "free_eligible_mean": float(Fraction(sum(free), MICRO * n)),
            "free_eligible_max": max(free) / MICRO,
        }

    def moved(self, way: int, span: range, *, is_last: bool) -> tuple[float, float]:
        """Bytes per second, mean and maximum, down (0) or up (1)."""
        total, speeds = 0, [0] * len(span)
        for instants, size in zip(self.instants.tolist(), self.sizes[way].tolist(), strict=True):
            start, stop = min(instants[2 * way], instants[4]), min(instants[2 * way + 1], instants[4])
            if start == stop:
                total += size * (start in span or (is_last and start == span.stop))
                continue
            shares = [(min(max(t, start), stop) - start) / (stop - start) for t in (span.start, span.stop)]
            total += round(shares[1] * size) - round(shares[0] * size)
            for i, t in enumerate(span):
                speeds[i] += round(size / (stop - start) * 1e9) * (start <= t < stop)
        return float(Fraction(total * US_PER_S, len(span))), max(speeds) / 1000


@pytest.mark.parametrize("seed", range(60))
def test_means_and_maxima_are_those_counted_microsecond_by_microsecond(seed: int) -> None:
    world = World(seed)
    assert world.at_once() == world.by_hand()


@pytest.mark.parametrize("seed", range(60))
def test_it_does_not_matter_how_sessions_are_told(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world, draw = World(seed), np.random.default_rng(seed)
    at_once = world.at_once()
    monkeypatch.setattr(gauges, "_PER_BATCH", 1)
    monkeypatch.setattr(gauges, "_CURVE_US", 7)
    monkeypatch.setattr(folds, "_MOST_PIECES", 5)
    for _ in range(3):
        assert world.in_parts(draw) == at_once


# Known answers


def test_one_trip() -> None:
    """Assigned at 1 s, 2 s of download, 3 s of training, 4 s of upload, in intervals of 4 s; the run ends at 11 s."""
    told = Gauges(4.0, changes=curve([0, 5 * US_PER_S], [3 * MICRO, 7 * MICRO]), scale=MICRO, n_devices=10)
    told.sessions(trips([[US_PER_S * t for t in (1, 3, 6, 10, 10)]]), bytes_of(500), bytes_of(80))
    told.waits(np.array([10.0]), np.array([10.5]))
    found = columns(told, 11 * US_PER_S, [4 * US_PER_S, 5 * US_PER_S])
    assert found == {
        "at": [0.0, 4.0, 8.0],
        "until": [4.0, 8.0, 11.0],
        "eligible_fraction_mean": [0.3, 0.6, 0.7],
        "in_flight_mean": [0.75, 1.0, 2 / 3],
        "in_flight_max": [1, 1, 1],
        "waiting_mean": [0.0, 0.0, 0.5 / 3],
        "waiting_max": [0, 0, 1],
        "download_bytes_per_s_mean": [125.0, 0.0, 0.0],
        "download_bytes_per_s_max": [250.0, 0.0, 0.0],
        "upload_bytes_per_s_mean": [0.0, 10.0, 40 / 3],
        "upload_bytes_per_s_max": [0.0, 20.0, 20.0],
        "free_eligible_mean": [2.25, 5.0, 19 / 3],
        "free_eligible_max": [3.0, 6.0, 7.0],
        "version": [0, 1, 2],
    }


def test_one_that_ends_and_one_that_begins_at_an_instant_are_not_there_together() -> None:
    told = Gauges(10e-6, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.sessions(trips([[0, 4, 4, 4, 4], [4, 9, 9, 9, 9], [9, 9, 9, 9, 9]]), bytes_of(8, 8, 0), bytes_of(0, 0, 0))
    found = columns(told, 10)
    assert found["in_flight_max"] == [1] and found["in_flight_mean"] == [0.9]
    assert found["download_bytes_per_s_max"] == [2e6]  # 8 bytes in 4 µs, then 8 in 5
    assert found["free_eligible_max"] == [N_DEVICES]  # in the last µs


def test_a_trip_that_is_cut_has_moved_its_bytes_by_then() -> None:
    """Planned to download until 30 µs, it ends at 10; another crashes while it uploads: 6 bytes from 12 to 14."""
    told = Gauges(8e-6, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    never = 10**15
    told.sessions(trips([[0, 30, never, never, 10], [2, 2, 12, 90, 14]]), bytes_of(50, 7), bytes_of(0, 6))
    found = columns(told, 16)
    assert found["download_bytes_per_s_mean"] == [47e6 / 8, 10e6 / 8]  # 40 + 7 (at once), 10
    assert found["download_bytes_per_s_max"] == [5e6, 5e6]
    assert found["upload_bytes_per_s_mean"] == [0, 6e6 / 8]
    assert found["upload_bytes_per_s_max"] == [0, 3e6]


def test_what_goes_on_at_the_end_of_the_run_is_cut_there() -> None:
    told = Gauges(10e-6, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.sessions(trips([[5, 45, 45, 45, 45], [16, 20, 20, 20, 20]]), bytes_of(400, 4), bytes_of(0, 0))
    told.waits(np.array([12e-6]), np.array([np.inf]))
    found = columns(told, 15)
    assert found["until"] == [10e-6, 15e-6]
    assert found["in_flight_mean"] == [0.5, 1.0]
    assert found["waiting_mean"] == [0.0, 0.6]
    assert found["download_bytes_per_s_mean"] == [5e6, 10e6]  # 50 bytes in 10 µs, 50 in 5


def test_what_moves_at_the_very_end_belongs_to_the_last_interval() -> None:
    told = Gauges(5e-6, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.sessions(trips([[3, 3, 10, 10, 10]]), bytes_of(10), bytes_of(35))
    found = columns(told, 10)
    assert found["download_bytes_per_s_mean"] == [2e6, 0.0]
    assert found["upload_bytes_per_s_mean"] == [0.0, 7e6]
    assert found["upload_bytes_per_s_max"] == [0.0, 0.0]


def test_a_device_that_is_not_eligible_is_not_missing_among_those_that_are() -> None:
    """Five are eligible; a trip from 0 to 8 µs, the device of which is eligible until 2 and from 6 on."""
    told = Gauges(4e-6, changes=curve([0], [5 * MICRO]), scale=MICRO, n_devices=N_DEVICES, outlives_windows=True)
    present = (np.array([0, 6e-6]), np.array([2e-6, 8e-6]))
    told.sessions(trips([[0, 1, 2, 8, 8]]), bytes_of(0), bytes_of(0), present=present)
    found = columns(told, 8)
    assert found["in_flight_mean"] == [1.0, 1.0]
    assert found["free_eligible_mean"] == [4.5, 4.5]
    assert found["free_eligible_max"] == [5.0, 5.0]


def test_littles_law() -> None:
    """One worker, ρ = 0.3: 0.3 / 0.7 reports are there on average, 0.09 / 0.7 of them wait (M/M/1)."""
    draw, n = np.random.default_rng(7), 200_000
    arrived = np.rint(np.cumsum(draw.exponential(1.0, n)) * 1e6)
    service = np.rint(draw.exponential(0.3, n) * 1e6)
    # A worker is done at: the last of service times so far, begun at any arrival since (Lindley 1952).
    total = np.cumsum(service)
    done = total + np.maximum.accumulate(arrived - (total - service))
    started = done - service
    told = Gauges(4 * DAY_S, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    rows = trips(np.stack([arrived, arrived, arrived, done, done], axis=1).astype(np.int64).tolist())
    told.sessions(rows, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64))
    told.waits(arrived / 1e6, started / 1e6)
    end_us = int(done.max())
    found = columns(told, end_us)
    assert found["in_flight_mean"][0] == pytest.approx(0.3 / 0.7, rel=0.03)
    assert found["waiting_mean"][0] == pytest.approx(0.09 / 0.7, rel=0.05)
    assert found["waiting_mean"][0] == (started - arrived).sum() / end_us  # arrival rate × mean wait, exactly


def test_the_largest_fleet_for_the_longest_interval() -> None:
    """A thousand million devices for 100 days: more than 64 bits of device-µs."""
    level = 10**15 - 1
    told = Gauges(100.0 * DAY_S, changes=curve([0], [level]), scale=MICRO, n_devices=10**9)
    found = columns(told, 100 * DAY_S * US_PER_S)
    assert found["free_eligible_mean"] == found["free_eligible_max"] == [level / MICRO]
    assert found["eligible_fraction_mean"] == [level / 10**15]


def test_a_fast_transfer_beyond_what_phones_can_do_is_bounded_in_the_maximum_alone() -> None:
    told = Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.sessions(trips([[5, 6, 6, 6, 6]]), bytes_of(10**9), bytes_of(0))
    found = columns(told, US_PER_S)
    assert found["download_bytes_per_s_mean"] == [1e9] and found["download_bytes_per_s_max"] == [1e10]


def test_a_run_without_time_has_no_rows() -> None:
    told = Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.sessions(trips([[0, 0, 0, 0, 0]]), bytes_of(3), bytes_of(4))
    assert all(values == [] for values in columns(told, 0).values())


# What it refuses


@pytest.mark.parametrize("interval_s", [0.0, -1.0, 1e-7, 1e9])
def test_an_interval_must_be_one(interval_s: float) -> None:
    with pytest.raises(InputError, match="gauge_interval_s"):
        Gauges(interval_s, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)


def test_eligible_spells_are_told_where_they_are_wanted_and_only_there() -> None:
    row, none = trips([[0, 1, 2, 3, 3]]), np.zeros(1, dtype=np.int64)
    with pytest.raises(SimulationError, match="eligible spells"):
        Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=1).sessions(row, none, none, present=([0.0], [1.0]))
    with pytest.raises(SimulationError, match="eligible spells"):
        Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=1, outlives_windows=True).sessions(row, none, none)


def test_the_past_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "_PER_BATCH", 0)
    told = Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.advance(5.0)
    told.sessions(trips([[4_999_999, 6_000_000, 6_000_000, 6_000_000, 6_000_000]]), bytes_of(1), bytes_of(1))
    with pytest.raises(SimulationError, match="before the instant it had reached"):
        told.table(7.0, [])


def test_the_end_is_not_before_what_was_reached() -> None:
    told = Gauges(1.0, changes=ALL_THERE, scale=MICRO, n_devices=N_DEVICES)
    told.advance(5.0)
    with pytest.raises(SimulationError, match="beyond the run's end"):
        told.table(4.0, [])
