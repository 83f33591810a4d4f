"""Training time from benchmarks: by hand, and as laws over the fleet."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fedsim.device.compute import FixedCompute, InferenceCompute
from fedsim.errors import InputError
from fedsim.files import write_table
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.fleet.phones import LognormalPhones
from fedsim.schema import HARDWARE
from tests.build import inference_compute
from tests.device.task_works import model
from tests.hand import events_of, traces_of

N = 60_000
IDS = np.arange(N)
ONE = np.ones(N, dtype=np.int64)


PLAIN: dict[str, Any] = {
    "relative_cost": 1.0, "benchmark_flops": 1.0, "flops_factor": 1.0, "latencies_per_layer": 0.0,
    "fixed_s_per_step": 0.0, "session_sigma": 0.0, "model": lambda: model(depth=7),
}  # fmt: skip


def k_of(n: int, k: int = 0) -> np.ndarray:
    return np.full(n, k, dtype=np.int32)


def hardware(weights: Sequence[float], latencies_ms: Sequence[float]) -> pa.Table:
    n = len(weights)
    known: dict[str, Any] = {"weight": weights, "inference_ms_per_sample": latencies_ms}
    columns = {c.name: pa.array(known.get(c.name, [None] * n), c.type) for c in HARDWARE.columns}
    return pa.table(columns)


def phones_of(table: pa.Table | Path, *, seed: int = 2) -> Hardware:
    traces = traces_of([events_of([(0, "charging", 1)])], period_s=86_400)
    return Hardware(Fleet(traces, n_devices=10, seed=seed), table)


def table_compute(*, seed: int, table: pa.Table | Path, **values: float) -> InferenceCompute:
    phones = phones_of(table, seed=seed)
    return InferenceCompute(seed=seed, phones=phones, forward_flops=lambda: 1.0, **(PLAIN | values))


def train_s(compute: Any, n_samples: int, n_steps: int, ids: list[int] | None = None, k: int = 0) -> list[float]:
    who = np.array([0] if ids is None else ids)
    n = len(who)
    seconds: list[float] = compute.train_s(who, k_of(n, k), np.full(n, n_samples), np.full(n, n_steps)).tolist()
    return seconds


# ---------------------------------------------------------------------------------------------- by hand


def test_one_sample_costs_three_inferences() -> None:
    """FedScale's formula: 3 × latency × batch × steps; 3 × 20 ms × 32 × 10 = 19.2 s."""
    compute = inference_compute(seed=1, median_inference_ms=20.0, sigma=0.0)
    assert train_s(compute, 32 * 10, 10) == pytest.approx([19.2])
    assert train_s(compute, 0, 0) == [0.0]


def test_every_step_has_its_fixed_cost() -> None:
    compute = inference_compute(seed=1, median_inference_ms=20.0, sigma=0.0, fixed_s_per_step=0.25)
    assert train_s(compute, 320, 10) == pytest.approx([19.2 + 2.5])
    assert train_s(compute, 320, 40) == pytest.approx([19.2 + 10.0])


def test_relative_cost_scales_the_samples_and_not_the_steps() -> None:
    arguments: dict[str, Any] = {"seed": 1, "median_inference_ms": 20.0, "sigma": 0.0, "fixed_s_per_step": 0.25}
    assert train_s(inference_compute(**arguments, relative_cost=0.5), 320, 10) == pytest.approx([9.6 + 2.5])
    assert train_s(inference_compute(**arguments, relative_cost=0.0), 320, 10) == pytest.approx([2.5])


def test_without_a_relative_cost_the_flops_tell_it() -> None:
    """A model of 5 FLOPs an example, a benchmark of 20: a quarter of 3 × 20 ms × 320."""
    phones = LognormalPhones(seed=1, median_inference_ms=20.0, sigma=0.0)
    changes = {"relative_cost": None, "benchmark_flops": 20.0}
    compute = InferenceCompute(seed=1, phones=phones, forward_flops=lambda: 5.0, **(PLAIN | changes))
    assert train_s(compute, 320, 10) == pytest.approx([19.2 / 4])
    slower = InferenceCompute(
        seed=1, phones=phones, forward_flops=lambda: 5.0, **(PLAIN | changes | {"flops_factor": 3.0})
    )
    assert train_s(slower, 320, 10) == pytest.approx([3 * 19.2 / 4])


def test_a_step_takes_a_share_of_the_phones_latency_for_each_layer() -> None:
    """Seven layers, half a latency each: 10 steps take 35 latencies, on a slow phone ten times as long."""
    for latency_ms in (20.0, 200.0):
        phones = LognormalPhones(seed=1, median_inference_ms=latency_ms, sigma=0.0)
        changes = {"relative_cost": 0.0, "latencies_per_layer": 0.5}
        compute = InferenceCompute(seed=1, phones=phones, forward_flops=lambda: 5.0, **(PLAIN | changes))
        assert train_s(compute, 320, 10) == pytest.approx([35 * latency_ms / 1000])


