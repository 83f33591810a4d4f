"""What ended sessions used, legs that were cut off booked in part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.device.battery import BatteryLimits
from fedsim.device.legs import Direction, Legs
from fedsim.device.session import ABORTED, Device, Sessions
from fedsim.device.work import Work
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class Spent:
    """What sessions used until they ended: columns of length n."""

    download_s: FloatArray  # in which the radio worked
    compute_s: FloatArray
    upload_s: FloatArray
    download_bytes: IntArray
    upload_bytes: IntArray
    download_j: FloatArray
    compute_j: FloatArray
    upload_j: FloatArray
    battery_percent: FloatArray  # NaN without a battery model


def spent(rows: Sessions, work: Work, device: Device, legs: Legs, limits: BatteryLimits | None) -> Spent:
    """Bytes and joules of ended sessions, legs that were cut off booked as far as they came.

    Bytes move only while they flow, not while a transfer connects or waits; a radio draws power while it connects too,
    but not while it waits.
    """
    end, ids, cells = rows["end_at"], rows["device_id"], rows["cell"]
    down_s, down_bytes = _transferred(
        "down",
        rows,
        legs,
        rows["assigned_at"],
        rows["download_end_at"],
        rows["download_wait_s"],
        rows["download_bytes"],
    )
    size = np.where(rows["outcome"] == ABORTED, 0, work.upload_bytes)
    up_s, up_bytes = _transferred(
        "up", rows, legs, rows["train_end_at"], rows["upload_end_at"], rows["upload_wait_s"], size
    )
    begin, stop = np.minimum(rows["download_end_at"], end), np.minimum(rows["train_end_at"], end)
    compute_s = np.minimum(legs.work_s(cells, begin, stop), rows["train_s"])
    network = rows["network"]
    download_j = device.energy.receive_watts(ids, network) * down_s
    compute_j = device.energy.compute_watts(ids) * compute_s
    upload_j = device.energy.send_watts(ids, network) * up_s
    joules = download_j + compute_j + upload_j
    return Spent(
        download_s=down_s,
        compute_s=compute_s,
        upload_s=up_s,
        download_bytes=np.rint(down_bytes).astype(np.int64),
        upload_bytes=np.rint(up_bytes).astype(np.int64),
        download_j=download_j,
        compute_j=compute_j,
        upload_j=upload_j,
        battery_percent=np.full(len(rows), np.nan) if limits is None else limits.percent(joules),
    )


def _transferred(
    direction: Direction, rows: Sessions, legs: Legs, begin: FloatArray, stop: FloatArray, waits_s: FloatArray,
    size: IntArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Seconds in which the radio worked and bytes that moved in one leg of each session."""
    end = rows["end_at"]
    is_done = stop <= end
    lasted_s = np.subtract(stop, begin, out=np.zeros(len(rows)), where=is_done)
    seconds = np.where(is_done, np.maximum(lasted_s - np.where(is_done, waits_s, 0.0), 0.0), 0.0)
    n_bytes = np.where(is_done, size, 0).astype(np.float64)
    cut = np.flatnonzero((begin < end) & ~is_done)
    if cut.size:
        some = rows.take(cut)
        level = legs.link.level(some["device_id"], some["participation"])
        part = legs.part(direction, some["cell"], begin[cut], size[cut], level, until=end[cut])
        seconds[cut] = np.maximum(end[cut] - begin[cut] - part.waited_s, 0.0)
        n_bytes[cut] = part.n_bytes
    return seconds, n_bytes
