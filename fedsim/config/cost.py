"""What ``fedsim cost`` asks about, from the configuration of a run: the task, the kinds of phone, their conditions."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.config import roles
from fedsim.config.build import build
from fedsim.config.compose import composed
from fedsim.config.fleet import build_phones
from fedsim.config.measures import loss_of
from fedsim.config.scheduled import local_of
from fedsim.config.schema import check_configuration
from fedsim.config.simulation import build_device
from fedsim.config.task import Model, build_work, example_of, feature_catalogue, setting, sized
from fedsim.config.trainer import build_module
from fedsim.cost.phones import PhoneClasses, classes_of_file, classes_of_fleet, table_file
from fedsim.cost.summary import summarise
from fedsim.cost.table import Limits, device_costs
from fedsim.cost.task import Assumptions, CostTask, TrainedModel, stand_in_of, step_as
from fedsim.data import features
from fedsim.data.clients import ClientData
from fedsim.data.features import Catalogue
from fedsim.device.profiles import Profiles
from fedsim.device.session import Device
from fedsim.errors import InputError
from fedsim.fleet.hardware import Hardware
from fedsim.schema import NETWORKS
from fedsim.training.flat import build_model

_PARTS = ("limits", "measure")  # of the group ``cost``, each built by itself


def composed_task(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of these overrides; a model that takes its embedding's rows from the feature catalogue gets them."""
    values = _checked(overrides)
    catalogue, key = typing.cast(
        tuple[Catalogue, str | None], build(values["features"], "features", target=feature_catalogue)
    )
    rows = features.embedding_rows(catalogue)
    is_given = any(override.lstrip("+").partition("=")[0] == key for override in overrides)
    if key is not None and rows and not is_given and setting(values, key) != rows:
        values = _checked([*overrides, f"{key}={rows}"])
    return values


def _checked(overrides: Sequence[str]) -> dict[str, Any]:
    values = composed(overrides)
    check_configuration(values)
    return values


def build_task(values: dict[str, Any]) -> CostTask:
    """The task that a composed configuration describes."""
    catalogue, _ = build(values["features"], "features", target=feature_catalogue)
    local = local_of(values["training"]["local"])
    said = {name: value for name, value in values["cost"].items() if name not in _PARTS}
    assumed = typing.cast(Assumptions, build(said, "cost", target=Assumptions))
    data = _Data(values)
    model = Model(values, data, _module(values, data))
    stand_in = model.stand_in
    step = step_as(stand_in, batch_size=local.batch_size) if stand_in is not None else trained_model(values, data).step
    return CostTask(
        name=model.count().name,
        assumed=assumed,
        catalogue=catalogue,
        said=values["model"],
        local=local,
        step=step,
        work=build_work(values["model"], model, catalogue, local),
        clients=data() if assumed.n_examples is None else None,
        seed=values["seed"],
    )


