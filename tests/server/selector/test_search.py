"""How far the search for devices goes: all of a small fleet, 32 times what should be needed of a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fedsim.fleet.availability import Availability
from fedsim.fleet.participation import Participation
from fedsim.server.selector.uniform import UniformSearch, UniformSelector
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import BoolArray, FloatArray, IntArray
from tests.build import always


def charged(n_devices: int, *, seed: int) -> tuple[Availability, UniformSearch]:
    """A fleet that charges all the time, and a search of it."""
    fleet = always(n_devices)
    availability = Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))
    return availability, UniformSelector(seed=seed, min_separation_s=0.0).start(fleet)


@dataclass
class OneIn:
    """Admits the devices whose number ends a run of ``every``, or nobody; remembers how many it was asked about."""

    every: int
    admits_nobody: bool = False
    n_asked: int = 0

    def admits(self, ids: IntArray, cells: IntArray, now: float) -> BoolArray:
        self.n_asked += len(ids)
        assert self.n_asked < 5_000_000, "the search has no end"
        return np.full(len(ids), not self.admits_nobody) & (ids % self.every == self.every - 1)

    def share(self, now: float) -> float:
        return 1 / self.every

    def share_by_trace(self, now: float) -> float | FloatArray:
        return 1 / self.every


@pytest.mark.parametrize(
    ("every", "n_met"),
    [
        (1, 37_120),  # 32 × (100 + 2 √100 + 16 + 1024)
        (4, 48_640),  # 32 × (120 × 4 + 16 + 1024)
        (1000, 3_873_280),  # 32 × (120 × 1000 + 16 + 1024)
    ],
)
def test_the_search_gives_up_after_32_times_what_it_should_need(every: int, n_met: int) -> None:
    """For 100 devices one looks at 120 by the share that passes (two standard deviations more), and at a few more."""
    gate = OneIn(every, admits_nobody=True)
    availability, search = charged(1_000_000_000, seed=0)
    found = search.select(availability, Participation(), now=0.0, n=100, gates=[gate])
    assert found.ids.size == 0
    assert gate.n_asked == n_met


def test_rare_devices_are_looked_for_longer() -> None:
    """Fifty of which only one in a thousand will do: that many more are looked at until they are found."""
    gate = OneIn(1000)
    availability, search = charged(10_000_000, seed=0)
    found = search.select(availability, Participation(), now=0.0, n=50, gates=[gate])
    assert (found.ids % 1000 == 999).all()
    assert np.unique(found.ids).size == 50
    assert 30_000 < gate.n_asked < 100_000


@pytest.mark.slow
def test_the_one_free_device_of_ten_thousand_is_found_in_every_call() -> None:
    """Wherever the walk over the fleet stands: what is left of it and the next one meet everybody."""
    n_devices = 10_000
    availability, search = charged(n_devices, seed=1)
    draw = np.random.default_rng(4)
    for _ in range(20):
        last = int(draw.integers(n_devices))
        others = np.delete(np.arange(n_devices), last)
        participation = Participation()
        participation.begin(others)
        participation.end(others, np.full(len(others), 100.0))
        assert search.select(availability, participation, now=50.0, n=3).ids.tolist() == [last]
