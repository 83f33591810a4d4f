"""``fedsim cost`` as a user meets it: what it prints and writes, its knobs, its laws, its one-line errors."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import fedsim
from fedsim.cli import cost as cost_module
from fedsim.cli.main import main
from fedsim.config.cost import build_task, composed_task
from fedsim.cost.table import DEVICE_COSTS
from fedsim.files import read_table, write_table
from fedsim.schema import HARDWARE, LEVELS, PROFILES
from fedsim.traces.folder import save_traces
from fedsim.traces.importers import IMPORTERS
from fedsim.traces.measurements import MeasurementWriter
from fedsim.training.flops import batch_loss, count_step, example_batch
from fedsim.training.tasks.words import WordLstm
from tests.hand import events_of, traces_of
from tests.smoke import small

CLICKS = ["model=clicks", "data=clicks", "training.loss=binary_cross_entropy", "features=clicks"]
PICTURES = ["model=cnn_digits", "cost.n_examples=116"]
WORDS = ["model=lstm_words", "cost.n_examples=120"]
TASKS = {"digits": [], "pictures": PICTURES, "clicks": CLICKS, "words": WORDS}


@pytest.fixture
def hardware(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"model": "New", "weight": 1.0, "inference_ms_per_sample": 20.0, "ram_gb": 8.0, "latency_source": "measured"},
        {"model": "Old", "weight": 3.0, "inference_ms_per_sample": 200.0, "ram_gb": 0.4, "latency_source": "drawn"},
    ]
    write_table(tmp_path / "set" / "hardware.parquet", pa.Table.from_pylist(rows, HARDWARE.arrow()), HARDWARE)
    return tmp_path / "set"


def told(folder: Path, *words: str) -> dict[str, Any]:
    assert main(["cost", *small(words), "--json", str(folder / "cost.json")]) == 0
    found: dict[str, Any] = json.loads((folder / "cost.json").read_text())
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["cost", *small(words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fedsim: ")
    return error


@pytest.mark.slow
def test_it_works_with_what_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(tmp_path)
    out = capsys.readouterr().out
    assert "Logistic-650" in out and "200 classes" in out
    assert len(out.splitlines()) < 45
    assert found["summary"]["feasible"] == {"yes": 1.0, "no": 0.0, "unknown": 0.0}
    assert "4 GB of memory assumed for 100%" in " ".join(out.split())
    assert found["task"]["training_flops_per_epoch"] == 2 * 1280 * found["task"]["n_examples"]
    assert len({row["inference_ms_per_sample"] for row in found["classes"]}) == 200


@pytest.mark.slow
def test_unknown_memory_counts_as_what_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    little = told(tmp_path, "cost.assumed_ram_gb=0.4")["summary"]  # a tenth of it is less than the library's 50 MB
    assert (little["feasible"]["no"], little["exceeds"]["ram"]) == (1.0, 1.0)
    capsys.readouterr()
    unknown = told(tmp_path, "cost.assumed_ram_gb=null")["summary"]
    assert unknown["feasible"] == {"yes": 0.0, "no": 0.0, "unknown": 1.0}
    assert "not known for all: RAM" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_models_of_several_sizes_stand_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyboard = ["--model-size", "1.4MB,5 MB"]
    assert main(["cost", *keyboard, "--json", str(tmp_path / "c.json"), "--csv", str(tmp_path / "c.csv")]) == 0
    small_one, large = json.loads((tmp_path / "c.json").read_text())["models"]
    assert [told["task"]["download_bytes"] for told in (small_one, large)] == [1_400_000, 5_000_000]
    assert [told["task"]["upload_bytes"] for told in (small_one, large)] == [350_000, 1_250_000]
    ratio = large["task"]["forward_flops_per_example"] / small_one["task"]["forward_flops_per_example"]
    assert ratio == pytest.approx(5 / 1.4)
    seconds = [told["summary"]["quantiles"]["session_s"]["p50"] for told in (small_one, large)]
    assert seconds[0] < seconds[1] < 5 / 1.4 * seconds[0]  # its depth stays
    lines = capsys.readouterr().out
    assert "1.4 MB" in lines and "5.0 MB" in lines and max(map(len, lines.splitlines())) <= 80
    with (tmp_path / "c.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 200


@pytest.mark.slow
def test_a_cost_is_what_the_sessions_of_a_run_take(tmp_path: Path) -> None:
    """Column by column: the quantiles of planned sessions and those of a run in which every phone stays on."""
    on = traces_of([events_of([(0, "charging", 1), (0, "network", "wifi"), (0, "locked", 1)])], period_s=86_400)
    save_traces(on, tmp_path / "on")
    words = ["experiment=null", f"traces.folder={tmp_path / 'on'}", "device.crash_fraction=0", "fleet.jitter_s=0"]
    words += ["device.session_timeout_s=null", "training=none", "report=false", "model.plan_bytes=50000"]
    rounds = ["server.report_goal=4000", "server.over_selection=1", "server.deadline_s=null", "stop.max_steps=5"]
    run = fedsim.simulate(*small(words), *rounds, folder=tmp_path / "run").sessions()
    run = run.assign(
        download_s=run.download_end_at - run.assigned_at,
        train_s=run.train_end_at - run.download_end_at,
        upload_s=run.upload_end_at - run.train_end_at,
        session_s=run.upload_end_at - run.assigned_at,
        radio_j=run.download_j + run.upload_j,
    )
    of_cost = told(tmp_path, *words)["summary"]["quantiles"]
    assert len(run) == 20_000
    for name in ("download_s", "train_s", "upload_s", "session_s", "compute_j", "radio_j"):
        for q, figure in of_cost[name].items():
            assert figure == pytest.approx(run[name].quantile(float(q[1:]) / 100), rel=0.05), (name, q)


@pytest.mark.slow
def test_files_hold_every_class(hardware: Path, tmp_path: Path) -> None:
    table = tmp_path / "cost.csv"
    found = told(tmp_path, "--hardware", str(hardware), "--csv", str(table))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [column.name for column in DEVICE_COSTS.columns]
    assert [row["model"] for row in rows] == [row["model"] for row in found["classes"]] == ["New", "Old"]
    assert [float(row["session_s"]) for row in rows] == [row["session_s"] for row in found["classes"]]
    assert found["summary"]["feasible"] == {"yes": 0.25, "no": 0.75, "unknown": 0.0}
    assert found["classes"][1]["exceeds"] == "ram"
    assert found["provenance"]["hardware_sha256"] is not None


@pytest.mark.slow
def test_the_fleets_own_table_is_used(hardware: Path, tmp_path: Path) -> None:
    of_file = told(tmp_path, "fleet/hardware=table", f"fleet.hardware.table={hardware / 'hardware.parquet'}")
    traces = traces_of([events_of([(0, "charging", 1)])], period_s=86_400)
    save_traces(replace(traces, hardware=read_table(hardware / "hardware.parquet", HARDWARE)), tmp_path / "traces")
    of_set = told(tmp_path, "fleet/hardware=table", f"traces.folder={tmp_path / 'traces'}")
    assert of_file["classes"] == of_set["classes"]
    assert {row["model"] for row in of_set["classes"]} == {"New", "Old"}


@pytest.mark.slow
def test_phones_that_a_run_would_not_ask_are_left_out(hardware: Path, tmp_path: Path) -> None:
    table = ["fleet/hardware=table", f"fleet.hardware.table={hardware / 'hardware.parquet'}"]
    found = told(tmp_path, *table, "fleet.hardware.requires='ram_gb >= 2'")
    assert [(row["model"], row["share"]) for row in found["classes"]] == [("New", 1.0)]


@pytest.mark.slow
def test_measured_networks_give_their_rates(hardware: Path, tmp_path: Path) -> None:
    kinds = list(range(1, 6))  # every network type: three phones each
    levels = {"device_id": list("abc") * 5, "network": sorted(kinds * 3)}
    levels |= {f"{way}_sd_bytes_per_s": [0.0] * 15 for way in ("down", "up")}
    rates = {"down_bytes_per_s": [1e5, 2e5, 8e5] * 5, "up_bytes_per_s": [1e4, 5e4, 9e4] * 5}
    with MeasurementWriter(tmp_path / "links") as writer:
        writer.add(LEVELS, pa.table(levels | rates))
    words = ["device/network=measured", f"device.network.folders=[{tmp_path / 'links'}]"]
    words += ["device.network.n_round_trips=2"]
    row = told(tmp_path, *words, "--hardware", str(hardware))["classes"][0]
    trips_s = 2 * 0.03  # two round trips on wifi before each transfer
    assert row["download_bytes"] / 8e5 < row["download_s"] - 0.5 - trips_s < row["download_bytes"] / 1e5
    assert row["upload_bytes"] / 9e4 < row["upload_s"] - trips_s < row["upload_bytes"] / 1e4


@pytest.mark.slow
def test_local_work_and_limits_are_the_configurations(hardware: Path, tmp_path: Path) -> None:
    words = [*PICTURES, "--hardware", str(hardware)]
    one = told(tmp_path, *words)["classes"][0]
    three = told(tmp_path, "training.local.epochs=3", "cost.limits.max_session_s=3", *words)["classes"][0]
    assert three["train_s"] == pytest.approx(3 * one["train_s"] - 2 * 3.0)  # the runtime starts once, in 3 s
    assert (one["is_feasible"], three["is_feasible"], three["exceeds"]) == ("yes", "no", "time")
    still = ["device.network.device_sigma=0", "device.network.session_sigma=0", "device.compute.session_sigma=0"]
    on_4g = told(tmp_path, "cost.network=4g", "device/energy=by_type", *still, *words)["classes"][0]
    assert on_4g["download_s"] == pytest.approx(0.5 + one["download_bytes"] / 3_600_000, abs=1e-6)
    assert on_4g["radio_j"] == pytest.approx(on_4g["download_s"] * 2.0 + on_4g["upload_s"] * 2.6)
    assert on_4g["session_s"] == pytest.approx(sum(on_4g[f"{name}_s"] for name in ("download", "train", "upload")))


@pytest.mark.slow
def test_examples_are_those_of_the_clients(tmp_path: Path) -> None:
    clicks = ["model=clicks", "data=clicks", "training.loss=binary_cross_entropy"]
    found = told(tmp_path, *clicks)
    assert found["task"]["n_examples"] == 20  # the median that the data is made with
    spread = found["summary"]["quantiles"]["train_s"]
    fixed = told(tmp_path, *clicks, "cost.n_examples=20")["summary"]["quantiles"]["train_s"]
    assert spread["p95"] / spread["p5"] > 1.1 * fixed["p95"] / fixed["p5"]


@pytest.mark.slow
def test_a_vocabulary_costs_assets_and_rows_and_hashing_none(tmp_path: Path) -> None:
    base = told(tmp_path, *CLICKS)["task"]
    assert (base["n_parameters"], base["embedding_rows"], base["assets_bytes"]) == (9313, 800, 5 * 100 * 12)
    key = "features.catalogue.topic.vocabulary"
    large = told(tmp_path, *CLICKS, f"{key}.entries=10100")["task"]
    assert large["n_parameters"] - base["n_parameters"] == 10_000 * (1 + 8)
    assert large["assets_bytes"] - base["assets_bytes"] == 10_000 * 12
    assert large["download_bytes"] - base["download_bytes"] == 4 * 10_000 * (1 + 8)
    hashed = told(tmp_path, *CLICKS, f"{key}.entries=10100", f"{key}.kind=hash")["task"]
    assert hashed["n_parameters"] - base["n_parameters"] == -50 * (1 + 8)
    assert hashed["assets_bytes"] == base["assets_bytes"] - 100 * 12
    own = told(tmp_path, *CLICKS, f"{key}.entries=10100", "model.module.n_values=800")["task"]
    assert own["n_parameters"] == base["n_parameters"]  # what is said explicitly stands


@pytest.mark.slow
def test_shipped_features_travel_with_the_examples(tmp_path: Path) -> None:
    without = told(tmp_path, *CLICKS[:3], "cost.n_examples=50")["task"]
    joined = told(tmp_path, *CLICKS, "cost.n_examples=50")["task"]
    assert joined["download_bytes"] - without["download_bytes"] == 50 * (4 + 4)
    assert joined["storage_bytes"] == 4 * 9313 + joined["assets_bytes"] + 50 * (2 + 2 + 2 + 1 + 4 + 4 + 2 + 1)
    assert without["storage_bytes"] == 4 * 9313 + 50 * 8 * 8  # without a catalogue: eight int64 ids
    assert joined["refreshed_bytes_per_day"] == pytest.approx(2 * 1200 / 7)


@pytest.mark.slow
def test_assets_of_the_model_count_as_well(tmp_path: Path) -> None:
    task = told(tmp_path, "model.assets_bytes=777", "model.assets_refresh_days=7")["task"]
    assert (task["assets_bytes"], task["refreshed_bytes_per_day"]) == (777, 111.0)


def test_what_is_not_counted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["~model.module.n_inputs", "~model.module.n_classes", f"model.module._target_={__name__}.Square"]
    found = told(tmp_path, *own, "model.example_shape=[3]", "cost.n_examples=5")["task"]
    out = capsys.readouterr().out
    assert "not counted as FLOPs  Bilinear (_trilinear" in out
    assert (found["model"], found["forward_flops_per_example"]) == ("Square-20", 0)


class Square(nn.Module):
    """Multiplies its input with itself by a layer that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Bilinear(3, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x, x)


