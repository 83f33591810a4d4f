"""From a composed configuration to a simulation: every value is checked by name before a class sees it.

Nothing below this file knows Hydra or OmegaConf: classes receive plain numbers, strings and mappings.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import hydra.utils
import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsim.data.clients import ClientData
from fedsim.device.battery import BatteryLimits
from fedsim.device.holders import OwnDataHolders
from fedsim.device.session import Device, Work
from fedsim.errors import InputError
from fedsim.files import shipped
from fedsim.fleet.admission import Gate, Requirement, Rollout
from fedsim.fleet.fleet import Fleet, Region
from fedsim.fleet.hardware import Hardware, Match
from fedsim.server.job import Evaluation, Stop
from fedsim.simulation import Simulation
from fedsim.traces.canonical import TraceSet
from fedsim.traces.merge import merge
from fedsim.traces.rule import Rule
from fedsim.training.local import LocalSgd
from fedsim.training.trainer import NullTrainer, Trainer
from fedsim.units import DAY_S, FloatArray

_TRAINERS = {"cohort": "fedsim.training.cohort.CohortTrainer", "loop": "fedsim.training.loop.LoopTrainer"}

OmegaConf.register_new_resolver("shipped", lambda name: str(shipped(name)), replace=True)


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values of the shipped configuration with Hydra overrides; for code that is not Hydra's application."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(shipped("configs"))):
            config = compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split("\nSee https")[0].split())) from error
    return plain(config)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved; missing values are refused."""
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise InputError(f"{sorted(missing)[0]} must be given", value="???", where="the configuration")
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"the configuration cannot be resolved ({error})") from error
    return typing.cast("dict[str, Any]", values)


def _named(target: str, key: str) -> Callable[..., Any]:
    """The class or function behind a dotted name."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{key}._target_ cannot be found", value=target) from error
    return typing.cast("Callable[..., Any]", found)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value suits a parameter's annotation."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint if isinstance(hint, type) else type(None))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(item, get_args(hint)[1]) for item in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    return True


def _allowed(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(str(option) for option in get_args(hint))
    return getattr(hint, "__name__", str(hint).replace("None", "null"))


def build(values: Mapping[str, Any], key: str, *, target: Callable[..., Any] | None = None, **given: Any) -> Any:
    """Call the ``_target_`` (or ``target``) with the values, after checking names and types against its signature.

    ``given`` are parts that code supplies where the signature asks for them; a configuration may not set them.
    """
    arguments = {name: value for name, value in values.items() if name != "_target_"}
    if target is None:
        if "_target_" not in values:
            raise InputError(f"{key}._target_ must be given", where="the configuration")
        target = _named(values["_target_"], key)
    signature = inspect.signature(target).parameters
    given = {name: part for name, part in given.items() if name in signature}
    parameters = {name: p for name, p in signature.items() if name not in given}
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    for name, value in arguments.items():
        if name not in parameters:
            raise InputError("unknown key", value=f"{key}.{name}", allowed=", ".join(parameters))
        if name in hints and not _fits(value, hints[name]):
            raise InputError(f"{key}.{name} has the wrong type", value=value, allowed=_allowed(hints[name]))
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise InputError(f"{key}.{missing[0]} must be given", where="the configuration")
    return target(**arguments, **given)


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a nested group out of its parent's values."""
    part = values.pop(name)
    if not isinstance(part, dict):
        raise InputError(f"{name} must be a group of values", value=part)
    return part


def load_traces(values: dict[str, Any]) -> tuple[TraceSet, FloatArray | None]:
    """The trace set, or a mixture of sets given as folder → share, and the weights of its traces."""
    mixture = values.get("mixture")
    if not mixture:
        return TraceSet.load(values["folder"]), None
    if not _fits(mixture, Mapping[str, float]):
        raise InputError("traces.mixture must give a share for each folder", value=mixture)
    sets = [TraceSet.load(folder) for folder in mixture]
    weights = [np.full(s.n, share / s.n) for s, share in zip(sets, mixture.values(), strict=True)]
    return merge(sets), np.concatenate(weights)


