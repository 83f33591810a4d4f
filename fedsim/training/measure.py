"""Time a model on the machine at hand: inference and training steps, repeats, threads, peak memory.

Every batch size runs in a fresh process, so that its peak of memory is its own. A farm of phones runs the same
steps and delivers the same rows (:data:`fedsim.schema.PROFILES`); a computer's rows are for trying it out.
"""

from __future__ import annotations

import multiprocessing
import pickle
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from fedsim.errors import InputError
from fedsim.schema import PROFILES
from fedsim.training.flops import batch_loss, example_batch
from fedsim.training.loss import Loss
from fedsim.training.model_work import ExampleKind

_STATUS, _CPUS = Path("/proc/self/status"), Path("/proc/cpuinfo")
_STEP_SIZE = 1e-6  # of the timed update; so small that nothing diverges while the clock runs


@dataclass(frozen=True)
class Schedule:
    """How a model is timed: for every batch size ``warm_up`` untimed and ``repeats`` timed steps of each kind."""

    batch_sizes: Sequence[int]
    warm_up: int
    repeats: int
    n_threads: int

    def __post_init__(self) -> None:
        for name, least in (("warm_up", 0), ("repeats", 1), ("n_threads", 1)):
            if getattr(self, name) < least:
                raise InputError(f"cost.measure.{name}", value=getattr(self, name), allowed=f"{least} or more")
        if len(set(self.batch_sizes)) < 2 or min(self.batch_sizes) < 1:
            allowed = "two or more: one cannot tell the fixed cost of a step"
            raise InputError("cost.measure.batch_sizes", value=list(self.batch_sizes), allowed=allowed)


@dataclass(frozen=True)
class Timing:
    """What a fresh process needs to know: the pickled model, its loss, and what an example looks like."""

    model: bytes
    loss: str | Loss
    example: ExampleKind
    schedule: Schedule


def measure(model: nn.Module, *, op: str, loss: str | Loss, example: ExampleKind, schedule: Schedule) -> pa.Table:
    """Rows of :data:`fedsim.schema.PROFILES`, one for every timed step, with ``op`` as the name of the model.

    ``peak_bytes`` is null where the system does not tell (it is read from ``/proc``).
    Raises :class:`InputError` for a model that cannot be sent to another process.
    """
    try:
        packed = pickle.dumps(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the model cannot be sent to a fresh process ({error})", value=type(model).__name__
        ) from error
    job = Timing(packed, loss, example, schedule)
    named = {"device": cpu_name(), "op": op}
    rows = [named | row for size in schedule.batch_sizes for row in _in_fresh_process(job, size)]
    return pa.Table.from_pylist(rows, PROFILES.arrow())


def cpu_name() -> str:
    """The processor of this machine."""
    if _CPUS.exists():
        for line in _CPUS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def time_batch(job: Timing, batch_size: int) -> list[dict[str, Any]]:
    """The timed steps of one batch size in this process: first inference, then training."""
    torch.set_num_threads(job.schedule.n_threads)
    torch.ones(64, 64).mm(torch.ones(64, 64))  # what a library sets up once is no cost of the model
    idle_bytes = _memory_bytes("VmRSS")
    model = pickle.loads(job.model)
    x = example_batch(model, **vars(job.example), batch_size=batch_size)
    rows: list[dict[str, Any]] = []
    for kind, step in (("inference", _inference), ("train_step", _train_step)):
        times = _timed(partial(step, model, x, job.loss), job.schedule)
        peak_bytes = _memory_bytes("VmHWM")
        told = {
            "kind": kind,
            "batch_size": batch_size,
            "peak_bytes": None if peak_bytes is None or idle_bytes is None else peak_bytes - idle_bytes,
            "n_threads": job.schedule.n_threads,
        }
        rows += [told | {"step_s": step_s} for step_s in times]
    return rows


def _in_fresh_process(job: Timing, batch_size: int) -> list[dict[str, Any]]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(time_batch, job, batch_size).result()
        except BrokenProcessPool as error:
            what = "the measuring process died, perhaps for want of memory, at batch size"
            raise InputError(what, value=batch_size) from error


def _timed(step: Callable[[], None], schedule: Schedule) -> list[float]:
    """Seconds of each timed call."""
    for _ in range(schedule.warm_up):
        step()
    times = []
    for _ in range(schedule.repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def _inference(model: nn.Module, x: torch.Tensor, _loss: str | Loss) -> None:
    model.eval()
    with torch.no_grad():
        model(x)


def _train_step(model: nn.Module, x: torch.Tensor, loss: str | Loss) -> None:
    """Forward, backward, one step of plain SGD."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(batch_loss(model(x), loss), trained, materialize_grads=True)
    with torch.no_grad():
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.sub_(gradient, alpha=_STEP_SIZE)


def _memory_bytes(field: str) -> int | None:
    """A line of the process's status: VmRSS is the memory held now, VmHWM the most ever held."""
    if not _STATUS.exists():
        return None
    lines = {name: value for name, _, value in (line.partition(":") for line in _STATUS.read_text().splitlines())}
    return int(lines[field].split()[0]) * 1024 if field in lines else None
