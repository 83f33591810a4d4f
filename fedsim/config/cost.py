"""What ``fedsim cost`` asks about, from the configuration of a run: the task, the kinds of phone, their conditions."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.config import roles
from fedsim.config.build import build
from fedsim.config.compose import composed
from fedsim.config.fleet import build_phones
from fedsim.config.schema import check_configuration
from fedsim.config.task import build_work, example_of, feature_catalogue, setting
from fedsim.config.trainer import build_module
from fedsim.cost.phones import PhoneClasses, classes_of_file, classes_of_fleet
from fedsim.cost.table import Conditions
from fedsim.cost.task import Assumptions, CostTask
from fedsim.data import features
from fedsim.data.clients import ClientData
from fedsim.data.features import Catalogue
from fedsim.device.profiles import Profiles
from fedsim.device.session import Throttling
from fedsim.errors import InputError
from fedsim.fleet.hardware import Hardware
from fedsim.schema import NETWORKS
from fedsim.training.flat import build_model
from fedsim.training.local import LocalWork

_MANY_CLIENTS = 100_000
_PARTS = ("limits", "measure")  # of the group ``cost``, each built by itself


def composed_task(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of these overrides; a model that takes its embedding's rows from the feature catalogue gets them."""
    values = _checked(overrides)
    catalogue, key = typing.cast(
        tuple[Catalogue, str | None], build(values["features"], "features", target=feature_catalogue)
    )
    rows = features.embedding_rows(catalogue)
    is_given = any(override.lstrip("+").partition("=")[0] == key for override in overrides)
    if key is None or not rows or is_given or setting(values, key) == rows:
        return values
    return _checked([*overrides, f"{key}={rows}"])


def _checked(overrides: Sequence[str]) -> dict[str, Any]:
    values = composed(overrides)
    check_configuration(values)
    return values


def build_task(values: dict[str, Any]) -> CostTask:
    """The task that a composed configuration describes."""
    catalogue, _ = build(values["features"], "features", target=feature_catalogue)
    local = typing.cast(LocalWork, build(values["training"]["local"], "training.local", role=roles.LOCAL_WORK))
    said = {name: value for name, value in values["cost"].items() if name not in _PARTS}
    assumed = typing.cast(Assumptions, build(said, "cost", target=Assumptions))
    shape, dtype, n_examples = _examples(values, assumed)
    return CostTask(
        assumed=assumed,
        catalogue=catalogue,
        model=build_model(lambda: build_module(values["model"]["module"]), seed=values["seed"]),
        said=values["model"],
        local=local,
        loss=values["training"]["loss"],
        shape=shape,
        dtype=dtype,
        n_examples=n_examples,
        of_run=build_work(values["model"], catalogue, local),
    )


def _examples(values: dict[str, Any], assumed: Assumptions) -> tuple[tuple[int, ...], str, int]:
    """Shape and type of an example and their number on a phone: as given, else as the data has them."""
    data: list[ClientData] = []

    def needed() -> ClientData:
        """The data, built where something of it is asked for."""
        if not data:
            data.append(typing.cast(ClientData, build(values["data"], "data", role=roles.DATA)))
        return data[0]

    shape, dtype = example_of(values["model"], needed)
    n_examples = assumed.n_examples
    return shape, dtype, _typical(needed(), assumed.examples_quantile) if n_examples is None else n_examples


def _typical(data: ClientData, quantile: float) -> int:
    """A quantile of the clients' examples; of many clients, of a hundred thousand evenly spread over their numbers."""
    n = min(data.n_clients, _MANY_CLIENTS)
    return max(1, round(float(np.quantile(data.n_examples(np.arange(n) * data.n_clients // n), quantile))))


def build_classes(values: dict[str, Any], hardware: Path | None, *, n_classes: int) -> tuple[PhoneClasses, str]:
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


def build_conditions(values: dict[str, Any], task: CostTask, phones: PhoneClasses) -> Conditions:
    """The device model of a run, its devices being the classes, on the network type of ``cost.network``."""
    device, kind, seed = values["device"], task.assumed.network, values["seed"]
    if kind not in NETWORKS[1:]:
        raise InputError("cost.network is unknown", value=kind, allowed=", ".join(NETWORKS[1:]))
    network = device["network"] | {"assumed_type": kind}
    given = {"seed": seed, "phones": phones, "forward_flops": lambda: task.step.forward_flops}
    thermal = {key: device[key] for key in ("thermal_after_s", "thermal_slowdown")}
    conditions = Conditions(
        compute=build(device["compute"], "device.compute", role=roles.COMPUTE, model=lambda: task.model_work, **given),
        network=build(network, "device.network", role=roles.NETWORK, seed=seed, phones=phones),
        energy=build(device["energy"], "device.energy", role=roles.ENERGY, phones=phones),
        network_type=kind,
        battery_capacity_wh=(
            task.assumed.battery_capacity_wh
            if device["battery"]["capacity_wh"] is None
            else device["battery"]["capacity_wh"]
        ),
        throttled=build(thermal, "device", target=Throttling),
    )
    if kind in device["network"].get("waits_on", ()):
        raise InputError("transfers wait on cost.network", value=kind, allowed="a type that device.network uses")
    return conditions
