"""``fedsim cost``: can these phones train this model, how fast, and what does it take from them?

A composed configuration gives the task (model, data, local work, features) and the device model, a hardware table
the phones: what is reckoned here is what a run would take. With ``--measure`` the model is timed on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
from rich.console import Console

from fedsim.build import build
from fedsim.config import build_phones
from fedsim.cost_task import Task
from fedsim.device.cost import Conditions, Limits, PhoneClasses, device_costs
from fedsim.device.cost_summary import summarise
from fedsim.device.profiles import Profiles
from fedsim.device.session import check_thermal
from fedsim.errors import InputError
from fedsim.files import read_table, sha256, whole_file, write_json
from fedsim.fleet.admission import Requirement
from fedsim.fleet.hardware import Hardware
from fedsim.provenance import package_versions
from fedsim.report.costs import render_costs, render_profiles
from fedsim.schema import HARDWARE, NETWORKS, PROFILES
from fedsim.traces.measurements import MeasurementWriter
from fedsim.traces.rule import Rule
from fedsim.training.measure import Schedule, cpu_name, measure


def main(
    overrides: Sequence[str],
    *,
    hardware: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    measure_folder: Path | None,
) -> None:
    """Print the summary and write the files that are asked for; with ``measure_folder`` time the model instead."""
    if measure_folder is not None and measure_folder.exists() and any(measure_folder.iterdir()):
        raise InputError("--measure will not replace what is there", value=str(measure_folder), allowed="a new folder")
    for file in (json_file, csv_file):
        if file is not None and file.is_dir():
            raise InputError("a file is to be written, not a folder", value=str(file))
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
    compute = task.values["device"]["compute"]
    phones, origin = _phones(task, hardware)
    limits = cast(Limits, build(task.values["cost"]["limits"], "cost.limits", target=Limits))
    costs = device_costs(task.work, phones, conditions=_conditions(task, phones), limits=limits)
    told = {
        "task": task.describe(),
        "compute": {name: value for name, value in compute.items() if name != "layer_ops"},
        "phones": origin,
        "limits": task.values["cost"]["limits"],
        "summary": summarise(costs),
    }
    return costs, told


def _phones(task: Task, hardware: Path | None) -> tuple[PhoneClasses, str]:
    """The device classes and where they are from: ``--hardware``, the fleet's table, the timed phones, the default."""
    of_fleet, compute = task.values["fleet"]["hardware"], task.values["device"]["compute"]
    if hardware is not None:
        return _of_table(hardware), "the hardware table given"
    if "table" in of_fleet:
        return _of_fleet(task.values), "the fleet's hardware table"
    if "profiles" in compute:
        names, latencies_ms = Profiles.load(compute["profiles"]).devices, compute["inference_ms"]
        timed_ms = [latencies_ms.get(name, float("nan")) for name in names]
        return PhoneClasses.named(names, timed_ms), "the phones that were timed"
    if "median_inference_ms" not in of_fleet:
        allowed = "--hardware FILE, fleet/hardware=table or fleet/hardware=lognormal"
        raise InputError("no phones to reckon with: a hardware table is needed", allowed=allowed)
    n = task.assumed.n_classes
    classes = PhoneClasses.lognormal(median_ms=of_fleet["median_inference_ms"], sigma=of_fleet["sigma"], n=n)
    return classes, f"{n} classes of the lognormal latency of fleet.hardware (no hardware table given)"


def _of_table(path: Path) -> PhoneClasses:
    """Device classes of a Parquet file, or of the ``hardware.parquet`` of a trace set or measurement folder."""
    file = _table_file(path)
    return PhoneClasses.of(read_table(file, HARDWARE), where=file)


def _of_fleet(values: dict[str, Any]) -> PhoneClasses:
    """The rows of the fleet's hardware table that a run would ask, with their shares of the fleet."""
    _, phones, requires = build_phones(values)
    hardware = cast(Hardware, phones)
    is_met = np.ones(len(hardware.weight), dtype=bool)
    if requires is not None:
        Requirement(hardware, Rule.parse(requires))
        is_met = hardware.meets(Rule.parse(requires))
    weight = np.where(is_met, hardware.share_of_rows(), 0.0)
    rows = hardware.rows.set_column(hardware.rows.column_names.index("weight"), "weight", pa.array(weight))
    return PhoneClasses.of(rows, where="the fleet's hardware table")


def _table_file(path: Path) -> Path:
    return path / "hardware.parquet" if path.is_dir() else path


def _conditions(task: Task, phones: PhoneClasses) -> Conditions:
    """The device model of a run, its devices being the classes, on the network type of ``cost.network``."""
    device, kind, seed = task.values["device"], task.assumed.network, task.values["seed"]
    if kind not in NETWORKS[1:]:
        raise InputError("cost.network is unknown", value=kind, allowed=", ".join(NETWORKS[1:]))
    given = {"seed": seed, "phones": phones, "forward_flops": lambda: task.step.forward_flops}
    thermal = {key: device[key] for key in ("thermal_after_s", "thermal_slowdown")}
    build(thermal, "device", target=check_thermal)
    conditions = Conditions(
        compute=build(device["compute"], "device.compute", model=lambda: task.model_work, **given),
        network=build(device["network"] | {"assumed_type": kind}, "device.network", seed=seed, phones=phones),
        energy=build(device["energy"], "device.energy", phones=phones),
        network_type=kind,
        battery_capacity_wh=(
            task.assumed.battery_capacity_wh
            if device["battery"]["capacity_wh"] is None
            else device["battery"]["capacity_wh"]
        ),
        **thermal,
    )
    if kind in device["network"].get("waits_on", ()):
        raise InputError("transfers wait on cost.network", value=kind, allowed="a type that device.network uses")
    return conditions


def _provenance(overrides: Sequence[str], hardware: Path | None) -> dict[str, Any]:
    """What the figures rest on."""
    return {
        "overrides": list(overrides),
        "hardware_sha256": None if hardware is None else sha256(_table_file(hardware)),
        "versions": package_versions(),
    }


def _measure(task: Task, folder: Path) -> None:
    """Time the model here and write the folder that ``device.compute.profiles`` reads."""
    schedule = cast(Schedule, build(task.values["cost"]["measure"], "cost.measure", target=Schedule))
    _ = task.step  # a model that does not fit its examples is refused here, not in the middle of the measurement
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
    print(f"device/compute=measured device.compute.profiles={folder}")
    print(f"for a run also '+device.compute.inference_ms={{{profiles.column('device')[0]}: MS}}', its latency in the")
    print("benchmark of fleet.hardware, which places the other phones beside it")
