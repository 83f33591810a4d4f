"""The battery as a state: what our work takes, what charging gives back, and the floor that ends work."""

import numpy as np
import pytest
from tests.build import Sizes, device, network, replay

from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.compute import FixedCompute
from fedsim.device.session import FAILED, REPORTS, Work, spent
from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import compile_channel, compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S, HOUR_S

# 10 Wh hold 36,000 J: 360 J are one percent.
LIMITS = BatteryLimits(capacity_wh=10.0, floor_percent=20.0, charge_percent_per_h=30.0, assumed_percent=50.0)
ONE = np.array([0])


def phone(*rows: tuple[float, str, object]) -> Fleet:
    log = Events.of([(0, "screen", 1), (0, "charging", 0), *rows])
    return Fleet(TraceSet.of([log], period_s=DAY_S), n_devices=1, seed=0, is_replay=True)


def battery_of(fleet: Fleet, participation: Participation) -> Battery:
    charging = Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))
    known = "battery" in fleet.traces.channels()
    level = Track(fleet, compile_channel(fleet.traces, "battery")) if known else None
    return Battery(LIMITS, level, charging, participation)


def test_level_is_the_trace_s_minus_the_debt_that_charging_pays_back() -> None:
    """60 % in the trace; 9 % owed at 1 h; on the charger from 2 h to 2 h 10 min, which gives 5 %."""
    fleet = phone((1, "battery", 60), (2 * HOUR_S, "charging", 1), (2 * HOUR_S + 600, "charging", 0))
    participation = Participation()
    battery = battery_of(fleet, participation)
    participation.begin(ONE)
    participation.owe(ONE, np.array([9.0]), np.array([1.0 * HOUR_S]))
    levels = [battery.percent(ONE, ONE, hour * HOUR_S)[0] for hour in (1.0, 2.0, 2.0 + 5 / 60, 3.0, 20.0)]
    assert levels == pytest.approx([51.0, 51.0, 53.5, 56.0, 56.0])


def test_a_debt_is_paid_once_and_never_below_zero() -> None:
    fleet = phone((1, "battery", 60), (2 * HOUR_S, "charging", 1))
    participation = Participation()
    participation.begin(ONE)
    participation.owe(ONE, np.array([4.0]), np.array([0.0]))
    assert battery_of(fleet, participation).percent(ONE, ONE, 10 * HOUR_S) == pytest.approx([60.0])


def test_an_unknown_level_is_the_assumed_one_and_the_floor_closes_the_gate() -> None:
    fleet = phone((3 * HOUR_S, "battery", 20), (4 * HOUR_S, "battery", 21))
    battery = battery_of(fleet, Participation())
    assert battery.percent(ONE, ONE, 0.0) == pytest.approx([50.0])
    assert [bool(battery.admits(ONE, ONE, hour * HOUR_S)[0]) for hour in (0, 3.5, 4.5)] == [True, False, True]


@pytest.mark.parametrize(
    ("level", "charging", "outcome", "end_at"),
    [
        (30, 0, REPORTS, 1000.0),  # 2,000 J of training are 5.6 %
        (25, 0, FAILED, 900.0),  # 5 % are 1,800 J: 900 s at 2 W
        (25, 1, REPORTS, 1000.0),  # on the charger nothing runs down
    ],
)
def test_work_ends_at_the_floor(level: float, charging: int, outcome: int, end_at: float) -> None:
    fleet = phone((0, "battery", level), (0, "charging", charging))
    availability = Availability(fleet, compile_rule(fleet.traces, Rule.parse("screen"), unknown="ineligible"))
    maker = device(FixedCompute(train_s=1000.0), link=network())
    battery = battery_of(fleet, Participation())
    work = Work(download_bytes=0, upload_bytes=0, epochs=1, batch_size=1)
    rows = maker.plan(
        availability, None, work, now=0.0, ids=ONE, cells=ONE, k=np.zeros(1, np.int32),
        n_examples=Sizes().n_examples(ONE), battery=battery,
    )  # fmt: skip
    assert (rows["outcome"][0], rows["end_at"][0]) == (outcome, pytest.approx(end_at))
    used = spent(rows, work, maker, availability, LIMITS)
    assert used.battery_percent == pytest.approx(2.0 * np.array([min(end_at, 1000.0)]) / 360)
    assert used.battery_percent * 360 == pytest.approx(used.download_j + used.compute_j + used.upload_j)


@pytest.mark.parametrize(
    "changes", [{"capacity_wh": 0.0}, {"charge_percent_per_h": -1.0}, {"floor_percent": 101.0}, {"assumed_percent": -1}]
)
def test_bad_limits_are_refused(changes: dict[str, float]) -> None:
    values = {"capacity_wh": 10.0, "floor_percent": 20.0, "charge_percent_per_h": 30.0, "assumed_percent": 50.0}
    with pytest.raises(InputError, match=next(iter(changes))):
        BatteryLimits(**(values | changes))


def test_a_warm_phone_slows_down() -> None:
    fleet = replay(((0.0, float(DAY_S)),))
    availability = Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))
    cool = device(FixedCompute(train_s=1000.0))
    cool.thermal_after_s, cool.thermal_slowdown = 400.0, 1.5
    work = Work(download_bytes=0, upload_bytes=0, epochs=1, batch_size=1)
    rows = cool.plan(
        availability, None, work, now=0.0, ids=ONE, cells=ONE, k=np.zeros(1, np.int32), n_examples=np.array([1])
    )
    assert rows["train_s"] == pytest.approx([400 + 600 * 1.5])


def test_what_a_device_holds_is_not_downloaded_again() -> None:
    """Model 100 B, plan 10 B, assets 1,000 B that are fetched again after a day."""
    work = Work(100, 0, 1, 1, plan_bytes=10, assets_bytes=1000, assets_refresh_s=float(DAY_S), caches_model=True)
    held = np.array([-1, 3, 3, 2], dtype=np.int32)
    assets_at = np.array([-np.inf, 0.0, 5.0, 90_000.0])
    assert work.sizes(held, assets_at, version=3, now=90_000.0).tolist() == [1110, 1010, 1010, 110]
    assert work.sizes(held, assets_at, version=3, now=80_000.0).tolist() == [1110, 10, 10, 110]
    forgetful = Work(100, 0, 1, 1, plan_bytes=10)
    assert forgetful.sizes(held, assets_at, version=3, now=0.0).tolist() == [110] * 4
