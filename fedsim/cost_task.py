"""A task for ``fedsim cost``: the model, what its examples look like, how many a phone holds, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from fedsim.build import build
from fedsim.config import build_module, composed
from fedsim.data import features
from fedsim.data.clients import ClientData
from fedsim.data.features import Catalogue
from fedsim.device.cost import TaskWork
from fedsim.device.model_work import ModelWork
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.model_config import build_work, check_model, example_of, feature_catalogue, setting
from fedsim.model_count import model_name, model_work
from fedsim.training.flat import build_model
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.local import LocalSgd
from fedsim.units import DAY_S

_FLOAT_BYTES = 4
_MANY_CLIENTS = 100_000
_PARTS = ("limits", "measure")  # of the group, each built by itself


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
class Task:
    """A model (``torch.nn.Module``) to be trained by phones that hold ``n_examples`` of this shape and type."""

    values: dict[str, Any]
    assumed: Assumptions
    catalogue: Catalogue
    model: Any
    local: LocalSgd
    shape: tuple[int, ...]
    dtype: str
    n_examples: int

    @classmethod
    def compose(cls, overrides: Sequence[str]) -> Task:
        """The task that the shipped configuration with these overrides describes."""
        values, catalogue = _with_features(overrides)
        check_model(values["model"])
        model = build_model(lambda: build_module(values["model"]["module"]), seed=values["seed"])
        local = cast(LocalSgd, build(values["training"]["local"], "training.local"))
        said = {name: value for name, value in values["cost"].items() if name not in _PARTS}
        assumed = cast(Assumptions, build(said, "cost", target=Assumptions))
        shape, dtype, n_examples = _examples(values, assumed)
        return cls(values, assumed, catalogue, model, local, shape, dtype, n_examples)

    @property
    def name(self) -> str:
        """The model's class and size, under which its measured steps are found again."""
        return model_name(self.model)

    @cached_property
    def step(self) -> StepCount:
        """One training step, counted."""
        batch_size = min(self.local.batch_size, self.n_examples)
        batch = example_batch(self.model, shape=self.shape, dtype=self.dtype, batch_size=batch_size)
        return count_step(self.model, batch, loss=self.values["training"]["loss"])

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
        trained_bytes = _FLOAT_BYTES * self.step.n_trained
        return {
            "runtime": round(self.assumed.runtime_bytes),
            "parameters": self.step.parameter_bytes,
            "gradients": trained_bytes,
            "optimiser": round(trained_bytes * self.assumed.optimizer_floats_per_parameter),
            "activations": 2 * self.step.activation_bytes,
            "inputs": self.step.input_bytes,
        }

    @property
    def of_run(self) -> Work:
        """What a run would ask of its devices; sizes that make no sense are refused."""
        return build_work(self.values["model"], self.catalogue, self.local)

    @cached_property
    def work(self) -> TaskWork:
        """What one participation computes, moves and keeps."""
        step, model, n, _ = self.step, self.values["model"], self.n_examples, self.of_run
        assets = features.assets_bytes(self.catalogue) + model["assets_bytes"]
        shipped = n * features.shipped_bytes_per_example(self.catalogue)
        return TaskWork(
            n_examples=n,
            epochs=self.local.epochs,
            batch_size=self.local.batch_size,
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
        step, work, declared = self.step, self.work, self.values["model"]["n_parameters"]
        return {
            "model": self.name,
            "n_parameters": step.n_parameters,
            "declared_n_parameters": declared,
            "declared_forward_flops": self.values["model"]["forward_flops"],
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


def _with_features(overrides: Sequence[str]) -> tuple[dict[str, Any], Catalogue]:
    """The configuration and its catalogue; a model that takes its embedding's rows from the catalogue gets them."""
    values = composed(overrides)
    catalogue, key = cast(tuple[Catalogue, str | None], build(values["features"], "features", target=feature_catalogue))
    rows = features.embedding_rows(catalogue)
    is_given = any(override.lstrip("+").partition("=")[0] == key for override in overrides)
    if key is None or not rows or is_given or setting(values, key) == rows:
        return values, catalogue
    return composed([*overrides, f"{key}={rows}"]), catalogue


def _examples(values: dict[str, Any], assumed: Assumptions) -> tuple[tuple[int, ...], str, int]:
    """Shape and type of an example and their number on a phone: as given, else as the data has them."""
    data: list[ClientData] = []

    def needed() -> ClientData:
        """The data, built where something of it is asked for."""
        if not data:
            data.append(cast(ClientData, build(values["data"], "data")))
        return data[0]

    shape, dtype = example_of(values["model"], needed)
    n_examples = assumed.n_examples
    return shape, dtype, _typical(needed(), assumed.examples_quantile) if n_examples is None else n_examples


def _typical(data: ClientData, quantile: float) -> int:
    """A quantile of the clients' examples; of many clients, of a hundred thousand evenly spread over their numbers."""
    n = min(data.n_clients, _MANY_CLIENTS)
    return max(1, round(float(np.quantile(data.n_examples(np.arange(n) * data.n_clients // n), quantile))))
