"""Selection: only eligible free devices, each once, all of them alike, and everyone of a small fleet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.server.selector.uniform import UniformSelector
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import IntArray
from tests.build import ALWAYS, always, replay


def charging(fleet: Fleet) -> Availability:
    return Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))


def busy(ids: IntArray, *, until: float) -> Participation:
    participation = Participation()
    participation.begin(ids)
    participation.end(ids, np.full(len(ids), until))
    return participation


@pytest.mark.parametrize("n_devices", [1, 5, 64, 100, 128])
def test_the_last_free_device_of_a_small_fleet_is_found_in_every_call(n_devices: int) -> None:
    availability = charging(always(n_devices))
    search = UniformSelector(seed=1, min_separation_s=0.0).start(availability.fleet)
    draw = np.random.default_rng(n_devices)
    for _ in range(100):
        last = draw.integers(n_devices)
        participation = busy(np.delete(np.arange(n_devices), last), until=100.0)
        selection = search.select(availability, participation, now=50.0, n=int(draw.integers(1, 12)))
        assert selection.ids.tolist() == [last]


@given(
    is_eligible=st.lists(st.booleans(), min_size=1, max_size=40),
    busy_share=st.floats(0, 1),
    wanted=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    seed=st.integers(0, 5),
)
def test_selects_eligible_free_devices_once(
    is_eligible: list[bool], busy_share: float, wanted: list[int], seed: int
) -> None:
    fleet = replay(*[ALWAYS if is_open else [(0.0, 10.0)] for is_open in is_eligible])
    availability, search = charging(fleet), UniformSelector(seed=seed, min_separation_s=0.0).start(fleet)
    ids = np.arange(len(is_eligible))
    is_busy = np.random.default_rng(seed).random(len(ids)) < busy_share
    participation = busy(ids[is_busy], until=100.5)
    candidates = set(ids[np.array(is_eligible) & ~is_busy].tolist())
    for n in wanted:
        selection = search.select(availability, participation, now=100.0, n=n)
        found = set(selection.ids.tolist())
        assert len(found) == len(selection.ids) == min(n, len(candidates))
        assert found <= candidates
        np.testing.assert_array_equal(selection.cells, fleet.cell_of(selection.ids))


def test_every_device_is_as_likely() -> None:
    """Chi-square over the devices picked in 500 calls that take 30 of the 100 eligible of 200 devices."""
    fleet = replay(*[ALWAYS if i % 2 else [(0.0, 10.0)] for i in range(200)])
    availability, search = charging(fleet), UniformSelector(seed=3, min_separation_s=0.0).start(fleet)
    counts = np.zeros(200)
    for _ in range(500):
        counts[search.select(availability, Participation(), now=100.0, n=30).ids] += 1
    assert counts[::2].sum() == 0
    chi_square = ((counts[1::2] - 150) ** 2 / 150).sum()
    assert chi_square < 150  # 99 degrees of freedom: 1 in 1,000 above 149 if calls were independent


def test_a_device_is_free_again_when_its_session_ends_and_its_separation_is_over() -> None:
    availability = charging(always(1))
    participation = busy(np.array([0]), until=50.0)
    participation.aggregate(np.array([0]), 60.0)

    def is_found(now: float, *, min_separation_s: float) -> bool:
        search = UniformSelector(seed=0, min_separation_s=min_separation_s).start(availability.fleet)
        return search.select(availability, participation, now=now, n=1).ids.size == 1

    assert not is_found(49.999, min_separation_s=0.0)
    assert is_found(60.0, min_separation_s=0.0)
    assert not is_found(159.999, min_separation_s=100.0)
    assert is_found(160.0, min_separation_s=100.0)


def test_nobody_eligible() -> None:
    availability = charging(replay([(0.0, 10.0)]))
    search = UniformSelector(seed=0, min_separation_s=0.0).start(availability.fleet)
    selection = search.select(availability, Participation(), now=10.0, n=3)
    assert selection.ids.size == selection.cells.size == 0


def test_search_of_a_large_fleet_is_bounded() -> None:
    """Everybody eligible is busy: the search gives up long before it has met a billion devices."""
    looked_at: list[int] = []

    class AllBusy(Participation):
        def is_free(self, ids: IntArray, now: float, *, min_separation_s: float) -> np.ndarray:
            looked_at.append(len(ids))
            return np.zeros(len(ids), dtype=bool)

    availability = charging(always(1_000_000_000))
    search = UniformSelector(seed=0, min_separation_s=0.0).start(availability.fleet)
    selection = search.select(availability, AllBusy(), now=0.0, n=10)
    assert selection.ids.size == 0
    assert sum(looked_at) < 50_000


def test_bad_input() -> None:
    with pytest.raises(InputError, match="min_separation_s"):
        UniformSelector(seed=0, min_separation_s=-1.0)
