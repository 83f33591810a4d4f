"""Three laws of training time, against hand calculations and against phones that were really timed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.device.compute import LognormalCompute
from fedsim.device.cost import LayerWork, Phones
from fedsim.device.laws import FlopsLaw, InferenceLaw, MeasuredLaw
from fedsim.errors import InputError
from fedsim.files import write_table
from fedsim.schema import PROFILES
from tests.device.task_works import phones, task

FLOPS: dict[str, Any] = {
    "flops_per_s": None,
    "benchmark_flops": 2e6,
    "efficiency": 0.5,
    "memory_bytes_per_s": 1e6,
    "fixed_s_per_step": 0.25,
}


def test_inference_law_is_three_inferences_an_example_scaled_by_flops() -> None:
    law = InferenceLaw(benchmark_flops=2e6, fixed_s_per_step=0.5)
    seconds = law.train_s(task(), phones())
    one = 3 * 0.5 * 25 * 2  # 50 examples seen of a model half as large
    assert seconds == pytest.approx([one * 0.01 + 3, one * 0.02 + 3, one * 0.04 + 3])


def test_inference_law_agrees_with_the_engine() -> None:
    compute = LognormalCompute(seed=0, median_inference_ms=20, sigma=0, fixed_s_per_step=0.1, relative_cost=0.5)
    work = task()
    of_engine = compute.train_s(np.array([7]), np.zeros(1, np.int32), np.array([work.n_visits]), np.array([6]))
    law = InferenceLaw(benchmark_flops=2 * work.forward_flops, fixed_s_per_step=0.1)
    assert law.train_s(work, phones())[1] == pytest.approx(of_engine[0])


def test_flops_law_is_flops_and_bytes_over_rates() -> None:
    seconds = FlopsLaw(**FLOPS).train_s(task(), phones())
    touched_s = (200 * 50 + 3 * 4000 * 6) / 1e6
    rate = [1e8, 5e7, 2.5e7]  # half of the benchmark's 2 MFLOP in 10, 20, 40 ms
    assert seconds == pytest.approx([2.5e6 * 50 / r + touched_s + 6 * 0.25 for r in rate])


def test_flops_law_with_one_rate_needs_no_latency() -> None:
    unknown = phones(inference_ms=[np.nan, 20.0, 40.0])
    seconds = FlopsLaw(**{**FLOPS, "flops_per_s": 1e8}).train_s(task(), unknown)
    assert np.isfinite(seconds).all()
    assert len(set(seconds)) == 1
    assert np.isnan(FlopsLaw(**FLOPS).train_s(task(), unknown)).tolist() == [True, False, False]


def profile(device: str, op: str, batch_size: int, step_s: float, **sizes: Any) -> dict[str, Any]:
    row = {"device": device, "op": op, "kind": "train_step", "batch_size": batch_size, "step_s": step_s}
    return {**dict.fromkeys(("in_size", "out_size", "seq_len")), **row, **sizes}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), PROFILES.arrow())


def whole(device: str, fixed_s: float, s_per_example: float, op: str = "Net-10") -> list[dict[str, Any]]:
    return [profile(device, op, size, fixed_s + s_per_example * size) for size in (1, 8, 32)]


def law(*rows: dict[str, Any], **inference_ms: float) -> MeasuredLaw:
    ops = {"Linear": "output", "Embedding": "embedding", "LSTM": "lstm"}
    return MeasuredLaw(profiles=table(*rows), inference_ms=inference_ms, layer_ops=ops)


def test_a_model_timed_as_a_whole_is_fixed_cost_and_so_much_an_example() -> None:
    seconds = law(*whole("A", 0.5, 0.01)).train_s(task(), phones())
    assert seconds[0] == pytest.approx(6 * 0.5 + 50 * 0.01)
    assert np.isnan(seconds[1:]).all()  # nothing tells how B and C compare


def test_other_phones_lie_between_the_timed_ones_by_latency() -> None:
    both = law(*whole("fast", 0.1, 0.0), *whole("slow", 0.4, 0.0), fast=10.0, slow=40.0)
    ms = phones(inference_ms=[5.0, 20.0, 80.0])
    assert both.train_s(task(), ms) == pytest.approx([6 * 0.05, 6 * 0.2, 6 * 0.8])
    own = law(*whole("A", 7.0, 0.0), *whole("slow", 0.4, 0.0), slow=40.0)
    assert own.train_s(task(), phones()) == pytest.approx([6 * 7.0, 6 * 0.2, 6 * 0.4])  # A was timed itself


def test_phones_of_one_latency_count_as_their_mean() -> None:
    twins = law(*whole("x", 0.1, 0.0), *whole("y", 0.3, 0.0), x=20.0, y=20.0)
    assert twins.train_s(task(), phones())[1] == pytest.approx(6 * 0.2)


def dense(device: str, fixed_s: float, s_per_flop: float) -> list[dict[str, Any]]:
    sizes = [(n_in, n_out, batch) for n_in in (10, 200) for n_out in (30, 500) for batch in (1, 16)]
    return [
        profile(device, "output", b, fixed_s + s_per_flop * 2 * i * o * b, in_size=i, out_size=o) for i, o, b in sizes
    ]


def lstm(device: str, fixed_s: float, s_per_time: float) -> list[dict[str, Any]]:
    sizes = [(n, batch, length) for n in (10, 200) for batch in (1, 16) for length in (2, 10)]
    return [profile(device, "lstm", b, fixed_s + s_per_time * t, in_size=n, out_size=n, seq_len=t) for n, b, t in sizes]


def test_any_other_model_is_the_sum_of_its_layers() -> None:
    measured = law(*dense("A", 0.2, 1e-8), *lstm("A", 0.1, 0.03))
    layers = (LayerWork("Linear", 1e6, 50, 1000, 0), LayerWork("LSTM", 1e3, 5, 100, 20))
    seconds = measured.train_s(task(layers=layers), phones())
    assert seconds[0] == pytest.approx(6 * 0.2 + 50 * 1e6 * 1e-8 + 6 * (0.1 + 20 * 0.03))


def test_a_phone_on_which_a_layer_was_not_timed_does_not_count() -> None:
    measured = law(*dense("A", 0.2, 0), *dense("B", 0.1, 0), *lstm("B", 0.1, 0))
    layers = (LayerWork("Linear", 1e6, 50, 1000, 0), LayerWork("LSTM", 1e3, 5, 100, 20))
    seconds = measured.train_s(task(layers=layers), phones())
    assert np.isnan(seconds).tolist() == [True, False, True]
    with pytest.raises(InputError, match=r"no device was timed on all layers.*output"):
        law(*dense("A", 0.2, 0)).train_s(task(layers=layers), phones())


def test_only_training_steps_count() -> None:
    rows = [{**row, "kind": "inference"} for row in whole("A", 0.5, 0.01)]
    with pytest.raises(InputError, match="no device was timed"):
        law(*rows).train_s(task(), phones())


def test_the_timed_phones_are_classes_themselves() -> None:
    classes = law(*whole("B", 1, 0), *whole("A", 1, 0), B=30.0).phones()
    assert classes.model.tolist() == ["A", "B"]
    assert classes.share.tolist() == [0.5, 0.5]
    assert np.isnan(classes.inference_ms[0]) and classes.inference_ms[1] == 30.0


def test_profiles_are_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    write_table(tmp_path / "profiles.parquet", table(*whole("A", 0.5, 0.01)), PROFILES)
    found = [
        MeasuredLaw(profiles=path, inference_ms={}, layer_ops={}).train_s(task(), phones())[0]
        for path in (tmp_path, tmp_path / "profiles.parquet")
    ]
    assert found == pytest.approx([3.5, 3.5])
    with pytest.raises(InputError, match="profiles' not found"):
        MeasuredLaw(profiles=tmp_path / "nothing", inference_ms={}, layer_ops={})


def test_what_a_law_cannot_work_with_is_refused_by_name() -> None:
    for name in ("flops_per_s", "benchmark_flops", "efficiency", "memory_bytes_per_s"):
        with pytest.raises(InputError, match=f"cost.law.{name}: 0"):
            FlopsLaw(**{**FLOPS, name: 0})
    for build in (lambda **v: FlopsLaw(**{**FLOPS, **v}), lambda **v: InferenceLaw(benchmark_flops=1, **v)):
        with pytest.raises(InputError, match=r"cost.law.fixed_s_per_step: -1"):
            build(fixed_s_per_step=-1)
    with pytest.raises(InputError, match=r"cost.law.benchmark_flops"):
        InferenceLaw(benchmark_flops=float("nan"), fixed_s_per_step=0)
    with pytest.raises(InputError, match=r"inference_ms\.A: 0"):
        law(*whole("A", 1, 0), A=0.0)
    with pytest.raises(InputError, match=r"layer_ops names an unknown op: 'dense' .*output"):
        MeasuredLaw(profiles=table(*whole("A", 1, 0)), inference_ms={}, layer_ops={"Linear": "dense"})
    conv = LayerWork("Conv2d", 1e6, 50, 1000, 0)
    with pytest.raises(InputError, match=r"layers of the class: 'Conv2d' .*layer_ops.Conv2d"):
        law(*dense("A", 0.2, 0)).train_s(task(layers=[conv]), phones())


def test_layers_of_real_phones_foretell_the_whole_models_that_were_timed_on_them(shared_data: Path) -> None:
    """FLASH timed whole tasks, too: 0.53 s for ten sequences of a next-word LSTM (10,000 words, 128, 256)."""
    raw = shared_data / "raw" / "flash" / "on_device_layer_train_time.parquet"
    measured = MeasuredLaw(profiles=_flash_profiles(raw), inference_ms=_LATENCY_MS, layer_ops=_OPS)
    steps, words = 10, 10_000
    gates = 4 * 256 * (128 + 256)
    layers = (
        LayerWork("Embedding", 0.0, 128 * steps, 128 * words, 0),
        LayerWork("LSTM", 2.0 * gates * steps, 256 * steps, gates, steps),
        LayerWork("Linear", 2.0 * 256 * words * steps, words * steps, 256 * words, 0),
    )
    one_step = task(model="reddit", n_examples=10, epochs=1, layers=layers)
    pixel_4 = Phones.named(["Google Pixel 4"], [54.0])
    assert measured.train_s(one_step, pixel_4)[0] == pytest.approx(0.528, rel=0.5)


_LATENCY_MS = {"nexus6": 109.0, "redmi_note8": 91.0, "sumsung_note10": 42.0}
_OPS = {"Embedding": "embedding", "LSTM": "lstm", "Linear": "output"}


def _flash_profiles(path: Path) -> pa.Table:
    rows = pq.read_table(path).rename_columns({"layer": "op", "train_time_s": "step_s"})
    rows = rows.append_column("kind", pa.array(["train_step"] * rows.num_rows))
    return PROFILES.check(rows, where=path)
