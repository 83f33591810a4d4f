"""One trip of a device as a row of numbers: download, train, upload, and what cuts it short.

The whole batch is planned in one vectorised call when the devices are assigned. The outcome is
decided later by comparing the row's instants with the server's; nothing is raced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.compute import Compute
from fedsim.device.energy import Energy
from fedsim.device.network import Network
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.fleet.availability import INTERRUPTIONS, Availability, Interruption, Track
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, SAME_S, BoolArray, FloatArray, IntArray

AGGREGATED, LATE, STALE, ABORTED, INTERRUPTED, TIMEOUT, FAILED = range(len(OUTCOMES))
REPORTS = -1  # the plan of a session that reaches the server

SESSION = np.dtype(
    [
        ("session_id", np.int64),
        ("device_id", np.int64),
        ("cell", np.int32),
        ("base_trace", np.int32),
        ("client_id", np.int64),
        ("participation", np.int32),
        ("version", np.int64),
        ("network", np.int8),
        ("outcome", np.int8),  # REPORTS until the server has decided
        ("n_examples", np.int64),
        ("assigned_at", np.float64),
        ("download_end_at", np.float64),  # planned, also where the session ends earlier
        ("train_end_at", np.float64),
        ("upload_end_at", np.float64),
        ("end_at", np.float64),
        ("train_s", np.float64),  # seconds of training the work takes
        ("download_bytes", np.int64),  # planned
        ("download_wait_s", np.float32),  # planned time without a usable network, at which no radio works
        ("upload_wait_s", np.float32),
        ("battery_percent", np.float32),  # at assignment, NaN without a battery model
        ("staleness", np.int64),  # −1: not judged
        ("weight", np.float64),
    ]
)
_GIVEN_UP_S = 30.0 * DAY_S  # a trip that could not end otherwise, as on a phone that is never on a network
Sessions = npt.NDArray[np.void]  # structured array of dtype SESSION


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Rows end to end; ``numpy.concatenate`` would compare the 18 fields of each part anew."""
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    rows = np.empty(sum(map(len, filled)), dtype=SESSION)
    stop = 0
    for part in filled:
        start, stop = stop, stop + len(part)
        rows[start:stop] = part
    return rows


def check_thermal(*, thermal_after_s: float, thermal_slowdown: float) -> None:
    """Refuse a slow-down by warmth that would speed phones up."""
    if not (thermal_after_s >= 0 and thermal_slowdown >= 1):
        raise InputError(
            "device.thermal_after_s and thermal_slowdown are outside their range",
            value=(thermal_after_s, thermal_slowdown),
            allowed="0 or more, 1 or more",
        )


