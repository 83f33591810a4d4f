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
    """Any order of bookings; the dict holds (sessions, free at, participated at)."""

    @initialize(n_before=st.sampled_from([0, 0, 2700, 9000]))
    def fill(self, n_before: int) -> None:
        """Some start just below the bound at which the table grows."""
        self.table, self.rows = Participation(keeps_participations=True), dict[int, list[float]]()
        ids = 10**12 + np.arange(n_before)
        self.table.begin(ids, np.full(n_before, 3.0))
        self.rows |= {int(i): [1, 3.0, -math.inf] for i in ids}

    @rule(ids=batches(), until=INSTANTS)
    def begin(self, ids: list[int], until: float) -> None:
        self.table.begin(np.array(ids, dtype=np.int64), until + np.arange(len(ids), dtype=np.float64))
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

    @rule(ids=batches())
    def ask(self, ids: list[int]) -> None:
        asked = np.array(ids, dtype=np.int64)
        rows = [self.rows.get(i, [0, -math.inf, -math.inf]) for i in ids]
        found = (self.table.n_sessions(asked), self.table.free_at(asked), self.table.participated_at(asked))
        for column, values in zip(found, zip(*rows, strict=True) if rows else ([], [], []), strict=True):
            assert column.tolist() == list(values)

    @invariant()
    def counts_the_touched(self) -> None:
        assert self.table.n_touched == len(self.rows)


TestBookkeeping = pytest.mark.slow(Bookkeeping.TestCase)
TestBookkeeping.settings = settings(max_examples=40, stateful_step_count=15)


def test_what_is_not_kept_takes_no_room_and_is_not_noted() -> None:
    lean, table, phone = Participation(), Participation(keeps_participations=True), np.array([5])
    for each in (lean, table):
        each.begin(phone, np.array([10.0]))
        each.aggregate(phone, 12.0)
    assert table.participated_at(phone).tolist() == [12.0]
    assert lean.n_bytes < table.n_bytes


def test_debts_and_caches_belong_to_their_devices() -> None:
    table, phones = Participation(n_assets=2, keeps_debt=True, keeps_cache=True), np.array([5, 6, 7])
    never = [-math.inf] * 2
    assert [column.tolist() for column in table.debt(phones)] == [[0, 0, 0], [-math.inf] * 3]
    table.begin(phones, np.zeros(3))
    assert [column.tolist() for column in table.held(phones)] == [[-1, -1, -1], [never] * 3]
    table.owe(phones[1:], np.array([2.5, 0.5]), np.array([10.0, 11.0]))
    table.hold(phones[:2], 4, np.array([[20.0, 1.0], [21.0, 2.0]]))
    table.begin(1000 + np.arange(5000), np.zeros(5000))  # the table grows
    assert [column.tolist() for column in table.debt(phones)] == [[0, 2.5, 0.5], [-math.inf, 10, 11]]
    assert [column.tolist() for column in table.held(phones)] == [[4, 4, -1], [[20, 1], [21, 2], never]]


def test_where_caches_are_not_kept_nobody_holds_anything() -> None:
    version, assets_at = Participation(n_assets=2).held(np.arange(3))
    assert version.tolist() == [-1] * 3
    assert assets_at.tolist() == [[-math.inf] * 2] * 3


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_a_table_that_grows_forgets_nothing(seed: int) -> None:
    table, draw = Participation(), np.random.default_rng(seed)
    ids = draw.choice(10**9, 20_000, replace=False)
    for part in np.array_split(ids, 7):
        assert (table.n_sessions(part) == 0).all()
        table.begin(part, part.astype(np.float64))
    assert table.n_touched == 20_000
    assert (table.n_sessions(ids[::-1].copy()) == 1).all()
    assert table.free_at(ids).tolist() == ids.tolist()


def test_asking_touches_nobody() -> None:
    table = Participation()
    assert np.isinf(table.free_at(np.arange(10_000))).all()
    assert table.n_touched == 0
    assert (table.n_sessions(np.arange(5)) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [200_000, 260_000, 300_000, 340_000])
def test_a_touched_device_takes_at_most_64_bytes_even_while_the_table_grows(n_devices: int) -> None:
    """Whatever the table's fill happens to be; without battery, cache and participations."""
    parts = np.array_split(np.arange(n_devices), 200)
    tracemalloc.start()
    try:
        table, most = Participation(), 0.0
        for part in parts:
            tracemalloc.reset_peak()
            table.begin(part, np.zeros(len(part)))
            if table.n_touched > 100_000:
                most = max(most, (tracemalloc.get_traced_memory()[1]) / table.n_touched)
    finally:
        tracemalloc.stop()
    assert table.n_bytes < 46 * n_devices
    assert most < 64
