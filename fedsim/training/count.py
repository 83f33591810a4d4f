"""The work of a model, counted with torch for the laws of training time (a lazy door: it imports torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedsim.training.flat import Layout, build_model
from fedsim.training.flops import StepCount, count_step, example_batch
from fedsim.training.loss import Loss
from fedsim.training.model_work import FLOAT_BYTES, ExampleKind, ModelWork


def counted(
    module: Callable[[], Any], *, seed: int, example: ExampleKind, batch_size: int, loss: str | Loss
) -> ModelWork:
    """The work of a ``torch.nn.Module`` on such examples, from one step on a batch."""
    model = build_model(module, seed=seed)
    batch = example_batch(model, **vars(example), batch_size=batch_size)
    return model_work(model, count_step(model, batch, loss=loss))


def model_work(model: Any, step: StepCount) -> ModelWork:
    """A counted step as the laws of training time read it."""
    return ModelWork(
        name=model_name(model),
        n_numbers=len(Layout(model).flatten()),
        depth=sum(max(layer.n_steps, 1) for layer in step.layers),
        forward_flops=step.forward_flops,
        training_flops=step.training_flops,
        lookup_bytes=step.lookup_bytes,
        trained_bytes=FLOAT_BYTES * step.n_trained,
        layers=step.layers,
    )


def model_name(model: Any) -> str:
    """The model's class and size, under which its measured steps are found again."""
    return f"{type(model).__name__}-{sum(p.numel() for p in model.parameters())}"
