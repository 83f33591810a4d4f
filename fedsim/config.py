"""From a composed configuration to a simulation: every value is checked by name before a class sees it.

Nothing below this file knows Hydra or OmegaConf: classes receive plain numbers, strings and mappings.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import hydra.utils
import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsim.build import build, fits, named, part
from fedsim.data.clients import ClientData
from fedsim.device.battery import BatteryLimits
from fedsim.device.holders import OwnDataHolders
from fedsim.device.session import Device
from fedsim.errors import FedsimError, InputError
from fedsim.files import shipped
from fedsim.fleet.admission import Gate, Requirement, Rollout
from fedsim.fleet.fleet import Fleet, Region
from fedsim.fleet.hardware import Hardware
from fedsim.fleet.phones import Phones
from fedsim.model_config import Model, build_work, check_model, checked_catalogue
from fedsim.server.job import Evaluation, Stop
from fedsim.simulation import Simulation
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.merge import merge
from fedsim.traces.folder import load_traces
from fedsim.traces.rule import Rule
from fedsim.training.local import LocalSgd
from fedsim.training.trainer import NullTrainer, Trainer
from fedsim.units import FloatArray

_TRAINERS = {"cohort": "fedsim.training.cohort.CohortTrainer", "loop": "fedsim.training.loop.LoopTrainer"}

OmegaConf.register_new_resolver("shipped", lambda name: str(shipped(name)), replace=True)


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values of the shipped configuration with Hydra overrides; for code that is not Hydra's application."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(shipped("configs"))):
            config = compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error
    return plain(config)


def explained(error: BaseException) -> FedsimError:
    """The error of ours behind Hydra's, or Hydra's own first words; a value that needs quotes is told so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FedsimError):
            return cause
        cause = cause.__cause__
    text = " ".join(str(error).split("\nSee https")[0].split())
    if isinstance(error, OverrideParseException):
        quoted = "'key=\"a & b\"': values with blanks or signs in quotes of their own"
        return InputError("override cannot be read", value=error.override, allowed=quoted)
    return InputError(text)


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


def build_traces(values: dict[str, Any]) -> tuple[TraceSet, FloatArray | None]:
    """The trace set, or a mixture of sets given as folder → share, and the weights of its traces."""
    mixture = values.get("mixture")
    if not mixture:
        return load_traces(values["folder"]), None
    if not fits(mixture, Mapping[str, float]):
        raise InputError("traces.mixture must give a share for each folder", value=mixture)
    sets = [load_traces(folder) for folder in mixture]
    weights = [np.full(s.n, share / s.n) for s, share in zip(sets, mixture.values(), strict=True)]
    return merge(sets), np.concatenate(weights)


def build_fleet(values: dict[str, Any], traces: TraceSet, weight: FloatArray | None, seed: int) -> Fleet:
    """The fleet over a trace set; regions without a share are left out."""
    regions = {
        name: build(region, f"fleet.regions.{name}", target=Region) for name, region in part(values, "regions").items()
    }
    regions = {name: region for name, region in regions.items() if region.share != 0}
    return typing.cast(
        Fleet, build(values, "fleet", target=Fleet, traces=traces, seed=seed, regions=regions, trace_weight=weight)
    )


def _rule(text: Any) -> Rule:
    if not isinstance(text, str):
        raise InputError("fleet.rule must be a rule", value=text, allowed="as charging & network == wifi")
    return Rule.parse(text)


def _check_mixture(mixture: dict[str, float] | None, rule: Rule) -> None:
    """Every set of a mixture must know what the rule asks: else its devices would never be eligible."""
    for folder in mixture or ():
        missing = sorted(rule.channels - set(load_traces(folder).channels()))
        if missing:
            raise InputError(f"traces.mixture: a set has no {missing[0]}, which fleet.rule asks for", value=folder)


