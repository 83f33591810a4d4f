"""The world of a run: a fleet's traces under one rule, the device model, and the trips that follow from both.

A batch of trips is planned in one vectorised call when the devices are assigned. How each ends is decided later by
comparing the row's instants with the server's; nothing is raced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.session import FAILED, INTERRUPTED, REPORTS, SESSION, TIMEOUT, Device, Sessions
from fedsim.device.spent import Spent, spent
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_channel, compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import SAME_S, BoolArray, FloatArray, IntArray

Unknown = Literal["ineligible", "eligible"]


@dataclass(frozen=True)
class World:
    """Who is out there and what a trip takes of them; it holds nothing that changes in a run.

    ``availability`` is when devices are eligible under the ``rule``, ``network`` what network they are on,
    ``level`` and ``charging`` what the traces tell of their batteries (None: not told). Without ``limits`` batteries
    are not modelled.
    """

    rule: Rule
    device: Device
    availability: Availability
    network: Track | None = None
    limits: BatteryLimits | None = None
    level: Track | None = None
    charging: Availability | None = None

    @classmethod
    def of(cls, fleet: Fleet, rule: Rule, device: Device, *, unknown: Unknown, limits: BatteryLimits | None) -> Self:
        """The world of a fleet whose devices are asked under ``rule``."""
        windows = compile_rule(fleet.traces, reachable(rule, fleet.traces), unknown=unknown)
        return cls(
            rule=rule,
            device=device,
            availability=Availability(fleet, windows),
            network=_track(fleet, "network"),
            limits=limits,
            level=None if limits is None else _track(fleet, "battery"),
            charging=None if limits is None else _charging(fleet),
        )

    @property
    def fleet(self) -> Fleet:
        """The devices."""
        return self.availability.fleet

    def battery(self, participation: Participation) -> Battery | None:
        """The batteries of a run that keeps its debts in ``participation``; None where they are not modelled."""
        return None if self.limits is None else Battery(self.limits, self.level, self.charging, participation)

    def spent(self, rows: Sessions, work: Work) -> Spent:
        """Seconds, bytes, joules and battery that ended sessions used."""
        return spent(rows, work, self.device, self.availability, self.limits)

    def plan(
        self,
        ids: IntArray,
        cells: IntArray,
        *,
        work: Work,
        now: float,
        k: npt.NDArray[np.int32],
        n_examples: IntArray,
        download_bytes: IntArray,
        battery_percent: FloatArray | None = None,
    ) -> Sessions:
        """Rows for devices that are assigned at ``now``; server columns are left for the job to fill.

        ``k`` numbers each device's sessions, ``download_bytes`` is what each fetches, ``battery_percent`` its
        level (None: not modelled).
        """
        rows = np.zeros(len(ids), dtype=SESSION)
        rows["device_id"], rows["cell"], rows["participation"], rows["n_examples"] = ids, cells, k, n_examples
        rows["base_trace"] = self.fleet.cell_trace[cells]
        rows["assigned_at"], rows["outcome"], rows["staleness"], rows["weight"] = now, REPORTS, -1, np.nan
        rows["download_bytes"] = download_bytes
        rows["battery_percent"] = np.nan if battery_percent is None else battery_percent
        self._plan_phases(rows, work)
        self._cut_short(rows)
        return rows

    def _plan_phases(self, rows: Sessions, work: Work) -> None:
        """Ends of download, training and upload if nothing but paused windows comes between."""
        ids, cells, k, link = rows["device_id"], rows["cell"], rows["participation"], self.device.network
        level = link.level(ids, k)
        connected = rows["assigned_at"] + link.connect_s
        size = rows["download_bytes"]
        end, rows["network"], rows["download_wait_s"] = link.download(self.network, cells, connected, size, level)
        rows["download_end_at"] = end = self._paused(cells, rows["assigned_at"], end)
        rows["train_s"] = self.device.train_s(rows, work)
        rows["train_end_at"] = start = self._paused(cells, end, end + rows["train_s"])
        end, _, rows["upload_wait_s"] = link.upload(self.network, cells, start, work.upload_bytes, level)
        rows["upload_end_at"] = self._paused(cells, start, end)

    def _paused(self, cells: IntArray, start: FloatArray, end: FloatArray) -> FloatArray:
        """The end of a phase, moved on by the time the device is away if interruptions pause the work.

        Simplification: a paused transfer keeps the rates it would have had without the pause.
        """
        if self.device.interruption != "pause":
            return end
        moved = np.full(len(cells), np.inf)
        rows = np.flatnonzero(np.isfinite(end))
        finish = self.availability.finish_paused(cells[rows], start[rows], end[rows] - start[rows])
        moved[rows] = np.where(np.isnan(finish), np.inf, finish)
        return moved

    def _cut_short(self, rows: Sessions) -> None:
        """Decide what ends each session before a report: the first cause to come, of equals the first named."""
        end = rows["upload_end_at"].copy()
        outcome = np.full(len(rows), REPORTS, dtype=np.int8)
        for ends_at, of_cause in self._causes():
            at = ends_at(rows)
            is_first = at < end - SAME_S
            end[is_first], outcome[is_first] = at[is_first], of_cause
        if self.device.interruption == "ignore":
            reports = np.flatnonzero(outcome == REPORTS)
            is_present, _ = self.availability.at_cells(rows["cell"][reports], end[reports])
            outcome[reports[~is_present]] = INTERRUPTED
        rows["end_at"], rows["outcome"] = end, outcome

    def _causes(self) -> list[tuple[Callable[[Sessions], FloatArray], int]]:
        """What can end a session early: instants (inf: not at all), and the outcome it then has."""
        causes: list[tuple[Callable[[Sessions], FloatArray], int]] = []
        if self.device.interruption == "abort":
            causes.append((self._departure, INTERRUPTED))
        causes.append((self.device.crash_at, FAILED))
        if self.limits is not None:
            causes.append((partial(self._at_floor, self.limits), FAILED))
        return [*causes, (self._timeout, TIMEOUT)]

    def _timeout(self, rows: Sessions) -> FloatArray:
        at: FloatArray = rows["assigned_at"] + self.device.session_timeout_s
        return at

    def _departure(self, rows: Sessions) -> FloatArray:
        """Instant at which leaving ends each session (inf: it does not)."""
        if not len(rows):
            return np.zeros(0)
        _, until = self.availability.cells_at(float(rows["assigned_at"][0]))
        departure: FloatArray = until[rows["cell"]]
        return departure

    def _at_floor(self, limits: BatteryLimits, rows: Sessions) -> FloatArray:
        """Instant at which our own work takes the battery down to its floor (inf: it does not).

        Simplifications: a phone that charges at assignment does not run down, and the work itself is
        what drains, not the rest of the phone.
        """
        reached = np.full(len(rows), np.inf)
        draining = np.flatnonzero(~self._is_charging(rows))
        some, energy = rows[draining], self.device.energy
        left_j = limits.joules(some["battery_percent"] - limits.floor_percent)
        begin, down_end, up_start = some["assigned_at"], some["download_end_at"], some["train_end_at"]
        ids, network, no_wait = some["device_id"], some["network"], np.zeros(len(some))
        for start, stop, waits_s, watts in (
            (begin, down_end, some["download_wait_s"], energy.receive_watts(ids, network)),
            (down_end, up_start, no_wait, energy.compute_watts(ids)),
            (up_start, some["upload_end_at"], some["upload_wait_s"], energy.send_watts(ids, network)),
        ):
            lasts_s = np.divide(left_j, watts, out=np.full(len(some), np.inf), where=watts > 0)
            runs_s = np.maximum(self._active_s(some["cell"], start, stop) - waits_s, 0.0)
            empty = np.flatnonzero((lasts_s < runs_s) & np.isinf(reached[draining]))
            at = start[empty] + waits_s[empty] + lasts_s[empty]
            reached[draining[empty]] = self._paused(some["cell"][empty], start[empty], at)
            left_j = left_j - watts * np.where(np.isfinite(runs_s), runs_s, 0.0)
        return reached

    def _is_charging(self, rows: Sessions) -> BoolArray:
        """Which devices are on the charger when they are assigned; where the traces do not tell, none."""
        if self.charging is None:
            return np.zeros(len(rows), dtype=bool)
        return self.charging.at_cells(rows["cell"], rows["assigned_at"])[0]

    def _active_s(self, cells: IntArray, start: FloatArray, stop: FloatArray) -> FloatArray:
        """Seconds of work in phases (inf: the phase never ends, 0: it never begins)."""
        active_s = np.where(np.isfinite(start), np.inf, 0.0)
        rows = np.flatnonzero(np.isfinite(stop))
        is_paused = self.device.interruption == "pause"
        begin, end = start[rows], stop[rows]
        active_s[rows] = self.availability.open_s(cells[rows], begin, end) if is_paused else end - begin
        return active_s


def reachable(rule: Rule, traces: TraceSet) -> Rule:
    """The rule and, where the traces know the network, that there is one: else nobody can check in."""
    return rule & Rule.parse("network != none") if "network" in traces.channels() else rule


def _track(fleet: Fleet, channel: str) -> Track | None:
    """A channel of the fleet's traces, None where the traces do not have it."""
    return Track(fleet, compile_channel(fleet.traces, channel)) if channel in fleet.traces.channels() else None


def _charging(fleet: Fleet) -> Availability | None:
    """When devices are on the charger; what is unknown is not charging."""
    if "charging" not in fleet.traces.channels():
        return None
    return Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))
