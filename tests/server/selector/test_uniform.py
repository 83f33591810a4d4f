"""Selection: only eligible free devices, each once, all of them alike whoever was asked before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.fleet.admission import Rollout
from fedsim.server.selector.uniform import UniformSelector
from tests.build import ALWAYS, always, replay
from tests.server.selector.scenes import busy, drawn, scene, search_of

pytestmark = pytest.mark.slow

CLOSED = [(0.0, 10.0)]


@pytest.mark.parametrize("n_devices", [1, 5, 64, 100, 128])
def test_the_last_free_device_of_a_small_fleet_is_found_in_every_call(n_devices: int) -> None:
    fleet, draw = always(n_devices), np.random.default_rng(n_devices)
    for seed in range(100):
        last = draw.integers(n_devices)
        others = busy(np.delete(np.arange(n_devices), last), until=100.0)
        search = search_of(scene(fleet, others), seed=seed)
        assert drawn(search, 50.0, int(draw.integers(1, 12))).tolist() == [last]


@given(
    is_eligible=st.lists(st.booleans(), min_size=1, max_size=40),
    busy_share=st.floats(0, 1),
    wanted=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    seed=st.integers(0, 5),
)
def test_selects_eligible_free_devices_once(
    is_eligible: list[bool], busy_share: float, wanted: list[int], seed: int
) -> None:
    fleet = replay(*[ALWAYS if is_open else CLOSED for is_open in is_eligible])
    ids = np.arange(len(is_eligible))
    is_busy = np.random.default_rng(seed).random(len(ids)) < busy_share
    search = search_of(scene(fleet, busy(ids[is_busy], until=100.5)), seed=seed)
    candidates = set(ids[np.array(is_eligible) & ~is_busy].tolist())
    for n in wanted:
        selection = search.find(np.full(n, 100.0))
        found = set(selection.ids.tolist())
        assert len(found) == len(selection.ids) == min(n, len(candidates))
        assert found <= candidates
        np.testing.assert_array_equal(selection.cells, fleet.cell_of(selection.ids))
        search.take(selection, len(selection))


def chi_square(counts: np.ndarray) -> float:
    expected = counts.mean()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("n_devices", [3, 4, 7, 64, 1_000])
def test_devices_and_pairs_of_a_small_fleet_are_equally_likely(n_devices: int) -> None:
    """Counts over 4,000 selections of two: chi-square over devices, and over pairs where they are few enough."""
    search = search_of(scene(always(n_devices)), seed=3)
    picks = np.array([drawn(search, 100.0, 2) for _ in range(4_000)])
    counts = np.bincount(picks.ravel(), minlength=n_devices)
    assert chi_square(counts) < n_devices + 5 * np.sqrt(2 * n_devices)
    if n_devices <= 7:
        pairs = np.bincount(picks[:, 0] * n_devices + picks[:, 1], minlength=n_devices**2)
        n_pairs = n_devices * (n_devices - 1)
        pairs = pairs.reshape(n_devices, n_devices)[~np.eye(n_devices, dtype=bool)]
        assert chi_square(pairs) < n_pairs + 5 * np.sqrt(2 * n_pairs)


@pytest.mark.parametrize("gates", [[], [Rollout(seed=5, start_share=0.3, end_share=0.3, days=0.0)]])
@pytest.mark.parametrize(
    ("n_devices", "n_at_once", "n_times"), [(20, 6, 4_000), (3_000, 300, 800), (70_000, 2_000, 300)]
)
def test_how_often_a_device_is_selected_varies_as_in_independent_draws(
    n_devices: int, n_at_once: int, n_times: int, gates: list[Rollout]
) -> None:
    """Independent draws of n of N: the variance of a device's count is t n/N (1 − n/N); a round robin's is near 0."""
    made = scene(always(n_devices), gates=gates)
    admitted = np.arange(n_devices)
    for gate in gates:
        admitted = admitted[gate.admits(admitted, admitted, 0.0)]
    n_at_once = min(n_at_once, len(admitted) // 3)
    search = search_of(made, seed=8)
    counts = np.zeros(n_devices)
    for _ in range(n_times):
        counts[drawn(search, 100.0, n_at_once)] += 1
    assert counts.sum() == counts[admitted].sum() == n_at_once * n_times
    share = n_at_once / len(admitted)
    variance = n_times * share * (1 - share)
    error = np.sqrt(2 / (len(admitted) - 1)) + 1 / n_times
    assert abs(counts[admitted].var() / variance - 1) < 5 * error


def test_ten_million_devices_are_asked_again_as_often_as_chance_has_it() -> None:
    """Of 200 draws of 5,000 of ten million, N (1 − exp(−n/N)) are distinct; a walk without return has no repeats."""
    n_devices = 10_000_000
    search = search_of(scene(always(n_devices)), seed=2)
    ids = np.concatenate([drawn(search, 100.0, 5_000) for _ in range(200)])
    n_repeats = len(ids) - np.unique(ids).size
    expected = len(ids) - n_devices * (1 - np.exp(-len(ids) / n_devices))
    assert abs(n_repeats - expected) < 5 * np.sqrt(expected)
    tenths = np.bincount(ids // (n_devices // 10), minlength=10)
    assert chi_square(tenths) < 9 + 5 * np.sqrt(18)


@pytest.mark.parametrize(("n_devices", "n_free"), [(40, 3), (9_000, 20), (80_000, 4_000)])
def test_the_few_that_are_free_are_all_alike(n_devices: int, n_free: int) -> None:
    """Whether they are met among the candidates or drawn from the rest."""
    free = np.random.default_rng(1).choice(n_devices, n_free, replace=False)
    others = np.setdiff1d(np.arange(n_devices), free)
    search = search_of(scene(always(n_devices), busy(others, until=1e6)), seed=4)
    n_times, n = 1_500, max(n_free // 10, 2)
    counts = np.zeros(n_devices)
    for _ in range(n_times):
        found = drawn(search, 100.0, n)
        assert len(found) == n
        counts[found] += 1
    assert counts[others].sum() == 0
    assert chi_square(counts[free]) < n_free + 5 * np.sqrt(2 * n_free)
    share = n / n_free
    assert counts[free].var() == pytest.approx(n_times * share * (1 - share), rel=5 * np.sqrt(2 / (n_free - 1)))


def test_a_device_is_free_again_when_its_session_ends_and_both_separations_are_over() -> None:
    fleet, participation = always(1), busy(np.array([0]), until=50.0)
    participation.aggregate(np.array([0]), 60.0)

    def is_found(now: float, **apart: float) -> bool:
        return drawn(search_of(scene(fleet, participation), seed=0, **apart), now, 1).size == 1

    assert not is_found(49.999999)
    assert is_found(50.0)
    assert not is_found(159.999999, min_between_participations_s=100.0)
    assert is_found(160.0, min_between_participations_s=100.0)
    assert not is_found(119.999999, min_between_sessions_s=70.0)
    assert is_found(120.0, min_between_sessions_s=70.0)


def test_nobody_eligible() -> None:
    search = search_of(scene(replay(CLOSED)), seed=0)
    selection = search.find(np.full(3, 10.0))
    assert len(selection) == selection.cells.size == 0


def test_looking_changes_nothing_and_taking_goes_on_behind_what_was_taken() -> None:
    """Found twice it is the same; of ten found and three taken, the others come first the next time."""
    search = search_of(scene(always(1_000)), seed=1)
    first = search.find(np.full(10, 0.0))
    np.testing.assert_array_equal(search.find(np.full(10, 0.0)).ids, first.ids)
    search.take(first, 3)
    np.testing.assert_array_equal(search.find(np.full(7, 0.0)).ids, first.ids[3:])


@given(
    n_devices=st.integers(3, 30),
    n_at=st.lists(st.integers(1, 3), min_size=1, max_size=8),
    apart=st.sampled_from([0.0, 4.0]),
    seed=st.integers(0, 500),
)
def test_devices_found_ahead_are_those_that_would_be_found_instant_by_instant(
    n_devices: int, n_at: list[int], apart: float, seed: int
) -> None:
    """Windows open and close between the instants, sessions end, and a roll-out goes on."""
    draw = np.random.default_rng(seed)
    edges = np.sort(draw.choice(np.arange(30), (n_devices, 4)), axis=1).astype(float)
    fleet = replay(*[[(a, b), (c + 31, d + 31.5)] for a, b, c, d in edges.tolist()])
    participation = busy(np.arange(n_devices), until=0.0)
    participation.end(np.arange(n_devices), draw.integers(-5, 20, n_devices).astype(float))
    gates = [Rollout(seed=seed, start_share=0.2, end_share=1.0, days=20 / 86_400)]
    at = np.repeat(5.0 + 2.0 * np.arange(len(n_at)), n_at)
    ahead = search_of(scene(fleet, participation, gates), seed=seed, min_between_sessions_s=apart)
    found = ahead.find(at)
    one_by_one = search_of(scene(fleet, participation, gates), seed=seed, min_between_sessions_s=apart)
    n_sure = 0
    for instant in np.unique(at):
        wanted = at[at == instant]
        now = one_by_one.find(wanted)
        if n_sure and n_sure >= len(found):
            break  # it was not certain of this instant
        assert len(found) >= n_sure + len(now)
        np.testing.assert_array_equal(found.ids[n_sure : n_sure + len(now)], now.ids)
        np.testing.assert_array_equal(found.until[n_sure : n_sure + len(now)], now.until)
        one_by_one.take(now, len(now))
        participation.begin(now.ids, np.full(len(now), 1e6))
        n_sure += len(now)
        if len(now) < len(wanted):
            break
    assert n_sure == len(found)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="min_between_sessions_s"):
        UniformSelector(seed=0, min_between_sessions_s=-1.0, min_between_participations_s=0.0)
    with pytest.raises(InputError, match="min_between_participations_s"):
        UniformSelector(seed=0, min_between_sessions_s=0.0, min_between_participations_s=float("nan"))