def build_fleet(values: dict[str, Any], traces: TraceSet, weight: FloatArray | None, seed: int) -> Fleet:
    """The fleet over a trace set; regions without a share are left out."""
    regions = {
        name: build(region, f"fleet.regions.{name}", target=Region) for name, region in _part(values, "regions").items()
    }
    regions = {name: region for name, region in regions.items() if region.share != 0}
    return typing.cast(
        Fleet, build(values, "fleet", target=Fleet, traces=traces, seed=seed, regions=regions, trace_weight=weight)
    )


def build_hardware(values: dict[str, Any], fleet: Fleet) -> Hardware | None:
    """The fleet's hardware table, None if it has none; ``trace_set`` stands for the table of the trace set."""
    if values["table"] is None:
        return None
    table = fleet.traces.hardware if values["table"] == "trace_set" else values["table"]
    if table is None:
        raise InputError("fleet.hardware.table: the trace set has no hardware table", value="trace_set")
    return typing.cast(Hardware, build({"match": values["match"]}, "fleet.hardware", target=_hardware(fleet, table)))


def _hardware(fleet: Fleet, table: Any) -> Callable[..., Hardware]:
    def named(*, match: Match) -> Hardware:
        return Hardware(fleet, table, match=match)

    return named


def build_gates(
    requires: str | None, rollout: dict[str, Any] | None, hardware: Hardware | None, seed: int
) -> list[Gate]:
    """What devices must be besides eligible."""
    gates: list[Gate] = []
    if requires is not None:
        if hardware is None:
            raise InputError("fleet.hardware.requires needs a hardware table", value=requires)
        gates.append(Requirement(hardware, Rule.parse(requires)))
    if rollout is not None:
        gates.append(build(rollout, "fleet.rollout", target=Rollout, seed=seed))
    return gates


def build_device(values: dict[str, Any], hardware: Hardware | None, seed: int) -> Device:
    """The device model: compute, network, energy and what interrupts them."""
    parts = {
        "compute": build(_part(values, "compute"), "device.compute", seed=seed, hardware=hardware),
        "network": build(_part(values, "network"), "device.network", seed=seed),
        "energy": build(_part(values, "energy"), "device.energy", hardware=hardware),
    }
    return typing.cast(Device, build(values, "device", target=Device, seed=seed, **parts))


def _model_work(values: Mapping[str, Any], local: LocalSgd) -> Work:
    sizes = {name: values[name] for name in _SIZES}
    bad = {name: value for name, value in sizes.items() if not _fits(value, float) or value < 0}
    if bad:
        raise InputError("model: sizes must be numbers that are not negative", value=bad)
    n = values["n_parameters"]
    refresh_days = values["assets_refresh_days"]
    return Work(
        download_bytes=round(n * values["download_bytes_per_parameter"]),
        plan_bytes=round(values["plan_bytes"]),
        assets_bytes=round(values["assets_bytes"]),
        assets_refresh_s=None if refresh_days is None else refresh_days * DAY_S,
        caches_model=bool(values["caches_model"]),
        upload_bytes=round(n * values["upload_bytes_per_parameter"]),
        epochs=local.epochs,
        batch_size=local.batch_size,
    )


_SIZES = ("n_parameters", "download_bytes_per_parameter", "upload_bytes_per_parameter", "plan_bytes", "assets_bytes")


def build_module(values: dict[str, Any]) -> Any:
    """Any ``torch.nn.Module`` named by the configuration, nested ones included."""
    try:
        return hydra.utils.instantiate(values, _convert_="all")
    except HydraException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"model.module cannot be built ({cause})", value=values.get("_target_")) from error


