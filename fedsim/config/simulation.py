"""From plain values to a simulation: every value is checked by name before a class sees it."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from fedsim.config import roles
from fedsim.config.build import build, part
from fedsim.config.fleet import build_gates, build_phones
from fedsim.config.scheduled import local_of
from fedsim.config.schema import check_configuration
from fedsim.config.task import Model, build_work, checked_catalogue, sized
from fedsim.config.trainer import build_module, trainer_of
from fedsim.data.clients import ClientData
from fedsim.device.battery import BatteryLimits
from fedsim.device.session import Device
from fedsim.device.work import Work
from fedsim.device.world import World
from fedsim.errors import InputError
from fedsim.fleet.admission import Gate
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.phones import Phones
from fedsim.ranges import MAX_S
from fedsim.server.groups import check_groups
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.server.task import Evaluation, Policy, Stop, Task
from fedsim.simulation import Simulation
from fedsim.traces.rule import Rule
from fedsim.training.local import LocalWork
from fedsim.training.trainer import Trainer


def build_simulation(values: dict[str, Any]) -> Simulation:
    """The whole simulation from the values of :func:`fedsim.config.compose.plain`."""
    check_configuration(values)
    values = deepcopy(values)  # groups are taken out of their parents
    seed = values["seed"]
    rule = Rule.parse(values["fleet"]["rule"])
    fleet, phones, requires = build_phones(values, rule)
    data = typing.cast(ClientData, build(values["data"], "data", role=roles.DATA))
    values["model"]["module"] = sized(values["model"]["module"], lambda: data)
    model = Model(values, lambda: data, lambda: build_module(values["model"]["module"]))
    world = _world(values, fleet, rule, phones, model)
    known = {"phones": phones, "fleet": fleet, "clients": data, "seed": seed}  # to policies that ask for it
    holders = build(values["holders"], "holders", role=roles.HOLDERS, **known)
    gates = build_gates(values["fleet"], requires, **known)
    if isinstance(holders, Gate):  # devices whose user has no data, say
        gates.append(holders)
    server = values["server"]
    policy = Policy(build(part(server, "selector"), "server.selector", role=roles.SELECTOR, **known), gates)
    aggregator = build(part(server, "aggregator"), "server.aggregator", role=roles.AGGREGATOR, **known)
    coordinator = typing.cast(
        Coordinator, build(server, "server", role=roles.COORDINATOR, aggregator=aggregator, **known)
    )
    local = local_of(values["training"]["local"])
    trainers, remarks = _trainers(values, model, data, local, coordinator.max_staleness)
    task = Task(
        clients=data,
        holders=holders,
        work=build_work(values["model"], model, checked_catalogue(values), local),
        trainer=trainers,
        stop=build(values["stop"], "stop", target=Stop),
        evaluation=build(values["evaluation"], "evaluation", target=Evaluation),
    )
    check_groups(task.evaluation, data)
    _probe(world.device, fleet, data, task.work)
    remarks = (*getattr(data, "remarks", ()), *remarks)
    return Simulation(
        world, task, policy, coordinator, gauge_interval_s=values["gauge_interval_s"], seed=seed, remarks=remarks
    )


def _world(values: dict[str, Any], fleet: Fleet, rule: Rule, phones: Phones, model: Model) -> World:
    """The fleet under its rule, with the device model; batteries that are modelled have a capacity."""
    battery = part(values["device"], "battery")
    metered = values["device"]["network"].get("metered", ())
    device = build_device(values["device"], phones, model, values["seed"])
    limits = None if battery["capacity_wh"] is None else build(battery, "device.battery", target=BatteryLimits)
    asked = values["fleet"]
    return World.of(
        fleet,
        rule,
        device,
        unknown=asked["unknown"],
        limits=limits,
        window_end=asked["window_end"],
        phones=phones,
        metered=metered,
    )


def _probe(device: Device, fleet: Fleet, clients: ClientData, work: Work) -> None:
    """Ask a thousand devices how long they train, so that what a law cannot tell, or nobody waits for, is refused."""
    _check_examples(clients)
    ids = np.arange(min(fleet.n_devices, 1000))
    n_examples = clients.n_examples(np.arange(min(clients.n_clients, 1000))).max() * np.ones_like(ids)
    k = np.zeros(len(ids), dtype=np.int32)
    longest_s = device.compute.train_s(ids, k, work.n_visits(n_examples), work.n_steps(n_examples)).max()
    if not longest_s <= MAX_S:
        raise InputError(
            "device.compute: a session trains for seconds", value=f"{longest_s:g}", allowed=f"to {MAX_S:g}"
        )


def _check_examples(clients: ClientData) -> None:
    """Refuse a client without examples, among the first million: a phone that holds none has nothing to do."""
    for first in range(0, min(clients.n_clients, _LOOKED_AT), _AT_ONCE):
        n = clients.n_examples(np.arange(first, min(first + _AT_ONCE, clients.n_clients)))
        if not n.all():
            what = "a client has no example to train on"
            raise InputError(what, value=first + int((n == 0).argmax()), allowed="one or more for each client")


_LOOKED_AT, _AT_ONCE = 1_000_000, 65_536


def build_device(values: dict[str, Any], phones: Phones, model: Model, seed: int) -> Device:
    """The device model: compute, network, energy and what interrupts them."""
    counts = {"forward_flops": model.forward_flops, "model": model.count}
    compute, network = dict(part(values, "compute")), dict(part(values, "network"))
    time_factor, rate_factor = compute.pop("time_factor", 1.0), network.pop("rate_factor", 1.0)
    network.pop("metered", None)  # for the tables
    parts = {
        "compute": build(compute, "device.compute", role=roles.COMPUTE, seed=seed, phones=phones, **counts),
        "network": build(network, "device.network", role=roles.NETWORK, seed=seed, phones=phones),
        "energy": build(part(values, "energy"), "device.energy", role=roles.ENERGY, phones=phones),
    }
    parts["network"].rate_factor = rate_factor
    return typing.cast(Device, build(values, "device", target=Device, seed=seed, time_factor=time_factor, **parts))


def _trainers(
    values: dict[str, Any], model: Model, data: ClientData, local: LocalWork, max_staleness: int
) -> tuple[Callable[[], Trainer], Sequence[str]]:
    """Builds a trainer for each run; the first is built now, so that what does not fit is refused before the clock.

    Beside it the remarks of the first.
    """

    def build_one() -> Trainer:
        return trainer_of(
            values["training"], values["model"], data, n_parameters=model.n_parameters, local=local,
            max_staleness=max_staleness, seed=values["seed"],
        )  # fmt: skip

    ready = [build_one()]
    if ready[0].is_training:
        model.check()
    metric, names = values["stop"]["metric"], getattr(ready[0], "metric_names", None)
    if metric is not None and names is not None and metric not in names:
        raise InputError("stop.metric is not evaluated", value=metric, allowed=", ".join(names) or "training.metrics")
    remarks = tuple(getattr(ready[0], "remarks", ()))
    return (lambda: ready.pop() if ready else build_one()), remarks
