"""``fedsim cost``: can these phones train this model, how fast, and what does it take from them?

A composed configuration gives the task (model, data, local work, features), a hardware table the phones, and a law
of :mod:`fedsim.device.laws` the time. With ``--measure`` the model is timed on this machine instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from torch import nn

from fedsim.config import build, build_module, composed
from fedsim.cost_summary import summarise
from fedsim.data.clients import ClientData
from fedsim.data.features import (
    Catalogue,
    assets_bytes,
    embedding_rows,
    shipped_bytes_per_example,
    stored_bytes_per_example,
)
from fedsim.device.cost import Conditions, CostLaw, LayerWork, Limits, Phones, TaskWork, device_costs
from fedsim.device.laws import MeasuredLaw
from fedsim.errors import InputError
from fedsim.files import existing, read_table, whole_file, write_json
from fedsim.provenance import package_versions
from fedsim.report.costs import render_costs, render_profiles
from fedsim.schema import HARDWARE, NETWORKS, PROFILES
from fedsim.traces.measurements import MeasurementWriter
from fedsim.training.flat import build_model
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.local import LocalSgd
from fedsim.training.measure import Schedule, cpu_name, measure

_FLOAT_BYTES = 4
_MANY_CLIENTS = 100_000


@dataclass(frozen=True)
class Task:
    """A model to be trained, what its examples look like, and how many a phone has."""

    values: Mapping[str, Any]
    model: nn.Module
    local: LocalSgd
    catalogue: Catalogue
    shape: tuple[int, ...]
    dtype: str
    n_examples: int

    @classmethod
    def compose(cls, overrides: Sequence[str]) -> Task:
        """The task that the configuration with these overrides describes."""
        values, catalogue = _with_features(overrides)
        local = build(values["training"]["local"], "training.local")
        model = build_model(lambda: build_module(values["model"]["module"]), seed=values["seed"])
        shape, dtype, n_examples = _examples(values)
        return cls(values, model, local, catalogue, shape, dtype, n_examples)

    @property
    def name(self) -> str:
        """The model's class and size, under which its measured steps are found again."""
        return f"{type(self.model).__name__}-{sum(p.numel() for p in self.model.parameters())}"

    def count(self) -> StepCount:
        """One training step, counted."""
        batch_size = min(self.local.batch_size, self.n_examples)
        batch = example_batch(self.model, shape=self.shape, dtype=self.dtype, batch_size=batch_size)
        return count_step(self.model, batch, loss=self.values["training"]["loss"])

    def work(self, step: StepCount) -> TaskWork:
        """What one participation computes, moves and keeps."""
        model = self.values["model"]
        example_bytes = stored_bytes_per_example(self.catalogue) or step.input_bytes / step.batch_size
        shipped_bytes = shipped_bytes_per_example(self.catalogue) * self.n_examples
        assets = assets_bytes(self.catalogue) + model["assets_bytes"]
        return TaskWork(
            model=self.name,
            n_examples=self.n_examples,
            epochs=self.local.epochs,
            batch_size=self.local.batch_size,
            forward_flops=step.forward_flops,
            training_flops=step.training_flops,
            lookup_bytes=step.lookup_bytes,
            trained_bytes=_FLOAT_BYTES * step.n_trained,
            layers=[LayerWork(**{k: v for k, v in asdict(layer).items() if k != "name"}) for layer in step.layers],
            memory_bytes=sum(self.memory(step).values()),
            download_bytes=round(
                step.n_parameters * model["download_bytes_per_parameter"] + model["plan_bytes"] + shipped_bytes
            ),
            upload_bytes=round(step.n_trained * model["upload_bytes_per_parameter"]),
            assets_bytes=round(assets),
            storage_bytes=round(step.parameter_bytes + assets + self.n_examples * example_bytes),
        )

    def memory(self, step: StepCount) -> dict[str, int]:
        """Peak memory of training by what holds it, an estimate.

        Parameters, their gradients, what the optimiser keeps, and twice the activations kept for the backward pass
        (they and their gradients). Work space of convolutions and fragmentation are left out: against torch's own
        allocations the sum lies between 0.6 (convolutions) and 1.6 (a large last layer) of the peak.
        """
        cost = self.values["cost"]
        return {
            "runtime": round(cost["runtime_bytes"]),
            "parameters": step.parameter_bytes,
            "gradients": _FLOAT_BYTES * step.n_trained,
            "optimiser": round(_FLOAT_BYTES * step.n_trained * cost["optimizer_floats_per_parameter"]),
            "activations": 2 * step.activation_bytes,
            "inputs": step.input_bytes,
        }
