"""What a task costs on every kind of phone: seconds, memory, bytes, joules, battery, and whether that is allowed.

Numbers in, a table out. What the model computes is counted elsewhere (:mod:`fedsim.training.flops`), how fast a
phone computes it is said by a law (:mod:`fedsim.device.compute`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.cost.phones import PhoneClasses
from fedsim.data import passes
from fedsim.device.energy import Energy
from fedsim.device.network import Transfer, Transfers
from fedsim.device.session import Throttling
from fedsim.errors import InputError
from fedsim.schema import NETWORKS, Column, Table
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

_GB = 1e9
_F64, _I64, _STR = pa.float64(), pa.int64(), pa.string()

VERDICTS = ("yes", "no", "unknown")
LIMITS = ("ram", "time", "battery")
DEVICE_COSTS = Table(
    "device costs",
    "one participation per device class, the first of a phone (assets are downloaded with it)",
    (
        Column("model", _STR, "device class", True),
        Column("share", _F64, "share of the population"),
        Column("inference_ms_per_sample", _F64, "inference latency of the benchmark model", True),
        Column("latency_source", _STR, "how the latency is known", True),
        Column("ram_gb", _F64, "memory", True),
        Column("n_examples", _I64, "examples of one local epoch"),
        Column("epoch_flops", _F64, "forward and backward FLOPs of one local epoch"),
        Column("epoch_s", _F64, "duration of one local epoch", True),
        Column("train_s", _F64, "duration of local training", True),
        Column("connect_s", _F64, "duration of connecting and of the round trips before both transfers"),
        Column("download_s", _F64, "duration of the download of model, plan and shipped features"),
        Column("assets_s", _F64, "duration of the download of assets"),
        Column("upload_s", _F64, "duration of the upload"),
        Column("session_s", _F64, "duration of all of these, of connecting and of round trips", True),
        Column("memory_bytes", _I64, "peak memory"),
        Column("ram_fraction", _F64, "peak memory ÷ memory", True),
        Column("download_bytes", _I64, "model, plan and shipped features"),
        Column("assets_bytes", _I64, "static assets, downloaded once"),
        Column("upload_bytes", _I64, "the update"),
        Column("storage_bytes", _I64, "model, assets and examples on the phone"),
        Column("compute_j", _F64, "energy of training", True),
        Column("radio_j", _F64, "energy of the transfers", True),
        Column("battery_percent", _F64, "share of a full battery", True),
        Column("is_feasible", _STR, "yes, no, or unknown: what is known is allowed"),
        Column("exceeds", _STR, "limits that are exceeded, of " + " ".join(LIMITS)),
    ),
)


@dataclass(frozen=True)
class TaskWork:
    """What one participation computes, moves and keeps; ``training_flops`` are those of one example.

    ``memory_bytes`` is the peak of training.
    """

    n_examples: int
    epochs: int
    batch_size: int
    training_flops: float
    memory_bytes: int
    download_bytes: int
    upload_bytes: int
    assets_bytes: int
    storage_bytes: int
    local_steps: int | None = None

    @property
    def n_visits(self) -> int:
        """Examples seen, one as often as it is visited."""
        return int(passes.n_visits(self.n_examples, **self._plan))

    @property
    def n_steps(self) -> int:
        """Optimiser steps."""
        return int(passes.n_steps(self.n_examples, **self._plan))

    @property
    def _plan(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "batch_size": self.batch_size, "local_steps": self.local_steps}


class MedianCompute(Protocol):
    """A law of training time without the spread between sessions."""

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds on each device (here: class), ``float64[n]``; NaN where the law cannot tell."""
        ...


@dataclass(frozen=True)
class Conditions:
    """The parts of a device model as a run has them, built for the classes, and the network type they are on."""

    compute: MedianCompute
    network: Transfers
    energy: Energy
    network_type: str
    battery_capacity_wh: float
    throttled: Throttling

    def __post_init__(self) -> None:
        if not self.battery_capacity_wh > 0:
            raise InputError("cost.battery_capacity_wh", value=self.battery_capacity_wh, allowed="> 0")


@dataclass(frozen=True)
class Limits:
    """What a participation may take of a phone."""

    max_ram_fraction: float
    max_session_s: float
    max_battery_percent: float

    def __post_init__(self) -> None:
        for name in ("max_ram_fraction", "max_session_s", "max_battery_percent"):
            if not getattr(self, name) > 0:
                raise InputError(f"cost.limits.{name}", value=getattr(self, name), allowed="> 0")


