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
from fedsim.config.cost import (
    composed_task,
    costs_of,
    profiles_beside,
    trained_model,
    with_size,
)  # fmt: skip
from fedsim.cost.phones import table_file
from fedsim.cost.text import render_costs, render_profiles, render_sizes
from fedsim.files import sha256, write_json
from fedsim.folders import require_new
from fedsim.provenance import package_versions
from fedsim.schema import PROFILES
from fedsim.targets import require_file, whole_file
from fedsim.traces.measurements import MeasurementWriter
from fedsim.training.count import model_name
from fedsim.training.measure import Schedule, cpu_name, measure
from fedsim.units import parse_bytes


def main(
    overrides: Sequence[str],
    *,
    hardware: Path | None,
    model_size: str | None,
    json_file: Path | None,
    csv_file: Path | None,
    measure_folder: Path | None,
) -> None:
    """Print the summary and write the files that are asked for; with ``measure_folder`` time the model instead.

    ``model_size`` are sizes of models of the configured kind (``5MB,500kB``), each of which is told; None: the model as
    it is.
    """
    if measure_folder is not None:
        require_new(measure_folder, option=" for --measure")
    for file in (json_file, csv_file):
        if file is not None:
            require_file(file)
    values = composed_task(overrides)
    if measure_folder is not None:
        _measure(values, measure_folder)
        return
    values = profiles_beside(values, hardware, overrides)
    sizes = [] if model_size is None else [parse_bytes(each, what="--model-size") for each in model_size.split(",")]
    found = [costs_of(each, hardware) for each in ([with_size(values, size) for size in sizes] or [values])]
    for _, told in found:
        told["provenance"] = _provenance(overrides, hardware)
    Console().print(render_sizes([told for _, told in found]) if len(found) > 1 else render_costs(found[0][1]))
    _write(found, json_file, csv_file)


def _write(found: Sequence[tuple[pa.Table, dict[str, Any]]], json_file: Path | None, csv_file: Path | None) -> None:
    """The files: of several models a list of what one would be, and the rows of all of them."""
    if json_file is not None:
        told = [told | {"classes": costs.to_pylist()} for costs, told in found]
        write_json(json_file, told[0] if len(told) == 1 else {"models": told})
    if csv_file is not None:
        with whole_file(csv_file) as temporary:
            pyarrow.csv.write_csv(pa.concat_tables([costs for costs, _ in found]), temporary)


def _provenance(overrides: Sequence[str], hardware: Path | None) -> dict[str, Any]:
    """What the figures rest on."""
    return {
        "overrides": list(overrides),
        "hardware_sha256": None if hardware is None else sha256(table_file(hardware)),
        "versions": package_versions(),
    }


def _measure(values: dict[str, Any], folder: Path) -> None:
    """Time the model here and write the folder that ``device.compute.profiles`` reads."""
    model = trained_model(values)
    schedule = cast(Schedule, build(values["cost"]["measure"], "cost.measure", target=Schedule))
    _ = model.step  # a model that does not fit its examples is refused here, not in the middle of the measurement
    name = model_name(model.module)
    with MeasurementWriter(folder) as writer:
        profiles = measure(
            model.module,
            op=name,
            loss=model.loss,
            example=model.example,
            schedule=schedule,
        )
        writer.add(PROFILES, profiles)
        writer.provenance = {
            "source": "measured by fedsim cost --measure",
            "licence": "the user's own",
            "importer": "fedsim cost --measure",
            "cpu": cpu_name(),
            "model": name,
            "shape": list(model.example.shape),
            "dtype": model.example.dtype,
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