def trainer_of(
    values: dict[str, Any], model: dict[str, Any], data: ClientData, *, local: LocalSgd, max_staleness: int, seed: int
) -> Trainer:
    """The trainer that is asked for; ``none`` imports no torch."""
    name = values["name"]
    if name == "none":
        return NullTrainer(n_parameters=model["n_parameters"])
    if name not in _TRAINERS:
        raise InputError("training.name is unknown", value=name, allowed="none, " + ", ".join(_TRAINERS))
    trainer = build(
        {key: value for key, value in values.items() if key not in _NOT_FOR_TRAINER},
        "training",
        target=_named(_TRAINERS[name], "training"),
        model=lambda: build_module(model["module"]),
        data=data,
        local=local,
        server_optimizer=build(values["server_optimizer"], "training.server_optimizer"),
        max_staleness=max_staleness,
        seed=seed,
    )
    if trainer.n_parameters != model["n_parameters"]:
        raise InputError(
            "model.n_parameters does not match the module", value=model["n_parameters"], allowed=trainer.n_parameters
        )
    return typing.cast(Trainer, trainer)


_NOT_FOR_TRAINER = ("name", "local", "server_optimizer", "central")


def central_metrics(values: dict[str, Any], data: ClientData) -> dict[str, float]:
    """Metrics of the model trained on the pooled data, empty if no baseline is asked for."""
    training, seed = values["training"], values["seed"]
    central = dict(training["central"])
    epochs = central.pop("epochs")
    if training["name"] == "none" or not epochs:
        return {}
    local = build({**central, "epochs": 1}, "training.central", target=LocalSgd)
    average = {**training, "server_optimizer": _PLAIN_AVERAGE}
    results = _named("fedsim.training.central.train_central", "training.central")(
        lambda pool: trainer_of(average, values["model"], pool, local=local, max_staleness=0, seed=seed),
        data,
        epochs=epochs,
        seed=seed,
    )
    return typing.cast("dict[str, float]", results[-1])


_PLAIN_AVERAGE = {"_target_": "fedsim.training.server_optimizer.FedAvg", "learning_rate": 1.0}


def build_simulation(values: dict[str, Any]) -> Simulation:
    """The whole simulation from :func:`plain` values (which are consumed)."""
    seed = values["seed"]
    if not _fits(seed, int) or seed < 0:
        raise InputError("seed must be a whole number", value=seed, allowed="0 or more")
    traces, weight = load_traces(values["traces"])
    fleet_values, server = dict(values["fleet"]), dict(values["server"])
    rule, unknown = Rule.parse(fleet_values.pop("rule")), fleet_values.pop("unknown")
    hardware_values, rollout = _part(fleet_values, "hardware"), fleet_values.pop("rollout")
    fleet = build_fleet(fleet_values, traces, weight, seed)
    hardware = build_hardware(hardware_values, fleet)
    device_values = dict(values["device"])
    battery = device_values.pop("battery")
    device = build_device(device_values, hardware, seed)
    selector = build(_part(server, "selector"), "server.selector", seed=seed)
    aggregator = build(_part(server, "aggregator"), "server.aggregator", seed=seed)
    coordinator = build(server, "server", aggregator=aggregator)
    data = build(values["data"], "data")
    local = build(values["training"]["local"], "training.local")
    holders = build(values["holders"], "holders", clients=data, compute=device.compute, fleet=fleet, seed=seed)
    gates = build_gates(hardware_values["requires"], rollout, hardware, seed)
    if isinstance(holders, OwnDataHolders):
        gates.append(holders)
    return Simulation(
        fleet=fleet,
        rule=rule,
        unknown=unknown,
        device=device,
        selector=selector,
        coordinator=coordinator,
        clients=data,
        work=_model_work(values["model"], local),
        trainer=trainer_of(
            values["training"],
            values["model"],
            data,
            local=local,
            max_staleness=coordinator.max_staleness,
            seed=seed,
        ),
        stop=build(values["stop"], "stop", target=Stop),
        evaluation=build(values["evaluation"], "evaluation", target=Evaluation),
        gauge_interval_s=values["gauge_interval_s"],
        seed=seed,
        holders=holders,
        gates=gates,
        battery=build(battery, "device.battery", target=BatteryLimits) if battery["capacity_wh"] else None,
    )
