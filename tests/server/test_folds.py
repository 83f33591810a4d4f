"""Folds over spells of time: order, cuts and what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from fedsim.server.folds import Counted, Intervals, Moved, Spells, Steps
from fedsim.units import DAY_S, US_PER_S, IntArray


def ints(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def test_a_level_goes_on_until_the_next_and_is_cut_at_edges() -> None:
    steps = Steps(ints(2, 5, 5, 12), ints(7, 1, 1, 3), 21)
    edges = steps.edges(10)
    assert edges.tolist() == [2, 10, 20, 21]
    assert steps.integrals(edges).tolist() == [3 * 7 + 5 * 1, 2 * 1 + 8 * 3, 3]
    assert steps.maxima(edges).tolist() == [7, 3, 3]
    part = steps.between(5, 11)
    assert (part.at_us.tolist()[0], part.level.tolist()[0], part.until_us) == (5, 1, 11)
    assert steps.between(3, 12).maxima(ints(3, 4, 6, 12)).tolist() == [7, 7, 1]


def test_a_level_that_begins_at_an_edge_is_not_in_the_interval_before() -> None:
    steps = Steps(ints(0, 10), ints(1, 9), 20)
    assert steps.maxima(steps.edges(10)).tolist() == [1, 9]


def test_the_bytes_of_a_transfer_over_many_intervals_add_up_to_all_of_it() -> None:
    """1,000,003 bytes over 777,777 intervals and a bit: 1.3 bytes each, none lost to rounding."""
    sums = Intervals(10)
    sums.spread(ints(3, 25), ints(7_777_777, 26), ints(1_000_003, 5), 8_000_000)
    parts = sums.part(0, 800_000)
    assert parts.sum() == 1_000_008
    assert parts[0] in (0, 1) and parts[2] in (6, 7) and set(parts[3:777_777].tolist()) == {1, 2}
    assert not parts[777_778:].any()


def test_only_what_is_not_over_is_kept() -> None:
    spells = Spells()
    for start in range(0, 1000, 10):
        spells.add(ints(start, start + 1), ints(start + 4, start + 25))
        spells.go_on(start + 10)
        assert spells.n_open <= 3


def test_what_stops_where_time_is_cut_is_netted_with_what_begins_there() -> None:
    counted = Counted(100)
    counted.spells.add(ints(0), ints(10))
    assert counted.go_on(10).level.tolist() == [1]
    counted.spells.add(ints(10), ints(20))
    counted.go_on(30)
    assert counted.maxima.part(0, 1).tolist() == [1] and counted.sums.part(0, 1).tolist() == [20]


@pytest.mark.parametrize("start_us", [0, 200 * 365 * DAY_S * US_PER_S])
def test_spells_that_lie_far_apart(start_us: int) -> None:
    """Instants two thousand years apart, which do not fit one number together with their places."""
    far = 2_000 * 365 * DAY_S * US_PER_S
    spells = Spells()
    spells.add(np.repeat(ints(far, start_us, start_us + 1), 50), np.repeat(ints(far + 2, start_us + 5, far + 1), 50))
    steps, over = spells.go_on(far + 10)
    levels = dict(zip((steps.at_us - start_us).tolist(), steps.level.tolist(), strict=True))
    far -= start_us
    expected = {0: 50, 1: 100, 5: 50, far: 100, far + 1: 50, far + 2: 0}
    assert {at: levels[at] for at in expected} == expected
    assert over.shape == (4, 150)


def test_speeds_come_back_to_nothing() -> None:
    """Rates that are no whole numbers are rounded once, and taken off as they were added."""
    moved = Moved(1_000_000)
    draw = np.random.default_rng(3)
    start = np.sort(draw.integers(0, 900_000, 500))
    moved.add(start, start + draw.integers(0, 90_000, 500), draw.integers(0, 10**7, 500))
    for until in (200_000, 200_001, 990_001, 3_000_000):
        moved.go_on(until)
    assert moved.maxima.part(1, 3).tolist() == [0, 0]
