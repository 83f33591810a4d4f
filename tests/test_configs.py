"""Every YAML composes and builds; every wrong value is refused in one line that names its key."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from fedsim.cli.cost import costs_of
from fedsim.config.cost import composed_task
from fedsim.config.simulation import build_simulation
from fedsim.config.trainer import central_metrics
from fedsim.errors import InputError
from fedsim.files import shipped, write_table
from fedsim.schema import HARDWARE
from fedsim.traces.folder import save_traces
from tests.hand import events_of, traces_of
from tests.smoke import composed, small

pytestmark = pytest.mark.slow

CONFIGS = shipped("configs")
OPTIONS = sorted(p.relative_to(CONFIGS).with_suffix("") for p in CONFIGS.rglob("*.yaml") if p.parent != CONFIGS)
NOT_SHIPPED = {
    "traces/flash", "traces/fedscale", "data/mnist_by_writer", "data/kuairand_feed", "device/network/measured",
    "device/compute/measured", "data/conda_toxicity", "data/convabuse", "data/lambdarank", "data/shakespeare_roles",
    "data/ubuntu_irc",
}  # fmt: skip
PARTS = {"training/task", "training/local/steps", "data/table", "data/leaf"}  # what other options are made of
NEEDS = {
    "holders/one_to_one": ["fleet.n_devices=100"],
    "training/server_optimizer": ["training=loop"],
    "training/schedule": ["training=loop"],
    "fleet/hardware/table": ["fleet.hardware.table=HARDWARE"],
    "data/kuairand_feed": ["model=feed", "training=none", "training.loss=binary_cross_entropy"],
    "model/feed": ["data=clicks", "training=none", "training.loss=binary_cross_entropy"],
    "features/clicks": ["data=clicks", "model=clicks", "training=none", "training.loss=binary_cross_entropy"],
    "data/clicks": ["model=clicks", "training.loss=binary_cross_entropy"],
    "model/clicks": ["data=clicks", "training.loss=binary_cross_entropy"],
    "model/cnn_digits": ["training=none"],
    "model/lstm_words": ["training=none"],
    "model/table": [
        "training=none",
        "model.module.n_numbers=64",
        "model.module.n_values=0",
        "model.example_shape=[64]",
        "model.example_dtype=float32",
    ],
    "model/text_bag": ["data=clicks", "training=none", "training.loss=binary_cross_entropy"],
    "model/gru_words": [
        "training=none",
        "model.module.n_words=50",
        "model.example_shape=[20]",
        "model.example_dtype=int64",
    ],
    "model/lstm_characters": [
        "training=none",
        "model.module.n_words=9",
        "model.example_shape=[9]",
        "model.example_dtype=int64",
    ],
    "model/document_score": ["training=none", "training.loss=list_net", "model.example_shape=[5,64]"],
}


def with_needs(option: str) -> list[str]:
    extra = [value for prefix, values in NEEDS.items() if option.startswith(prefix) for value in values]
    group, _, name = option.rpartition("/")
    if group == "training/schedule":
        return [
            *extra,
            f"+{group}@training.local.schedule={name}",
            f"+{group}@training.server_optimizer.schedule={name}",
        ]
    return [*extra, f"{group}={name}"]


@pytest.fixture
def hardware(tmp_path: Path) -> Path:
    rows = [{"weight": 1.0, "inference_ms_per_sample": 50.0}]
    write_table(tmp_path / "hardware.parquet", pa.Table.from_pylist(rows, HARDWARE.arrow()), HARDWARE)
    return tmp_path / "hardware.parquet"


@pytest.mark.slow
@pytest.mark.parametrize("option", [str(o) for o in OPTIONS if not str(o).startswith("experiment/")])
def test_every_option_composes_and_builds(option: str, hardware: Path) -> None:
    if option in PARTS:
        return
    overrides = [o.replace("HARDWARE", str(hardware)) for o in with_needs(option)]
    values = composed(overrides)
    if option in NOT_SHIPPED:
        with pytest.raises(InputError, match="not found"):
            build_simulation(composed([*overrides, "paths.datasets=nowhere", "paths.local_traces=nowhere"]))
        return
    if option == "holders/own":
        with pytest.raises(InputError, match="natural ids"):
            build_simulation(values)
        return
    build_simulation(values)


@pytest.mark.parametrize("option", [str(o) for o in OPTIONS if str(o).startswith("experiment/")])
def test_every_experiment_composes(option: str) -> None:
    needed = ["data.path=rows.csv", "data.client=who", "data.label=y"] if option == "experiment/table" else []
    values = composed([f"experiment={option.split('/')[1]}", *needed])
    assert values["stop"]


def refused(*overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        build_simulation(composed(["training=none", *overrides]))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("fleet.n_devices=0", "fleet.n_devices", "0"),
        ("fleet.n_devices=many", "fleet.n_devices", "many"),
        ("device.crash_fraction=1.5", "crash_fraction", "1.5"),
        ("device.network.down_bytes_per_s.wifi=-1", "down_bytes_per_s", "-1"),
        ("fleet.hardware.sigma=-0.1", "sigma", "-0.1"),
        ("device.compute.relative_cost=-0.1", "relative_cost", "-0.1"),
        ("model.forward_flops=many", "forward_flops", "many"),
        ("~model.plan_bytes", "model.plan_bytes", "must be given"),
        ("fleet.rule=5", "fleet.rule has the wrong type: 5", "a text"),
        ("fleet.rollout=0.5", "fleet.rollout must be a group", "0.5"),
        ("stop=5", "stop must be a group", "5"),
        ("training.local=sgd", "training.local must be a group", "training/local=OPTION"),
        ("device.energy.compute_w=-1", "compute_w", "-1"),
        ("device.interruption=stop", "interruption", "stop"),
        ("server.report_goal=0", "report_goal", "0"),
        ("server.over_selection=0.5", "over_selection", "0.5"),
        ("server.quorum_fraction=0", "quorum_fraction", "0"),
        ("server.weighting=loss", "weighting", "loss"),
        ("server.aggregator.n_workers=0", "n_workers", "0"),
        ("server.selector.min_between_participations_s=-1", "min_between_participations_s", "-1"),
        ("stop.max_steps=-1", "max_steps", "-1"),
        ("stop.metric=accuracy", "metric", "accuracy"),
        ("evaluation.every_steps=0", "every_steps", "0"),
        ("seed=-1", "seed", "-1"),
        ("seed=x", "seed", "x"),
        ("gauge_interval_s=0", "gauge_interval_s", "0"),
        ("fleet.rule='chargin'", "chargin", "charging"),
        ("fleet.rule='charging & network == wfi'", "wfi", "wifi"),
        ("fleet.unknown=perhaps", "unknown", "perhaps"),
        ("fleet.regions.utc.share=0.5", "regions", "0.5"),
        ("traces.folder=nowhere", "not found", "nowhere"),
        ("server._target_=fedsim.server.protocol.sync.Nothing", "server._target_", "Nothing"),
        ("+server.report_gaol=3", "server.report_gaol", "report_goal"),
        ("training.local.batch_size=0", "batch_size", "0"),
        ("training._target_=fedsim.training.trainer.Nothing", "training._target_", "Nothing"),
        ("~training._target_", "training._target_", "must be given"),
        ("model.n_parameters=-5", "n_parameters", "-5"),
    ],
)
def test_a_wrong_value_is_refused_by_name(override: str, key: str, value: str) -> None:
    message = refused(override)
    assert key in message
    assert value in message


def test_a_battery_that_holds_nothing_is_refused() -> None:
    assert "capacity_wh" in refused("device/battery=phone", "device.battery.capacity_wh=0")


def test_a_mixture_holds_only_phones_that_can_be_eligible(tmp_path: Path) -> None:
    save_traces(traces_of([events_of([(0, "available", 1)])], period_s=86400), tmp_path / "app")
    message = refused(f"traces.mixture={{{shipped('traces/reference')}: 0.7, {tmp_path / 'app'}: 0.3}}")
    assert "has no charging" in message and "app" in message


def test_traces_whose_models_the_table_does_not_know_are_refused(hardware: Path) -> None:
    table = ["fleet/hardware=table", f"fleet.hardware.table={hardware}", "fleet.hardware.match=trace_model"]
    assert "no base trace names a model" in refused(*table)


def test_a_wrong_parameter_count_is_found_when_the_model_is_trained() -> None:
    with pytest.raises(InputError, match=r"n_parameters.*651.*650"):
        build_simulation(composed(["training=loop", "model.n_parameters=651"]))


def central(*overrides: str) -> dict[str, float]:
    values = composed([*overrides, "training.central.learning_rate=0.5"])
    simulation = build_simulation(composed(list(overrides)))
    return central_metrics(values, simulation.task.clients)


@pytest.mark.slow
def test_the_central_baseline_of_a_run() -> None:
    one, four = central("training.central.epochs=1"), central("training.central.epochs=4")
    assert four["accuracy"] > one["accuracy"] + 0.1 > 0.5
    assert set(four) == {"accuracy", "log_loss"}
    assert central("training.central.epochs=0") == {}


def test_there_is_no_central_baseline_where_nothing_is_trained() -> None:
    unpoolable = ("data=clicks", "model=clicks", "training.loss=binary_cross_entropy", "data.n_clients=1_000_000_000")
    assert central("training=none", "training.central.epochs=1", *unpoolable) == {}


@pytest.mark.slow
def test_the_central_baseline_is_plain_sgd_whatever_the_run_does() -> None:
    plain = central("training.central.epochs=1")
    assert plain == central(
        "training.central.epochs=1", "training/server_optimizer=fedadam", "training.local.epochs=3",
        "training.local.learning_rate=0.01", "training.local.batch_size=3",
    )  # fmt: skip
    assert plain != central("training.central.epochs=1", "training.central.batch_size=7")


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["-1", "many", "1.5"])
def test_central_epochs_are_a_count(epochs: str) -> None:
    with pytest.raises(InputError, match=r"training\.central\.epochs.*: .* .allowed: a whole number 0 … 10000"):
        central(f"training.central.epochs={epochs}")


def test_the_old_key_of_a_trainers_name_is_unknown() -> None:
    assert "training.name" in refused("training.name=loop")
    assert "unknown key: 'training.name'" in refused("+training.name=loop")


def test_wrong_flops_are_found_when_the_model_is_trained() -> None:
    with pytest.raises(InputError, match=r"forward_flops.*1300.*1280 or null; model.costs_as"):
        build_simulation(composed(["training=loop", "model.forward_flops=1300"]))


@pytest.mark.parametrize("law", ["inference", "flops"])
def test_counts_are_those_of_the_module_whatever_its_size(law: str) -> None:
    """A logistic regression of 64 inputs; twice as many classes are twice as many parameters and FLOPs."""
    words = ["training=none", f"device/compute={law}", "data.n_clients=50"]
    one, two = (build_simulation(composed([*words, f"model.module.n_classes={n}"])) for n in (10, 20))
    assert [made.task.work.download_bytes for made in (one, two)] == [4 * 650, 4 * 1300]
    assert [made.task.trainer().n_parameters for made in (one, two)] == [650, 1300]
    seconds = [
        made.world.device.compute.median_s(np.arange(9), np.full(9, 1000), np.zeros(9, np.int64)) for made in (one, two)
    ]
    assert seconds[1] == pytest.approx(2 * seconds[0])


def test_another_model_is_paid_for_by_run_and_cost_alike() -> None:
    """A model of a thousand parameters stands in: its bytes, its FLOPs, its depth, three examples for each."""
    said = "{name: other, n_parameters: 1000, forward_flops: 6e8, activation_bytes: 10, depth: 4, examples_each: 3}"
    words = [f"+model.costs_as={said}", "device.compute.session_sigma=0", "device.setup_s=0", "cost.n_examples=10"]
    words = [word.replace("+model", "model") for word in words]
    made = build_simulation(composed(["training=loop", *words]))
    assert (made.task.work.download_bytes, made.task.trainer().n_parameters) == (4000, 650)
    n = np.full(1, 10)
    assert (made.task.work.n_visits(n)[0], made.task.work.n_steps(n)[0]) == (30, 3)
    latency_s = 0.063 * (3 * 3.3 * 30 + 3 * 4 * 0.51)
    compute = build_simulation(composed(["training=none", "fleet.hardware.sigma=0", *words])).world.device.compute
    assert compute.train_s(n, n.astype(np.int32), np.full(1, 30), np.full(1, 3))[0] == pytest.approx(latency_s)
    costs, told = costs_of(composed_task(small(["fleet.hardware.sigma=0", *words])), None)
    assert told["task"]["n_parameters"] == 1000
    assert costs.column("train_s")[0].as_py() == pytest.approx(latency_s, abs=1e-5)


def test_vocabularies_must_fit_the_embedding() -> None:
    clicks = [*with_needs("features/clicks"), "features.catalogue.item.vocabulary.entries=101"]
    assert "model.module.n_values" in refused(*clicks) and "801" in refused(*clicks)


def test_features_put_their_bytes_on_the_phone() -> None:
    work = build_simulation(composed(with_needs("features/clicks"))).task.work
    assert [(assets.n_bytes, assets.refresh_s) for assets in work.assets] == [(3600, None), (2400, 604800)]
    assert work.shipped_bytes_per_example == 8


@pytest.mark.parametrize("law", ["inference", "flops"])
def test_a_run_takes_the_time_that_the_cost_command_tells(law: str) -> None:
    """Phones of known latency, each asked for its median session."""
    overrides = [f"device/compute={law}", "cost.n_examples=25", "fleet.hardware.sigma=0", "device.setup_s=0"]
    overrides += ["device.compute.session_sigma=0"]
    costs, _ = costs_of(composed_task(small(overrides)), None)
    run = build_simulation(composed([*overrides, "training=none"]))
    compute = run.world.device.compute
    train_s = compute.train_s(np.arange(3), np.zeros(3, np.int32), np.full(3, 25), np.full(3, 3))
    assert train_s == pytest.approx(costs.column("train_s").to_numpy()[:3], abs=1e-6)


@pytest.mark.parametrize("energy", ["constant", "by_class"])
def test_a_run_takes_what_the_cost_command_tells(energy: str) -> None:
    """The trip of a phone of known latency on 4g, drawn without spread: seconds, bytes and joules of all its parts."""
    task = ["device/energy=" + energy, "cost.n_examples=25", "cost.network=4g", "features=none", "model.plan_bytes=700"]
    link = ["device.network.n_round_trips=3", "device.network.connect_s=0.7"]
    phone = [*link, "fleet.hardware.sigma=0", "device.thermal_after_s=0.01", "device.thermal_slowdown=1.7"]
    same = ["device.network.device_sigma=0", "device.network.session_sigma=0", "device.compute.session_sigma=0"]
    told = costs_of(composed_task(small([*task, *phone, *same, "model.assets_bytes=90_000"])), None)[0].to_pylist()[0]
    parts = build_simulation(
        composed([*task, *phone, *same, "model.assets_bytes=90_000", "training=none", "device.network.assumed_type=4g"])
    )
    world, work, one = replace(parts.world, network=None), parts.task.work, np.zeros(1, dtype=np.int64)
    size = work.sizes(np.array([-1], np.int32), np.full((1, 1), -np.inf), one + 25, version=0, at=np.zeros(1))
    at, until = np.zeros(1), np.full(1, np.inf)
    k, n = one.astype(np.int32), one + 25
    rows = world.plan(one, one, work=work, at=at, until=until, k=k, n_examples=n, download_bytes=size)
    rows["end_at"] = rows["upload_end_at"]  # whatever the window: the whole trip
    spent = world.spent(rows, work)
    found = {
        "session_s": rows["end_at"][0],
        "train_s": spent.compute_s[0],
        "compute_j": spent.compute_j[0],
        "radio_j": spent.download_j[0] + spent.upload_j[0],
        "download_bytes": spent.download_bytes[0],
        "upload_bytes": spent.upload_bytes[0],
        "upload_s": rows["upload_end_at"][0] - rows["train_end_at"][0],
    }
    assert found == pytest.approx({name: told[name] for name in found}, abs=2e-5)  # the clock's grid


def test_any_torch_module_can_be_named() -> None:
    values = composed(["training=loop"])
    linear = {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 10}
    values["model"]["module"] = {"_target_": "torch.nn.Sequential", "_args_": [linear]}
    simulation = build_simulation(values)
    assert simulation.task.trainer().n_parameters == 650


def test_a_module_that_cannot_be_built_is_one_line() -> None:
    with pytest.raises(InputError, match=r"model\.module.*torch\.nn\.Lineal"):
        build_simulation(composed(["training=loop", "model.module._target_=torch.nn.Lineal"]))


def values_of(node: Any, path: str = "") -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values_of(value, f"{path}.{key}")
    else:
        yield path, node


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_file_is_plain_yaml(file: Path) -> None:
    assert yaml.safe_load(file.read_text()) is not None


RANGED = re.compile(r"assumed.*\(.*…")
CHOICES = (
    "short_round",
    "stragglers",
    "Conv1d",
    "MultiheadAttention",
    "GRU",
    "RNN",
    "benchmark_flops",
    "n_fields",
    "country",
)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_what_is_assumed_has_a_plausible_range(file: Path) -> None:
    """But for choices of a name, whole files that say it of all their values, and what the user is to set."""
    lines = [line for line in file.read_text().splitlines() if re.search(r"#.*assumed", line)]
    told = [line for line in lines if not line.startswith("#") and not any(name in line for name in CHOICES)]
    assert [line for line in told if ":" in line.partition("#")[0] and not RANGED.search(line)] == []


def test_a_replay_needs_a_device_per_trace(tmp_path: Path) -> None:
    save_traces(traces_of([events_of([(0, "charging", 1)])] * 3, period_s=86400), tmp_path / "three")
    message = refused(f"traces.folder={tmp_path / 'three'}", "fleet.is_replay=true", "fleet.rule=charging")
    assert "1000000" in message and "3" in message
