"""Training time from benchmarks: by hand, and as laws over the fleet."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fedsim.device.compute import FixedCompute, HardwareCompute, LognormalCompute
from fedsim.errors import InputError
from fedsim.files import write_table
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import Events, TraceSet

N = 60_000
IDS = np.arange(N)
ONE = np.ones(N, dtype=np.int64)


def lognormal(**changes: Any) -> LognormalCompute:
    arguments: dict[str, Any] = {"seed": 1, "median_inference_ms": 1.0, "sigma": 0.0}
    return LognormalCompute(**(arguments | changes))


def k_of(n: int, k: int = 0) -> np.ndarray:
    return np.full(n, k, dtype=np.int32)


def hardware(weights: Sequence[float], latencies_ms: Sequence[float]) -> pa.Table:
    n = len(weights)
    known: dict[str, Any] = {"weight": weights, "inference_ms_per_sample": latencies_ms}
    columns = {c.name: pa.array(known.get(c.name, [None] * n), c.type) for c in HARDWARE.columns}
    return pa.table(columns)


def table_compute(*, seed: int, table: pa.Table | Path, **values: float) -> HardwareCompute:
    traces = TraceSet.of([Events.of([(0, "charging", 1)])], period_s=86_400)
    return HardwareCompute(seed=seed, hardware=Hardware(Fleet(traces, n_devices=10, seed=seed), table), **values)


def train_s(compute: Any, n_samples: int, n_steps: int, ids: list[int] | None = None, k: int = 0) -> list[float]:
    who = np.array([0] if ids is None else ids)
    n = len(who)
    seconds: list[float] = compute.train_s(who, k_of(n, k), np.full(n, n_samples), np.full(n, n_steps)).tolist()
    return seconds


# ---------------------------------------------------------------------------------------------- by hand


def test_one_sample_costs_three_inferences() -> None:
    """FedScale's formula: 3 × latency × batch × steps; 3 × 20 ms × 32 × 10 = 19.2 s."""
    compute = LognormalCompute(seed=1, median_inference_ms=20.0, sigma=0.0)
    assert train_s(compute, 32 * 10, 10) == pytest.approx([19.2])
    assert train_s(compute, 0, 0) == [0.0]


def test_every_step_has_its_fixed_cost() -> None:
    compute = LognormalCompute(seed=1, median_inference_ms=20.0, sigma=0.0, fixed_s_per_step=0.25)
    assert train_s(compute, 320, 10) == pytest.approx([19.2 + 2.5])
    assert train_s(compute, 320, 40) == pytest.approx([19.2 + 10.0])


def test_relative_cost_scales_the_samples_and_not_the_steps() -> None:
    arguments: dict[str, Any] = {"seed": 1, "median_inference_ms": 20.0, "sigma": 0.0, "fixed_s_per_step": 0.25}
    assert train_s(LognormalCompute(**arguments, relative_cost=0.5), 320, 10) == pytest.approx([9.6 + 2.5])
    assert train_s(LognormalCompute(**arguments, relative_cost=0.0), 320, 10) == pytest.approx([2.5])


def test_table_rows_are_milliseconds_per_inference() -> None:
    compute = table_compute(seed=1, table=hardware([1.0], [50.0]), fixed_s_per_step=0.1, relative_cost=2.0)
    assert train_s(compute, 100, 4) == pytest.approx([3 * 0.05 * 2 * 100 + 0.4])


def test_fixed_compute_is_the_same_whatever_the_work() -> None:
    assert train_s(FixedCompute(train_s=33.0), 1, 1, [0, 7]) == train_s(FixedCompute(train_s=33.0), 10**6, 5, [3, 9])
    assert train_s(FixedCompute(train_s=0.0), 5, 1) == [0.0]


# ----------------------------------------------------------------------------------------- over the fleet


def test_latency_over_the_fleet_has_its_median_and_sigma() -> None:
    logs = np.log(LognormalCompute(seed=1, median_inference_ms=40.0, sigma=0.8).inference_s(IDS))
    assert np.median(logs) == pytest.approx(math.log(0.040), abs=4 * 1.2533 * 0.8 / math.sqrt(N))
    assert logs.std() == pytest.approx(0.8, rel=4 / math.sqrt(2 * N))


