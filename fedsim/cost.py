"""``fedsim cost``: can these phones train this model, how fast, and what does it take from them?

A composed configuration gives the task (model, data, local work, features), a hardware table the phones, and a law
of :mod:`fedsim.device.laws` the time. With ``--measure`` the model is timed on this machine instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
from rich.console import Console

from fedsim.config import build
from fedsim.cost_task import Task
from fedsim.device.cost import Conditions, CostLaw, Limits, Phones, device_costs
from fedsim.device.cost_summary import summarise
from fedsim.device.laws import MeasuredLaw
from fedsim.device.measured_network import MeasuredNetwork
from fedsim.device.network import Network, Transfer
from fedsim.errors import InputError
from fedsim.files import read_table, sha256, whole_file, write_json
from fedsim.provenance import package_versions
from fedsim.report.costs import render_costs, render_profiles
from fedsim.schema import HARDWARE, NETWORKS, PROFILES
from fedsim.traces.measurements import MeasurementWriter
from fedsim.training.measure import Schedule, cpu_name, measure

_MEGABYTE = 1_000_000


def main(
    overrides: Sequence[str],
    *,
    hardware: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    measure_folder: Path | None,
) -> None:
    """Print the summary and write the files that are asked for; with ``measure_folder`` time the model instead."""
    task = Task.compose(overrides)
    if measure_folder is not None:
        _measure(task, measure_folder)
        return
    costs, told = cost(task, hardware)
    told["provenance"] = _provenance(overrides, hardware)
    Console().print(render_costs(told))
    if json_file is not None:
        write_json(json_file, told | {"classes": costs.to_pylist()})
    if csv_file is not None:
        with whole_file(csv_file) as temporary:
            pyarrow.csv.write_csv(costs, temporary)


def cost(task: Task, hardware: Path | None) -> tuple[pa.Table, dict[str, Any]]:
    """The table of :data:`fedsim.device.cost.DEVICE_COSTS` and a JSON-serialisable summary of it and of the task."""
    law = cast(CostLaw, build(task.values["cost"]["law"], "cost.law"))
    phones, origin = _phones(task, law, hardware)
    limits = cast(Limits, build(task.values["cost"]["limits"], "cost.limits", target=Limits))
    costs = device_costs(task.work, phones, law, conditions=_conditions(task), limits=limits)
    told = {
        "task": task.describe(),
        "law": {name: value for name, value in task.values["cost"]["law"].items() if name != "layer_ops"},
        "phones": origin,
        "limits": task.values["cost"]["limits"],
        "summary": summarise(costs),
    }
    return costs, told


def _phones(task: Task, law: CostLaw, hardware: Path | None) -> tuple[Phones, str]:
    """The device classes and where they are from, the first of: ``--hardware``, the fleet's, the law's, the default."""
    values = task.values
    of_fleet, compute = values["fleet"]["hardware"]["table"], values["device"]["compute"]
    if hardware is not None:
        return _of_table(hardware), "the hardware table given"
    if of_fleet is not None:
        table = values["traces"]["folder"] if of_fleet == "trace_set" else of_fleet
        return _of_table(Path(table)), "the fleet's hardware table"
    if isinstance(law, MeasuredLaw):
        return law.phones(), "the phones that were timed"
    if "median_inference_ms" in compute:
        n = task.assumed.n_classes
        classes = Phones.lognormal(median_ms=compute["median_inference_ms"], sigma=compute["sigma"], n=n)
        return classes, f"{n} classes of the lognormal latency of device.compute (no hardware table given)"
    allowed = "--hardware FILE, fleet/hardware=table or device/compute=lognormal"
    raise InputError("no phones to reckon with: a hardware table is needed", allowed=allowed)


def _of_table(path: Path) -> Phones:
    """Device classes of a Parquet file, or of the ``hardware.parquet`` of a trace set or measurement folder."""
    file = _table_file(path)
    return Phones.of(read_table(file, HARDWARE), where=file)


def _table_file(path: Path) -> Path:
    return path / "hardware.parquet" if path.is_dir() else path


def _conditions(task: Task) -> Conditions:
    device, kind = task.values["device"], task.assumed.network
    down, up, round_trips_s, connect_s = _median_link(task)
    energy = build(device["energy"], "device.energy")
    return Conditions(
        down_bytes_per_s=down,
        up_bytes_per_s=up,
        round_trips_s=round_trips_s,
        connect_s=connect_s,
        compute_w=energy.compute_w,
        receive_w=energy.receive_w[NETWORKS.index(kind)],
        send_w=energy.send_w[NETWORKS.index(kind)],
        battery_capacity_wh=device["battery"]["capacity_wh"] or task.assumed.battery_capacity_wh,
        thermal_after_s=device["thermal_after_s"],
        thermal_slowdown=device["thermal_slowdown"],
    )


def _median_link(task: Task) -> tuple[float, float, float, float]:
    """Rates down and up of the median phone on the network of ``cost.network``, round trips of a transfer, connecting.

    Read off two transfers of the engine's own network model, so that both always agree.
    """
    kind, seed = task.assumed.network, task.values["seed"]
    if kind not in NETWORKS[1:]:
        raise InputError("cost.network is unknown", value=kind, allowed=", ".join(NETWORKS[1:]))
    values = task.values["device"]["network"] | {"assumed_type": kind}
    network = cast(Network, build(values, "device.network", seed=seed))
    median_level = np.array([0.0 if isinstance(network, MeasuredNetwork) else 1.0])  # a score; a factor

    def transfer_s(transfer: Callable[..., Transfer], size: int) -> float:
        return float(transfer(None, np.zeros(1, dtype=np.int64), np.zeros(1), size, median_level)[0][0])

    round_trips_s = transfer_s(network.download, 0)
    rates = [_MEGABYTE / (transfer_s(way, _MEGABYTE) - round_trips_s) for way in (network.download, network.upload)]
    if not min(rates) > 0:
        raise InputError("transfers wait on cost.network", value=kind, allowed="a type that device.network uses")
    return rates[0], rates[1], round_trips_s, network.connect_s


def _provenance(overrides: Sequence[str], hardware: Path | None) -> dict[str, Any]:
    """What the figures rest on."""
    return {
        "overrides": list(overrides),
        "hardware_sha256": None if hardware is None else sha256(_table_file(hardware)),
        "versions": package_versions(),
    }


def _measure(task: Task, folder: Path) -> None:
    """Time the model here and write the folder that ``cost.law.profiles`` reads."""
    schedule = cast(Schedule, build(task.values["cost"]["measure"], "cost.measure", target=Schedule))
    with MeasurementWriter(folder) as writer:
        profiles = measure(
            task.model,
            op=task.name,
            loss=task.values["training"]["loss"],
            shape=task.shape,
            dtype=task.dtype,
            schedule=schedule,
        )
        writer.add(PROFILES, profiles)
        writer.provenance = {
            "source": "measured by fedsim cost --measure",
            "licence": "the user's own",
            "importer": "fedsim cost --measure",
            "cpu": cpu_name(),
            "model": task.name,
            "shape": list(task.shape),
            "dtype": task.dtype,
            "warm_up": schedule.warm_up,
            "repeats": schedule.repeats,
            "n_threads": schedule.n_threads,
            "versions": package_versions(),
            "transforms": ["one row per timed step"],
        }
    Console().print(render_profiles(profiles.to_pylist()))
    print(f"cost=measured cost.law.profiles={folder}")