def test_table_rows_are_milliseconds_per_inference() -> None:
    compute = table_compute(seed=1, table=hardware([1.0], [50.0]), fixed_s_per_step=0.1, relative_cost=2.0)
    assert train_s(compute, 100, 4) == pytest.approx([3 * 0.05 * 2 * 100 + 0.4])


def test_fixed_compute_is_the_same_whatever_the_work() -> None:
    assert train_s(FixedCompute(train_s=33.0), 1, 1, [0, 7]) == train_s(FixedCompute(train_s=33.0), 10**6, 5, [3, 9])
    assert train_s(FixedCompute(train_s=0.0), 5, 1) == [0.0]


# ----------------------------------------------------------------------------------------- over the fleet


def test_latency_over_the_fleet_has_its_median_and_sigma() -> None:
    logs = np.log(LognormalPhones(seed=1, median_inference_ms=40.0, sigma=0.8).inference_ms(IDS))
    assert np.median(logs) == pytest.approx(math.log(40.0), abs=4 * 1.2533 * 0.8 / math.sqrt(N))
    assert logs.std() == pytest.approx(0.8, rel=4 / math.sqrt(2 * N))


def test_a_device_keeps_its_speed_from_session_to_session() -> None:
    compute = inference_compute(seed=1, median_inference_ms=40.0, sigma=0.8)
    first, second = (compute.train_s(IDS[:9], k_of(9, k), ONE[:9], ONE[:9]).tolist() for k in (0, 5))
    assert first == second
    assert len(set(first)) == 9
    assert train_s(compute, 1, 1, [8, 3]) == [first[8], first[3]]


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_sessions_spread_around_the_device_s_own_time(sigma: float) -> None:
    """The spread covers steps as well as samples, has median 1, and is drawn anew for every session."""
    quiet = inference_compute(seed=1, median_inference_ms=40.0, sigma=0.8, fixed_s_per_step=0.02)
    noisy = inference_compute(seed=1, median_inference_ms=40.0, sigma=0.8, fixed_s_per_step=0.02, session_sigma=sigma)
    base = quiet.train_s(IDS, k_of(N), ONE, ONE)
    first, second = (np.log(noisy.train_s(IDS, k_of(N, k), ONE, ONE) / base) for k in (0, 1))
    assert np.median(first) == pytest.approx(0, abs=4 * 1.2533 * sigma / math.sqrt(N))
    assert first.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * N))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(N)
    assert abs(np.corrcoef(first, np.log(base))[0, 1]) < 4 / math.sqrt(N)


def test_table_rows_are_drawn_by_their_weights() -> None:
    weights = [3.0, 0.0, 1.0, 5.0, 0.5]
    rows = phones_of(hardware(weights, [10.0, 20.0, 30.0, 40.0, 50.0])).row_of(IDS)
    counts = np.bincount(rows, minlength=5)
    assert counts[1] == 0
    some = [0, 2, 3, 4]
    wanted = np.array(weights)[some] / sum(weights) * N
    assert stats.chisquare(counts[some], wanted).pvalue > 0.01


def test_weights_are_relative() -> None:
    latencies = [10.0, 20.0, 30.0]
    one, many = (phones_of(hardware(w, latencies)) for w in ([1.0, 2.0, 1.0], [250.0, 500.0, 250.0]))
    assert (one.row_of(IDS) == many.row_of(IDS)).all()
    assert (one.inference_ms(IDS) == (one.row_of(IDS) + 1) * 10).all()


def test_a_row_depends_on_seed_and_id_alone() -> None:
    table = hardware([1.0] * 50, [float(i) for i in range(50)])
    phones = phones_of(table)
    rows = phones.row_of(IDS[:100])
    order = np.random.default_rng(0).permutation(100)
    assert (phones.row_of(order) == rows[order]).all()
    assert (phones_of(table, seed=3).row_of(IDS[:100]) != rows).mean() > 0.9


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


@pytest.mark.parametrize(
    "name",
    ["flops_factor", "latencies_per_layer", "fixed_s_per_step", "session_sigma", "relative_cost", "benchmark_flops"],
)
@pytest.mark.parametrize("value", [-0.001, math.nan, math.inf])
def test_bad_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"device\.compute\.{name}"):
        inference_compute(**({"seed": 1, "median_inference_ms": 1.0, "sigma": 0.0} | {name: value}))
    with pytest.raises(InputError, match=r"device\.compute\.train_s"):
        FixedCompute(train_s=value)


@pytest.mark.parametrize("name", ["median_inference_ms", "sigma"])
@pytest.mark.parametrize("value", [-0.001, math.nan])
def test_bad_phones_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"fleet\.hardware\.{name}"):
        LognormalPhones(**({"seed": 1, "median_inference_ms": 1.0, "sigma": 0.0} | {name: value}))
