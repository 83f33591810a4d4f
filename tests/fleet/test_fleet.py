"""A fleet is a function of (seed, id): no list, no order, no size; sampled devices agree with their traces."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.fleet import fleet as fleet_module
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet, Region
from fedsim.fleet.phones import LognormalPhones
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.units import DAY_S, HOUR_S, US_PER_S, BoolArray, FloatArray
from tests.hand import events_of, traces_of
from tests.server.selector.scenes import scene, search_of

N_TRACES, N_DAYS = 30, 5


def hourly_traces(is_open: BoolArray, start_s: float = 0.0) -> TraceSet:
    """Traces (rows) that are charging in the marked hours (columns, whole days)."""
    logs = [events_of([(hour * HOUR_S, "charging", int(value)) for hour, value in enumerate(row)]) for row in is_open]
    return traces_of(logs, period_s=is_open.shape[1] * HOUR_S, start_s=start_s)


@pytest.fixture(scope="module")
def open_hours() -> BoolArray:
    """Nights are open far more often than days, and some phones far more than others."""
    draw = np.random.default_rng(8)
    hour = np.arange(24 * N_DAYS) % 24
    share = np.where((hour < 6) | (hour > 21), 0.5, 0.1) * draw.uniform(0, 1.6, (N_TRACES, 1))
    return draw.random((N_TRACES, 24 * N_DAYS)) < share


@pytest.fixture(scope="module")
def traces(open_hours: BoolArray) -> TraceSet:
    return hourly_traces(open_hours)


def availability_of(fleet: Fleet) -> Availability:
    return Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))


def curve(open_hours: BoolArray) -> FloatArray:
    """Share open at each hour of day, over all traces and days."""
    share: FloatArray = open_hours.reshape(N_TRACES, N_DAYS, 24).mean(axis=(0, 1))
    return share


# ------------------------------------------------------------------------------------- a function of the id


@given(seed=st.integers(0, 2**63), ids=st.lists(st.integers(0, 999), min_size=1, max_size=30), data=st.data())
def test_a_device_is_the_same_in_any_fleet_batch_and_order(seed: int, ids: list[int], data: st.DataObject) -> None:
    made = hourly_traces(np.ones((7, 72), dtype=bool))
    regions = {"a": Region(0.3, 0.0), "b": Region(0.7, 5.5)}
    small, large = (Fleet(made, n_devices=n, seed=seed, regions=regions, jitter_s=60.0) for n in (1000, 10**9))
    cells = small.cell_of(np.array(ids))
    assert large.cell_of(np.array(ids)).tolist() == cells.tolist()
    assert [int(small.cell_of(np.array([i]))[0]) for i in ids] == cells.tolist()
    order = data.draw(st.permutations(range(len(ids))))
    assert small.cell_of(np.array(ids)[list(order)]).tolist() == cells[list(order)].tolist()
    assert small.trace_of(np.array(ids)).tolist() == small.cell_trace[cells].tolist()


def test_another_seed_is_another_fleet(traces: TraceSet) -> None:
    ids = np.arange(1000)
    one, other = (Fleet(traces, n_devices=1000, seed=seed).cell_of(ids) for seed in (1, 2))
    assert (one == other).mean() < 0.05


def test_frozen_cells(traces: TraceSet) -> None:
    """Cells decide every run: they must not move when the code does."""
    fleet = Fleet(traces, n_devices=1000, seed=1, regions={"a": Region(0.5, 0.0), "b": Region(0.5, 1.0)})
    assert fleet.n_cells == 2 * N_TRACES * N_DAYS
    assert fleet.cell_of(np.array([0, 1, 2, 3, 999])).tolist() == [253, 154, 3, 123, 160]


def test_traces_days_and_regions_are_drawn_independently_and_evenly() -> None:
    made = hourly_traces(np.ones((4, 72), dtype=bool))
    n = 120_000
    fleet = Fleet(made, n_devices=n, seed=3, regions={"a": Region(0.25, 0.0), "b": Region(0.75, 2.0)})
    counts = np.bincount(fleet.cell_of(np.arange(n)), minlength=24).reshape(2, 12)
    wanted = n * np.array([[0.25], [0.75]]) / 12
    assert (abs(counts - wanted) < 4.5 * np.sqrt(wanted)).all()


def test_jitter_levels_are_drawn_independently_and_evenly() -> None:
    made = hourly_traces(np.ones((4, 72), dtype=bool))
    n, regions = 240_000, {"a": Region(0.25, 0.0), "b": Region(0.75, 2.0)}
    plain, jittered = (Fleet(made, n_devices=n, seed=3, regions=regions, jitter_s=s) for s in (0.0, 1600.0))
    ids = np.arange(n)
    homes, cells = plain.cell_of(ids), jittered.cell_of(ids)
    assert jittered.n_cells == 16 * plain.n_cells
    assert (jittered.cell_trace[cells] == plain.cell_trace[homes]).all()
    ahead_us = jittered.cell_phase_us[cells] - plain.cell_phase_us[homes]
    levels_s = np.arange(-750, 751, 100)
    assert np.array_equal(np.unique(ahead_us), levels_s * US_PER_S)
    counts = np.bincount(np.searchsorted(levels_s * US_PER_S, ahead_us) * plain.n_cells + homes)
    wanted = np.tile(jittered.cell_weights()[:: 16 * 12].repeat(12), 16) * n
    assert (abs(counts - wanted) < 4.5 * np.sqrt(wanted)).all()


def test_a_region_without_share_has_no_device() -> None:
    made = hourly_traces(np.ones((2, 24), dtype=bool))
    regions = {"nowhere": Region(0.0, 1.0), "a": Region(0.3, 2.0), "none": Region(0.0, 3.0), "b": Region(0.7, 4.0)}
    fleet = Fleet(made, n_devices=5000, seed=1, regions=regions)
    counts = np.bincount(fleet.cell_of(np.arange(5000)), minlength=8).reshape(4, 2).sum(axis=1)
    assert counts[0] == counts[2] == 0
    assert counts[1] + counts[3] == 5000
    assert counts[[1, 3]] == pytest.approx([1500, 3500], abs=150)  # 4.5 standard deviations


# -------------------------------------------------------------------------------------------------- cells


def test_a_cell_is_a_trace_a_whole_day_shift_and_a_region() -> None:
    made = traces_of(
        [events_of([(0, "charging", 1)])] * 2, period_s=[DAY_S, 3 * DAY_S], start_s=[7 * HOUR_S, DAY_S + 60]
    )
    fleet = Fleet(made, n_devices=9, seed=0, regions={"utc": Region(0.3, 0.0), "ist": Region(0.7, 5.5)})
    wanted = [
        (trace, shift * DAY_S - start + offset)
        for offset in (0, 5.5 * HOUR_S)
        for trace, shift, start in [
            (0, 0, 7 * HOUR_S), (1, 0, DAY_S + 60), (1, 1, DAY_S + 60), (1, 2, DAY_S + 60),
        ]
    ]  # fmt: skip
    phases = (fleet.cell_phase_us / US_PER_S).tolist()
    assert list(zip(fleet.cell_trace.tolist(), phases, strict=True)) == wanted


def test_a_trace_shorter_than_a_day_is_one_cell() -> None:
    short = traces_of([events_of([(0, "charging", 1)])], period_s=600.0, is_local=False)
    assert Fleet(short, n_devices=100, seed=0).n_cells == 1


def test_replay_is_the_identity() -> None:
    """Device i is trace i at its own dates: cell = device = trace, phase = −start."""
    starts = [0, 7 * HOUR_S, DAY_S + 60]
    logs = [events_of([(100 + i, "charging", 1), (200 + i, "charging", 0)]) for i in range(3)]
    made = traces_of(logs, period_s=[DAY_S, 2 * DAY_S, 3 * DAY_S], start_s=starts)
    fleet = Fleet(made, n_devices=3, seed=9, is_replay=True, regions={"ignored": Region(1.0, 8.0)}, jitter_s=60.0)
    ids = np.array([2, 0, 1, 0])
    assert fleet.n_cells == 3
    assert fleet.cell_of(ids).tolist() == fleet.trace_of(ids).tolist() == ids.tolist()
    assert fleet.cell_phase_us.tolist() == [-start * US_PER_S for start in starts]
    assert fleet.cell_weights().tolist() == [1 / 3] * 3
    availability = availability_of(fleet)
    for i, start in enumerate(starts):
        one = np.array([i])
        is_open, until = availability.at(one, float(start))
        assert (is_open.tolist(), until.tolist()) == ([False], [start + 100 + i])
        assert availability.at(one, start + 150.0)[1].tolist() == [start + 200 + i]


def test_weights_are_exact_for_small_fleets_and_expected_for_large(traces: TraceSet) -> None:
    regions = {"a": Region(0.2, 0.0), "b": Region(0.8, 3.0)}
    small = Fleet(traces, n_devices=1000, seed=1, regions=regions)
    counts = np.bincount(small.cell_of(np.arange(1000)), minlength=small.n_cells)
    assert (small.cell_weights() == counts / 1000).all()
    large = Fleet(traces, n_devices=10**9, seed=1, regions=regions).cell_weights()
    assert large.sum() == pytest.approx(1.0, abs=1e-12)
    assert large[: N_TRACES * N_DAYS].tolist() == pytest.approx([0.2 / (N_TRACES * N_DAYS)] * (N_TRACES * N_DAYS))
    assert large[N_TRACES * N_DAYS :].tolist() == pytest.approx([0.8 / (N_TRACES * N_DAYS)] * (N_TRACES * N_DAYS))


def test_every_trace_weighs_the_same_however_long_it_is() -> None:
    made = traces_of([events_of([(0, "charging", 1)])] * 2, period_s=[DAY_S, 4 * DAY_S])
    weights = Fleet(made, n_devices=10**6, seed=1).cell_weights()
    assert weights.tolist() == pytest.approx([1 / 2] + [1 / 8] * 4)


def test_weights_make_some_traces_more_frequent() -> None:
    made = traces_of([events_of([(0, "charging", 1)])] * 4, period_s=[DAY_S, 2 * DAY_S, DAY_S, 2 * DAY_S])
    n, weight = 120_000, np.array([3.0, 0.0, 1.0, 4.0])
    fleet = Fleet(made, n_devices=n, seed=6, trace_weight=weight)
    expected = np.array([3 / 8, 0, 0, 1 / 8, 1 / 4, 1 / 4])
    assert fleet.cell_weights().tolist() == pytest.approx(expected.tolist())
    counts = np.bincount(fleet.cell_of(np.arange(n)), minlength=6)
    assert counts[1] == counts[2] == 0
    assert (abs(counts - n * expected) <= 4.5 * np.sqrt(n * expected)).all()
    scaled = Fleet(made, n_devices=n, seed=6, trace_weight=10 * weight)
    assert (scaled.cell_of(np.arange(1000)) == fleet.cell_of(np.arange(1000))).all()


# ------------------------------------------------------------------------- a sampled fleet and its traces


def test_the_mean_share_and_the_hour_of_day_curve_are_those_of_the_traces(
    traces: TraceSet, open_hours: BoolArray
) -> None:
    fleet = Fleet(traces, n_devices=10**6, seed=21)
    availability, n = availability_of(fleet), 20_000
    ids = np.random.default_rng(2).choice(10**6, n, replace=False)
    wanted = curve(open_hours)
    sampled = np.array([availability.at(ids, hour * HOUR_S + 1800.0)[0].mean() for hour in range(24)])
    assert (abs(sampled - wanted) < 4.5 * np.sqrt(wanted * (1 - wanted) / n)).all()
    assert sampled.mean() == pytest.approx(open_hours.mean(), abs=0.005)
    expected = [availability.eligible_fraction(hour * HOUR_S + 1800.0) for hour in range(24 * 9)]
    assert expected == pytest.approx(np.tile(wanted, 9), abs=1e-12)


def test_regions_shift_the_curve_by_their_hours(traces: TraceSet, open_hours: BoolArray) -> None:
    here = curve(open_hours)
    for offset in (-5, 3, 13):
        moved = availability_of(Fleet(traces, n_devices=10**6, seed=1, regions={"x": Region(1.0, offset)}))
        seen = [moved.eligible_fraction(hour * HOUR_S) for hour in range(24)]
        assert seen == pytest.approx(np.roll(here, -offset), abs=1e-12)
    regions = {"west": Region(0.25, -8.0), "east": Region(0.75, 8.0)}
    both = availability_of(Fleet(traces, n_devices=10**6, seed=1, regions=regions))
    seen = [both.eligible_fraction(hour * HOUR_S) for hour in range(24)]
    assert seen == pytest.approx(0.25 * np.roll(here, 8) + 0.75 * np.roll(here, -8), abs=1e-12)


def test_jitter_blurs_the_curve_by_half_of_it_each_way(traces: TraceSet, open_hours: BoolArray) -> None:
    here = curve(open_hours)
    blurred = availability_of(Fleet(traces, n_devices=10**6, seed=1, jitter_s=1920.0))  # ± 1, 3, … 15 minutes
    middle = [blurred.eligible_fraction(hour * HOUR_S + 1800.0) for hour in range(24)]
    assert middle == pytest.approx(here, abs=1e-12)
    sharp = [blurred.eligible_fraction(hour * HOUR_S) for hour in range(24)]
    assert sharp == pytest.approx((here + np.roll(here, 1)) / 2, abs=1e-12)


def test_the_first_instant_of_a_trace_keeps_its_hour_of_day(open_hours: BoolArray) -> None:
    """A log that begins at 15 h on the third day shows the same hours of day as one that begins at midnight."""
    at = 2 * 24 + 15
    late = hourly_traces(np.roll(open_hours, -at, axis=1), start_s=at * HOUR_S)
    availability = availability_of(Fleet(late, n_devices=10**6, seed=1))
    seen = [availability.eligible_fraction(hour * HOUR_S) for hour in range(24)]
    assert seen == pytest.approx(curve(open_hours), abs=1e-12)


def test_other_attributes_do_not_depend_on_the_base_trace(traces: TraceSet) -> None:
    """Speed and availability are separate draws: open devices are as fast as the others."""
    n = 50_000
    ids = np.arange(n)
    fleet = Fleet(traces, n_devices=n, seed=4)
    is_open, _ = availability_of(fleet).at(ids, 0.0)
    logs = np.log(LognormalPhones(seed=4, median_inference_ms=20, sigma=1.0).inference_ms(ids))
    difference = logs[is_open].mean() - logs[~is_open].mean()
    assert abs(difference) < 4 * math.sqrt(1 / is_open.sum() + 1 / (~is_open).sum())


# ------------------------------------------------------------------------------------------------- memory


def peak_bytes(traces: TraceSet, n_devices: int) -> int:
    tracemalloc.start()
    try:
        fleet = Fleet(traces, n_devices=n_devices, seed=1)
        chosen = search_of(scene(fleet), seed=1).find(np.full(100, 3600.0))
        assert len(chosen) == 100
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_billion_devices_take_the_memory_of_a_thousand(traces: TraceSet) -> None:
    peak_bytes(traces, 1000)  # what is imported or cached on first use counts for nobody
    thousand, million, billion = (peak_bytes(traces, n) for n in (1000, 10**6, 10**9))
    assert abs(billion - million) < 16 * 1024
    assert billion < thousand + 1_000_000  # a selector draws ahead in blocks of thousands, never in millions


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_devices": 0}, "fleet.n_devices must be positive: 0"),
        ({"n_devices": -3}, "fleet.n_devices must be positive: -3"),
        ({"n_devices": 5, "is_replay": True}, "fleet.n_devices: 5 (allowed: 30)"),
        ({"regions": {"a": Region(0.5, 0.0), "b": Region(0.4, 0.0)}}, "sum to 1: [0.5, 0.4]"),
        ({"regions": {"a": Region(1.5, 0.0), "b": Region(-0.5, 0.0)}}, "sum to 1: [1.5, -0.5]"),
        ({"regions": {"a": Region(math.nan, 0.0)}}, "sum to 1: [nan]"),
        ({"regions": {"a": Region(1.0, math.nan)}}, "utc_offset_hours"),
        ({"trace_weight": np.ones(29)}, "weights of traces"),
        ({"trace_weight": np.zeros(30)}, "weights of traces"),
        ({"trace_weight": np.array([-1.0] + [1.0] * 29)}, "weights of traces"),
        ({"trace_weight": np.array([math.nan] + [1.0] * 29)}, "weights of traces"),
        ({"jitter_s": -1.0}, "fleet.jitter_s is outside its range: -1.0"),
        ({"jitter_s": DAY_S + 1.0}, "fleet.jitter_s is outside its range: 86401.0"),
        ({"jitter_s": math.nan}, "fleet.jitter_s is outside its range: nan"),
    ],
)
def test_a_bad_fleet_is_refused(traces: TraceSet, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Fleet(traces, **({"n_devices": 10, "seed": 0} | arguments))  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_shares_that_only_rounding_keeps_from_1_are_accepted(traces: TraceSet) -> None:
    regions = {str(i): Region(0.1, 0.0) for i in range(10)}
    assert Fleet(traces, n_devices=10, seed=0, regions=regions).cell_weights().sum() == pytest.approx(1)


def test_too_many_cells_are_refused(traces: TraceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_CELLS", N_TRACES * N_DAYS)
    Fleet(traces, n_devices=10, seed=0)
    with pytest.raises(InputError, match=r"too many: 300 .*up to 150"):
        Fleet(traces, n_devices=10, seed=0, regions={"a": Region(0.5, 0.0), "b": Region(0.5, 1.0)})


# ------------------------------------------------------------------------------------- fleets of many traces


@pytest.mark.parametrize(("many_cells", "levels"), [(1 << 20, 16), (6 * 16, 16), (6 * 16 - 1, 8), (6, 1), (1, 1)])
def test_jitter_has_fewer_levels_where_traces_are_many(
    monkeypatch: pytest.MonkeyPatch, many_cells: int, levels: int
) -> None:
    """Three traces of two days are six cells without jitter."""
    monkeypatch.setattr(fleet_module, "MANY_CELLS", many_cells)
    traces = traces_of([events_of([(0, "charging", 1)])] * 3, period_s=2 * DAY_S)
    fleet = Fleet(traces, n_devices=10**6, seed=1, jitter_s=1600.0)
    assert fleet.n_cells == 6 * levels
    assert fleet.cell_of(np.arange(1000)).max() < fleet.n_cells
    assert fleet.cell_weights().sum() == pytest.approx(1.0)


def test_a_bound_on_the_eligible_devices() -> None:
    """A third of the phones charge: counted in a small fleet, and rarely exceeded in a large one."""
    logs = [events_of([(0, "charging", int(i == 0))]) for i in range(3)]
    traces = traces_of(logs, period_s=DAY_S)
    small, large = (Fleet(traces, n_devices=n, seed=2) for n in (1000, 100_000))
    counted = [int(availability_of(fleet).at(np.arange(fleet.n_devices), 0.0)[0].sum()) for fleet in (small, large)]
    assert availability_of(small).most_eligible(0.0) == counted[0]
    assert counted[1] <= availability_of(large).most_eligible(0.0) <= 1.05 * counted[1]
    nobody = traces_of([events_of([(0, "charging", 0)])], period_s=DAY_S)
    assert availability_of(Fleet(nobody, n_devices=100_000, seed=2)).most_eligible(0.0) == 0
