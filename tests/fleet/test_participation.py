"""The table of touched devices against a dict."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fedsim.fleet.participation import Participation

CANDIDATES = np.arange(400_000, dtype=np.uint64)
# All of these look first in one of the last slots of a new table: they collide, and run over its end.
HOME = CANDIDATES * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(52)
CROWDED = CANDIDATES[HOME >= 4094].astype(np.int64)[:180]
POOL = np.concatenate([CROWDED, 10**15 + np.arange(40), np.arange(40)])
INSTANTS = st.integers(0, 100).map(float)


def batches(max_size: int = 60) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from(sorted(set(POOL.tolist()))), unique=True, max_size=max_size)


class Bookkeeping(RuleBasedStateMachine):
    """Any order of bookings; the dict holds (sessions, busy until, participated at)."""

    @initialize(n_before=st.sampled_from([0, 0, 2040, 5000]))
    def fill(self, n_before: int) -> None:
        """Some start just below the bound at which the table grows."""
        self.table, self.rows = Participation(), dict[int, list[float]]()
        ids = 10**12 + np.arange(n_before)
        self.table.begin(ids)
        self.rows |= {int(i): [1, -math.inf, -math.inf] for i in ids}

    @rule(ids=batches())
    def begin(self, ids: list[int]) -> None:
        before, _ = self.table.begin(np.array(ids, dtype=np.int64))
        assert before.tolist() == [self.rows.get(i, [0])[0] for i in ids]
        for i in ids:
            self.rows.setdefault(i, [0, -math.inf, -math.inf])[0] += 1

    @rule(ids=batches(), until=INSTANTS)
    def begin_and_hold(self, ids: list[int], until: float) -> None:
        _, slots = self.table.begin(np.array(ids, dtype=np.int64))
        self.table.hold(slots, until + np.arange(len(ids), dtype=np.float64))
        for j, i in enumerate(ids):
            row = self.rows.setdefault(i, [0, -math.inf, -math.inf])
            row[0] += 1
            row[1] = until + j

    @rule(ids=batches(), until=INSTANTS)
    def end(self, ids: list[int], until: float) -> None:
        known = [i for i in ids if i in self.rows]
        self.table.end(np.array(known, dtype=np.int64), until + np.arange(len(known), dtype=np.float64))
        for j, i in enumerate(known):
            self.rows[i][1] = until + j

    @rule(ids=batches(), at=INSTANTS | st.just(math.inf))
    def aggregate(self, ids: list[int], at: float) -> None:
        known = [i for i in ids if i in self.rows]
        self.table.aggregate(np.array(known, dtype=np.int64), at)
        for i in known:
            self.rows[i][2] = at

    @rule(ids=batches(), now=INSTANTS, separation=st.sampled_from([0.0, 7.0, 1e9]))
    def is_free(self, ids: list[int], now: float, separation: float) -> None:
        free = self.table.is_free(np.array(ids, dtype=np.int64), now, min_separation_s=separation)
        rows = [self.rows.get(i, [0, -math.inf, -math.inf]) for i in ids]
        is_rested = [separation == 0 or done <= now - separation for _, _, done in rows]
        assert free.tolist() == [row[1] <= now and rested for row, rested in zip(rows, is_rested, strict=True)]

    @invariant()
    def counts_the_touched(self) -> None:
        assert self.table.n_touched == len(self.rows)


TestBookkeeping = pytest.mark.slow(Bookkeeping.TestCase)
TestBookkeeping.settings = settings(max_examples=40, stateful_step_count=15)


def test_a_device_is_free_again_exactly_when_its_session_ends() -> None:
    table, phone = Participation(), np.array([5])
    assert table.is_free(phone, 0.0, min_separation_s=1e12).tolist() == [True]
    table.begin(phone)
    table.end(phone, np.array([10.0]))
    free = [table.is_free(phone, now, min_separation_s=0.0)[0] for now in (9.999999, 10.0, 11.0)]
    assert free == [False, True, True]


def test_separation_counts_from_the_aggregation() -> None:
    table, phones = Participation(), np.array([5, 6])
    table.begin(phones)
    table.end(phones, np.array([10.0, 10.0]))
    table.aggregate(phones[:1], 12.0)
    for now, free in [(10.0, [False, True]), (61.999, [False, True]), (62.0, [True, True])]:
        assert table.is_free(phones, now, min_separation_s=50.0).tolist() == free


def test_debts_and_caches_belong_to_their_devices() -> None:
    table, phones = Participation(n_assets=2), np.array([5, 6, 7])
    never = [-math.inf] * 2
    assert [column.tolist() for column in table.debt(phones)] == [[0, 0, 0], [-math.inf] * 3]
    _, slots = table.begin(phones)
    assert [column.tolist() for column in table.cache(slots)] == [[-1, -1, -1], [never] * 3]
    table.owe(phones[1:], np.array([2.5, 0.5]), np.array([10.0, 11.0]))
    table.fill_cache(slots[:2], 4, np.array([[20.0, 1.0], [21.0, 2.0]]))
    table.begin(1000 + np.arange(5000))  # the table grows
    _, slots = table.begin(phones)
    assert [column.tolist() for column in table.debt(phones)] == [[0, 2.5, 0.5], [-math.inf, 10, 11]]
    assert [column.tolist() for column in table.cache(slots)] == [[4, 4, -1], [[20, 1], [21, 2], never]]


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_table_that_grows_forgets_nothing(seed: int) -> None:
    table, draw = Participation(), np.random.default_rng(seed)
    ids = draw.choice(10**9, 20_000, replace=False)
    for part in np.array_split(ids, 7):
        assert (table.begin(part)[0] == 0).all()
        table.end(part, part.astype(np.float64))
    assert table.n_touched == 20_000
    assert (table.begin(ids[::-1].copy())[0] == 1).all()
    assert table.is_free(ids, 5e8, min_separation_s=0.0).tolist() == (ids <= 5e8).tolist()


def test_asking_touches_nobody() -> None:
    table = Participation()
    table.is_free(np.arange(10_000), 0.0, min_separation_s=0.0)
    assert table.n_touched == 0
    assert (table.begin(np.arange(5))[0] == 0).all()


@pytest.mark.slow
def test_a_touched_device_takes_at_most_352_bytes() -> None:
    tracemalloc.start()
    try:
        table = Participation()
        for part in np.array_split(np.arange(200_000), 20):
            table.begin(part)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 352 * 200_000
