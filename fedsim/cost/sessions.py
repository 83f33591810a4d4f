"""Sessions of kinds of phone, planned by the very code of a run: nothing cuts them short, their network stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.cost.phones import PhoneClasses
from fedsim.device.compute import PhoneCompute
from fedsim.device.session import Device, Sessions
from fedsim.device.spent import Spent
from fedsim.device.work import Work
from fedsim.device.world import World
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import Windows
from fedsim.traces.rule import Rule
from fedsim.units import DAY_MS, BoolArray, FloatArray, IntArray

_ONE, _NONE = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class PlannedSessions:
    """Sessions as columns of length n; NaN where it is not known how long the phone trains."""

    of_class: IntArray
    n_examples: IntArray
    download_s: FloatArray  # connecting, round trips, and all that is downloaded
    train_s: FloatArray
    upload_s: FloatArray
    session_s: FloatArray
    download_bytes: IntArray
    upload_bytes: IntArray
    download_j: FloatArray
    compute_j: FloatArray
    upload_j: FloatArray


def planned(work: Work, phones: PhoneClasses, device: Device, n_examples: IntArray) -> PlannedSessions:
    """The first session of ``phones.n_each`` devices of each class, ``n_examples`` being those of each device.

    The device model must not interrupt, crash or time out.
    """
    ids = np.arange(phones.n_devices)
    world, known = _always_on(device, phones.n_devices), _known(device, work, ids, n_examples)
    rows, spent = _planned(world, work, ids[known], n_examples[known])

    def whole(column: FloatArray) -> FloatArray:
        full = np.full(len(ids), np.nan)
        full[known] = column
        return full

    return PlannedSessions(
        of_class=phones.row_of(ids),
        n_examples=n_examples,
        download_s=whole(rows["download_end_at"] - rows["assigned_at"]),
        train_s=whole(rows["train_end_at"] - rows["download_end_at"]),
        upload_s=whole(rows["upload_end_at"] - rows["train_end_at"]),
        session_s=whole(rows["upload_end_at"] - rows["assigned_at"]),
        download_bytes=work.full_sizes(n_examples),
        upload_bytes=np.full(len(ids), work.upload_bytes),
        download_j=whole(spent.download_j),
        compute_j=whole(spent.compute_j),
        upload_j=whole(spent.upload_j),
    )


def _planned(world: World, work: Work, ids: IntArray, n_examples: IntArray) -> tuple[Sessions, Spent]:
    rows = world.plan(
        ids,
        world.fleet.cell_of(ids),
        work=work,
        at=np.zeros(len(ids)),
        until=np.full(len(ids), np.inf),
        k=np.zeros(len(ids), dtype=np.int32),
        n_examples=n_examples,
        download_bytes=work.full_sizes(n_examples),
    )
    return rows, world.spent(rows, work)


def _known(device: Device, work: Work, ids: IntArray, n_examples: IntArray) -> BoolArray:
    """Of which devices the law can tell how long they train."""
    law = device.compute
    if not isinstance(law, PhoneCompute):
        return np.ones(len(ids), dtype=bool)
    return np.isfinite(law.median_s(ids, work.n_visits(n_examples), work.n_steps(n_examples)))


def _always_on(device: Device, n: int) -> World:
    """A world in which every device is eligible at all times, on the network that the device model assumes."""
    nothing = Events(_NONE, _NONE.astype(np.int8), _NONE.astype(np.float32), _NONE.astype(bool))
    one = TraceSet(np.array(["0"], dtype=object), _ONE, _ONE + DAY_MS, _ONE.astype(bool), {}, np.zeros(2, int), nothing)
    windows = Windows(np.array([0, 1]), _ONE, _ONE + DAY_MS, _ONE + DAY_MS, _ONE, _ONE.astype(bool))
    return World(Rule.parse("charging"), device, Availability(Fleet(one, n_devices=n, seed=0), windows))
