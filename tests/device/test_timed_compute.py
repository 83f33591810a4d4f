"""Laws of training time by FLOPs and by timed steps, against hand calculations and phones that were really timed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.config.cost import build_cost_device, build_task
from fedsim.cost.phones import PhoneClasses
from fedsim.device.compute import FlopsCompute
from fedsim.device.measured_compute import MeasuredCompute
from fedsim.device.profiles import Profiles
from fedsim.errors import InputError
from fedsim.files import write_table
from fedsim.fleet.phones import LognormalPhones
from fedsim.schema import PROFILES
from fedsim.training.model_work import LayerWork, ModelWork
from tests.device.task_works import model, phones
from tests.smoke import composed

FLOPS: dict[str, Any] = {
    "flops_per_s": None,
    "benchmark_flops": 2e6,
    "efficiency": 0.5,
    "memory_bytes_per_s": 1e6,
    "latencies_per_layer": 0.0,
    "fixed_s_per_step": 0.25,
    "session_sigma": 0.0,
}


def seconds_of(compute: Any, n_samples: int = 50, n_steps: int = 6) -> list[float]:
    """Median seconds on the classes A, B, C: 50 samples in 6 steps, as `task()` has them."""
    n = len(compute.phones.models)
    seconds: list[float] = compute.median_s(np.arange(n), np.full(n, n_samples), np.full(n, n_steps)).tolist()
    return seconds


def flops(of: PhoneClasses | None = None, work: ModelWork | None = None, **changes: Any) -> FlopsCompute:
    return FlopsCompute(seed=0, phones=of or phones(), model=lambda: work or model(), **(FLOPS | changes))


def test_flops_law_is_flops_and_bytes_over_rates() -> None:
    touched_s = (200 * 50 + 3 * 4000 * 6) / 1e6
    rate = [1e8, 5e7, 2.5e7]  # half of the benchmark's 2 MFLOP in 10, 20, 40 ms
    assert seconds_of(flops()) == pytest.approx([2.5e6 * 50 / r + touched_s + 6 * 0.25 for r in rate])


def test_layers_cost_a_share_of_the_latency_under_the_flops_law_too() -> None:
    """A depth of 8, a quarter of the latency each: 12 latencies in 6 steps; one rate of all has the benchmark's."""
    none, some = seconds_of(flops()), seconds_of(flops(latencies_per_layer=0.25, work=model(depth=8)))
    assert [b - a for a, b in zip(none, some, strict=True)] == pytest.approx([12 * ms / 1000 for ms in (10, 20, 40)])
    rate = {"flops_per_s": 1e8}
    none, some = seconds_of(flops(**rate)), seconds_of(flops(**rate, latencies_per_layer=0.25, work=model(depth=8)))
    assert [b - a for a, b in zip(none, some, strict=True)] == pytest.approx([12 * 2e6 / 1e8] * 3)


def test_flops_law_with_one_rate_needs_no_latency() -> None:
    unknown = phones(latency_ms=[np.nan, 20.0, 40.0])
    seconds = seconds_of(flops(unknown, flops_per_s=1e8))
    assert np.isfinite(seconds).all()
    assert len(set(seconds)) == 1
    assert np.isnan(seconds_of(flops(unknown))).tolist() == [True, False, False]


def profile(device: str, op: str, batch_size: int, step_s: float, **sizes: Any) -> dict[str, Any]:
    row = {"device": device, "op": op, "kind": "train_step", "batch_size": batch_size, "step_s": step_s}
    return {**dict.fromkeys(("in_size", "out_size", "seq_len")), **row, **sizes}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), PROFILES.arrow())


def whole(device: str, fixed_s: float, s_per_example: float, op: str = "Net-10") -> list[dict[str, Any]]:
    return [profile(device, op, size, fixed_s + s_per_example * size) for size in (1, 8, 32)]


OPS = {"Linear": "output", "Embedding": "embedding", "LSTM": "lstm"}


class Law:
    """Timed steps in a file; called with classes and a model it is the law of their training time."""

    def __init__(self, folder: Path, *rows: dict[str, Any], **inference_ms: float) -> None:
        self.file, self.inference_ms = folder / "profiles.parquet", inference_ms
        write_table(self.file, table(*rows), PROFILES)

    def __call__(
        self, of: PhoneClasses | None = None, work: ModelWork | None = None, ops: Mapping[str, str] = OPS
    ) -> MeasuredCompute:
        return MeasuredCompute(
            seed=0, phones=of or phones(), model=lambda: work or model(), profiles=str(self.file),
            inference_ms=self.inference_ms, layer_ops=ops, session_sigma=0.0,
        )  # fmt: skip


def test_a_model_timed_as_a_whole_is_fixed_cost_and_so_much_an_example(tmp_path: Path) -> None:
    seconds = np.array(seconds_of(Law(tmp_path, *whole("A", 0.5, 0.01))()))
    assert seconds[0] == pytest.approx(6 * 0.5 + 50 * 0.01)
    assert np.isnan(seconds[1:]).all()  # nothing tells how B and C compare


