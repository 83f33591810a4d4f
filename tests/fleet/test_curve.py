"""The number of eligible devices over time, against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet, Region
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S, HOUR_S, US_PER_S
from tests.build import phone
from tests.hand import traces_of

REGIONS = {"west": Region(share=0.3, utc_offset_hours=-5.0), "east": Region(share=0.7, utc_offset_hours=3.5)}


def availability(n_devices: int, *, seed: int, is_replay: bool = False, jitter_s: float = 700.0) -> Availability:
    """Phones of one to three days that charge at odd hours."""
    draw = np.random.default_rng(seed)
    logs = []
    for days in (1, 3, 2):
        edges = np.sort(draw.choice(np.arange(1, days * DAY_S), 8, replace=False)).reshape(-1, 2).astype(float)
        logs.append(phone(*[(start, end) for start, end in edges.tolist()]))
    traces = traces_of(logs, period_s=[DAY_S, 3 * DAY_S, 2 * DAY_S])
    if is_replay:
        fleet = Fleet(traces, n_devices=3, seed=seed, is_replay=True)
    else:
        fleet = Fleet(traces, n_devices=n_devices, seed=seed, regions=REGIONS, jitter_s=jitter_s)
    return Availability(fleet, compile_rule(traces, Rule.parse("charging"), unknown="ineligible"))


@pytest.mark.parametrize("is_replay", [False, True])
@given(n_devices=st.integers(1, 60), seed=st.integers(0, 50), at=st.lists(st.floats(0, 9 * DAY_S), max_size=6))
def test_small_fleets_are_counted_exactly_at_any_instant_and_at_every_bound(
    is_replay: bool, n_devices: int, seed: int, at: list[float]
) -> None:
    made = availability(n_devices, seed=seed, is_replay=is_replay)
    ids = np.arange(made.fleet.n_devices)
    _, bounds = made.at(ids, 1.5 * DAY_S)
    instants = np.array([*at, *bounds[np.isfinite(bounds)][:5]])
    level = made.curve.level(instants)
    assert level.tolist() == [made.curve.scale * int(made.at(ids, now)[0].sum()) for now in instants]


def test_a_large_fleet_has_the_share_of_its_cells_and_every_day_is_alike() -> None:
    made = availability(1_000_000, seed=3)
    cells, weights = np.arange(made.fleet.n_cells), made.fleet.cell_weights()
    for now in (0.0, 3.3 * HOUR_S, 1.2 * DAY_S, 5 * DAY_S + 77.7):
        expected = weights[made.at_cells(cells, now)[0]].sum()
        assert made.eligible_fraction(now) == pytest.approx(expected, abs=1e-9)
        assert made.eligible_fraction(now) == made.eligible_fraction(now + 4 * DAY_S)
    ids = np.arange(1_000_000)
    assert made.at(ids, 3.3 * HOUR_S)[0].mean() == pytest.approx(made.eligible_fraction(3.3 * HOUR_S), abs=0.003)


def test_changes_are_where_the_level_changes_and_tell_it() -> None:
    made = availability(40, seed=9)
    start, stop = int(0.7 * DAY_S) * US_PER_S, int(2.2 * DAY_S) * US_PER_S
    at_us, level = made.curve.changes(start, stop)
    assert at_us[0] == start
    assert (np.diff(at_us) > 0).all()
    assert at_us[-1] < stop
    np.testing.assert_array_equal(level, made.curve.level(at_us / US_PER_S))
    between = np.random.default_rng(0).integers(start, stop, 500)
    np.testing.assert_array_equal(
        made.curve.level(between / US_PER_S), level[np.searchsorted(at_us, between, side="right") - 1]
    )


def test_nobody_is_exactly_nobody() -> None:
    """A fleet of a million that charges until three in the morning at the latest, jitter and regions included."""
    traces = traces_of([phone((0.0, 3.0 * HOUR_S)), phone((600.0, 900.0))], period_s=DAY_S)
    made = Availability(
        Fleet(traces, n_devices=1_000_000, seed=0, jitter_s=600.0),
        compile_rule(traces, Rule.parse("charging"), unknown="ineligible"),
    )
    assert made.eligible_fraction(12.0 * HOUR_S) == 0.0
    assert made.eligible_fraction(2.0 * HOUR_S) > 0.0
