"""What a session takes, seen in the tables of a run: cut downloads, warm phones, training over a pause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsim.data.passes import Passes
from fedsim.device.energy import Energy
from fedsim.device.session import Device
from fedsim.device.work import Assets, Work
from tests.build import ALWAYS, NO_BYTES, by_device, device, network, played, replay, simulation, sync


def test_only_what_was_downloaded_to_the_end_is_cached(tmp_path: Path) -> None:
    """One phone that keeps model (40 bytes) and vocabulary (300); 10 bytes/s, so both take 34 s; 5 s of training.

    It leaves at 12 s with 120 bytes that are worth nothing, fetches all anew from 100 s on, and leaves at 137 s in
    training. At 200 s it holds this version and trains at once; the next version, at 205 s, costs the model alone.
    """
    work = Work(
        download_bytes=40, upload_bytes=0, passes=Passes(1, 10), assets=(Assets(300),), caches_model=True
    )  # fmt: skip
    phone = device(by_device(5.0), link=network(down=10.0))
    fleet = replay([(0.0, 12.0), (100.0, 137.0), (200.0, 300.0)])
    run = played(simulation(sync(1), fleet=fleet, phone=phone, work=work, max_steps=2), tmp_path)
    assert run.column("assigned_at").tolist() == [0.0, 100.0, 200.0, 205.0]
    assert run.outcomes.tolist() == ["INTERRUPTED", "INTERRUPTED", "AGGREGATED", "AGGREGATED"]
    assert run.column("download_bytes").tolist() == [120, 340, 0, 40]


def test_warm_phones_train_more_slowly(tmp_path: Path) -> None:
    """From 20 s of training on everything takes 1.5 times as long: 10, 20 and 20 + 24 × 1.5 s, at 2 W."""
    phone = Device(
        seed=0,
        compute=by_device(10.0, 20.0, 44.0),
        network=network(down=10.0, up=10.0),
        energy=Energy(compute_w=2.0, receive_w=1.0, send_w=3.0),
        interruption="abort",
        crash_fraction=0.0,
        session_timeout_s=None,
        thermal_after_s=20.0,
        thermal_slowdown=1.5,
    )
    work = Work(download_bytes=30, upload_bytes=70, passes=Passes(1, 10))  # 3 s down, 7 s up
    run = played(
        simulation(sync(3), fleet=replay(ALWAYS, ALWAYS, ALWAYS), phone=phone, work=work, max_steps=1), tmp_path
    )
    order = np.argsort(run.column("device_id"))
    assert run.column("compute_s")[order].tolist() == pytest.approx([10.0, 20.0, 56.0])
    assert run.column("compute_j")[order].tolist() == pytest.approx([20.0, 40.0, 112.0])
    assert run.column("train_end_at")[order].tolist() == pytest.approx([13.0, 23.0, 59.0])
    assert run.column("end_at")[order].tolist() == pytest.approx([20.0, 30.0, 66.0])
    assert run.summary["simulated_s"] == pytest.approx(66.0)


def test_no_more_training_is_booked_over_a_pause_than_the_work_takes(tmp_path: Path) -> None:
    """2 ÷ 3 s of training, the phone away from 0.5 s to 10 s. The clock ends it at 10.166667 s, a third of a µs late:
    0.666667 s went by while the phone was there, of which 2 ÷ 3 s were training.
    """
    phone = device(by_device(2 / 3), interruption="pause")
    fleet = replay([(0.0, 0.5), (10.0, 100.0)])
    run = played(simulation(sync(1), fleet=fleet, phone=phone, work=NO_BYTES, max_steps=1), tmp_path)
    assert run.column("train_end_at").tolist() == [10.166667]
    assert run.column("compute_s").tolist() == [2 / 3]
    assert run.column("compute_j").tolist() == [2.0 * 2 / 3]