def build_phones(values: dict[str, Any]) -> tuple[Fleet, Phones, str | None]:
    """The fleet, its phones and what is required of them, from the groups ``traces`` and ``fleet``."""
    traces, weight = build_traces(values["traces"])
    fleet_values = {key: value for key, value in values["fleet"].items() if key not in _NOT_FOR_FLEET}
    hardware = dict(part(dict(values["fleet"]), "hardware"))
    requires = hardware.pop("requires", None)
    if not fits(requires, str | None):
        raise InputError("fleet.hardware.requires must be a rule", value=requires, allowed="as ram_gb >= 2, or null")
    fleet = build_fleet(fleet_values, traces, weight, values["seed"])
    return fleet, build(hardware, "fleet.hardware", fleet=fleet, seed=values["seed"]), requires


_NOT_FOR_FLEET = ("rule", "unknown", "hardware", "rollout")


def _probe(device: Device, fleet: Fleet) -> None:
    """Ask a thousand devices for the time of one step, so that what a law cannot tell is refused before the run."""
    ids = np.arange(min(fleet.n_devices, 1000))
    device.compute.train_s(ids, np.zeros(len(ids), dtype=np.int32), np.ones_like(ids), np.ones_like(ids))


def build_gates(requires: str | None, rollout: dict[str, Any] | None, phones: Phones, seed: int) -> list[Gate]:
    """What devices must be besides eligible."""
    gates: list[Gate] = []
    if requires is not None:
        if not isinstance(phones, Hardware):
            raise InputError("fleet.hardware.requires needs a hardware table", value=requires)
        gates.append(Requirement(phones, Rule.parse(requires)))
    if rollout is not None:
        gates.append(build(rollout, "fleet.rollout", target=Rollout, seed=seed))
    return gates


def build_device(values: dict[str, Any], phones: Phones, model: Model, seed: int) -> Device:
    """The device model: compute, network, energy and what interrupts them."""
    counts = {"forward_flops": model.forward_flops, "model": model.count}
    parts = {
        "compute": build(part(values, "compute"), "device.compute", seed=seed, phones=phones, **counts),
        "network": build(part(values, "network"), "device.network", seed=seed, phones=phones),
        "energy": build(part(values, "energy"), "device.energy", phones=phones),
    }
    return typing.cast(Device, build(values, "device", target=Device, seed=seed, **parts))


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
        target=named(_TRAINERS[name], "training"),
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
    results = named("fedsim.training.central.train_central", "training.central")(
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
    if not fits(seed, int) or seed < 0:
        raise InputError("seed must be a whole number", value=seed, allowed="0 or more")
    server, rule = dict(values["server"]), _rule(values["fleet"]["rule"])
    fleet, phones, requires = build_phones(values)
    _check_mixture(values["traces"].get("mixture"), rule)
    data = build(values["data"], "data")
    check_model(values["model"])
    model = Model(values, data, lambda: build_module(values["model"]["module"]))
    device_values = dict(values["device"])
    battery = device_values.pop("battery")
    device = build_device(device_values, phones, model, seed)
    _probe(device, fleet)
    selector = build(part(server, "selector"), "server.selector", seed=seed)
    aggregator = build(part(server, "aggregator"), "server.aggregator", seed=seed)
    coordinator = build(server, "server", aggregator=aggregator)
    local = build(values["training"]["local"], "training.local")
    holders = build(values["holders"], "holders", clients=data, phones=phones, fleet=fleet, seed=seed)
    gates = build_gates(requires, values["fleet"]["rollout"], phones, seed)
    if isinstance(holders, OwnDataHolders):
        gates.append(holders)
    trainer = trainer_of(
        values["training"], values["model"], data, local=local, max_staleness=coordinator.max_staleness, seed=seed
    )
    if not isinstance(trainer, NullTrainer):
        model.check()
    return Simulation(
        fleet=fleet,
        rule=rule,
        unknown=values["fleet"]["unknown"],
        device=device,
        selector=selector,
        coordinator=coordinator,
        clients=data,
        work=build_work(values["model"], checked_catalogue(values), local),
        trainer=trainer,
        stop=build(values["stop"], "stop", target=Stop),
        evaluation=build(values["evaluation"], "evaluation", target=Evaluation),
        gauge_interval_s=values["gauge_interval_s"],
        seed=seed,
        holders=holders,
        gates=gates,
        battery=build(battery, "device.battery", target=BatteryLimits) if battery["capacity_wh"] is not None else None,
    )
