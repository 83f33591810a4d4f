"""What ended sessions used, phases that were cut off booked in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from fedsim.device.battery import BatteryLimits
from fedsim.device.session import Device, Sessions
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability
from fedsim.units import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Spent:
    """What sessions used until they ended: columns of length n."""

    download_s: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    download_bytes: IntArray
    upload_bytes: IntArray
    download_j: FloatArray
    compute_j: FloatArray
    upload_j: FloatArray
    battery_percent: FloatArray  # NaN without a battery model

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The columns of all parts end to end."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def spent(
    rows: Sessions, work: Work, device: Device, availability: Availability, limits: BatteryLimits | None
) -> Spent:
    """Seconds, bytes and joules of ended sessions, phases that were cut off booked in part.

    Simplification: bytes of a cut transfer are in proportion to its time; the radio of a transfer that
    had to wait for a network is taken to wait first.
    """
    end, is_paused = rows["end_at"], device.interruption == "pause"

    def active_s(start: FloatArray, stop: FloatArray, some: BoolArray | slice = slice(None)) -> FloatArray:
        return availability.open_s(rows["cell"][some], start, stop) if is_paused else stop - start

    def until_end_s(start: FloatArray, stop: FloatArray) -> FloatArray:
        return active_s(np.minimum(start, end), np.minimum(stop, end))

    def share(start: FloatArray, stop: FloatArray, seconds: FloatArray) -> FloatArray:
        part = (stop <= end).astype(np.float64)
        is_cut = (stop > end) & (seconds > 0) & np.isfinite(stop)
        part[is_cut] = seconds[is_cut] / active_s(start[is_cut], stop[is_cut], is_cut)
        return part

    download_s = until_end_s(rows["assigned_at"], rows["download_end_at"])
    compute_s = np.minimum(until_end_s(rows["download_end_at"], rows["train_end_at"]), rows["train_s"])
    upload_s = until_end_s(rows["train_end_at"], rows["upload_end_at"])
    down = share(rows["assigned_at"], rows["download_end_at"], download_s)
    up = share(rows["train_end_at"], rows["upload_end_at"], upload_s)
    ids, network = rows["device_id"], rows["network"]
    download_j = device.energy.receive_watts(ids, network) * np.maximum(download_s - rows["download_wait_s"], 0.0)
    compute_j = device.energy.compute_watts(ids) * compute_s
    upload_j = device.energy.send_watts(ids, network) * np.maximum(upload_s - rows["upload_wait_s"], 0.0)
    joules = download_j + compute_j + upload_j
    return Spent(
        download_s=download_s,
        compute_s=compute_s,
        upload_s=upload_s,
        download_bytes=np.rint(down * rows["download_bytes"]).astype(np.int64),
        upload_bytes=np.rint(up * work.upload_bytes).astype(np.int64),
        download_j=download_j,
        compute_j=compute_j,
        upload_j=upload_j,
        battery_percent=np.full(len(rows), np.nan) if limits is None else limits.percent(joules),
    )
