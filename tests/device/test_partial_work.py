"""Local work that ends early: a budget of time, and the work of phones that leave; answers by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.config.play import simulate
from fedsim.config.simulation import build_simulation
from fedsim.data.passes import Passes
from fedsim.device.battery import BatteryLimits
from fedsim.device.energy import Energy
from fedsim.device.session import Device, Throttling
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.results.regress.invariants import violations
from fedsim.units import FloatArray, IntArray
from tests.build import (
    ALWAYS,
    NO_BYTES,
    RecordingTrainer,
    Sizes,
    Span,
    Tables,
    buffered,
    network,
    played,
    replay,
    simulation,
    sync,
)
from tests.smoke import composed, small

WORK = Work(download_bytes=10, upload_bytes=30, passes=Passes(1, 10))  # 1 s down, 3 s up


@dataclass(frozen=True)
class PerStep:
    """Seconds of a step on each device."""

    step_s: tuple[float, ...]

    def train_s(self, ids: IntArray, k: Any, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        return np.array(self.step_s)[ids] * n_steps


def phone(*step_s: float, **changes: Any) -> Device:
    """10 bytes/s, 2 W of training, 1 W of receiving, 3 W of sending."""
    energy = Energy(compute_w=2.0, receive_w=1.0, send_w=3.0)
    parts: dict[str, Any] = {
        "seed": 0, "compute": PerStep(step_s), "network": network(), "energy": energy,
        "interruption": "abort", "crash_fraction": 0.0, "session_timeout_s": None, "partial_work": True,
    }  # fmt: skip
    return Device(**(parts | changes))


def one_trip(
    folder: Path, device: Device, *windows: Span, max_s: float | None = None, work: Work = WORK, n_examples: int = 100
) -> tuple[dict[str, Any], RecordingTrainer]:
    """The first session of a phone of 100 examples, ten steps, unless said otherwise; and what was trained."""
    trainer = RecordingTrainer()
    work = replace(work, passes=replace(work.passes, max_s=max_s))
    parts = simulation(
        sync(1), fleet=replay(windows or ALWAYS), phone=device, work=work, clients=Sizes((n_examples,)), max_steps=1,
        max_s=3000.0, trainer=trainer,
    )  # fmt: skip
    row = played(parts, folder).sessions.slice(0, 1).to_pylist()[0]
    return row, trainer


# ------------------------------------------------------------------------------------ a budget of time


@pytest.mark.parametrize(
    ("max_s", "n_steps"),
    [(7.0, 3), (6.0, 3), (5.999999, 2), (1.0, 1), (2.0, 1), (19.9, 9), (20.0, 10), (1000.0, 10), (None, 10)],
)
def test_a_phone_of_ten_steps_of_2_s_does_those_that_fit(max_s: float | None, n_steps: int, tmp_path: Path) -> None:
    row, trainer = one_trip(tmp_path, phone(2.0, partial_work=False), max_s=max_s)
    assert row["train_end_at"] == 1.0 + 2.0 * n_steps
    assert row["upload_end_at"] == row["end_at"] == row["train_end_at"] + 3.0
    assert (row["compute_s"], row["compute_j"]) == (2.0 * n_steps, 4.0 * n_steps)
    assert row["trained_fraction"] == pytest.approx(n_steps / 10)
    assert trainer.steps[0].n_steps.tolist() == [n_steps]


def test_steps_are_counted_in_spite_of_their_rounding(tmp_path: Path) -> None:
    """Five of nine steps of 1.3 s, which are 4.999999999999999 of them in float64."""
    assert 9 * (6.5 / (9 * 1.3)) < 5
    row, trainer = one_trip(tmp_path, phone(1.3), max_s=6.5, n_examples=90)
    assert trainer.steps[0].n_steps.tolist() == [5]
    assert row["train_end_at"] == 7.5


def test_set_up_is_not_part_of_the_budget_and_a_warm_phone_does_less(tmp_path: Path) -> None:
    """Steps of 2 s, of 4 s once it has trained for 4 s: they end 2, 4, 8 and 12 s after the set-up of 5 s."""
    warm = phone(2.0, setup_s=5.0, thermal_after_s=4.0, thermal_slowdown=2.0)
    for max_s, n_steps, train_s in ((7.9, 2, 4.0), (8.0, 3, 8.0), (12.0, 4, 12.0)):
        row, trainer = one_trip(tmp_path / f"{max_s}", warm, max_s=max_s)
        assert trainer.steps[0].n_steps.tolist() == [n_steps]
        assert row["compute_s"] == pytest.approx(5.0 + train_s)
    assert Throttling(4.0, 2.0).cool_s(np.array([0.0, 3.0, 4.0, 8.0])).tolist() == [0.0, 3.0, 4.0, 6.0]


def test_a_pause_does_not_use_up_the_budget(tmp_path: Path) -> None:
    """Away from 4 to 100 s, after a step and a half: the rest of three steps is done from then on."""
    paused = phone(2.0, interruption="pause", partial_work=False)
    row, _ = one_trip(tmp_path, paused, (0.0, 4.0), (100.0, 200.0), max_s=7.0)
    assert (row["train_end_at"], row["compute_s"], row["trained_fraction"]) == (103.0, 6.0, pytest.approx(0.3))


# ------------------------------------------------------------------------------------ phones that leave


@pytest.mark.parametrize(
    ("leaves_at", "n_steps", "train_end_at"),
    [
        (8.0, 3, 8.0),  # in its fourth step, 7 … 9 s
        (7.0, 3, 7.0),  # as its third ends
        (6.999, 2, 6.999),
        (3.0, 1, 3.0),
        (20.999, 9, 20.999),
        (21.0, 10, 21.0),  # all is done, and nothing is sent yet
        (22.5, 10, 21.0),  # while it uploads
        (500.0, 10, 21.0),
    ],
)
def test_a_phone_that_leaves_uploads_the_steps_it_has_done(
    leaves_at: float, n_steps: int, train_end_at: float, tmp_path: Path
) -> None:
    row, trainer = one_trip(tmp_path, phone(2.0), (0.0, leaves_at))
    assert (row["outcome"], row["train_end_at"]) == (0, train_end_at)
    assert row["upload_end_at"] == row["end_at"] == pytest.approx(train_end_at + 3.0)
    assert row["compute_s"] == pytest.approx(train_end_at - 1.0)  # the step that is lost was computed, too
    assert row["compute_j"] == pytest.approx(2.0 * (train_end_at - 1.0))
    assert (row["upload_bytes"], row["upload_j"]) == (30, pytest.approx(9.0))
    assert row["trained_fraction"] == pytest.approx(n_steps / 10)
    assert trainer.steps[0].n_steps.tolist() == [n_steps]


@pytest.mark.parametrize("leaves_at", [0.5, 1.0, 2.999])
def test_a_phone_that_has_not_finished_a_step_is_interrupted(leaves_at: float, tmp_path: Path) -> None:
    row, _ = one_trip(tmp_path, phone(2.0), (0.0, leaves_at), (1000.0, 2000.0))
    assert (row["outcome"], row["end_at"], row["upload_bytes"]) == (4, leaves_at, 0)
    assert row["compute_s"] == leaves_at - min(leaves_at, 1.0)
    assert row["trained_fraction"] is row["train_end_at"] is None


def test_a_phone_that_leaves_while_it_sets_up_has_done_nothing(tmp_path: Path) -> None:
    """Whatever its steps take: 5 s of set-up end at 6 s."""
    for step_s in (2.0, 0.0):
        device = phone(step_s, setup_s=5.0)
        assert one_trip(tmp_path / f"a{step_s}", device, (0.0, 5.9), (1000.0, 2000.0))[0]["outcome"] == 4
        row, trainer = one_trip(tmp_path / f"b{step_s}", device, (0.0, 8.0))
        assert (row["outcome"], trainer.steps[0].n_steps.tolist()) == (0, [1 if step_s else 10])


def test_without_the_option_all_of_them_are_interrupted(tmp_path: Path) -> None:
    for leaves_at in (8.0, 22.5):
        device = phone(2.0, partial_work=False)
        row, _ = one_trip(tmp_path / f"{leaves_at}", device, (0.0, leaves_at), (1000.0, 2000.0))
        assert (row["outcome"], row["end_at"]) == (4, leaves_at)


def test_a_warm_phone_that_leaves_has_done_less(tmp_path: Path) -> None:
    """Steps end 2, 4, 8 and 12 s after the set-up, which ends at 6 s."""
    warm = phone(2.0, setup_s=5.0, thermal_after_s=4.0, thermal_slowdown=2.0)
    for leaves_at, n_steps in ((13.9, 2), (14.0, 3), (17.9, 3), (18.0, 4)):
        trainer = one_trip(tmp_path / f"{leaves_at}", warm, (0.0, leaves_at))[1]
        assert trainer.steps[0].n_steps.tolist() == [n_steps]


def test_of_a_budget_and_a_departure_the_first_ends_the_work(tmp_path: Path) -> None:
    for leaves_at, n_steps, train_end_at in ((6.0, 2, 6.0), (7.5, 3, 7.0), (50.0, 3, 7.0)):
        row, trainer = one_trip(tmp_path / f"{leaves_at}", phone(2.0), (0.0, leaves_at), max_s=7.0)
        assert (row["train_end_at"], trainer.steps[0].n_steps.tolist()) == (train_end_at, [n_steps])


def test_a_time_out_takes_the_work_of_a_phone_that_has_left(tmp_path: Path) -> None:
    row, _ = one_trip(tmp_path, phone(2.0, session_timeout_s=10.0), (0.0, 8.0), (1000.0, 2000.0))
    assert (row["outcome"], row["end_at"], row["upload_bytes"]) == (5, 10.0, 20)
    assert row["trained_fraction"] == pytest.approx(0.3)


def test_a_battery_pays_for_the_training_that_was_done(tmp_path: Path) -> None:
    """It holds 30 J: 1 J to download, 2 W × 7 s of training until 8 s, 0.1 W × 20 s to upload. All steps take 40 J."""
    limits = BatteryLimits(capacity_wh=30 / 3600, floor_percent=0.0, charge_percent_per_h=1.0, assumed_percent=100.0)
    thrifty = phone(2.0, energy=Energy(compute_w=2.0, receive_w=1.0, send_w=0.1))
    parts = simulation(
        sync(1), fleet=replay([(0.0, 8.0)]), phone=thrifty, work=replace(WORK, upload_bytes=200),
        clients=Sizes((100,)), max_steps=1, max_s=3000.0, limits=limits,
    )  # fmt: skip
    on_battery = replace(parts.world, charging=None)
    run = played(replace(parts, world=on_battery), tmp_path)
    assert run.outcomes.tolist() == ["AGGREGATED"]
    assert run.column("battery_used_percent") == pytest.approx([17 / 30 * 100])


def test_partial_work_is_for_sessions_that_are_aborted() -> None:
    for interruption in ("pause", "ignore"):
        with pytest.raises(InputError, match=f"device.partial_work is for interruption: abort.*{interruption}"):
            phone(2.0, interruption=interruption)
    with pytest.raises(InputError, match=r"device\.partial_work"):
        build_simulation(composed(["training=none", "device.partial_work=true", "device.interruption=pause"]))


@pytest.mark.parametrize("max_s", ["0", "-3", "true", "much"])
def test_a_budget_is_some_time(max_s: str) -> None:
    with pytest.raises(InputError, match=r"training\.local\.max_s"):
        build_simulation(composed(["training=none", f"training.local.max_s={max_s}"]))


# ------------------------------------------------------------------------------------ weights


def of_two_phones(coordinator: Any, folder: Path, **changes: Any) -> Tables:
    """100 examples each, in steps of 2 s and of 0.5 s; both leave at 8 s, with 3 and 10 steps."""
    parts = simulation(
        coordinator, fleet=replay([(0.0, 8.0)], [(0.0, 8.0)]), phone=phone(2.0, 0.5, **changes), work=WORK,
        clients=Sizes((100,)), max_steps=1,
    )  # fmt: skip
    return played(parts, folder)


@pytest.mark.parametrize("make", [lambda **rules: sync(2, **rules), lambda **rules: buffered(2, 2, **rules)])
@pytest.mark.parametrize(("weighting", "of_slow"), [("examples", 30 / 130), ("uniform", 1 / 2)])
def test_an_update_weighs_the_examples_it_visited(make: Any, weighting: str, of_slow: float, tmp_path: Path) -> None:
    run = of_two_phones(make(weighting=weighting), tmp_path)
    weight = dict(zip(run.column("device_id"), run.column("weight"), strict=True))
    assert weight == {0: pytest.approx(of_slow), 1: pytest.approx(1 - of_slow)}


def test_the_rest_of_a_pass_weighs_what_it_holds(tmp_path: Path) -> None:
    """25 examples in steps of 10, 10 and 5, twice: two steps are 20 of 50 visits, four are 35."""
    work = replace(WORK, passes=Passes(2, 10))
    for max_s, fraction in ((4.0, 20 / 50), (8.0, 35 / 50)):
        row, _ = one_trip(tmp_path / f"{max_s}", phone(2.0), max_s=max_s, work=work, n_examples=25)
        assert row["trained_fraction"] == pytest.approx(fraction)


def test_of_another_model_that_is_paid_for_the_share_of_its_steps_is_trained() -> None:
    """Three steps on the data, twelve that are paid for."""
    work = replace(NO_BYTES, examples_each=4)
    n_examples, paid = np.full(6, 30), np.array([1, 3, 4, 8, 11, 12])
    assert work.n_steps(n_examples[:1]).tolist() == [12]
    assert work.steps_on_data(n_examples, paid).tolist() == [1, 1, 1, 2, 2, 3]
    assert NO_BYTES.steps_on_data(n_examples[:3], np.array([1, 2, 3])).tolist() == [1, 2, 3]
    assert work.steps_on_data(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)).tolist() == [0]


# ------------------------------------------------------------------------------------ whole runs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", ["sync", "buffered"])
def test_nothing_is_lost_in_a_run_with_both(protocol: str, tmp_path: Path) -> None:
    """Phones of one minute of training, half of them with a budget of less, many of which leave in between."""
    words = [f"server={protocol}", "stop.max_steps=6", "fleet.n_devices=3000", "device/compute=inference"]
    words += ["device.compute.time_factor=3000", "training.local.batch_size=4", "training.local.max_s=120"]
    words += ["device.session_timeout_s=2000", "device.partial_work=true", "server.weighting=examples"]
    run = simulate(*small(words), folder=tmp_path / "run")
    assert violations(run) == []
    sessions = run.sessions()
    is_cut = sessions["trained_fraction"] < 1
    assert is_cut.sum() > 10
    assert (sessions["outcome"][is_cut] == "AGGREGATED").sum() > 3
    assert sessions["trained_fraction"].dropna().between(0, 1, inclusive="right").all()
    assert (sessions["trained_fraction"].isna() == sessions["train_end_at"].isna()).all()