class _Data:
    """The data of the configuration, built where something of it is asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values["data"]

    def __call__(self) -> ClientData:
        return self._built

    @cached_property
    def _built(self) -> ClientData:
        return typing.cast(ClientData, build(self._values, "data", role=roles.DATA))


def _model(values: dict[str, Any]) -> Model:
    data = _Data(values)
    return Model(values, data, _module(values, data))


def _module(values: dict[str, Any], data: Callable[[], ClientData]) -> Callable[[], Any]:
    """Builds the module, which may have to know sizes of the data."""
    return lambda: build_module(sized(values["model"]["module"], data))


def trained_model(values: dict[str, Any], data: Callable[[], ClientData] | None = None) -> TrainedModel:
    """The module of a composed configuration."""
    data = data or _Data(values)
    return TrainedModel(
        build_model(_module(values, data), seed=values["seed"]),
        example_of(values["model"], data),
        loss_of(values["training"]["loss"]),
        values["training"]["local"]["batch_size"],
    )


def with_size(values: dict[str, Any], n_bytes: int) -> dict[str, Any]:
    """The values for a model of the configured kind whose download has so many bytes."""
    model = _model(values)
    each = values["model"]["download_bytes_per_parameter"]
    if not each > 0:
        raise InputError("a model's size says nothing of its parameters", value=each, allowed=_NEEDS_BYTES)
    stand_in = model.stand_in or stand_in_of(model.count(), trained_model(values).step)
    sized = stand_in.of_size(max(1, round(n_bytes / each)))
    return values | {"model": values["model"] | {"costs_as": vars(sized)}}


_NEEDS_BYTES = "model.download_bytes_per_parameter above 0"


def build_classes(values: dict[str, Any], hardware: Path | None, assumed: Assumptions) -> tuple[PhoneClasses, str]:
    """The device classes, each by several devices, and where they are from; unknown memory is what is assumed of it."""
    classes, origin = _classes(values, hardware, n_classes=assumed.n_classes)
    n_each = max(_LEAST_EACH, math.ceil(_N_SESSIONS / len(classes.share)))
    if assumed.assumed_ram_gb is None:
        return replace(classes, n_each=n_each), origin
    ram_gb = np.where(np.isnan(classes.ram_gb), assumed.assumed_ram_gb, classes.ram_gb)
    unknown = float(classes.share[np.isnan(classes.ram_gb)].sum())
    told = f"{origin}; {assumed.assumed_ram_gb:g} GB of memory assumed for {unknown:.0%}" if unknown else origin
    return replace(classes, n_each=n_each, ram_gb=ram_gb), told


_N_SESSIONS, _LEAST_EACH = 20_000, 25  # sessions that are planned, of each class at least


def _classes(values: dict[str, Any], hardware: Path | None, *, n_classes: int) -> tuple[PhoneClasses, str]:
    """The device classes and where they are from: ``--hardware``, the fleet's table, the timed phones, the default."""
    of_fleet, compute = values["fleet"]["hardware"], values["device"]["compute"]
    if hardware is not None:
        return classes_of_file(hardware), "the hardware table given"
    if "table" in of_fleet:
        _, phones, requires = build_phones(values)
        return classes_of_fleet(typing.cast(Hardware, phones), requires), "the fleet's hardware table"
    if "profiles" in compute:
        names, latencies_ms = Profiles.load(compute["profiles"]).devices, compute["inference_ms"]
        timed_ms = [latencies_ms.get(name, float("nan")) for name in names]
        return PhoneClasses.named(names, timed_ms), "the phones that were timed"
    if "median_inference_ms" not in of_fleet:
        allowed = "--hardware FILE, fleet/hardware=table or fleet/hardware=lognormal"
        raise InputError("no phones: a hardware table is needed", allowed=allowed)
    classes = PhoneClasses.lognormal(median_ms=of_fleet["median_inference_ms"], sigma=of_fleet["sigma"], n=n_classes)
    return classes, f"{n_classes} classes of the lognormal latency of fleet.hardware (no hardware table given)"


def profiles_beside(values: dict[str, Any], hardware: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The values with the timed steps that lie beside the hardware table, unless the overrides name some."""
    compute = values["device"]["compute"]
    is_said = any(each.lstrip("+").startswith("device.compute.profiles=") for each in overrides)
    if hardware is None or is_said or "profiles" not in compute:
        return values
    beside = table_file(hardware).parent / "profiles.parquet"
    if not beside.exists():
        return values
    return values | {"device": values["device"] | {"compute": compute | {"profiles": str(beside)}}}


def build_cost_device(values: dict[str, Any], task: CostTask, phones: PhoneClasses) -> Device:
    """The device model of a run, its devices being the classes, always on the network type of ``cost.network``."""
    kind = task.assumed.network
    if kind not in NETWORKS[1:]:
        raise InputError("cost.network is unknown", value=kind, allowed=", ".join(NETWORKS[1:]))
    device = deepcopy(values["device"])
    if kind in device["network"].get("waits_on", ()):
        raise InputError("transfers wait on cost.network", value=kind, allowed="a type that device.network uses")
    device["network"] |= {"assumed_type": kind}
    device |= {"interruption": "abort", "crash_fraction": 0.0, "session_timeout_s": None}
    device.pop("battery")
    model = _model(values)
    return build_device(device, phones, model, values["seed"])


def costs_of(values: dict[str, Any], hardware: Path | None) -> tuple[pa.Table, dict[str, Any]]:
    """The table of :data:`fedsim.cost.table.DEVICE_COSTS` and a JSON-serialisable summary of it and of the task."""
    task, compute = build_task(values), values["device"]["compute"]
    phones, origin = build_classes(values, hardware, task.assumed)
    costs, sessions = device_costs(
        task.asked,
        phones,
        device=build_cost_device(values, task, phones),
        n_examples=task.n_examples(phones.n_devices),
        capacity_wh=capacity_wh(values, task.assumed),
        limits=typing.cast(Limits, build(values["cost"]["limits"], "cost.limits", target=Limits)),
    )
    told = {
        "task": task.describe(),
        "compute": {name: value for name, value in compute.items() if name != "layer_ops"},
        "phones": origin,
        "limits": values["cost"]["limits"],
        "summary": summarise(costs, sessions),
    }
    return costs, told


def capacity_wh(values: dict[str, Any], assumed: Assumptions) -> float:
    """Of a phone's battery: that of the run, where it models batteries."""
    of_run = values["device"]["battery"]["capacity_wh"]
    return assumed.battery_capacity_wh if of_run is None else float(of_run)
