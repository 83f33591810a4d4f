"""From plain values to a simulation: every value is checked by name before a class sees it."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np

from fedsim.config.build import build, fits, part
from fedsim.config.fleet import build_gates, build_phones, build_rule, check_mixture
from fedsim.config.task import Model, build_work, check_model, checked_catalogue
from fedsim.config.trainer import build_module, check_training, trainer_of
from fedsim.device.battery import BatteryLimits
from fedsim.device.holders import OwnDataHolders
from fedsim.device.session import Device
from fedsim.errors import InputError
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.phones import Phones
from fedsim.server.job import Evaluation, Stop
from fedsim.simulation import Simulation


def _probe(device: Device, fleet: Fleet) -> None:
    """Ask a thousand devices for the time of one step, so that what a law cannot tell is refused before the run."""
    ids = np.arange(min(fleet.n_devices, 1000))
    device.compute.train_s(ids, np.zeros(len(ids), dtype=np.int32), np.ones_like(ids), np.ones_like(ids))


def build_device(values: dict[str, Any], phones: Phones, model: Model, seed: int) -> Device:
    """The device model: compute, network, energy and what interrupts them."""
    counts = {"forward_flops": model.forward_flops, "model": model.count}
    parts = {
        "compute": build(part(values, "compute"), "device.compute", seed=seed, phones=phones, **counts),
        "network": build(part(values, "network"), "device.network", seed=seed, phones=phones),
        "energy": build(part(values, "energy"), "device.energy", phones=phones),
    }
    return typing.cast(Device, build(values, "device", target=Device, seed=seed, **parts))


def build_simulation(values: dict[str, Any]) -> Simulation:
    """The whole simulation from :func:`plain` values (which are consumed)."""
    seed = values["seed"]
    if not fits(seed, int) or seed < 0:
        raise InputError("seed must be a whole number", value=seed, allowed="0 or more")
    server, rule = dict(values["server"]), build_rule(values["fleet"]["rule"])
    fleet, phones, requires = build_phones(values)
    check_mixture(values["traces"].get("mixture"), rule)
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
    check_training(values["training"])
    local = build(values["training"]["local"], "training.local")
    holders = build(values["holders"], "holders", clients=data, phones=phones, fleet=fleet, seed=seed)
    gates = build_gates(requires, values["fleet"]["rollout"], phones, seed)
    if isinstance(holders, OwnDataHolders):
        gates.append(holders)
    trainer = trainer_of(
        values["training"], values["model"], data, local=local, max_staleness=coordinator.max_staleness, seed=seed
    )
    if trainer.is_training:
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
