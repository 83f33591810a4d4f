"""The reference trainer: one client after the other, plain torch. Slow and easy to believe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedsim.data.clients import Array, ClientData
from fedsim.errors import InputError, SimulationError
from fedsim.rng import UintArray
from fedsim.training.flat import Layout, ModelFactory, build_model
from fedsim.training.local import LocalSgd
from fedsim.training.loss import loss_named
from fedsim.training.metrics import check_metrics, measured
from fedsim.training.server_optimizer import ServerOptimizer
from fedsim.training.trainer import StepResult, Updates
from fedsim.training.versions import Versions
from fedsim.units import FloatArray, IntArray

EVALUATION_ROWS = 1024


class LoopTrainer:
    """Trains promised updates one by one and steps the server's optimiser along Σ cᵢ Δᵢ.

    ``model`` is a factory of a ``torch.nn.Module`` (``_partial_: true`` in a config) whose outputs
    are logits; ``seed`` draws its initial parameters. ``loss`` is a name of
    :data:`fedsim.training.loss.LOSSES`, ``metrics`` are names of :data:`fedsim.training.metrics.METRICS`.
    Versions up to ``max_staleness`` steps old are kept. Random layers (dropout) draw from the
    update's seed. Everything is float32 and summed in the order of arrival: the same call gives the
    same bytes on one machine with the same number of torch threads.
    ``n_threads`` is the process's number of torch threads: small models are fastest with 1.
    Raises :class:`InputError` when model, loss, metrics and data do not fit together.
    """

    def __init__(
        self,
        *,
        model: ModelFactory,
        data: ClientData,
        local: LocalSgd,
        server_optimizer: ServerOptimizer,
        loss: str,
        max_staleness: int,
        seed: int,
        metrics: Sequence[str],
        n_threads: int = 1,
    ) -> None:
        if n_threads < 1:
            raise InputError("n_threads", value=n_threads, allowed=">= 1")
        torch.set_num_threads(n_threads)
        if max_staleness < 0:
            raise InputError("max_staleness", value=max_staleness, allowed=">= 0")
        self.model = build_model(model, seed=seed)
        self.layout = Layout(self.model)
        self.data = data
        self.local = local
        self.loss = loss_named(loss)
        self.versions = Versions(self.layout.flatten(), max_kept=max_staleness + 1)
        self.server_optimizer = server_optimizer
        self._metrics = tuple(metrics)
        self._held_out = data.held_out()
        check_metrics(self._metrics, self.loss, self._held_out[1])
        self._check_model_fits()

    @property
    def n_parameters(self) -> int:
        """Numbers (float32) that a device downloads and uploads."""
        return len(self.versions.newest)

    @property
    def version(self) -> int:
        """The newest model version."""
        return self.versions.newest_version

    def step(self, updates: Updates) -> StepResult:
        """Train what was promised, aggregate, step the server's optimiser: the version goes up by one."""
        n_examples = self.data.n_examples(updates.client_ids)
        self._check_updates(updates, n_examples)
        self.model.train()
        direction, loss_sums = self._local_work(updates, n_examples)
        if not bool(direction.isfinite().all()):
            raise SimulationError(
                f"local training diverged in the step after version {self.version}: lower its learning rate"
            )
        self._advance(direction)
        n_visits = self.local.epochs * n_examples
        return StepResult(
            train_loss=float(loss_sums.sum() / n_visits.sum()),
            update_norm=float(direction[: self.layout.n_parameters].norm()),
            losses=loss_sums / n_visits,
        )

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics of the newest version."""
        x, y = self._held_out
        self.layout.load(self.versions.newest)
        self.model.eval()
        with torch.no_grad():
            parts = [self._probabilities(x[i : i + EVALUATION_ROWS]) for i in range(0, len(y), EVALUATION_ROWS)]
        return measured(self._metrics, y, np.concatenate(parts))

    def _local_work(self, updates: Updates, n_examples: IntArray) -> tuple[torch.Tensor, FloatArray]:
        """Σ cᵢ Δᵢ as a flat vector, and each update's loss summed over its visited examples, float64[n]."""
        direction = torch.zeros_like(self.versions.newest)
        loss_sums = np.empty(len(updates))
        for row, (version, weight) in enumerate(zip(updates.versions, updates.weights, strict=True)):
            start = self.versions.get(int(version))
            self.layout.load(start)
            one = slice(row, row + 1)
            loss_sums[row] = self._train_client(updates.client_ids[one], updates.seeds[one])
            direction.add_(self.layout.flatten().sub_(start), alpha=float(weight))
        return direction, loss_sums

    def _train_client(self, client_id: IntArray, seed: UintArray) -> float:
        """SGD of one client on the loaded model; the sum of its losses over visited examples."""
        examples = self.data.fetch(client_id)
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        loss_sum = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed[0]))
            for batch in self.local.batches(examples.n_examples, seed)[0]:
                rows = torch.from_numpy(batch[batch >= 0])
                loss_sum += len(rows) * self._sgd_step(x[rows], y[rows])
        return loss_sum

    def _sgd_step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """One step on a batch; its mean loss before the step."""
        parameters = list(self.layout.parameters.values())
        loss = self.loss.per_example(self.model(x), y).mean()
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=self.local.learning_rate)
        return loss.item()

    def _advance(self, direction: torch.Tensor) -> None:
        """Make the next version: the optimiser moves the parameters, buffers take the average as it is."""
        n = self.layout.n_parameters
        vector = self.versions.newest.clone()
        self.server_optimizer.step(vector[:n], direction[:n])
        vector[n:] += direction[n:]
        self.versions.add(vector)

    def _probabilities(self, x: Array) -> FloatArray:
        found: FloatArray = self.loss.probabilities(self.model(torch.from_numpy(x))).numpy()
        return found

    def _check_updates(self, updates: Updates, n_examples: IntArray) -> None:
        if len(updates) == 0:
            raise SimulationError("a server step needs at least one update")
        if not n_examples.all():
            raise SimulationError(f"client {updates.client_ids[n_examples == 0][0]} has no example to train on")

    def _probe(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two held-out examples: the first, and the one with the largest id (an embedding must hold it)."""
        x, y = self._held_out
        if len(y) == 0:
            raise InputError("no held-out example to evaluate on")
        rows = [0, int(x.argmax()) // (x.size // len(x))]
        return torch.from_numpy(x[rows]), torch.from_numpy(y[rows])

    def _check_model_fits(self) -> None:
        """One forward pass, so that a model of the wrong shape is one line before the run, not a traceback in it."""
        x, y = self._probe()
        self.model.eval()
        try:
            with torch.no_grad():
                outputs = self.model(x)
                self.loss.per_example(outputs, y)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            name = type(self.model).__name__
            raise InputError(f"model {name} with loss {self.loss.name} does not fit the data ({error})") from error
        n_classes = 2 if self.loss.is_binary else outputs.shape[-1]
        if self._held_out[1].max() >= n_classes:
            allowed = f"0 to {n_classes - 1} with this model and loss"
            raise InputError("label", value=int(self._held_out[1].max()), allowed=allowed)
