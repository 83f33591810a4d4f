"""Batteries over several sessions of a run: what is owed, since when, and which phones are on the charger.

One percent of these batteries is 36 J. Training draws 36 W and the charger gives back 3600 percent an hour: a second
of training takes one percent, a second on the charger restores one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsim.device.battery import BatteryLimits
from fedsim.device.energy import Energy
from fedsim.simulation import Simulation
from fedsim.units import DAY_S
from tests.build import always, buffered, by_device, device, played, simulation
from tests.configured import configured
from tests.hand import events_of, traces_of

PERCENT_A_SECOND = (
    "fleet.rule=screen",
    "device/compute=fixed",
    "device.energy.compute_w=36",
    "device/battery=phone",
    "device.battery.capacity_wh=1",
    "device.battery.charge_percent_per_h=3600",
    "device.battery.floor_percent=20",
)
Row = tuple[float, str, object]


def phones(folder: Path, *logs: list[Row], train_s: float, overrides: tuple[str, ...] = ()) -> Simulation:
    """Phones whose screen is on all day, each with its own battery and charger."""
    events = [events_of([(0, "screen", 1), *log]) for log in logs]
    traces = traces_of(events, period_s=DAY_S)
    settings = (*PERCENT_A_SECOND, f"device.compute.train_s={train_s}", f"server.report_goal={len(logs)}")
    return configured(folder / "traces", traces, *settings, *overrides)


def test_debt_adds_up_over_sessions_and_is_restored_after_them(tmp_path: Path) -> None:
    """Ten seconds of training from 0, 20 and 40 s on; on the charger from 6 to 13 s and from 32 to 37 s.

    The first session owes 10 % from its end at 10 s on, of which the charger restores 3 until 13 s: 80 − 7.
    The second adds 10 to those 7, and 5 of the 17 are restored from 32 s on: 80 − 12.
    Were the debt counted from the assignment at 0 s, the second session would begin at 80 − 3; were the 7 % forgotten,
    the third would begin at 80 − 5.
    """
    log: list[Row] = [(0, "battery", 80), (0, "charging", 0)]
    log += [(6, "charging", 1), (13, "charging", 0), (32, "charging", 1), (37, "charging", 0)]
    rounds = ("server.server_step_s=10", "stop.max_steps=3")
    run = played(phones(tmp_path, log, train_s=10.0, overrides=rounds), tmp_path / "run")
    assert run.column("assigned_at").tolist() == [0.0, 20.0, 40.0]
    assert run.column("battery_used_percent").tolist() == [10.0, 10.0, 10.0]
    assert run.column("battery_start_percent").tolist() == [80.0, 73.0, 68.0]


def test_a_phone_of_which_it_is_not_known_whether_it_charges_does_not(tmp_path: Path) -> None:
    """All have 12 % to give for 30 s of training: the work of the first two ends after 12 s.

    The second phone says from 50 s on that it charges: at 60 s it has its 12 % back and trains once more, as the
    third does, which charges all the time. The first stays at its floor.
    """
    unknown: list[Row] = [(0, "charging", None), (0, "battery", 32)]
    unplugged: list[Row] = [(0, "charging", 0), (0, "battery", 32), (50, "charging", 1)]
    plugged: list[Row] = [(0, "charging", 1), (0, "battery", 32)]
    rounds = ("server.quorum_fraction=0.3", "server.server_step_s=30", "stop.max_steps=2")
    made = phones(tmp_path, unknown, unplugged, plugged, train_s=30.0, overrides=rounds)
    run = played(made, tmp_path / "run")
    begun = zip(run.column("assigned_at").tolist(), run.column("device_id").tolist(), strict=True)
    ends = zip(run.column("end_at").tolist(), run.outcomes.tolist(), strict=True)
    assert dict(zip(begun, ends, strict=True)) == {
        (0.0, 0): (12.0, "FAILED"),
        (0.0, 1): (12.0, "FAILED"),
        (0.0, 2): (30.0, "AGGREGATED"),
        (60.0, 1): (90.0, "AGGREGATED"),
        (60.0, 2): (90.0, "AGGREGATED"),
    }


def test_two_sessions_of_a_phone_in_one_step_count_both(tmp_path: Path) -> None:
    """Four updates make a step, all of one phone: it begins its sessions with 90, 65 and 40 %.

    At its floor of 15 % it is not asked again. Were what it took booked with the step, all would begin with 90 %.
    """
    limits = BatteryLimits(capacity_wh=1.0, floor_percent=15.0, charge_percent_per_h=1e-6, assumed_percent=90.0)
    strong = device(by_device(12.5))
    strong.energy = Energy(compute_w=72.0, receive_w=0.0, send_w=0.0)  # 12.5 s are 900 J, a quarter of the battery
    run = played(simulation(buffered(1, 4), fleet=always(1), phone=strong, max_s=1000.0, limits=limits), tmp_path)
    assert run.column("battery_start_percent").tolist() == pytest.approx([90.0, 65.0, 40.0])
    assert run.column("battery_used_percent").tolist() == pytest.approx([25.0, 25.0, 25.0])
    assert run.outcomes.tolist() == ["OPEN"] * 3  # three of four updates: the buffer never fills
