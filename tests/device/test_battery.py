"""The battery as a state: the trace's level, our debt, its repayment, and the floor."""

import math
from typing import Any

import numpy as np
import pytest

from fedsim.data.passes import Passes
from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.compute import FixedCompute
from fedsim.device.energy import Energy
from fedsim.device.network import Network
from fedsim.device.session import FAILED, REPORTS, TIMEOUT, Device, Sessions
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.traces.criteria import Rule, compile_channel, compile_rule
from fedsim.units import DAY_S
from tests.build import booked as spent
from tests.build import planned
from tests.hand import events_of, traces_of

# 1 Wh is 3600 J: 36 J are one percent. An hour on the charger gives back 36 percent: 0.01 percent a second.
LIMITS = BatteryLimits(capacity_wh=1.0, floor_percent=20.0, charge_percent_per_h=36.0, assumed_percent=60.0)
RATES = dict.fromkeys(("wifi", "2g", "3g", "4g", "5g"), 10.0)


class World:
    """Three phones of one day: level 80 falling to 30 at 10 h, charging from 2000 s to 3000 s; the last unknown."""

    def __init__(self, *, network: str = "wifi") -> None:
        known: list[tuple[float, str, object]] = [
            (0, "battery", 80), (0, "charging", 0), (0, "network", network), (0, "screen", 1),
            (2000, "charging", 1), (3000, "charging", 0), (36_000, "battery", 30),
        ]  # fmt: skip
        unknown = events_of([(0, "charging", 0), (0, "network", network), (0, "screen", 1)])
        traces = traces_of([events_of(known), events_of(known), unknown], period_s=DAY_S)
        fleet = Fleet(traces, n_devices=3, seed=1, is_replay=True)
        level = Track(fleet, compile_channel(traces, "battery"))
        charging = Availability(fleet, compile_rule(traces, Rule.parse("charging"), unknown="ineligible"))
        self.participation = Participation(keeps_debt=True)
        self.participation.begin(np.arange(3), np.zeros(3))
        self.battery = Battery(LIMITS, level, charging, self.participation)
        self.blind = Battery(LIMITS, None, None, self.participation)
        self.availability = Availability(fleet, compile_rule(traces, Rule.parse("screen"), unknown="ineligible"))
        self.track = Track(fleet, compile_channel(traces, "network"))


IDS = np.arange(3)


def percent(battery: Battery, now: float) -> list[float]:
    levels: list[float] = battery.percent(IDS, IDS, now).tolist()
    return levels


def test_the_level_is_the_trace_s_or_assumed() -> None:
    world = World()
    assert percent(world.battery, 100.0) == [80.0, 80.0, 60.0]
    assert percent(world.battery, 36_000.0) == [30.0, 30.0, 60.0]
    assert percent(world.blind, 100.0) == [60.0, 60.0, 60.0]


def test_what_our_work_took_is_missing_until_charging_restores_it() -> None:
    world = World()
    world.participation.owe(IDS, np.array([5.0, 12.0, 5.0]), np.full(3, 1000.0))
    assert percent(world.battery, 1000.0) == [75.0, 68.0, 55.0]
    assert percent(world.battery, 2000.0) == [75.0, 68.0, 55.0]
    assert percent(world.battery, 2200.0) == pytest.approx([77.0, 70.0, 55.0])
    assert percent(world.battery, 5000.0) == pytest.approx([80.0, 78.0, 55.0])  # 10 percent given back at most
    assert percent(world.battery, 2600.0 + DAY_S) == pytest.approx([80.0, 80.0, 55.0])
    assert percent(world.blind, 5000.0) == [55.0, 48.0, 55.0]


def test_a_level_is_never_below_empty() -> None:
    world = World()
    world.participation.owe(IDS, np.full(3, 95.0), np.zeros(3))
    assert percent(world.battery, 0.0) == [0.0, 0.0, 0.0]


def test_only_phones_above_the_floor_are_admitted() -> None:
    world = World()
    world.participation.owe(IDS, np.array([59.5, 60.0, 41.0]), np.zeros(3))
    assert world.battery.admits(IDS, IDS, 100.0).tolist() == [True, False, False]
    assert world.battery.share(0.0) == 1.0


def test_joules_and_percent_are_inverse() -> None:
    assert LIMITS.percent(np.array([0.0, 36.0, 3600.0])).tolist() == [0.0, 1.0, 100.0]
    assert LIMITS.joules(np.array([0.0, 1.0, 100.0])).tolist() == [0.0, 36.0, 3600.0]


def trip(
    world: World,
    *,
    now: float = 0.0,
    interruption: Any = "abort",
    watts: tuple[float, float, float] = (36.0, 36.0, 36.0),
) -> tuple[Sessions, Spent]:
    """50 bytes down in 5 s, 10 s of training, 30 bytes up in 3 s; each at so many watts."""
    network = Network(
        seed=1, down_bytes_per_s=RATES, up_bytes_per_s=RATES, device_sigma=0.0, session_sigma=0.0, connect_s=0.0,
        assumed_type="wifi",
    )  # fmt: skip
    device = Device(
        seed=1, compute=FixedCompute(train_s=10.0), network=network, interruption=interruption, crash_fraction=0.0,
        energy=Energy(receive_w=watts[0], compute_w=watts[1], send_w=watts[2]), session_timeout_s=None,
    )  # fmt: skip
    work = Work(download_bytes=50, upload_bytes=30, passes=Passes(1, 1))
    rows = planned(device,
        world.availability, world.track, work, now=now, ids=IDS, k=IDS.astype(np.int32), n_examples=IDS,
        battery=world.battery,
    )  # fmt: skip
    return rows, spent(rows, work, device, world.availability, world.track, LIMITS)