class Device:
    """The device side: what a session takes, and when it ends without a report.

    Training beyond ``thermal_after_s`` takes ``thermal_slowdown`` times as long: a warm phone
    throttles. A crash strikes a share ``crash_fraction`` of the sessions at a uniform moment of their planned
    trip. A session ends as TIMEOUT after ``session_timeout_s`` (None: after 30 days).
    """

    def __init__(
        self,
        *,
        seed: int,
        compute: Compute,
        network: Network,
        energy: Energy,
        interruption: Interruption,
        crash_fraction: float,
        session_timeout_s: float | None,
        thermal_after_s: float = np.inf,
        thermal_slowdown: float = 1.0,
    ) -> None:
        if interruption not in INTERRUPTIONS:
            raise InputError("device.interruption is unknown", value=interruption, allowed=", ".join(INTERRUPTIONS))
        if not 0 <= crash_fraction <= 1:
            raise InputError("device.crash_fraction is outside its range", value=crash_fraction, allowed="0 … 1")
        if session_timeout_s is not None and not session_timeout_s > 0:
            raise InputError("device.session_timeout_s must be positive", value=session_timeout_s)
        check_thermal(thermal_after_s=thermal_after_s, thermal_slowdown=thermal_slowdown)
        self.thermal_after_s, self.thermal_slowdown = thermal_after_s, thermal_slowdown
        self.seed, self.compute, self.network, self.energy = seed, compute, network, energy
        self.interruption, self.crash_fraction = interruption, crash_fraction
        self.session_timeout_s = _GIVEN_UP_S if session_timeout_s is None else session_timeout_s

    def plan(
        self,
        availability: Availability,
        track: Track | None,
        work: Work,
        *,
        now: float,
        ids: IntArray,
        cells: IntArray,
        k: npt.NDArray[np.int32],
        n_examples: IntArray,
        download_bytes: IntArray | None = None,
        battery: Battery | None = None,
    ) -> Sessions:
        """Rows for devices that are assigned at ``now``; server columns are left for the job to fill.

        ``download_bytes`` is what each device fetches (None: the model, the plan and the assets).
        """
        rows = np.zeros(len(ids), dtype=SESSION)
        rows["device_id"], rows["cell"], rows["participation"], rows["n_examples"] = ids, cells, k, n_examples
        rows["base_trace"] = availability.fleet.cell_trace[cells]
        rows["assigned_at"], rows["outcome"], rows["staleness"], rows["weight"] = now, REPORTS, -1, np.nan
        everything = work.download_bytes + work.plan_bytes + work.assets_bytes
        rows["download_bytes"] = everything if download_bytes is None else download_bytes
        rows["battery_percent"] = np.nan if battery is None else battery.percent(ids, cells, now)
        self._plan_phases(rows, availability, track, work)
        self._cut_short(rows, availability, battery)
        return rows

    def _plan_phases(self, rows: Sessions, availability: Availability, track: Track | None, work: Work) -> None:
        """Ends of download, training and upload if nothing but paused windows comes between."""
        ids, cells, k = rows["device_id"], rows["cell"], rows["participation"]
        level = self.network.level(ids, k)
        connected = rows["assigned_at"] + self.network.connect_s
        size = rows["download_bytes"]
        end, rows["network"], rows["download_wait_s"] = self.network.download(track, cells, connected, size, level)
        rows["download_end_at"] = end = self._paused(availability, cells, rows["assigned_at"], end)
        n_examples = rows["n_examples"]
        train_s = self.compute.train_s(ids, k, work.epochs * n_examples, work.n_steps(n_examples))
        rows["train_s"] = self._throttled(train_s)
        rows["train_end_at"] = start = self._paused(availability, cells, end, end + rows["train_s"])
        end, _, rows["upload_wait_s"] = self.network.upload(track, cells, start, work.upload_bytes, level)
        rows["upload_end_at"] = self._paused(availability, cells, start, end)

    def _throttled(self, train_s: FloatArray) -> FloatArray:
        """Training time on a phone that slows down when it gets warm."""
        return train_s + np.maximum(train_s - self.thermal_after_s, 0.0) * (self.thermal_slowdown - 1.0)

    def _paused(self, availability: Availability, cells: IntArray, start: FloatArray, end: FloatArray) -> FloatArray:
        """The end of a phase, moved on by the time the device is away if interruptions pause the work.

        Simplification: a paused transfer keeps the rates it would have had without the pause.
        """
        if self.interruption != "pause":
            return end
        moved = np.full(len(cells), np.inf)
        rows = np.flatnonzero(np.isfinite(end))
        finish = availability.finish_cells(cells[rows], start[rows], end[rows] - start[rows], "pause")
        moved[rows] = np.where(np.isnan(finish), np.inf, finish)
        return moved

    def _cut_short(self, rows: Sessions, availability: Availability, battery: Battery | None) -> None:
        """Decide what ends each session before a report: the first of departure, crash, empty battery, time-out."""
        end = rows["upload_end_at"].copy()
        outcome = np.full(len(rows), REPORTS, dtype=np.int8)
        for at, cause in (
            (self._departure(rows, availability), INTERRUPTED),
            (self._crash(rows), FAILED),
            (self._at_floor(rows, availability, battery), FAILED),
            (rows["assigned_at"] + self.session_timeout_s, TIMEOUT),
        ):
            is_first = at < end - SAME_S
            end[is_first], outcome[is_first] = at[is_first], cause
        if self.interruption == "ignore":
            reports = np.flatnonzero(outcome == REPORTS)
            is_present, _ = availability.at_cells(rows["cell"][reports], end[reports])
            outcome[reports[~is_present]] = INTERRUPTED
        rows["end_at"], rows["outcome"] = end, outcome

    def _departure(self, rows: Sessions, availability: Availability) -> FloatArray:
        """Instant at which leaving ends each session (inf: it does not)."""
        if self.interruption != "abort" or not len(rows):
            return np.full(len(rows), np.inf)
        _, until = availability.cells_at(float(rows["assigned_at"][0]))
        departure: FloatArray = until[rows["cell"]]
        return departure

    def _at_floor(self, rows: Sessions, availability: Availability, battery: Battery | None) -> FloatArray:
        """Instant at which our own work takes the battery down to its floor (inf: it does not).

        Simplifications: a phone that charges at assignment does not run down, and the work itself is
        what drains, not the rest of the phone.
        """
        reached = np.full(len(rows), np.inf)
        if battery is None:
            return reached
        draining = np.flatnonzero(~battery.is_charging(rows["cell"], rows["assigned_at"]))
        some = rows[draining]
        left_j = battery.limits.joules(some["battery_percent"] - battery.limits.floor_percent)
        one = np.ones(len(some))
        begin, down_end, up_start = some["assigned_at"], some["download_end_at"], some["train_end_at"]
        ids, network = some["device_id"], some["network"]
        for start, stop, waits_s, watts in (
            (begin, down_end, some["download_wait_s"], self.energy.receive_j(ids, network, one)),
            (down_end, up_start, 0.0 * one, self.energy.compute_j(ids, one)),
            (up_start, some["upload_end_at"], some["upload_wait_s"], self.energy.send_j(ids, network, one)),
        ):
            lasts_s = np.divide(left_j, watts, out=np.full(len(some), np.inf), where=watts > 0)
            runs_s = np.maximum(self._active_s(availability, some["cell"], start, stop) - waits_s, 0.0)
            empty = np.flatnonzero((lasts_s < runs_s) & np.isinf(reached[draining]))
            at = start[empty] + waits_s[empty] + lasts_s[empty]
            reached[draining[empty]] = self._paused(availability, some["cell"][empty], start[empty], at)
            left_j = left_j - watts * np.where(np.isfinite(runs_s), runs_s, 0.0)
        return reached

    def _active_s(self, availability: Availability, cells: IntArray, start: FloatArray, stop: FloatArray) -> FloatArray:
        """Seconds of work in phases (inf: the phase never ends, 0: it never begins)."""
        active_s = np.where(np.isfinite(start), np.inf, 0.0)
        rows = np.flatnonzero(np.isfinite(stop))
        is_paused = self.interruption == "pause"
        begin, end = start[rows], stop[rows]
        active_s[rows] = availability.open_s(cells[rows], begin, end) if is_paused else end - begin
        return active_s

    def _crash(self, rows: Sessions) -> FloatArray:
        if self.crash_fraction == 0.0:
            return np.full(len(rows), np.inf)
        ids, k, start = rows["device_id"], rows["participation"], rows["assigned_at"]
        crash_at = np.full(len(rows), np.inf)
        trip_s = rows["upload_end_at"] - start
        is_struck = rng.uniform(self.seed, "crash", ids, k) < self.crash_fraction
        struck = np.flatnonzero(is_struck & np.isfinite(trip_s))
        moment = rng.uniform(self.seed, "crash/moment", ids[struck], k[struck])
        crash_at[struck] = start[struck] + moment * trip_s[struck]
        return crash_at


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


def spent(
    rows: Sessions, work: Work, device: Device, availability: Availability, limits: BatteryLimits | None = None
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
    download_j = device.energy.receive_j(ids, network, np.maximum(download_s - rows["download_wait_s"], 0.0))
    compute_j = device.energy.compute_j(ids, compute_s)
    upload_j = device.energy.send_j(ids, network, np.maximum(upload_s - rows["upload_wait_s"], 0.0))
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
