"""The reference backend: one client after the other, plain torch. Slow and easy to believe."""

from __future__ import annotations

import numpy as np
import torch

from fedsim.training.algorithm.local import Tensors
from fedsim.training.backend.gradients import batch_gradients
from fedsim.training.backend.learner import Learner
from fedsim.training.backend.steps import check_step, first_memory, step_of
from fedsim.training.backend.trial import check_trains
from fedsim.training.trainer import Updates
from fedsim.training.versions import Versions
from fedsim.units import FloatArray, IntArray


class LoopBackend:
    """Trains updates one by one in the module itself, in the order of arrival.

    Any step will do, and any module whose state is parameters and float buffers, which every client starts with as it
    downloaded them. Random layers (dropout) draw from the update's seed. Raises :class:`InputError` for a module that
    keeps something else from one client to the next, or that cannot be trained on a batch of one example (BatchNorm)
    where a client has such a batch.
    """

    def __init__(self, learner: Learner) -> None:
        check_step(learner)
        check_trains(learner)
        self._learner = learner
        self._step = step_of(learner.local, is_stacked=False)

    def train(self, updates: Updates, n_examples: IntArray, versions: Versions) -> tuple[torch.Tensor, FloatArray]:
        """Σ cᵢ Δᵢ and the summed losses, as :class:`Backend` says."""
        self._learner.model.train()
        direction = torch.zeros_like(versions.newest)
        loss_sums = np.empty(len(updates))
        rates = self._learner.local.rates(updates.versions)
        for row, (version, weight) in enumerate(zip(updates.versions, updates.weights, strict=True)):
            start = versions.get(int(version))
            loss_sums[row] = self._train_client(updates.take(np.array([row])), start, float(rates[row]))
            direction.add_(self._learner.layout.flatten().sub_(start), alpha=float(weight))
        return direction, loss_sums

    def _train_client(self, update: Updates, start: torch.Tensor, rate: float) -> float:
        """Local work of one client in the module; the sum of its losses over visited examples."""
        layout = self._learner.layout
        layout.load(start)
        downloaded = layout.views(start)
        memory = first_memory(self._learner.local, downloaded, is_stacked=False)
        examples = self._learner.fetch(update)
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        loss_sum = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(update.seeds[0]))
            for batch in self._learner.local.batches(examples.n_examples, update.seeds, update.n_steps)[0]:
                rows = torch.from_numpy(batch[batch >= 0])
                loss_sum += len(rows) * self.step(x[rows], y[rows], downloaded, memory, rate)
        return loss_sum

    def step(self, x: torch.Tensor, y: torch.Tensor, start: Tensors, memory: Tensors, rate: float) -> float:
        """One step of the module on a batch, for a client that downloaded ``start``; its mean loss before the step.

        ``memory`` is what its last step kept, changed in place.
        """
        gradients, loss = batch_gradients(self._learner, x, y)
        with torch.no_grad():
            now = {name: parameter.detach() for name, parameter in self._learner.layout.parameters.items()}
            self._step(now, gradients, start, memory, rate)
        return loss.item()