@dataclass(frozen=True)
class Trip:
    """Seconds of a participation's parts on each class, ``float64[n]``; the radio connects and makes round trips."""

    train_s: FloatArray
    connect_s: float
    round_trips_s: FloatArray  # before each of the two transfers
    download_s: FloatArray
    assets_s: FloatArray
    upload_s: FloatArray

    @classmethod
    def of(cls, task: TaskWork, n: int, conditions: Conditions) -> Self:
        """The trip of the median session: nothing is drawn, and the network does not change on the way."""
        ids, begin_s, network = np.arange(n), np.zeros(n), conditions.network
        level = network.typical_level(ids)

        def moved_s(transfer: Callable[..., Transfer], size: int) -> FloatArray:
            return transfer(None, ids, begin_s, size, level)[0]

        round_trips_s = moved_s(network.download, 0)
        train_s = conditions.compute.median_s(ids, np.full(n, task.n_visits), np.full(n, task.n_steps))
        return cls(
            train_s=conditions.throttled(train_s),
            connect_s=network.connect_s,
            round_trips_s=round_trips_s,
            download_s=moved_s(network.download, task.download_bytes) - round_trips_s,
            assets_s=moved_s(network.download, task.assets_bytes) - round_trips_s,
            upload_s=moved_s(network.upload, task.upload_bytes) - round_trips_s,
        )

    @property
    def receive_s(self) -> FloatArray:
        """The radio's seconds before training."""
        seconds: FloatArray = self.connect_s + self.round_trips_s + self.download_s + self.assets_s
        return seconds

    @property
    def send_s(self) -> FloatArray:
        """The radio's seconds after training."""
        seconds: FloatArray = self.round_trips_s + self.upload_s
        return seconds


def device_costs(task: TaskWork, phones: PhoneClasses, *, conditions: Conditions, limits: Limits) -> pa.Table:
    """One row per device class (:data:`DEVICE_COSTS`), from the quickest to the slowest session, unknown ones last."""
    trip = Trip.of(task, len(phones.share), conditions)
    columns = _of_phones(task, phones) | _of_trip(task, trip) | _energies(trip, conditions)
    verdict, exceeds = _verdicts(columns["ram_fraction"], columns["session_s"], columns["battery_percent"], limits)
    columns |= {"is_feasible": verdict, "exceeds": exceeds}
    order = np.argsort(columns["session_s"], kind="stable")
    arrays = [pa.array(columns[c.name][order], c.type, from_pandas=True) for c in DEVICE_COSTS.columns]
    return DEVICE_COSTS.check(pa.table(arrays, names=[c.name for c in DEVICE_COSTS.columns]), where="device costs")


def _of_phones(task: TaskWork, phones: PhoneClasses) -> dict[str, Any]:
    """What is known of the classes, and what the task asks of each alike."""
    sizes = {name: getattr(task, name) for name in _SIZES}
    alike = {"n_examples": task.n_examples, "epoch_flops": task.training_flops * task.n_examples, **sizes}
    return {
        "model": np.array(phones.models, dtype=object),
        "share": phones.share,
        "inference_ms_per_sample": phones.latency_ms,
        "latency_source": np.array(phones.latency_source, dtype=object),
        "ram_gb": phones.ram_gb,
        "ram_fraction": task.memory_bytes / (phones.ram_gb * _GB),
        **{name: np.full(len(phones.share), value) for name, value in alike.items()},
    }


_SIZES = ("memory_bytes", "download_bytes", "assets_bytes", "upload_bytes", "storage_bytes")


def _of_trip(task: TaskWork, trip: Trip) -> dict[str, FloatArray]:
    return {
        "epoch_s": trip.train_s / task.epochs,
        "train_s": trip.train_s,
        "connect_s": trip.connect_s + 2.0 * trip.round_trips_s,
        "download_s": trip.download_s,
        "assets_s": trip.assets_s,
        "upload_s": trip.upload_s,
        "session_s": trip.receive_s + trip.train_s + trip.send_s,
    }


def _energies(trip: Trip, conditions: Conditions) -> dict[str, FloatArray]:
    ids, energy = np.arange(len(trip.train_s)), conditions.energy
    codes = np.full(len(ids), NETWORKS.index(conditions.network_type), dtype=np.int8)
    compute_j = energy.compute_watts(ids) * trip.train_s
    radio_j = energy.receive_watts(ids, codes) * trip.receive_s + energy.send_watts(ids, codes) * trip.send_s
    capacity_j = conditions.battery_capacity_wh * HOUR_S
    return {"compute_j": compute_j, "radio_j": radio_j, "battery_percent": 100 * (compute_j + radio_j) / capacity_j}


def _verdicts(
    ram_fraction: FloatArray, session_s: FloatArray, battery_percent: FloatArray, limits: Limits
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Feasible or not, and the limits that are exceeded; an unknown figure exceeds nothing and assures nothing."""
    figures = (
        (ram_fraction, limits.max_ram_fraction),
        (session_s, limits.max_session_s),
        (battery_percent, limits.max_battery_percent),
    )
    is_over: list[BoolArray] = [figure > most for figure, most in figures]
    is_unknown = np.any([np.isnan(figure) for figure, _ in figures], axis=0)
    exceeds = np.full(len(session_s), "", dtype=object)
    for name, over in zip(LIMITS, is_over, strict=True):
        exceeds[over] = [f"{text} {name}".strip() for text in exceeds[over]]
    verdict = np.where(np.any(is_over, axis=0), "no", np.where(is_unknown, "unknown", "yes")).astype(object)
    return verdict, exceeds
