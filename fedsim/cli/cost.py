"""``fedsim cost``: can these phones train this model, how fast, and what does it take from them?

A composed configuration gives the task (model, data, local work, features) and the device model, a hardware table
the phones: what is told here is what a run would take. With ``--measure`` the model is timed on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.csv
from rich.console import Console

from fedsim.config.build import build
from fedsim.config.cost import build_classes, build_conditions, build_task, composed_task
from fedsim.cost.phones import table_file
from fedsim.cost.summary import summarise
from fedsim.cost.table import Limits, device_costs
from fedsim.cost.text import render_costs, render_profiles
from fedsim.files import sha256, write_json
from fedsim.folders import require_new
from fedsim.provenance import package_versions
from fedsim.schema import PROFILES
from fedsim.targets import require_file, whole_file
from fedsim.traces.measurements import MeasurementWriter
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
    if measure_folder is not None:
        require_new(measure_folder, option=" for --measure")
    for file in (json_file, csv_file):
        if file is not None:
            require_file(file)
    values = composed_task(overrides)
    if measure_folder is not None:
        _measure(values, measure_folder)
        return
    costs, told = costs_of(values, hardware)
    told["provenance"] = _provenance(overrides, hardware)
    Console().print(render_costs(told))
    if json_file is not None:
        write_json(json_file, told | {"classes": costs.to_pylist()})
    if csv_file is not None:
        with whole_file(csv_file) as temporary:
            pyarrow.csv.write_csv(costs, temporary)


def costs_of(values: dict[str, Any], hardware: Path | None) -> tuple[pa.Table, dict[str, Any]]:
    """The table of :data:`fedsim.cost.table.DEVICE_COSTS` and a JSON-serialisable summary of it and of the task."""
    task, compute = build_task(values), values["device"]["compute"]
    phones, origin = build_classes(values, hardware, n_classes=task.assumed.n_classes)
    limits = cast(Limits, build(values["cost"]["limits"], "cost.limits", target=Limits))
    costs = device_costs(task.work, phones, conditions=build_conditions(values, task, phones), limits=limits)
    told = {
        "task": task.describe(),
        "compute": {name: value for name, value in compute.items() if name != "layer_ops"},
        "phones": origin,
        "limits": values["cost"]["limits"],
        "summary": summarise(costs),
    }
    return costs, told


def _provenance(overrides: Sequence[str], hardware: Path | None) -> dict[str, Any]:
    """What the figures rest on."""
    return {
        "overrides": list(overrides),
        "hardware_sha256": None if hardware is None else sha256(table_file(hardware)),
        "versions": package_versions(),
    }


def _measure(values: dict[str, Any], folder: Path) -> None:
    """Time the model here and write the folder that ``device.compute.profiles`` reads."""
    task = build_task(values)
    schedule = cast(Schedule, build(values["cost"]["measure"], "cost.measure", target=Schedule))
    _ = task.step  # a model that does not fit its examples is refused here, not in the middle of the measurement
    with MeasurementWriter(folder) as writer:
        profiles = measure(
            task.model,
            op=task.name,
            loss=task.loss,
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