def test_work_ends_at_the_floor() -> None:
    """At 36 W a second takes one percent. The phones have 60, 12 and 3 percent to give for 18 s."""
    world = World()
    world.participation.owe(IDS, np.array([0.0, 48.0, 37.0]), np.zeros(3))
    rows, booked = trip(world)
    assert rows["battery_percent"].tolist() == [80.0, 32.0, 23.0]
    assert rows["outcome"].tolist() == [REPORTS, FAILED, FAILED]
    assert rows["end_at"].tolist() == pytest.approx([18.0, 12.0, 3.0])
    assert booked.battery_percent.tolist() == pytest.approx([18.0, 12.0, 3.0])
    assert booked.download_bytes.tolist() == [50, 50, 30]


def test_each_phase_drains_at_its_own_power() -> None:
    """12 percent are 432 J: 5 s at 18 W leave 342 J, 10 s at 27 W leave 72 J, at 36 W they last 2 s."""
    world = World()
    world.participation.owe(IDS, np.array([0.0, 48.0, 0.0]), np.zeros(3))
    rows, booked = trip(world, watts=(18.0, 27.0, 36.0))
    assert rows["outcome"].tolist() == [REPORTS, FAILED, REPORTS]
    assert rows["end_at"][1] == pytest.approx(17.0)
    assert booked.battery_percent[1] == pytest.approx(12.0)
    assert trip(world, watts=(0.0, 0.0, 0.0))[0]["outcome"].tolist() == [REPORTS] * 3


def test_a_phone_on_the_charger_does_not_run_down() -> None:
    world = World()
    world.participation.owe(IDS, np.array([57.0, 57.0, 37.0]), np.full(3, 2500.0))
    rows, _ = trip(world, now=2500.0)
    assert rows["outcome"].tolist() == [REPORTS, REPORTS, FAILED]


@pytest.mark.parametrize("interruption", ["pause", "ignore"])
def test_a_phone_that_waits_for_a_network_for_ever_does_not_run_down(interruption: str) -> None:
    rows, booked = trip(World(network="none"), interruption=interruption)
    assert rows["outcome"].tolist() == [TIMEOUT] * 3
    assert booked.battery_percent.tolist() == [0.0] * 3


def test_a_paused_phone_drains_only_while_it_works() -> None:
    """Away from 3 s to 100 s: what lasts 12 s of work ends 9 s after the return, and is booked as 12 s."""
    logs = [events_of([(0, "screen", 1), (3, "screen", 0), (100, "screen", 1)])]
    traces = traces_of(logs, period_s=DAY_S)
    fleet = Fleet(traces, n_devices=1, seed=1, is_replay=True)
    world, one = World(), np.zeros(1, dtype=np.int64)
    availability = Availability(fleet, compile_rule(traces, Rule.parse("screen"), unknown="ineligible"))
    limits = BatteryLimits(capacity_wh=1.0, floor_percent=20.0, charge_percent_per_h=36.0, assumed_percent=32.0)
    device = Device(
        seed=1, compute=FixedCompute(train_s=20.0), interruption="pause", crash_fraction=0.0, session_timeout_s=None,
        network=Network(
            seed=1, down_bytes_per_s=RATES, up_bytes_per_s=RATES, device_sigma=0.0, session_sigma=0.0, connect_s=0.0,
            assumed_type="wifi",
        ),
        energy=Energy(receive_w=36.0, compute_w=36.0, send_w=36.0),
    )  # fmt: skip
    work = Work(download_bytes=10, upload_bytes=10, passes=Passes(1, 1))
    rows = planned(device,
        availability, None, work, now=0.0, ids=one, k=one.astype(np.int32), n_examples=one,
        battery=Battery(limits, None, None, world.participation),
    )  # fmt: skip
    assert (rows["outcome"].tolist(), rows["end_at"].tolist()) == ([FAILED], [109.0])
    assert spent(rows, work, device, availability, None, limits).battery_percent.tolist() == pytest.approx([12.0])


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity_wh": 0.0},
        {"capacity_wh": math.nan},
        {"charge_percent_per_h": -1.0},
        {"charge_percent_per_h": math.nan},
        {"floor_percent": -1.0},
        {"floor_percent": 101.0},
        {"assumed_percent": math.nan},
    ],
)
def test_bad_limits_are_refused(changes: dict[str, float]) -> None:
    arguments = {"capacity_wh": 15.0, "floor_percent": 20.0, "charge_percent_per_h": 30.0, "assumed_percent": 60.0}
    with pytest.raises(InputError, match=f"battery.*{next(iter(changes))}"):
        BatteryLimits(**(arguments | changes))
