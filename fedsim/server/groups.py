"""Whom a model serves: its held-out metrics by groups of phones, told when a run ends.

Devices are drawn from the fleet, each with the held-out examples of the client whose data it holds; a group is the
devices that are alike in one respect, and its examples count as often as its devices hold them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedsim import rng
from fedsim.data.clients import ClientData, positions_in_runs
from fedsim.data.partition import ends
from fedsim.device.world import World
from fedsim.errors import InputError
from fedsim.fleet.participation import Participation
from fedsim.log import RowLog
from fedsim.server.task import GROUPINGS, Evaluation, Task
from fedsim.training.trainer import Measured
from fedsim.units import DAY_S, FloatArray, IntArray

_THIRDS = (1 / 3, 2 / 3)
_LONG_S = 28 * DAY_S  # over which a phone's eligible share is taken


@dataclass(frozen=True)
class Sampled:
    """Devices drawn from the fleet, those that hold a client's data: columns of length n."""

    ids: IntArray
    cells: IntArray
    clients: IntArray


def check_groups(evaluation: Evaluation, data: ClientData) -> None:
    """Refuse groups that cannot be told: the data must know whose each held-out example is."""
    if evaluation.groups and not _knows_whose(data):
        what = "evaluation.groups: it is not known of which client the held-out examples are"
        raise InputError(what, value=type(data).__name__, allowed="data with held_out_clients, [] otherwise")


def _knows_whose(data: ClientData) -> bool:
    whose = getattr(data, "held_out_clients", None)
    return whose is not None and bool((np.asarray(whose) >= 0).any())


def log_groups(
    log: RowLog, task: Task, world: World, participation: Participation, *, at: float, version: int,
    measured: Measured, central: Measured | None, seed: int,
) -> None:  # fmt: skip
    """Add a row for each group and metric; metrics that are not defined for a group are null."""
    sampled = _sampled(world, task, seed)
    whose = np.asarray(getattr(task.clients, "held_out_clients"))  # noqa: B009
    for grouping in task.evaluation.groups:
        for group, devices in _GROUPS[grouping](sampled, world, task, participation):
            rows = _held_out_rows(whose, sampled.clients[devices], task.clients.n_clients)
            found = measured.values(rows) if len(rows) else {}
            of_central = central.values(rows) if central is not None and len(rows) else {}
            for metric, value in found.items():
                log.add(
                    at=at, version=version, grouping=grouping, group=group, n_devices=len(devices),
                    n_examples=len(rows), metric=metric, value=_known(value),
                    central_value=_known(of_central.get(metric, math.nan)),
                )  # fmt: skip


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sampled(world: World, task: Task, seed: int) -> Sampled:
    n = world.fleet.n_devices
    wanted = task.evaluation.n_group_devices
    ids = np.arange(n) if n <= wanted else rng.integers(seed, "group devices", np.arange(wanted), n)
    clients = task.holders.client_of(ids)
    ids, clients = ids[clients >= 0], clients[clients >= 0]
    return Sampled(ids, world.fleet.cell_of(ids), clients)


def _held_out_rows(whose: IntArray, clients: IntArray, n_clients: int) -> IntArray:
    """The held-out examples of these clients, as often as a client is named."""
    order = np.argsort(whose, kind="stable")
    order = order[np.searchsorted(whose[order], 0) :]
    offsets = ends(np.bincount(whose[order], minlength=n_clients))
    lengths = offsets[clients + 1] - offsets[clients]
    rows: IntArray = order[np.repeat(offsets[clients], lengths) + positions_in_runs(lengths)]
    return rows


Group = tuple[str, IntArray]  # its name, and the places of its devices in the sample


def _by_tier(sampled: Sampled, world: World, task: Task, _: Participation) -> Iterator[Group]:
    """Thirds of the phones by the time that the same work takes them."""
    ids, compute = sampled.ids, world.device.compute
    every = np.arange(min(task.clients.n_clients, 1000))
    n_examples = np.full(len(ids), int(np.median(task.clients.n_examples(every))))
    work = (task.work.n_visits(n_examples), task.work.n_steps(n_examples))
    median_s: Callable[..., FloatArray] | None = getattr(compute, "median_s", None)
    seconds = compute.train_s(ids, np.zeros(len(ids), np.int32), *work) if median_s is None else median_s(ids, *work)
    return _thirds(seconds, ("fast phones", "middling phones", "slow phones"))


def _by_region(sampled: Sampled, world: World, _: Task, __: Participation) -> Iterator[Group]:
    where = world.fleet.region_of(sampled.cells)
    for number, name in enumerate(world.fleet.regions):
        yield name, np.flatnonzero(where == number)


def _by_activity(sampled: Sampled, world: World, _: Task, __: Participation) -> Iterator[Group]:
    """Phones that are never eligible, and thirds of the others by how much of the time they are."""
    cells, place = np.unique(sampled.cells, return_inverse=True)
    share = (world.availability.open_s(cells, 0.0, _LONG_S) / _LONG_S)[place]
    yield "never eligible", np.flatnonzero(share == 0)
    some = np.flatnonzero(share > 0)
    for name, devices in _thirds(share[some], ("seldom eligible", "sometimes eligible", "often eligible")):
        yield name, some[devices]


def _by_size(sampled: Sampled, _: World, task: Task, __: Participation) -> Iterator[Group]:
    n_examples = task.clients.n_examples(sampled.clients).astype(np.float64)
    return _thirds(n_examples, ("few examples", "middling number of examples", "many examples"))


def _by_participation(sampled: Sampled, _: World, __: Task, participation: Participation) -> Iterator[Group]:
    took_part = participation.participated_at(sampled.ids) > -np.inf  # an update that waits in a buffer counts too
    yield "took part", np.flatnonzero(took_part)
    yield "never took part", np.flatnonzero(~took_part)


def _thirds(values: FloatArray, names: Sequence[str]) -> Iterator[Group]:
    """By the thirds' bounds; equal values stay together, so that groups may differ in size."""
    if not len(values):
        return
    bounds = np.quantile(values, _THIRDS, method="inverted_cdf")
    which = np.searchsorted(bounds, values, side="left")
    for number, name in enumerate(names):
        yield name, np.flatnonzero(which == number)


_GROUPS: Mapping[str, Callable[[Sampled, World, Task, Participation], Iterator[Group]]] = dict(
    zip(GROUPINGS, (_by_tier, _by_region, _by_activity, _by_size, _by_participation), strict=True)
)