def test_other_phones_lie_between_the_timed_ones_by_latency(tmp_path: Path) -> None:
    both = Law(tmp_path, *whole("fast", 0.1, 0.0), *whole("slow", 0.4, 0.0), fast=10.0, slow=40.0)
    ms = phones(latency_ms=[5.0, 20.0, 80.0])
    assert seconds_of(both(ms)) == pytest.approx([6 * 0.05, 6 * 0.2, 6 * 0.8])
    own = Law(tmp_path, *whole("A", 7.0, 0.0), *whole("slow", 0.4, 0.0), slow=40.0)
    assert seconds_of(own()) == pytest.approx([6 * 7.0, 6 * 0.2, 6 * 0.4])  # A was timed itself


def test_times_between_are_those_of_the_work_that_is_asked(tmp_path: Path) -> None:
    """On a phone halfway (in logarithms) between two timed ones the time is their geometric mean, whatever the work."""
    both = Law(tmp_path, *whole("fast", 0.1, 0.01), *whole("slow", 0.1, 0.09), fast=10.0, slow=40.0)
    for n_samples, n_steps in ((1000, 1), (10, 10), (0, 5)):
        fast, slow = (0.1 * n_steps + s * n_samples for s in (0.01, 0.09))
        assert seconds_of(both(), n_samples, n_steps) == pytest.approx([fast, np.sqrt(fast * slow), slow])


def test_phones_of_one_latency_count_as_their_mean(tmp_path: Path) -> None:
    twins = Law(tmp_path, *whole("x", 0.1, 0.0), *whole("y", 0.3, 0.0), x=20.0, y=20.0)
    assert seconds_of(twins())[1] == pytest.approx(6 * 0.2)


def test_a_run_refuses_a_phone_whose_time_nobody_tells(tmp_path: Path) -> None:
    compute = Law(tmp_path, *whole("A", 0.5, 0.01))()
    one, k = np.array([50]), np.zeros(1, dtype=np.int32)
    assert compute.train_s(np.array([0]), k, one, one // 10)[0] == pytest.approx(5 * 0.5 + 50 * 0.01)
    with pytest.raises(InputError, match=r"cannot tell how long a phone trains: 'B'"):
        compute.train_s(np.array([1]), k, one, one)


def test_phones_without_a_model_are_placed_by_their_latency(tmp_path: Path) -> None:
    both = Law(tmp_path, *whole("fast", 0.1, 0.0), *whole("slow", 0.4, 0.0), fast=10.0, slow=40.0)
    compute = MeasuredCompute(
        seed=0, phones=LognormalPhones(seed=0, median_inference_ms=20.0, sigma=0.0), model=model,
        profiles=str(both.file), inference_ms=both.inference_ms, layer_ops=OPS, session_sigma=0.0,
    )  # fmt: skip
    assert compute.median_s(np.arange(2), np.full(2, 50), np.full(2, 6)) == pytest.approx([1.2, 1.2])


def dense(device: str, fixed_s: float, s_per_flop: float) -> list[dict[str, Any]]:
    sizes = [(n_in, n_out, batch) for n_in in (10, 200) for n_out in (30, 500) for batch in (1, 16)]
    return [
        profile(device, "output", b, fixed_s + s_per_flop * 2 * i * o * b, in_size=i, out_size=o) for i, o, b in sizes
    ]


def lstm(device: str, fixed_s: float, s_per_time: float) -> list[dict[str, Any]]:
    sizes = [(n, batch, length) for n in (10, 200) for batch in (1, 16) for length in (2, 10)]
    return [profile(device, "lstm", b, fixed_s + s_per_time * t, in_size=n, out_size=n, seq_len=t) for n, b, t in sizes]


LSTM_NET = (LayerWork("Linear", 1e6, 50, 1000, 0), LayerWork("LSTM", 1e3, 5, 100, 20))


def test_any_other_model_is_the_sum_of_its_layers(tmp_path: Path) -> None:
    measured = Law(tmp_path, *dense("A", 0.2, 1e-8), *lstm("A", 0.1, 0.03))
    seconds = seconds_of(measured(work=model(layers=LSTM_NET)))
    assert seconds[0] == pytest.approx(6 * 0.2 + 50 * 1e6 * 1e-8 + 6 * (0.1 + 20 * 0.03))


def test_a_phone_on_which_a_layer_was_not_timed_does_not_count(tmp_path: Path) -> None:
    measured = Law(tmp_path, *dense("A", 0.2, 0), *dense("B", 0.1, 0), *lstm("B", 0.1, 0))
    assert np.isnan(seconds_of(measured(work=model(layers=LSTM_NET)))).tolist() == [True, False, True]
    with pytest.raises(InputError, match=r"no device was timed on all layers.*output"):
        Law(tmp_path, *dense("A", 0.2, 0))(work=model(layers=LSTM_NET))


def test_only_training_steps_count(tmp_path: Path) -> None:
    rows = [{**row, "kind": "inference"} for row in whole("A", 0.5, 0.01)]
    with pytest.raises(InputError, match="no device was timed"):
        Law(tmp_path, *rows)()


def test_profiles_are_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    law = Law(tmp_path, *whole("B", 0.5, 0.01), *whole("A", 0.5, 0.01))
    assert [Profiles.load(path).devices for path in (tmp_path, law.file)] == [["A", "B"]] * 2
    with pytest.raises(InputError, match="profiles' not found"):
        Profiles.load(tmp_path / "nothing")


def test_what_a_law_cannot_work_with_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("flops_per_s", "benchmark_flops", "efficiency", "memory_bytes_per_s"):
        with pytest.raises(InputError, match=f"device.compute.{name}: 0"):
            flops(**{name: 0})
    with pytest.raises(InputError, match=r"device.compute.fixed_s_per_step: -1"):
        flops(fixed_s_per_step=-1)
    with pytest.raises(InputError, match=r"inference_ms\.A: 0"):
        Law(tmp_path, *whole("A", 1, 0), A=0.0)()
    with pytest.raises(InputError, match=r"layer_ops names an unknown op: 'conv' .*output"):
        Law(tmp_path, *whole("A", 1, 0))(ops={"Linear": "conv"})
    conv = LayerWork("Conv2d", 1e6, 50, 1000, 0)
    with pytest.raises(InputError, match=r"layers of the class: 'Conv2d' .*layer_ops.Conv2d"):
        Law(tmp_path, *dense("A", 0.2, 0))(work=model(layers=[conv]))


@pytest.mark.slow
def test_layers_of_real_phones_foretell_the_whole_models_that_were_timed_on_them(
    shared_data: Path, tmp_path: Path
) -> None:
    """FLASH timed whole tasks, too: 0.53 s for ten sequences of a next-word LSTM (10,000 words, 128, 256)."""
    raw = shared_data / "raw" / "flash" / "on_device_layer_train_time.parquet"
    write_table(tmp_path / "profiles.parquet", _flash_profiles(raw), PROFILES)
    steps, words = 10, 10_000
    gates = 4 * 256 * (128 + 256)
    layers = (
        LayerWork("Embedding", 0.0, 128 * steps, 128 * words, 0),
        LayerWork("LSTM", 2.0 * gates * steps, 256 * steps, gates, steps),
        LayerWork("Linear", 2.0 * 256 * words * steps, words * steps, 256 * words, 0),
    )
    pixel_4, reddit = PhoneClasses.named(["Google Pixel 4"], [54.0]), model(name="reddit", layers=layers)
    measured = MeasuredCompute(
        seed=0, phones=pixel_4, model=lambda: reddit,
        profiles=str(tmp_path), inference_ms=_LATENCY_MS, layer_ops=OPS, session_sigma=0.0,
    )  # fmt: skip
    assert seconds_of(measured, n_samples=10, n_steps=1)[0] == pytest.approx(0.528, rel=0.5)


_LATENCY_MS = {"nexus6": 109.0, "redmi_note8": 91.0, "sumsung_note10": 42.0}


def _flash_profiles(path: Path) -> pa.Table:
    rows = pq.read_table(path).rename_columns({"layer": "op", "train_time_s": "step_s"})
    rows = rows.append_column("kind", pa.array(["train_step"] * rows.num_rows))
    return PROFILES.check(rows, where=path)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["inference", "flops"])
