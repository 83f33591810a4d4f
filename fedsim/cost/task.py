"""A task for ``fedsim cost``: the model that is paid for, the work, how many examples a phone holds, its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedsim import rng
from fedsim.cost.table import TaskWork
from fedsim.data import features
from fedsim.data.clients import ClientData
from fedsim.data.features import Catalogue
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.local import LocalWork
from fedsim.training.loss import Loss
from fedsim.training.model_work import FLOAT_BYTES, CostsAs, ExampleKind, ModelWork
from fedsim.units import DAY_S, IntArray

_MANY = 100_000  # clients that stand for all of them where their median is asked for


@dataclass(frozen=True)
class Assumptions:
    """What the configuration's group ``cost`` says beside limits and measurement."""

    n_examples: int | None  # on every phone; None: as many as a client of the data, drawn for each session
    network: str
    battery_capacity_wh: float
    assumed_ram_gb: float | None  # of phones whose memory is not known; None: it stays unknown
    optimizer_floats_per_parameter: float
    runtime_bytes: float
    n_classes: int

    def __post_init__(self) -> None:
        if self.n_examples is not None and self.n_examples < 1:
            raise InputError("cost.n_examples", value=self.n_examples, allowed="1 or more")
        if self.assumed_ram_gb is not None and not self.assumed_ram_gb > 0:
            raise InputError("cost.assumed_ram_gb", value=self.assumed_ram_gb, allowed="> 0, or null")
        for name in ("optimizer_floats_per_parameter", "runtime_bytes"):
            if not getattr(self, name) >= 0:
                raise InputError(f"cost.{name}", value=getattr(self, name), allowed="0 or more")


@dataclass(frozen=True)
class CostTask:
    """A model to be trained by phones, and the work that a run would ask of them.

    ``step`` is a training step of what is paid for: the model's, counted, or that of a stand-in (:func:`step_as`).
    ``said`` is the configuration's group ``model``; ``clients`` the data, None where ``assumed.n_examples`` is given.
    """

    name: str
    assumed: Assumptions
    catalogue: Catalogue
    said: Mapping[str, Any]
    local: LocalWork
    step: StepCount
    work: Work
    clients: ClientData | None
    seed: int

    def n_examples(self, n: int) -> IntArray:
        """Examples on each of so many phones: those assumed, else those of a client drawn for each."""
        if self.clients is None:
            return np.full(n, self.assumed.n_examples)
        drawn = rng.uniform(self.seed, "cost/client", np.arange(n)) * self.clients.n_clients
        return self.clients.n_examples(drawn.astype(np.int64))

    @cached_property
    def typical_n_examples(self) -> int:
        """Of the median phone."""
        if self.clients is None:
            return int(self.n_examples(1)[0])
        n = min(self.clients.n_clients, _MANY)
        return max(1, round(float(np.median(self.clients.n_examples(np.arange(n) * self.clients.n_clients // n)))))

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
    def asked(self) -> TaskWork:
        """What one participation asks of a phone."""
        return TaskWork(
            work=self.work,
            training_flops=self.step.training_flops,
            memory_bytes=sum(self.memory.values()),
            storage_bytes=self.step.parameter_bytes + self.work.assets_bytes,
            example_bytes=self._example_bytes,
        )

    @property
    def _example_bytes(self) -> float:
        """Of an example that waits on the phone: what the catalogue says, without one what the data weighs."""
        if self.catalogue.features:
            return features.stored_bytes_per_example(self.catalogue)
        return self.step.input_bytes / self.step.batch_size

    def describe(self) -> dict[str, Any]:
        """The task in JSON-serialisable numbers; sizes are those of the median phone."""
        step, n = self.step, self.typical_n_examples
        paid = n * self.work.examples_each
        one = np.array([n])
        return {
            "model": self.name,
            "n_parameters": step.n_parameters,
            "n_examples": n,
            "examples_each": self.work.examples_each,
            "epochs": self.local.epochs,
            "batch_size": self.local.batch_size,
            "n_steps": int(self.work.n_steps(one)[0]),
            "forward_flops_per_example": step.forward_flops,
            "training_flops_per_example": step.training_flops,
            "training_flops_per_epoch": step.training_flops * paid,
            "lookup_bytes_per_example": step.lookup_bytes,
            "layers": [vars(layer) for layer in step.layers],
            "not_counted": step.not_counted,
            "memory_bytes": self.memory,
            "download_bytes": int(self.work.full_sizes(one)[0]) - self.work.assets_bytes,
            "upload_bytes": self.work.upload_bytes,
            "assets_bytes": self.work.assets_bytes,
            "storage_bytes": self.asked.storage_bytes + round(n * self._example_bytes),
            "refreshed_bytes_per_day": sum(
                assets.n_bytes * DAY_S / assets.refresh_s for assets in self.work.assets if assets.refresh_s is not None
            ),
            "embedding_rows": features.embedding_rows(self.catalogue),
            "features": {home: _named(self.catalogue, home) for home in features.HOMES},
            "freshness_s": {f.name: f.freshness_s for f in self.catalogue.features if f.freshness_s is not None},
        }


@dataclass(frozen=True)
class TrainedModel:
    """The module that is trained, and what its examples look like."""

    module: Any
    example: ExampleKind
    loss: str | Loss
    batch_size: int

    @property
    def step(self) -> StepCount:
        """One training step, counted; raises :class:`InputError` for a model that does not fit its examples."""
        batch = example_batch(self.module, **vars(self.example), batch_size=self.batch_size)
        return count_step(self.module, batch, loss=self.loss)


def stand_in_of(work: ModelWork, step: StepCount) -> CostsAs:
    """A counted model as one that stands for others of its kind."""
    return CostsAs(
        name=work.name,
        n_parameters=work.n_numbers,
        forward_flops=work.forward_flops,
        activation_bytes=step.activation_bytes / step.batch_size,
        depth=max(work.depth, 1),
    )


def step_as(stand_in: CostsAs, *, batch_size: int) -> StepCount:
    """A step of a model of which no more is known than is declared; its examples weigh nothing."""
    work = stand_in.work()
    return StepCount(
        batch_size=batch_size,
        forward_flops=work.forward_flops,
        training_flops=work.training_flops,
        lookup_bytes=work.lookup_bytes,
        n_parameters=stand_in.n_parameters,
        n_trained=stand_in.n_parameters,
        parameter_bytes=work.trained_bytes,
        input_bytes=0,
        activation_bytes=round(batch_size * stand_in.activation_bytes),
        layers=(),
        not_counted={},
    )


def _named(catalogue: Catalogue, home: str) -> list[str]:
    return [feature.name for feature in catalogue.features if feature.home == home]