@pytest.fixture
def quick_measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A stand-in for the clock: steps of 0.1 s + 1 ms an example."""
    asked: list[dict[str, Any]] = []

    def measure(model: Any, **how: Any) -> pa.Table:
        asked.append(how)
        rows = [
            {"device": "Host", "op": how["op"], "kind": "train_step", "batch_size": n, "step_s": 0.1 + 0.001 * n}
            for n in how["schedule"].batch_sizes
        ]
        return pa.Table.from_pylist(rows, PROFILES.arrow())

    monkeypatch.setattr(cost_module, "measure", measure)
    yield asked


@pytest.mark.slow
def test_a_measurement_can_be_used_as_a_law(
    tmp_path: Path, quick_measure: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "profile"
    assert (
        main(["cost", "experiment=smoke", *PICTURES, "cost.measure.batch_sizes=[2,20]", "--measure", str(folder)]) == 0
    )
    printed = capsys.readouterr().out
    assert "Host" in printed and f"device/compute=measured device.compute.profiles={folder}" in printed
    assert quick_measure[0]["example"].shape == (28, 28)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["model"] == quick_measure[0]["op"]
    assert {"cpu", "versions", "n_threads", "warm_up", "repeats"} <= set(provenance)
    (row,) = told(tmp_path, *PICTURES, "device/compute=measured", f"device.compute.profiles={folder}")["classes"]
    beside = told(tmp_path, *PICTURES, "device/compute=measured", "device.setup_s=0", "--hardware", str(_table(folder)))
    assert {row["model"]: row["train_s"] for row in beside["classes"]}["Host"] == pytest.approx(row["train_s"] - 3)
    assert row["model"] == "Host"
    assert row["train_s"] == pytest.approx(3 + 12 * 0.1 + 116 * 0.001, rel=0.05)


def test_a_measurement_replaces_nothing(hardware: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "will not replace what is there" in refused(capsys, *PICTURES, "--measure", str(hardware))
    assert [file.name for file in hardware.iterdir()] == ["hardware.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["modle=clicks"], "modle"),
        (["model=clicks"], "model.module.n_values: the data does not tell it"),
        (["device.compute.benchmark_flops=0"], "device.compute.benchmark_flops: 0"),
        (["cost.limits.max_ram_fraction=0"], "cost.limits.max_ram_fraction"),
        (["~model.plan_bytes"], "model.plan_bytes must be given"),
        (["--csv", "."], "a file is to be written"),
        (["device/battery=phone", "device.battery.capacity_wh=0"], "capacity_wh"),
        (["model.plan_bytes=-5"], "model.plan_bytes: -5 (allowed: a number"),
        (["model.plan_bytes=abc"], "model.plan_bytes has the wrong type: 'abc' (allowed: a number"),
        (["model.assets_refresh_days=abc"], "model.assets_refresh_days has the wrong type: 'abc'"),
        (["device.thermal_slowdown=0.5"], "thermal_slowdown"),
        (["device.thermal_after_s=abc"], "device.thermal_after_s"),
        (["cost.network=6g"], "cost.network is unknown: '6g'"),
        (["cost.network=5g", "device.network.waits_on=[5g]"], "transfers wait on cost.network: '5g'"),
        (["cost.n_examples=0"], "cost.n_examples"),
        (["cost.assumed_ram_gb=0"], "cost.assumed_ram_gb"),
        (["--model-size", "5MX"], "--model-size: '5MX' (allowed: a size such as"),
        (["model.download_bytes_per_parameter=0", "--model-size", "5MB"], "says nothing of its parameters"),
        (["model.example_shape=5"], "model.example_shape"),
        (["model.example_shape=[0]"], "model.example_shape"),
        (["model.example_shape=[3]", "--measure", "x"], "does not fit its examples"),
        (["model.example_dtype=int8"], "int8"),
        (["device/compute=measured", "device.compute.profiles=nowhere"], "nowhere"),
        (["--hardware", "nowhere.parquet"], "nowhere.parquet"),
        (["features=clicks"], "model.module.n_values"),
        ([*CLICKS, "features.catalogue.item.home=moon"], "features.catalogue.item"),
        (["features.catalogue=5"], "features.catalogue"),
        (["cost.measure.repeats=x", "--measure", "x"], "cost.measure.repeats"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "shape", "dtype"),
    [
        (nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 10)), (100,), "float32"),
        (WordLstm(n_words=5000, n_factors=48, n_hidden=96), (20,), "int64"),
    ],
)
def test_estimated_memory_is_near_what_torch_allocates(model: nn.Module, shape: tuple[int, ...], dtype: str) -> None:
    x = example_batch(model, shape=shape, dtype=dtype, batch_size=32)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        torch.autograd.grad(batch_loss(model(x), "cross_entropy"), list(model.parameters()))
    held = peak = 0
    events = (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    task = build_task(composed_task(small(["cost.n_examples=32", "training.local.batch_size=32"])))
    task = replace(task, step=count_step(model, x, loss="cross_entropy"))
    estimate = task.memory["gradients"] + task.memory["activations"]
    assert 0.6 < estimate / peak < 1.7


def _table(folder: Path) -> Path:
    """A hardware table beside the profiles of a folder."""
    rows = [{"model": "Host", "weight": 1.0, "inference_ms_per_sample": 20.0}]
    write_table(folder / "hardware.parquet", pa.Table.from_pylist(rows, HARDWARE.arrow()), HARDWARE)
    return folder


@pytest.fixture(scope="module")
def flash(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flash") / "tables"
    raw = shared_data / "raw"
    IMPORTERS["flash_tables"](raw / "flash", folder, propius=raw / "propius" / "client_spec_speed.pkl")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "law"),
    [*((name, "inference") for name in TASKS), ("pictures", "measured"), ("words", "measured"), ("clicks", "flops")],
)
def test_four_models_on_more_than_300_real_models(
    name: str, law: str, flash: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = [f"device.compute.profiles={flash}"] if law == "measured" else []
    laws = [f"device/compute={law}", *profiles, "device.compute.session_sigma=0"]
    found = told(tmp_path, *TASKS[name], *laws, "cost.n_examples=100", "--hardware", str(flash))
    assert len(capsys.readouterr().out.splitlines()) < 50
    assert found["summary"]["n_models"] >= 300
    assert len(found["classes"]) == found["summary"]["n_classes"]
    assert sum(found["summary"]["feasible"].values()) == pytest.approx(1.0)
    assert sum(row["share"] for row in found["classes"]) == pytest.approx(1.0)
    by_latency = sorted(found["classes"], key=lambda row: row["inference_ms_per_sample"])
    times = [row["train_s"] for row in by_latency]
    assert all(b > a - 1e-5 for a, b in pairwise(times)) and times[0] > 0
    assert 0.1 < by_latency[0]["session_s"] < by_latency[-1]["session_s"] < 300