def test_laws_without_timed_steps_are_as_slow_as_the_steps_that_were_timed(
    shared_data: Path, tmp_path: Path, law: str
) -> None:
    """Five models on FLASH's three phones, batches of 1 to 40: off by a factor of less than two, 1.5 as a rule."""
    raw = shared_data / "raw" / "flash" / "on_device_layer_train_time.parquet"
    write_table(tmp_path / "profiles.parquet", _flash_profiles(raw), PROFILES)
    off = []
    for words in TIMED_TASKS:
        shipped = composed([f"device/compute={law}", "fleet/hardware=lognormal", *words])
        timed_values = composed(["device/compute=measured", f"device.compute.profiles={tmp_path}", *words])
        for phone, ms in timed_values["device"]["compute"]["inference_ms"].items():
            named = PhoneClasses.named([phone], [ms])
            made, timed = (
                build_cost_device(values, build_task(values), named).compute for values in (shipped, timed_values)
            )
            for n in (1, 10, 40):
                size = np.array([n]), np.array([1])
                off.append(float((made.median_s(np.array([0]), *size) / timed.median_s(np.array([0]), *size))[0]))
    assert max(np.max(off), 1 / np.min(off)) < 2.0
    assert np.quantile(np.exp(np.abs(np.log(off))), 0.9) < 1.5
    assert np.exp(np.mean(np.log(off))) == pytest.approx(1.0, abs=0.15)


CLICKS = ("data=clicks", "training.loss=binary_cross_entropy", "training.metrics=[auc]", "cost.n_examples=10")
TIMED_TASKS = (
    ("model=logistic_digits", "cost.n_examples=10"),
    ("model=cnn_digits", "model.example_shape=[28,28]", "cost.n_examples=10"),
    ("model=clicks", *CLICKS),
    ("model=lstm_words", "cost.n_examples=10"),
    ("model=lstm_words", "model.module={n_words:10000,n_factors:96,n_hidden:272}", "cost.n_examples=10"),
)
