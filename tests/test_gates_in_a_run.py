"""Who may take part besides being eligible, and what the week's table says of it, seen in runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim.fleet.fleet import Fleet
from fedsim.units import DAY_S, HOUR_S
from tests.build import by_device, device, phone, played, simulation, sync
from tests.configured import configured
from tests.hand import events_of, traces_of

N_EXAMPLES = {1: 3, 3: 5, 4: 2, 11: 7}  # of each writer who has training data; nobody's phone is called 11


def writers(path: Path) -> None:
    """MNIST by writer in small: black pictures; writer 0 is held out."""
    writer = np.repeat([*N_EXAMPLES, 0], [*N_EXAMPLES.values(), 4])
    images, label = np.zeros((len(writer), 28, 28), np.uint8), np.zeros(len(writer), np.int64)
    np.savez(path, images=images, label=label, writer=writer, is_test=writer == 0)


def test_with_their_own_data_only_devices_of_users_with_data_take_part(tmp_path: Path) -> None:
    """Phones 0 to 4, the last away half of the time: users 1, 3 and 4 are the clients 0, 1 and 2 of the data."""
    writers(tmp_path / "writers.npz")
    there, away = [(0, "charging", 1)], [(0, "charging", 1), (DAY_S // 2, "charging", 0)]
    traces = traces_of([events_of(log) for log in (there, there, there, there, away)], period_s=DAY_S)
    made = configured(
        tmp_path / "traces",
        traces,
        "fleet.rule=charging",
        "holders=own",
        "data=mnist_by_writer",
        f"data.path={tmp_path / 'writers.npz'}",
        "model=cnn_digits",
        "device/compute=fixed",
        "server.report_goal=3",
        "stop.max_steps=2",
    )
    run = played(made, tmp_path / "run")
    held = zip(run.column("device_id"), run.column("client_id"), run.column("n_examples"), strict=True)
    assert sorted(tuple(map(int, row)) for row in held) == [
        (1, 0, 3),
        (1, 0, 3),
        (3, 1, 5),
        (3, 1, 5),
        (4, 2, 2),
        (4, 2, 2),
    ]
    assert run.summary["eligible_fraction_mean"] == pytest.approx(0.9)
    assert run.summary["admitted_fraction_mean"] == pytest.approx(0.5)  # 3 of 5, half of the time 2


def test_the_week_s_table_has_seven_days(tmp_path: Path) -> None:
    """Of three phones one charges for 6 hours of the first day, another for 15 hours of the seventh."""
    first, last = (0.0, 6.0 * HOUR_S), (6.0 * DAY_S, 6.0 * DAY_S + 15.0 * HOUR_S)
    traces = traces_of([phone(first), phone(last), phone()], period_s=7 * DAY_S)
    fleet = Fleet(traces, n_devices=3, seed=0, is_replay=True)
    run = played(simulation(sync(1), fleet=fleet, phone=device(by_device(1.0, 1.0, 1.0)), max_steps=1), tmp_path)
    week = pq.read_table(tmp_path / "eligibility.parquet")
    assert week.column("at").to_pylist() == [600.0 * i for i in range(7 * 24 * 6)]
    by_day = week.column("eligible_fraction").to_numpy().reshape(7, -1).sum(axis=1)
    assert by_day == pytest.approx([6 * 6 / 3, 0, 0, 0, 0, 0, 15 * 6 / 3])
    assert run.summary["eligible_fraction_mean"] == pytest.approx((6 + 15) / (3 * 7 * 24))
