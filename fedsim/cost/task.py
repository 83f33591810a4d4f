"""A task for ``fedsim cost``: the model, what its examples look like, how many a phone holds, and its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedsim.cost.table import TaskWork
from fedsim.data import features
from fedsim.data.features import Catalogue
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.training.count import model_name, model_work
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.local import LocalWork
from fedsim.training.model_work import FLOAT_BYTES, ModelWork
from fedsim.units import DAY_S


@dataclass(frozen=True)
class Assumptions:
    """What the configuration's group ``cost`` says beside limits and measurement; None: as the data has it."""

    n_examples: int | None
    examples_quantile: float
    network: str
    battery_capacity_wh: float
    optimizer_floats_per_parameter: float
    runtime_bytes: float
    n_classes: int

    def __post_init__(self) -> None:
        if self.n_examples is not None and self.n_examples < 1:
            raise InputError("cost.n_examples", value=self.n_examples, allowed="1 or more")
        if not 0 <= self.examples_quantile <= 1:
            raise InputError("cost.examples_quantile", value=self.examples_quantile, allowed="0 … 1")
        for name in ("optimizer_floats_per_parameter", "runtime_bytes"):
            if not getattr(self, name) >= 0:
                raise InputError(f"cost.{name}", value=getattr(self, name), allowed="0 or more")


@dataclass(frozen=True)
class CostTask:
    """A model (``torch.nn.Module``) to be trained by phones that hold ``n_examples`` of this shape and type.

    ``said`` is the configuration's group ``model`` (sizes, declared counts), ``of_run`` what a run would ask of its
    devices.
    """

    assumed: Assumptions
    catalogue: Catalogue
    model: Any
    said: Mapping[str, Any]
    local: LocalWork
    loss: str
    shape: tuple[int, ...]
    dtype: str
    n_examples: int
    of_run: Work

    @property
    def name(self) -> str:
        """The model's class and size, under which its measured steps are found again."""
        return model_name(self.model)

    @cached_property
    def step(self) -> StepCount:
        """One training step, counted."""
        batch_size = min(self.local.batch_size, self.n_examples)
        batch = example_batch(self.model, shape=self.shape, dtype=self.dtype, batch_size=batch_size)
        return count_step(self.model, batch, loss=self.loss)

    @cached_property
    def model_work(self) -> ModelWork:
        """What the laws of training time read."""
        return model_work(self.model, self.step)

    @cached_property
    def memory(self) -> dict[str, int]:
        """Peak memory of training by what holds it, in bytes; an estimate.

        The training library, parameters, their gradients, what the optimiser keeps, and twice the activations kept
        for the backward pass (they and their gradients). Work space of convolutions and fragmentation are left out:
        next to what torch really allocates the model's part lay between 0.6 (convolutions) and 1.6 times.
        """
        trained_bytes = FLOAT_BYTES * self.step.n_trained
        return {
            "runtime": round(self.assumed.runtime_bytes),
            "parameters": self.step.parameter_bytes,
            "gradients": trained_bytes,
            "optimiser": round(trained_bytes * self.assumed.optimizer_floats_per_parameter),
            "activations": 2 * self.step.activation_bytes,
            "inputs": self.step.input_bytes,
        }

    @cached_property
    def work(self) -> TaskWork:
        """What one participation computes, moves and keeps."""
        step, model, n = self.step, self.said, self.n_examples
        assets = features.assets_bytes(self.catalogue) + model["assets_bytes"]
        shipped = n * features.shipped_bytes_per_example(self.catalogue)
        return TaskWork(
            n_examples=n,
            epochs=self.local.epochs,
            batch_size=self.local.batch_size,
            local_steps=self.local.local_steps,
            training_flops=step.training_flops,
            memory_bytes=sum(self.memory.values()),
            download_bytes=round(
                step.n_parameters * model["download_bytes_per_parameter"] + model["plan_bytes"] + shipped
            ),
            upload_bytes=round(step.n_trained * model["upload_bytes_per_parameter"]),
            assets_bytes=round(assets),
            storage_bytes=round(step.parameter_bytes + assets + n * self._example_bytes),
        )

    @property
    def _example_bytes(self) -> float:
        """Of an example that waits on the phone: what the catalogue says, without one what the data weighs."""
        if self.catalogue.features:
            return features.stored_bytes_per_example(self.catalogue)
        return self.step.input_bytes / self.step.batch_size

    def describe(self) -> dict[str, Any]:
        """The task in JSON-serialisable numbers."""
        step, work, declared = self.step, self.work, self.said["n_parameters"]
        return {
            "model": self.name,
            "n_parameters": step.n_parameters,
            "declared_n_parameters": declared,
            "declared_forward_flops": self.said["forward_flops"],
            "n_examples": self.n_examples,
            "epochs": self.local.epochs,
            "batch_size": self.local.batch_size,
            "forward_flops_per_example": step.forward_flops,
            "training_flops_per_example": step.training_flops,
            "training_flops_per_epoch": step.training_flops * self.n_examples,
            "lookup_bytes_per_example": step.lookup_bytes,
            "layers": [vars(layer) for layer in step.layers],
            "not_counted": step.not_counted,
            "memory_bytes": self.memory,
            "download_bytes": work.download_bytes,
            "upload_bytes": work.upload_bytes,
            "assets_bytes": work.assets_bytes,
            "storage_bytes": work.storage_bytes,
            "refreshed_bytes_per_day": sum(
                assets.n_bytes * DAY_S / assets.refresh_s
                for assets in self.of_run.assets
                if assets.refresh_s is not None
            ),
            "embedding_rows": features.embedding_rows(self.catalogue),
            "features": {home: _named(self.catalogue, home) for home in features.HOMES},
            "freshness_s": {f.name: f.freshness_s for f in self.catalogue.features if f.freshness_s is not None},
        }


def _named(catalogue: Catalogue, home: str) -> list[str]:
    return [feature.name for feature in catalogue.features if feature.home == home]
