"""Rows of a plan: their columns, what they depend on, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from fedsim.data.passes import Passes
from fedsim.device.session import Sessions, joined
from fedsim.device.work import Assets, Work
from fedsim.errors import InputError
from fedsim.units import IntArray
from tests.build import booked, inference_compute, planned
from tests.device.lived import GOLDEN, device, fleet_of, network

# --------------------------------------------------------------------------------- rows and their columns


def varied_plan(order: IntArray) -> Sessions:
    """Devices that differ in everything a draw decides."""
    availability, track = fleet_of([GOLDEN] * 40)
    made = device(
        compute=inference_compute(seed=7, median_inference_ms=40, sigma=1.0, session_sigma=0.5, fixed_s_per_step=0.1),
        network=network(device_sigma=0.5, session_sigma=0.5),
        crash_fraction=0.3,
    )
    work = Work(download_bytes=400, upload_bytes=100, passes=Passes(2, 4))
    return planned(made,
        availability, track, work, now=3.0, ids=order, k=(order % 3).astype(np.int32),
        n_examples=order + 1,
    )  # fmt: skip


def test_a_row_does_not_depend_on_its_batch() -> None:
    together = varied_plan(np.arange(40))
    assert len(np.unique(together["upload_end_at"])) == 40
    order = np.random.default_rng(3).permutation(40)
    assert varied_plan(order).tobytes() == together.take(order).tobytes()
    alone = joined([varied_plan(np.array([i])) for i in range(40)])
    assert alone.tobytes() == together.tobytes()
    assert len(varied_plan(np.zeros(0, dtype=np.int64))) == 0


def test_columns_of_a_row() -> None:
    rows = varied_plan(np.array([5, 11]))
    assert rows["device_id"].tolist() == rows["cell"].tolist() == rows["base_trace"].tolist() == [5, 11]
    assert rows["participation"].tolist() == [2, 2]
    assert rows["n_examples"].tolist() == [6, 12]
    assert rows["assigned_at"].tolist() == [3.0, 3.0]
    assert rows["staleness"].tolist() == [-1, -1]
    assert np.isnan(rows["weight"]).all()


def test_a_session_trains_every_epoch_in_whole_batches() -> None:
    """3 × 10 ms × 2 epochs × 9 examples + 0.5 s × 2 × ⌈9 ÷ 4⌉ steps."""
    availability, track = fleet_of([GOLDEN])
    made = device(compute=inference_compute(seed=1, median_inference_ms=10, sigma=0.0, fixed_s_per_step=0.5))
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=1, upload_bytes=1, passes=Passes(2, 4))
    rows = planned(made, availability, track, work, now=0.0, ids=zero, k=zero.astype(np.int32), n_examples=zero + 9)
    assert rows["train_s"].tolist() == pytest.approx([3 * 0.010 * 2 * 9 + 0.5 * 2 * 3])
    assert work.n_steps(np.array([0, 1, 4, 5, 8])).tolist() == [0, 2, 2, 4, 4]


CACHING: dict[str, Any] = {
    "download_bytes": 1000, "upload_bytes": 0, "passes": Passes(1, 1), "plan_bytes": 7,
    "assets": (Assets(200),),
}  # fmt: skip


def test_downloads_take_and_book_the_bytes_that_are_fetched() -> None:
    availability, track = fleet_of([GOLDEN, GOLDEN])
    made, work, ids = device(), Work(**CACHING), np.arange(2)
    for fetched, wanted in ((None, [1207, 1207]), (np.array([100, 300]), [100, 300])):
        rows = planned(made,
            availability, track, work, now=0.0, ids=ids, k=ids.astype(np.int32), n_examples=ids,
            download_bytes=fetched,
        )  # fmt: skip
        assert rows["download_bytes"].tolist() == wanted
        if fetched is not None:
            assert rows["download_end_at"].tolist() == [1.0, 3.0]
            assert booked(rows, work, made, availability, track).download_bytes.tolist() == wanted


def test_parts_are_joined_in_order() -> None:
    parts = [varied_plan(np.arange(a, b)) for a, b in ((0, 3), (3, 3), (3, 9))]
    assert joined(parts).tobytes() == varied_plan(np.arange(9)).tobytes()
    assert len(joined([])) == 0


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interruption": "stop"}, "interruption is unknown: 'stop' .*abort, pause, ignore"),
        ({"crash_fraction": -0.1}, "crash_fraction .*-0.1"),
        ({"crash_fraction": 1.01}, "crash_fraction .*1.01"),
        ({"crash_fraction": math.nan}, "crash_fraction .*nan"),
        ({"thermal_after_s": -1.0}, "thermal_after_s .*-1.0"),
        ({"thermal_slowdown": 0.9}, "thermal_slowdown .*0.9"),
        ({"session_timeout_s": 0.0}, "session_timeout_s must be positive: 0.0"),
        ({"session_timeout_s": math.nan}, "session_timeout_s must be positive: nan"),
    ],
)
def test_a_bad_device_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        device(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"download_bytes": -1}, "download_bytes must not be negative: -1"),
        ({"upload_bytes": -1}, "upload_bytes must not be negative: -1"),
        ({"plan_bytes": -1}, "plan_bytes must not be negative: -1"),
        ({"shipped_bytes_per_example": -1}, "shipped_bytes_per_example must not be negative: -1"),
        ({"passes": Passes(0, 1)}, "epochs and batch_size must be positive"),
        ({"passes": Passes(1, 0)}, "epochs and batch_size must be positive"),
    ],
)
def test_bad_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Work(**({"download_bytes": 0, "upload_bytes": 0, "passes": Passes(1, 1)} | changes))
