"""The server half of training: model versions, checks, the server's optimiser and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedsim.data.clients import Array, ClientData
from fedsim.errors import InputError, SimulationError
from fedsim.ranges import Seed, Threads, VersionCount
from fedsim.training.algorithm.local import LocalAlgorithm
from fedsim.training.backend.learner import MISFITS, PROBED, Backend, Learner
from fedsim.training.checkpoint import write_checkpoint
from fedsim.training.flat import Layout, ModelFactory, build_model
from fedsim.training.loss import Loss, loss_named
from fedsim.training.metrics import Kept, Measured, Metric, metric_named
from fedsim.training.server_optimizer import ServerOptimizer
from fedsim.training.trainer import StepResult, Updates
from fedsim.training.versions import Versions
from fedsim.units import IntArray

EVALUATION_ROWS = 1024
EVALUATION_OUTPUTS = 8_000_000  # of the model at once: fewer rows where each has many, as a word for each position has
_LOOKED_AT = 64  # held-out examples, to find some that differ


@dataclass(frozen=True)
class Best:
    """The best version that was evaluated: its number, its first metric, its tensors as one vector."""

    version: int
    value: float
    vector: torch.Tensor


class FederatedTrainer:
    """Steps the server's optimiser along Σ cᵢ Δᵢ; how the updates are trained is the backend's.

    ``model`` is a factory of a ``torch.nn.Module`` (``_partial_: true`` in a config) whose outputs are logits;
    ``seed`` draws its initial parameters. ``local`` is the clients' algorithm, ``backend`` makes the
    :class:`~fedsim.training.backend.learner.Backend` for what is to be trained. ``loss`` is a name of
    :data:`fedsim.training.loss.LOSSES` or a loss, ``metrics`` are names of
    :data:`fedsim.training.metrics.METRICS` or metrics; the last evaluation is kept in ``measured``.
    Versions up to ``max_staleness`` steps old are kept. Everything is float32 and summed in the order of arrival: the
    same call gives the same bytes on one machine with the same number of torch threads. ``n_threads`` is the
    process's number of torch threads: small models are fastest with 1.
    Raises :class:`InputError` when model, loss, metrics and data do not fit together.
    """

    is_training = True

    def __init__(
        self,
        *,
        model: ModelFactory,
        data: ClientData,
        local: LocalAlgorithm,
        backend: Callable[[Learner], Backend],
        server_optimizer: ServerOptimizer,
        loss: str | Loss,
        max_staleness: VersionCount,
        seed: Seed,
        metrics: Sequence[str | Metric],
        n_threads: Threads = 1,
    ) -> None:
        if n_threads < 1:
            raise InputError("training.n_threads", value=n_threads, allowed=">= 1")
        self._n_threads = n_threads
        torch.set_num_threads(n_threads)
        if max_staleness < 0:
            raise InputError("max_staleness", value=max_staleness, allowed=">= 0")
        if not isinstance(local, LocalAlgorithm):
            raise InputError(
                "training.local has no step", value=type(local).__name__, allowed="a subclass of LocalAlgorithm"
            )
        module, self._held_out = build_model(model, seed=seed), data.held_out()
        self._learner = Learner(module, Layout(module), loss_named(loss), local, data, _probe(*self._held_out))
        self.versions = Versions(self._learner.layout.flatten(), max_kept=max_staleness + 1)
        self._optimizer = server_optimizer
        self._metrics = tuple(metric_named(metric) for metric in metrics)
        self.measured: Measured | None = None
        self._best: Best | None = None
        for metric in self._metrics:
            metric.check(self._learner.loss, self._held_out[1])
        self._n_rows = _check_fits(self._learner, *self._held_out)
        self._backend = backend(self._learner)

    @property
    def n_parameters(self) -> int:
        """Numbers (float32) that a device downloads and uploads."""
        return len(self.versions.newest)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation tells."""
        return tuple(metric.name for metric in self._metrics)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines that the backend has for the user, of how it trains."""
        return tuple(getattr(self._backend, "remarks", ()))

    @property
    def version(self) -> int:
        """The newest model version."""
        return self.versions.newest_version

    def step(self, updates: Updates) -> StepResult:
        """Train what was promised, aggregate, step the server's optimiser: the version goes up by one."""
        torch.set_num_threads(self._n_threads)  # whoever was built since may have asked for others
        n_examples = self._learner.n_examples(updates)
        _check_updates(updates, n_examples)
        direction, loss_sums = self._backend.train(updates, n_examples, self.versions)
        if not bool(direction.isfinite().all()):
            raise SimulationError(
                f"local training diverged in the step after version {self.version}: lower its learning rate"
            )
        self._advance(direction)
        n_visits = self._learner.local.n_visits(n_examples, updates.n_steps)
        return StepResult(
            train_loss=float(loss_sums.sum() / n_visits.sum()),
            update_norm=float(direction[: self._learner.layout.n_parameters].norm()),
            losses=loss_sums / n_visits,
        )

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics of the newest version."""
        torch.set_num_threads(self._n_threads)
        self._learner.layout.load(self.versions.newest)
        self._learner.model.eval()
        with torch.no_grad():
            kept = [self._kept(first) for first in range(0, len(self._held_out[1]), self._n_rows)]
        self.measured = Measured.of_batches(self._metrics, kept)
        values = self.measured.values()
        if self._metrics and (self._best is None or self._is_better(values, self._best.value)):
            self._best = Best(self.version, values[self._metrics[0].name], self.versions.newest)
        return values

    def save(self, folder: Path, *, final: str = "final") -> None:
        """Write the newest version, and beside a ``final`` one the best that was evaluated, by the first metric."""
        folder.mkdir(exist_ok=True)
        self._write(folder / f"{final}.safetensors", self.versions.newest, {"version": self.version})
        if self._best is not None and final == "final":
            told = {"version": self._best.version, self._metrics[0].name: self._best.value}
            self._write(folder / "best.safetensors", self._best.vector, told)

    def _write(self, path: Path, vector: torch.Tensor, told: dict[str, float]) -> None:
        self._learner.layout.load(vector)
        write_checkpoint(path, self._learner.model, told)

    def _is_better(self, values: dict[str, float], best: float) -> bool:
        """Whether the first metric is better than the best so far; of equals the earlier stays."""
        metric = self._metrics[0]
        return (
            values[metric.name] > best
            if getattr(metric, "better", "higher") == "higher"
            else values[metric.name] < best
        )

    def _advance(self, direction: torch.Tensor) -> None:
        """Make the next version: the optimiser moves the parameters, buffers take the average as it is."""
        n = self._learner.layout.n_parameters
        vector = self.versions.newest.clone()
        self._optimizer.step(vector[:n], direction[:n])
        vector[n:] += direction[n:]
        self.versions.add(vector)

    def _kept(self, first: int) -> list[Kept]:
        """What each metric keeps of the held-out examples from ``first`` on."""
        x, y = (torch.from_numpy(np.array(part[first : first + self._n_rows])) for part in self._held_out)
        scores = self._learner.loss.scores(self._learner.model(x))
        return [metric.keep(y, scores) for metric in self._metrics]


def _check_updates(updates: Updates, n_examples: IntArray) -> None:
    if len(updates) == 0:
        raise SimulationError("a server step needs at least one update")
    if not n_examples.all():
        raise SimulationError(f"client {updates.client_ids[n_examples == 0][0]} has no example to train on")


def _probe(x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """A few of these examples, unlike each other where they can: first the one with the largest id of an embedding."""
    if len(y) == 0:
        raise InputError("no held-out example to evaluate on")
    looked_at = np.linspace(0, len(y) - 1, _LOOKED_AT, dtype=np.int64)
    _, unlike = np.unique(x[looked_at].reshape(_LOOKED_AT, -1), axis=0, return_index=True)
    largest = int(x.argmax()) // (x.size // len(x))
    others = [row for row in looked_at[np.sort(unlike)] if not np.array_equal(x[row], x[largest])]
    rows = np.resize([largest, *others], PROBED)
    return torch.from_numpy(x[rows]), torch.from_numpy(y[rows])


def _outputs(learner: Learner, x: torch.Tensor, *, where: str | None = None) -> torch.Tensor:
    learner.model.eval()
    try:
        with torch.no_grad():
            outputs: torch.Tensor = learner.model(x)
            learner.loss.per_example(outputs, learner.loss.no_labels(outputs))  # the true ones are checked next
    except MISFITS as error:
        what = f"model {type(learner.model).__name__} with loss {learner.loss.name} does not fit the data ({error})"
        raise InputError(what, where=where) from error
    return outputs


def _check_fits(learner: Learner, x: Array, y: Array) -> int:
    """One forward pass, so that a model of the wrong shape is one line before the run; rows to evaluate at once."""
    outputs = _outputs(learner, learner.probe[0])
    n_rows = max(1, min(EVALUATION_ROWS, EVALUATION_OUTPUTS * len(outputs) // max(outputs.numel(), 1)))
    if len(y) % n_rows == 1:
        _outputs(learner, learner.probe[0][:1], where="the evaluation of the last held-out example, by itself")
    learner.loss.check(outputs[:1].expand(len(y), *outputs.shape[1:]), torch.from_numpy(np.array(y)))
    return n_rows
