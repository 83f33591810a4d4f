"""The fast backend: many clients at once, each from its own model version (torch.func.vmap).

A small model leaves the processor waiting for Python between its tiny operations. So clients are
sorted by size and cut into blocks; a block's models lie stacked, and one vmapped gradient and step
serve them all. Where stacking does not pay (large models, two clients) the loop trains them. With
plain SGD a client whose whole local work is one step needs no model of its own
(Σ cᵢ Δᵢ = −lr Σ cᵢ ∇ℓᵢ, one backward pass for all of a version), which is exact for it alone.
What cannot be trained so is found by trying (:mod:`fedsim.training.backend.trial`) and left to the loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from fedsim.data.clients import Examples
from fedsim.errors import InputError
from fedsim.ranges import Range
from fedsim.training.algorithm.local import Tensors
from fedsim.training.backend.gradients import padded, pooled_gradients, stacked_gradients
from fedsim.training.backend.learner import Learner
from fedsim.training.backend.loop import LoopBackend
from fedsim.training.backend.steps import first_memory, rate_of, step_of
from fedsim.training.backend.trial import trial, why_alone
from fedsim.training.trainer import Updates
from fedsim.training.versions import Versions
from fedsim.units import FloatArray, IntArray

# Measured on two cores: stacking pays until the stacked parameters or activations leave the cache,
# and for fewer than about eight clients the cost of vmap itself is more than it saves.
BLOCK_PARAMETERS = 6_000_000
BLOCK_ACTIVATIONS = 12_000_000
MIN_BLOCK = 8
FLOAT_BYTES = 4
PLAN_BYTES = 32  # of the batch plan, for each example and epoch
COPIES = 3  # of a client's parameters: downloaded, now, gradient
OWN_STEP_COPIES = 3  # more of them in an own algorithm's step: its result and what lies in between; assumed


@dataclass(frozen=True)
class Stack:
    """Clients that are trained together, and the examples of all of them."""

    start: Tensors  # [n, *shape] by parameter, as downloaded
    models: Tensors  # the same, changed in place
    memory: Tensors  # what the last steps kept, [n, …], changed in place
    rates: Any  # the learning rate: a number for all, or float32[n]
    x: torch.Tensor
    y: torch.Tensor


class CohortBackend:
    """The same results as :class:`LoopBackend` to 1e-5, several clients at a time in bounded memory.

    ``memory_budget_bytes`` bounds models, activations and examples of a block; a single client larger than that is
    trained alone. So is every client, with results of :class:`LoopBackend` to the last bit, of a model that mixes the
    examples of a batch (BatchNorm), draws at random (dropout) or that vmap cannot batch (LSTM, GRU), and of an own
    algorithm whose step it cannot batch; ``remarks`` then says so.
    """

    def __init__(self, learner: Learner, *, memory_budget_bytes: Annotated[int, Range(1, 2**50)]) -> None:
        if memory_budget_bytes <= 0:
            raise InputError("training.backend.memory_budget_bytes", value=memory_budget_bytes, allowed="> 0")
        self._learner, self._layout, self._local = learner, learner.layout, learner.local
        self._loop = LoopBackend(learner)
        self._gradients = stacked_gradients(learner)
        self._step = step_of(learner.local, is_stacked=True)
        why = why_alone(learner)
        name = type(learner.model).__name__
        self.remarks = () if why is None else (f"model {name} is trained one client after the other: {why}",)
        self._is_alone = why is not None
        self._memory_budget_bytes = memory_budget_bytes
        self._activations = 0 if self._is_alone else self._saved_floats()
        step_activations = self._local.batch_size * self._activations
        self._largest_block = min(
            BLOCK_PARAMETERS // self._layout.n_parameters, BLOCK_ACTIVATIONS // max(step_activations, 1)
        )
        copies = COPIES if self._local.is_plain else COPIES + OWN_STEP_COPIES + self._memory_copies()
        self._model_bytes = FLOAT_BYTES * math.ceil(copies * self._layout.n_parameters + 2 * step_activations)
        x = learner.probe[0]
        self._example_bytes = x.nbytes // len(x) + PLAN_BYTES * math.ceil(self._local.local_steps or self._local.epochs)

    def train(self, updates: Updates, n_examples: IntArray, versions: Versions) -> tuple[torch.Tensor, FloatArray]:
        """Σ cᵢ Δᵢ and the summed losses, as :class:`Backend` says."""
        if self._is_alone:
            return self._loop.train(updates, n_examples, versions)
        self._learner.model.train()
        direction = torch.zeros_like(versions.newest)
        loss_sums = np.empty(len(updates))
        sees_all = (self._local.n_steps(n_examples) == 1) & (self._local.n_visits(n_examples) == n_examples)
        is_single = sees_all & self._local.is_plain
        for rows in self._one_step_groups(updates, n_examples, np.flatnonzero(is_single)):
            loss_sums[rows] = self._one_step(updates.take(rows), versions, direction)
        for rows in self._blocks(updates, n_examples, np.flatnonzero(~is_single)):
            if len(rows) < MIN_BLOCK:
                part, loss_sums[rows] = self._loop.train(updates.take(rows), n_examples[rows], versions)
                direction += part
            else:
                loss_sums[rows] = self._block(updates.take(rows), n_examples[rows], versions, direction)
        return direction, loss_sums

    def _one_step_groups(self, updates: Updates, n_examples: IntArray, rows: IntArray) -> Iterator[IntArray]:
        """Rows of one version each, few enough examples to fit the budget."""
        bytes_each = 2 * FLOAT_BYTES * self._activations + self._example_bytes
        most = min(self._memory_budget_bytes // bytes_each, BLOCK_ACTIVATIONS // max(self._activations, 1))
        for version in np.unique(updates.versions[rows]):
            same = rows[updates.versions[rows] == version]
            group = (np.cumsum(n_examples[same]) - 1) // max(most, 1)
            yield from np.split(same, np.flatnonzero(np.diff(group)) + 1)

    def _one_step(self, updates: Updates, versions: Versions, direction: torch.Tensor) -> FloatArray:
        """Add clients whose local work is one step of plain SGD from the same version; their summed losses."""
        self._layout.load(versions.get(int(updates.versions[0])))
        examples = self._learner.fetch(updates)
        share = np.repeat(updates.weights / examples.n_examples, examples.n_examples).astype(np.float32)
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        gradients, losses = pooled_gradients(self._learner, x, y, torch.from_numpy(share))
        rate = float(self._local.rates(updates.versions[:1])[0])
        for name, total in self._layout.views(direction).items():
            total.sub_(gradients[name], alpha=rate)
        return np.add.reduceat(losses.double().numpy(), examples.offsets[:-1])

    def _blocks(self, updates: Updates, n_examples: IntArray, rows: IntArray) -> Iterator[IntArray]:
        """Rows in blocks of clients of similar size that fit cache and budget, the largest clients first.

        Within a block those with the most steps come first.
        """
        n_steps = self._local.n_steps(n_examples) if updates.n_steps is None else updates.n_steps
        rows = rows[np.argsort(-n_examples[rows], kind="stable")]
        while len(rows):
            client_bytes = self._model_bytes + int(n_examples[rows[0]]) * self._example_bytes
            size = max(1, min(self._largest_block, self._memory_budget_bytes // client_bytes))
            yield rows[:size][np.argsort(-n_steps[rows[:size]], kind="stable")]
            rows = rows[size:]

    def _block(self, updates: Updates, n_examples: IntArray, versions: Versions, direction: torch.Tensor) -> FloatArray:
        """Add a block of clients sorted by falling number of steps; their summed losses, float64[n]."""
        examples = self._learner.fetch(updates)
        stack = self._stack(updates, examples, versions)
        loss_sums = np.zeros(len(updates))
        for batch in self._local.batches(n_examples, updates.seeds, updates.n_steps).swapaxes(0, 1):
            n_batch = (batch >= 0).sum(axis=1)
            n_active = int((n_batch > 0).sum())  # those still at work come first
            steps = self._steps_alone if n_active < MIN_BLOCK else self._steps_together
            rows = examples.offsets[:n_active, None] + batch[:n_active, : n_batch.max()]
            loss_sums[:n_active] += steps(stack, rows, n_batch[:n_active])
        weights = torch.from_numpy(updates.weights.astype(np.float32))
        for name, total in self._layout.views(direction).items():
            total += torch.tensordot(weights, stack.models[name].sub_(stack.start[name]), 1)
        return loss_sums

    def _stack(self, updates: Updates, examples: Examples, versions: Versions) -> Stack:
        """These clients before their first step."""
        downloaded, which = np.unique(updates.versions, return_inverse=True)
        owner = torch.from_numpy(which)
        kept = self._layout.split(torch.stack([versions.get(int(v)) for v in downloaded]))
        start = {name: stack[owner] for name, stack in kept.items()}
        models = {name: stack.clone() for name, stack in start.items()}
        memory = first_memory(self._local, start, is_stacked=True)
        rates = rate_of(self._local, self._local.rates(updates.versions))
        return Stack(start, models, memory, rates, torch.from_numpy(examples.x), torch.from_numpy(examples.y))

    def _steps_together(self, stack: Stack, rows: IntArray, n_batch: IntArray) -> FloatArray:
        """One step of each of the first clients on its row of examples; their summed losses before it."""
        batch, share = padded(rows, n_batch)
        active = {name: models[: len(rows)] for name, models in stack.models.items()}
        gradients, losses = self._gradients(active, stack.x[batch], stack.y[batch], share)
        start, memory = ({name: value[: len(rows)] for name, value in of.items()} for of in (stack.start, stack.memory))
        rates = stack.rates if isinstance(stack.rates, float) else stack.rates[: len(rows)]
        with torch.no_grad():
            self._step(active, gradients, start, memory, rates)
        summed: FloatArray = n_batch * losses.double().numpy()
        return summed

    def _steps_alone(self, stack: Stack, rows: IntArray, n_batch: IntArray) -> FloatArray:
        """The same for the last few clients at work, one after the other in the module itself."""
        summed = np.empty(len(rows))
        for i, n in enumerate(n_batch):
            batch = torch.from_numpy(rows[i, :n])
            own = [(parameter, stack.models[name][i]) for name, parameter in self._layout.parameters.items()]
            with torch.no_grad():
                for parameter, value in own:
                    parameter.copy_(value)
            start = {name: stacked[i] for name, stacked in stack.start.items()}
            memory = {name: stacked[i] for name, stacked in stack.memory.items()}
            rate = stack.rates if isinstance(stack.rates, float) else float(stack.rates[i])
            summed[i] = n * self._loop.step(stack.x[batch], stack.y[batch], start, memory, rate)
            for parameter, value in own:
                value.copy_(parameter.detach())
        return summed

    def _memory_copies(self) -> float:
        """What a client's steps keep, in sizes of the model; it is there twice while a step is taken."""
        kept = self._local.memory(self._layout.views(self._layout.flatten()))
        return 2.0 * sum(int(value.numel()) for value in kept.values()) / self._layout.n_parameters

    def _saved_floats(self) -> int:
        """Numbers that a backward pass keeps for each example: two examples' minus one's."""
        x, y = self._learner.probe
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with trial(self._learner), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            self._learner.loss.per_example(self._learner.model(x[:1]), y[:1])
            one = sum(sizes)
            self._learner.loss.per_example(self._learner.model(x[:2]), y[:2])
        return sum(sizes) - 2 * one
