"""How far the search for devices goes: all of a small fleet, 32 times what should be needed of a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fedsim.units import BoolArray, FloatArray, IntArray
from tests.build import always
from tests.server.selector.scenes import busy, drawn, scene, search_of


@dataclass
class OneIn:
    """Admits the devices whose number ends a run of ``every``, or nobody; remembers how many it was asked about."""

    every: int
    admits_nobody: bool = False
    n_asked: int = 0

    def admits(self, ids: IntArray, cells: IntArray, at: float | FloatArray) -> BoolArray:
        self.n_asked += len(ids)
        assert self.n_asked < 10_000_000, "the search has no end"
        return np.full(len(ids), not self.admits_nobody) & (ids % self.every == self.every - 1)

    def share(self, at: float | FloatArray) -> float:
        return 1 / self.every

    def share_by_trace(self, at: float | FloatArray) -> float | FloatArray:
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
    search = search_of(scene(always(1_000_000_000), gates=[gate]), seed=0)
    selection = search.find(np.zeros(100))
    assert len(selection) == 0
    assert selection.n_walked_in_all == n_met
    assert gate.n_asked < 3 * n_met  # it looks twice as far each time


def test_rare_devices_are_looked_for_longer() -> None:
    """Fifty of which only one in a thousand will do: that many more are looked at until they are found."""
    search = search_of(scene(always(10_000_000), gates=[OneIn(1000)]), seed=0)
    selection = search.find(np.zeros(50))
    assert (selection.ids % 1000 == 999).all()
    assert np.unique(selection.ids).size == 50
    assert 30_000 < selection.n_walked_in_all < 100_000


@pytest.mark.parametrize("n_devices", [10_000, 40_000])
def test_the_one_free_device_is_found_in_every_call(n_devices: int) -> None:
    """However rarely it is met among the candidates: a small fleet is looked through."""
    draw = np.random.default_rng(4)
    for seed in range(20):
        last = int(draw.integers(n_devices))
        others = np.delete(np.arange(n_devices), last)
        search = search_of(scene(always(n_devices), busy(others, until=100.0)), seed=seed)
        assert drawn(search, 50.0, 3).tolist() == [last]


def test_no_instant_after_the_first_is_begun_that_cannot_be_completed() -> None:
    """Of 70,000 devices eight are free: one is found for now, maybe one more, but not the forty wanted later."""
    n_devices = 70_000
    free = np.arange(0, n_devices, n_devices // 8)
    others = np.setdiff1d(np.arange(n_devices), free)
    search = search_of(scene(always(n_devices), busy(others, until=1e9)), seed=0)
    assert len(free) == 8
    at = np.repeat([0.0, 1.0, 2.0], [1, 1, 40])
    found = search.find(at)
    assert len(found) in (1, 2)  # whole instants only