def test_a_device_keeps_its_speed_from_session_to_session() -> None:
    compute = LognormalCompute(seed=1, median_inference_ms=40.0, sigma=0.8)
    first, second = (compute.train_s(IDS[:9], k_of(9, k), ONE[:9], ONE[:9]).tolist() for k in (0, 5))
    assert first == second
    assert len(set(first)) == 9
    assert train_s(compute, 1, 1, [8, 3]) == [first[8], first[3]]


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_sessions_spread_around_the_device_s_own_time(sigma: float) -> None:
    """The spread covers steps as well as samples, has median 1, and is drawn anew for every session."""
    quiet = LognormalCompute(seed=1, median_inference_ms=40.0, sigma=0.8, fixed_s_per_step=0.02)
    noisy = LognormalCompute(seed=1, median_inference_ms=40.0, sigma=0.8, fixed_s_per_step=0.02, session_sigma=sigma)
    base = quiet.train_s(IDS, k_of(N), ONE, ONE)
    first, second = (np.log(noisy.train_s(IDS, k_of(N, k), ONE, ONE) / base) for k in (0, 1))
    assert np.median(first) == pytest.approx(0, abs=4 * 1.2533 * sigma / math.sqrt(N))
    assert first.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * N))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(N)
    assert abs(np.corrcoef(first, np.log(base))[0, 1]) < 4 / math.sqrt(N)


def test_table_rows_are_drawn_by_their_weights() -> None:
    weights = [3.0, 0.0, 1.0, 5.0, 0.5]
    rows = table_compute(seed=2, table=hardware(weights, [10.0, 20.0, 30.0, 40.0, 50.0]))._hardware.row_of(IDS)
    counts = np.bincount(rows, minlength=5)
    assert counts[1] == 0
    some = [0, 2, 3, 4]
    wanted = np.array(weights)[some] / sum(weights) * N
    assert stats.chisquare(counts[some], wanted).pvalue > 0.01


def test_weights_are_relative() -> None:
    latencies = [10.0, 20.0, 30.0]
    one, many = (table_compute(seed=2, table=hardware(w, latencies)) for w in ([1.0, 2.0, 1.0], [250.0, 500.0, 250.0]))
    assert (one._hardware.row_of(IDS) == many._hardware.row_of(IDS)).all()
    assert (one.inference_s(IDS) == (one._hardware.row_of(IDS) + 1) / 100).all()


def test_a_row_depends_on_seed_and_id_alone() -> None:
    table = hardware([1.0] * 50, [float(i) for i in range(50)])
    compute = table_compute(seed=2, table=table)
    rows = compute._hardware.row_of(IDS[:100])
    order = np.random.default_rng(0).permutation(100)
    assert (compute._hardware.row_of(order) == rows[order]).all()
    assert (table_compute(seed=3, table=table)._hardware.row_of(IDS[:100]) != rows).mean() > 0.9


def test_a_table_is_read_from_its_file(tmp_path: Path) -> None:
    write_table(tmp_path / "hardware.parquet", hardware([1.0], [50.0]), HARDWARE)
    assert train_s(table_compute(seed=1, table=tmp_path / "hardware.parquet"), 10, 1) == pytest.approx([1.5])
    with pytest.raises(InputError, match="'hardware' not found"):
        table_compute(seed=1, table=tmp_path / "absent.parquet")


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("weights", "latencies", "message"),
    [
        ([], [], "no row has a weight"),
        ([0.0, 0.0], [1.0, 2.0], "no row has a weight"),
        ([1.0, -1.0], [1.0, 2.0], "weight.*row 1"),
        ([1.0, math.nan], [1.0, 2.0], "weight.*row 1"),
        ([1.0, math.inf], [1.0, 2.0], "weight.*row 1"),
        ([1.0, 1.0], [-1.0, 2.0], "inference_ms_per_sample.*row 0"),
        ([1.0, 1.0], [1.0, math.nan], "inference_ms_per_sample.*row 1"),
    ],
)
def test_a_bad_table_is_refused(weights: list[float], latencies: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_compute(seed=1, table=hardware(weights, latencies))


@pytest.mark.parametrize("name", ["median_inference_ms", "sigma", "fixed_s_per_step", "session_sigma", "relative_cost"])
@pytest.mark.parametrize("value", [-0.001, math.nan])
def test_bad_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"compute.*{name}"):
        lognormal(**{name: value})
    with pytest.raises(InputError, match=r"compute\.train_s"):
        FixedCompute(train_s=value)
