"""The fast trainer: many clients at once, each from its own model version (torch.func.vmap).

A small model leaves the processor waiting for Python between its tiny operations. So clients are
sorted by size and cut into blocks; a block's models lie stacked, and one vmapped gradient serves
them all. Two shortcuts are exact: a client whose whole local work is one step needs no model of its
own (Σ cᵢ Δᵢ = −lr Σ cᵢ ∇ℓᵢ, one backward pass for all of a version), and where stacking does not
pay (large models, two clients) the loop of :class:`~fedsim.training.loop.LoopTrainer` trains them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from fedsim.data.clients import ClientData
from fedsim.errors import InputError
from fedsim.training.flat import ModelFactory
from fedsim.training.local import LocalSgd
from fedsim.training.loop import LoopTrainer
from fedsim.training.server_optimizer import ServerOptimizer
from fedsim.training.trainer import Updates
from fedsim.units import FloatArray, IntArray

# Measured on two cores: stacking pays until the stacked parameters or activations leave the cache,
# and for fewer than about eight clients the cost of vmap itself is more than it saves.
BLOCK_PARAMETERS = 6_000_000
BLOCK_ACTIVATIONS = 12_000_000
MIN_BLOCK = 8
FLOAT_BYTES = 4
PLAN_BYTES = 32  # of the batch plan, for each example and epoch

Models = dict[str, torch.Tensor]  # by parameter: [n, *shape], client by client

UNSUITABLE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RNNBase, nn.RNNCellBase)


class CohortTrainer(LoopTrainer):
    """The same results as :class:`LoopTrainer` to 1e-5, several clients at a time in bounded memory.

    ``memory_budget_bytes`` bounds models, activations and examples of a block; a single client
    larger than that is trained alone. Raises :class:`InputError` for modules that mix the examples
    of a batch (BatchNorm, padding would leak), draw at random (dropout) or that vmap cannot batch
    (LSTM, GRU): those need ``trainer: loop``.
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
        memory_budget_bytes: int,
        n_threads: int = 1,
    ) -> None:
        super().__init__(
            model=model,
            data=data,
            local=local,
            server_optimizer=server_optimizer,
            loss=loss,
            max_staleness=max_staleness,
            seed=seed,
            metrics=metrics,
            n_threads=n_threads,
        )
        if memory_budget_bytes <= 0:
            raise InputError("memory_budget_bytes", value=memory_budget_bytes, allowed="> 0")
        self._memory_budget_bytes = memory_budget_bytes
        self._gradients = vmap(grad_and_value(self._batch_loss))
        self._check_can_batch()
        self._activations = self._saved_floats()
        step_activations = local.batch_size * self._activations
        self._largest_block = min(
            BLOCK_PARAMETERS // self.layout.n_parameters, BLOCK_ACTIVATIONS // max(step_activations, 1)
        )
        self._model_bytes = FLOAT_BYTES * (3 * self.layout.n_parameters + 2 * step_activations)
        x = self._held_out[0]
        self._example_bytes = x.nbytes // len(x) + PLAN_BYTES * local.epochs

    def _local_work(self, updates: Updates, n_examples: IntArray) -> tuple[torch.Tensor, FloatArray]:
        direction = torch.zeros_like(self.versions.newest)
        loss_sums = np.empty(len(updates))
        is_single = self.local.n_steps(n_examples) == 1
        for rows in self._one_step_groups(updates, n_examples, np.flatnonzero(is_single)):
            loss_sums[rows] = self._one_step(updates.take(rows), direction)
        for rows in self._blocks(n_examples, np.flatnonzero(~is_single)):
            if len(rows) < MIN_BLOCK:
                part, loss_sums[rows] = super()._local_work(updates.take(rows), n_examples[rows])
                direction += part
            else:
                loss_sums[rows] = self._block(updates.take(rows), n_examples[rows], direction)
        return direction, loss_sums

    def _one_step_groups(self, updates: Updates, n_examples: IntArray, rows: IntArray) -> Iterator[IntArray]:
        """Rows of one version each, few enough examples to fit the budget."""
        bytes_each = 2 * FLOAT_BYTES * self._activations + self._example_bytes
        most = min(self._memory_budget_bytes // bytes_each, BLOCK_ACTIVATIONS // max(self._activations, 1))
        for version in np.unique(updates.versions[rows]):
            same = rows[updates.versions[rows] == version]
            group = (np.cumsum(n_examples[same]) - 1) // max(most, 1)
            yield from np.split(same, np.flatnonzero(np.diff(group)) + 1)

    def _one_step(self, updates: Updates, direction: torch.Tensor) -> FloatArray:
        """Add clients whose local work is one step from the same version; their summed losses."""
        self.layout.load(self.versions.get(int(updates.versions[0])))
        examples = self.data.fetch(updates.client_ids)
        share = np.repeat(updates.weights / examples.n_examples, examples.n_examples)
        losses = self.loss.per_example(self.model(torch.from_numpy(examples.x)), torch.from_numpy(examples.y))
        objective = losses @ torch.from_numpy(share.astype(np.float32))
        gradients = torch.autograd.grad(objective, list(self.layout.parameters.values()), materialize_grads=True)
        for total, gradient in zip(self.layout.split(direction[None]).values(), gradients, strict=True):
            total[0].sub_(gradient, alpha=self.local.learning_rate)
        return np.add.reduceat(losses.detach().double().numpy(), examples.offsets[:-1])

    def _blocks(self, n_examples: IntArray, rows: IntArray) -> Iterator[IntArray]:
        """Rows in blocks of clients of similar size that fit cache and budget, the largest clients first."""
        rows = rows[np.argsort(-n_examples[rows], kind="stable")]
        while len(rows):
            client_bytes = self._model_bytes + int(n_examples[rows[0]]) * self._example_bytes
            size = max(1, min(self._largest_block, self._memory_budget_bytes // client_bytes))
            yield rows[:size]
            rows = rows[size:]

    def _block(self, updates: Updates, n_examples: IntArray, direction: torch.Tensor) -> FloatArray:
        """Add a block of clients sorted by falling size; their summed losses, float64[n]."""
        examples = self.data.fetch(updates.client_ids)
        x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        plan = self.local.batches(n_examples, updates.seeds)
        first_row = examples.offsets[:-1, None]
        versions, which = np.unique(updates.versions, return_inverse=True)
        owner = torch.from_numpy(which)
        start = self.layout.split(torch.stack([self.versions.get(int(v)) for v in versions]))
        models = {name: stack[owner] for name, stack in start.items()}
        loss_sums = np.zeros(len(updates))
        for batch in plan.swapaxes(0, 1):
            n_batch = (batch >= 0).sum(axis=1)
            n_active = int((n_batch > 0).sum())  # those still at work come first
            step = self._steps_alone if n_active < MIN_BLOCK else self._steps_together
            rows = first_row[:n_active] + batch[:n_active, : n_batch.max()]
            loss_sums[:n_active] += step(models, x, y, rows, n_batch[:n_active])
        weights = torch.from_numpy(updates.weights.astype(np.float32))
        for name, total in self.layout.split(direction[None]).items():
            total[0] += torch.tensordot(weights, models[name].sub_(start[name][owner]), 1)
        return loss_sums

    def _steps_together(
        self, models: Models, x: torch.Tensor, y: torch.Tensor, rows: IntArray, n_batch: IntArray
    ) -> FloatArray:
        """One step of each of the first models on its row of examples, in place; their summed losses before it."""
        is_example = np.arange(rows.shape[1]) < n_batch[:, None]
        share = torch.from_numpy((is_example / n_batch[:, None]).astype(np.float32))
        batch = torch.from_numpy(np.where(is_example, rows, rows[:, :1]))  # padding repeats the first, with share 0
        active = {name: stack[: len(rows)] for name, stack in models.items()}
        gradients, losses = self._gradients(active, x[batch], y[batch], share)
        for name, stack in active.items():
            stack.sub_(gradients[name], alpha=self.local.learning_rate)
        summed: FloatArray = n_batch * losses.double().numpy()
        return summed

    def _steps_alone(
        self, models: Models, x: torch.Tensor, y: torch.Tensor, rows: IntArray, n_batch: IntArray
    ) -> FloatArray:
        """The same for the last few clients at work, one after the other in the module itself."""
        summed = np.empty(len(rows))
        for i, n in enumerate(n_batch):
            batch = torch.from_numpy(rows[i, :n])
            own = [(parameter, models[name][i]) for name, parameter in self.layout.parameters.items()]
            with torch.no_grad():
                for parameter, value in own:
                    parameter.copy_(value)
            summed[i] = n * self._sgd_step(x[batch], y[batch])
            for parameter, value in own:
                value.copy_(parameter.detach())
        return summed

    def _batch_loss(self, parameters: Models, x: torch.Tensor, y: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """The loss of one client's batch; ``share`` is 1 / batch size, 0 for padding."""
        outputs = functional_call(self.model, parameters, (x,))
        return (self.loss.per_example(outputs, y) * share).sum()

    def _check_can_batch(self) -> None:
        """Refuse what would be wrong or impossible in a stack, by name where known, else by trying."""
        for name, module in self.model.named_modules():
            if isinstance(module, UNSUITABLE) and getattr(module, "p", 1) > 0:
                what = f"module {name!r} ({type(module).__name__}) cannot be trained by the cohort trainer"
                raise InputError(what, allowed="trainer: loop")
        x, y = self._probe()
        models = {name: torch.stack([p.detach()] * 2) for name, p in self.layout.parameters.items()}
        self.model.train()
        try:
            self._gradients(models, torch.stack([x] * 2), torch.stack([y] * 2), torch.full((2, 2), 0.5))
        except RuntimeError as error:
            what = f"model {type(self.model).__name__} cannot be trained by the cohort trainer ({error})"
            raise InputError(what, allowed="trainer: loop") from error

    def _saved_floats(self) -> int:
        """Numbers that a backward pass keeps for each example: two examples' minus one's."""
        x, y = self._probe()
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            self.loss.per_example(self.model(x[:1]), y[:1])
            one = sum(sizes)
            self.loss.per_example(self.model(x), y)
        return sum(sizes) - 2 * one
