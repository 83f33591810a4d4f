"""What a task costs on every kind of phone: seconds, memory, bytes, joules, battery, and whether that is allowed.

Numbers in, tables out. What the model computes is counted elsewhere (:mod:`fedsim.training.flops`), how fast a
phone computes it is said by a law (:mod:`fedsim.device.compute`), sessions are planned as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.cost.phones import PhoneClasses
from fedsim.cost.sessions import PlannedSessions, planned
from fedsim.device.session import Device
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.schema import Column, Table
from fedsim.units import HOUR_S, BoolArray, FloatArray, IntArray

_GB = 1e9
_F64, _I64, _STR = pa.float64(), pa.int64(), pa.string()

VERDICTS = ("yes", "no", "unknown")
LIMITS = ("ram", "time", "battery")
_SESSION = (
    Column("n_examples", _F64, "examples on the phone"),
    Column("epoch_flops", _F64, "forward and backward FLOPs of one pass over them"),
    Column("epoch_s", _F64, "duration of local training ÷ epochs", True),
    Column("train_s", _F64, "duration of local training", True),
    Column("download_s", _F64, "duration of connecting, round trips and everything that is downloaded", True),
    Column("upload_s", _F64, "duration of round trips and the upload", True),
    Column("session_s", _F64, "duration of all of these", True),
    Column("ram_fraction", _F64, "peak memory ÷ memory", True),
    Column("download_bytes", _F64, "model, plan, shipped features, and the assets of a first session"),
    Column("upload_bytes", _F64, "the update"),
    Column("storage_bytes", _F64, "model, assets and examples on the phone"),
    Column("compute_j", _F64, "energy of training", True),
    Column("radio_j", _F64, "energy of the transfers", True),
    Column("battery_percent", _F64, "share of a full battery", True),
    Column("is_feasible", _STR, "yes, no, or unknown: what is known is allowed"),
    Column("exceeds", _STR, "limits that are exceeded, of " + " ".join(LIMITS)),
)
DEVICE_COSTS = Table(
    "device costs",
    "one row per device class: medians over first sessions of its phones, each figure by itself",
    (
        Column("model", _STR, "device class", True),
        Column("share", _F64, "share of the population"),
        Column("inference_ms_per_sample", _F64, "inference latency of the benchmark model", True),
        Column("latency_source", _STR, "how the latency is known", True),
        Column("ram_gb", _F64, "memory", True),
        Column("memory_bytes", _I64, "peak memory of training"),
        Column("feasible_fraction", _F64, "share of the sessions that are within all limits"),
        *_SESSION,
    ),
)
SESSION_COSTS = Table(
    "session costs",
    "one row per planned session",
    (
        Column("share", _F64, "share of the population that it stands for"),
        Column("inference_ms_per_sample", _F64, "inference latency of the benchmark model", True),
        *_SESSION,
    ),
)


@dataclass(frozen=True)
class TaskWork:
    """What a participation asks of a phone: its work, and what it holds meanwhile.

    ``training_flops`` are those of one example, ``memory_bytes`` the peak of training; ``storage_bytes`` are kept on
    the phone, and ``example_bytes`` more for each of its examples.
    """

    work: Work
    training_flops: float
    memory_bytes: int
    storage_bytes: int
    example_bytes: float


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


def device_costs(
    task: TaskWork, phones: PhoneClasses, *, device: Device, n_examples: IntArray, capacity_wh: float, limits: Limits
) -> tuple[pa.Table, pa.Table]:
    """A row per device class (:data:`DEVICE_COSTS`), and a row per session (:data:`SESSION_COSTS`) behind them.

    ``n_examples`` are those of each of the ``phones.n_devices`` devices. Classes stand from the quickest to the slowest
    session, unknown ones last; their figures are medians over their sessions, each by itself.
    """
    if not capacity_wh > 0:
        raise InputError("cost.battery_capacity_wh", value=capacity_wh, allowed="> 0")
    sessions = _columns(task, phones, planned(task.work, phones, device, n_examples), capacity_wh, limits)
    medians = {name: _medians(sessions[name], phones.n_each) for name in _MEDIANS}
    verdict, exceeds = _verdicts(medians, limits)
    within = (sessions["is_feasible"] == "yes").reshape(-1, phones.n_each).mean(axis=1)
    columns = {
        **medians,
        "model": np.array(phones.models, dtype=object),
        "share": phones.share,
        "inference_ms_per_sample": phones.latency_ms,
        "latency_source": np.array(phones.latency_source, dtype=object),
        "ram_gb": phones.ram_gb,
        "memory_bytes": np.full(len(phones.share), task.memory_bytes),
        "is_feasible": verdict,
        "feasible_fraction": within,
        "exceeds": exceeds,
    }
    order = np.argsort(columns["session_s"], kind="stable")
    return (
        _table(DEVICE_COSTS, {name: column[order] for name, column in columns.items()}),
        _table(SESSION_COSTS, sessions),
    )


def _table(schema: Table, columns: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    arrays = [pa.array(columns[c.name], c.type, from_pandas=True) for c in schema.columns]
    return schema.check(pa.table(arrays, names=[c.name for c in schema.columns]), where=schema.name)


def _columns(
    task: TaskWork, phones: PhoneClasses, sessions: PlannedSessions, capacity_wh: float, limits: Limits
) -> dict[str, npt.NDArray[Any]]:
    """The columns of :data:`SESSION_COSTS`."""
    of_class, n = sessions.of_class, sessions.n_examples
    radio_j = sessions.download_j + sessions.upload_j
    columns: dict[str, npt.NDArray[Any]] = {
        **vars(sessions),
        "share": phones.share[of_class] / phones.n_each,
        "inference_ms_per_sample": phones.latency_ms[of_class],
        "epoch_flops": task.training_flops * n * task.work.examples_each,
        "epoch_s": sessions.train_s / task.work.passes.epochs,
        "ram_fraction": task.memory_bytes / (phones.ram_gb[of_class] * _GB),
        "storage_bytes": task.storage_bytes + np.rint(n * task.example_bytes),
        "radio_j": radio_j,
        "battery_percent": 100 * (sessions.compute_j + radio_j) / (capacity_wh * HOUR_S),
    }
    columns["is_feasible"], columns["exceeds"] = _verdicts(columns, limits)
    return columns


def _medians(column: npt.NDArray[Any], n_each: int) -> FloatArray:
    medians: FloatArray = np.median(column.reshape(-1, n_each), axis=1)
    return medians


_MEDIANS = (
    "n_examples", "epoch_flops", "epoch_s", "train_s", "download_s", "upload_s", "session_s", "ram_fraction",
    "download_bytes", "upload_bytes", "storage_bytes", "compute_j", "radio_j", "battery_percent",
)  # fmt: skip


def _verdicts(
    columns: Mapping[str, FloatArray], limits: Limits
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Feasible or not, and the limits that are exceeded; an unknown figure exceeds nothing and assures nothing."""
    figures = (
        (columns["ram_fraction"], limits.max_ram_fraction),
        (columns["session_s"], limits.max_session_s),
        (columns["battery_percent"], limits.max_battery_percent),
    )
    is_over: list[BoolArray] = [figure > most for figure, most in figures]
    is_unknown = np.any([np.isnan(figure) for figure, _ in figures], axis=0)
    exceeds = np.full(len(is_unknown), "", dtype=object)
    for name, over in zip(LIMITS, is_over, strict=True):
        exceeds[over] = [f"{text} {name}".strip() for text in exceeds[over]]
    verdict = np.where(np.any(is_over, axis=0), "no", np.where(is_unknown, "unknown", "yes")).astype(object)
    return verdict, exceeds
