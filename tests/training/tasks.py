"""Small tasks and promised updates for the tests of training."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from fedsim.data.clients import Array, ArrayClients
from fedsim.data.partition import ends
from fedsim.training.local import LocalSgd
from fedsim.training.loop import LoopTrainer
from fedsim.training.server_optimizer import FedAvg, ServerOptimizer
from fedsim.training.tasks.models import ClickModel, Logistic, Mlp
from fedsim.training.trainer import Updates

UNEQUAL = [1, 2, 3, 90, 31, 4, *(4 + 7 * i % 13 for i in range(26))]  # 32 clients


def clients(sizes: list[int], *, ids: bool = False, picture: bool = False) -> ArrayClients:
    """Random examples: 12 features, 8×8 pictures or 5 fields of 6 ids; 3 classes (2 for ids)."""
    rng = np.random.default_rng(0)
    total = sum(sizes) + 20
    if ids:
        x: Array = rng.integers(0, 6, (total, 5)) + 6 * np.arange(5)
    else:
        x = rng.normal(size=(total, 8, 8) if picture else (total, 12)).astype(np.float32)
    y = rng.integers(0, 2 if ids else 3, total)
    order, held_out = np.arange(sum(sizes)), (x[-20:], y[-20:])
    return ArrayClients(x, y, order=order, offsets=ends(np.array(sizes)), held_out=held_out)


class Convolution(nn.Module):
    """8×8 pictures, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 4, 3, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.output = nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.norm(self.maps(x.unsqueeze(1)))).flatten(1))  # type: ignore[no-any-return]


logistic = partial(Logistic, n_inputs=12, n_classes=3)
mlp = partial(Mlp, n_inputs=12, n_hidden=9, n_classes=3)
click_model = partial(ClickModel, n_values=30, n_fields=5, n_factors=3, n_hidden=7)


def trainer(
    model: Callable[[], nn.Module],
    data: ArrayClients,
    *,
    kind: Callable[..., LoopTrainer] = LoopTrainer,
    loss: str = "cross_entropy",
    local: LocalSgd | None = None,
    server_optimizer: ServerOptimizer | None = None,
    metrics: tuple[str, ...] = ("accuracy",),
    max_staleness: int = 3,
    seed: int = 1,
    **more: int,
) -> LoopTrainer:
    """A trainer with settings that most tests share."""
    return kind(
        model=model,
        data=data,
        local=local or LocalSgd(learning_rate=0.1, epochs=2, batch_size=4),
        server_optimizer=server_optimizer or FedAvg(),
        loss=loss,
        max_staleness=max_staleness,
        seed=seed,
        metrics=metrics,
        **more,
    )


def updates(client_ids: list[int], versions: list[int] | None = None, *, seed: int = 0) -> Updates:
    """Updates of these clients with unequal weights that sum to one, and seeds of their own."""
    n = len(client_ids)
    weights = np.arange(1.0, n + 1)
    return Updates(
        client_ids=np.array(client_ids, dtype=np.int64),
        versions=np.array(versions or [0] * n, dtype=np.int64),
        weights=weights / weights.sum(),
        seeds=np.arange(n, dtype=np.uint64) + np.uint64(1000 * seed),
    )
