"""The world of a run: a fleet's traces under one rule, the device model, and the trips that follow from both.

A batch of trips is planned in one vectorised call when the devices are assigned. How each ends is decided later by
comparing the row's instants with the server's; nothing is raced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from fedsim.device.battery import Battery, BatteryLimits
from fedsim.device.legs import Legs
from fedsim.device.session import FAILED, INTERRUPTED, REPORTS, SESSION, TIMEOUT, Device, Sessions
from fedsim.device.spent import Spent, spent
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.fleet.phones import Phones
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_channel, compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import BoolArray, FloatArray, IntArray, on_clock

Unknown = Literal["ineligible", "eligible"]
WindowEnd = Literal["open", "closed"]


@dataclass(frozen=True)
class World:
    """Who is out there and what a trip takes of them; it holds nothing that changes in a run.

    ``availability`` is when devices are eligible under the ``rule``, ``network`` what network they are on,
    ``level`` and ``charging`` what the traces tell of their batteries (None: not told). Without ``limits`` batteries
    are not modelled. ``phones`` (the device model has its own) and the network types that are
    ``metered`` are for the tables only.
    """

    rule: Rule
    device: Device
    availability: Availability
    network: Track | None = None
    limits: BatteryLimits | None = None
    level: Track | None = None
    charging: Availability | None = None
    phones: Phones | None = None
    metered: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        fleet: Fleet,
        rule: Rule,
        device: Device,
        *,
        unknown: Unknown,
        limits: BatteryLimits | None,
        window_end: WindowEnd = "open",
        phones: Phones | None = None,
        metered: Sequence[str] = (),
    ) -> Self:
        """The world of a fleet whose devices are asked under ``rule``.

        ``window_end``: whether a device is still eligible at the instant at which a window ends (closed).
        """
        windows = compile_rule(fleet.traces, reachable(rule, fleet.traces), unknown=unknown)
        if window_end == "closed":
            windows = windows.closed()
        return cls(
            rule=rule,
            device=device,
            availability=Availability(fleet, windows),
            network=_track(fleet, "network"),
            limits=limits,
            level=None if limits is None else _track(fleet, "battery"),
            charging=None if limits is None else _charging(fleet),
            phones=phones,
            metered=tuple(metered),
        )

    @property
    def fleet(self) -> Fleet:
        """The devices."""
        return self.availability.fleet

    def battery(self, participation: Participation) -> Battery | None:
        """The batteries of a run that keeps its debts in ``participation``; None where they are not modelled."""
        return None if self.limits is None else Battery(self.limits, self.level, self.charging, participation)

    def phone_columns(self, ids: IntArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Row (−1: none) and latency in ms (NaN: not modelled) of the phones behind devices."""
        if self.phones is None:
            return np.full(len(ids), -1, dtype=np.int32), np.full(len(ids), np.nan, dtype=np.float32)
        return self.phones.row_of(ids).astype(np.int32), self.phones.inference_ms(ids).astype(np.float32)

    def spent(self, rows: Sessions, work: Work) -> Spent:
        """Seconds, bytes, joules and battery that ended sessions used."""
        return spent(rows, work, self.device, self.legs, self.limits)

    @cached_property
    def legs(self) -> Legs:
        """What a trip goes over."""
        windows = self.availability if self.device.interruption == "pause" else None
        return Legs(self.device.network, self.network, windows)

    def plan(
        self,
        ids: IntArray,
        cells: IntArray,
        *,
        work: Work,
        at: FloatArray,
        until: FloatArray,
        k: npt.NDArray[np.int32],
        n_examples: IntArray,
        download_bytes: IntArray,
        assets_bytes: IntArray | int = 0,
        battery_percent: FloatArray | None = None,
    ) -> Sessions:
        """Rows for devices that are assigned, each at its instant of ``at``; the job fills the server's columns.

        ``until`` is when each device's eligibility ends (inf: never), ``k`` numbers its sessions, ``download_bytes`` is
        what it fetches (``assets_bytes`` of it assets), ``battery_percent`` its level (None: not modelled).
        """
        rows = np.zeros(len(ids), dtype=SESSION)
        rows["device_id"], rows["cell"], rows["participation"], rows["n_examples"] = ids, cells, k, n_examples
        rows["base_trace"] = self.fleet.cell_trace[cells]
        rows["assigned_at"], rows["leaves_at"] = at, until
        rows["outcome"], rows["staleness"], rows["weight"] = REPORTS, -1, np.nan
        rows["ingest_start_at"] = rows["ingested_at"] = np.inf
        rows["download_bytes"], rows["assets_bytes"] = download_bytes, assets_bytes
        rows["battery_percent"] = np.nan if battery_percent is None else battery_percent
        rows["trained_fraction"], rows["data_since"] = 1.0, -np.inf
        self._plan_legs(rows, work)
        self._cut_short(rows, work)
        return rows

    def _plan_legs(self, rows: Sessions, work: Work) -> None:
        """Ends of download, training and upload if nothing cuts them short."""
        cells, legs = rows["cell"], self.legs
        level = legs.link.level(rows["device_id"], rows["participation"])
        end, rows["network"], rows["download_wait_s"] = legs.download(
            cells, rows["assigned_at"], rows["download_bytes"], level
        )
        rows["download_end_at"] = end
        rows["n_steps"], rows["train_s"] = self.device.training(rows, work)
        rows["train_end_at"] = legs.after(cells, end, rows["train_s"])
        if self.device.partial_work:
            self._stop_at_departure(rows)
        if self.device.partial_work or work.passes.max_s is not None:
            rows["trained_fraction"] = work.visited_fraction(rows["n_examples"], rows["n_steps"])
        rows["upload_end_at"], rows["upload_network"], rows["upload_wait_s"] = legs.upload(
            cells, rows["train_end_at"], work.upload_bytes, level
        )

    def _stop_at_departure(self, rows: Sessions) -> None:
        """Training in which a window closes ends there, if a step is finished by then."""
        begin_at, leaves_at = rows["download_end_at"], rows["leaves_at"]
        is_set_up = begin_at + self.device.setup_s <= leaves_at
        leaving = np.flatnonzero(is_set_up & (leaves_at < rows["train_end_at"]))
        trained_s = leaves_at[leaving] - begin_at[leaving]
        n_steps = self.device.finished_steps(rows.take(leaving), trained_s)
        cut = n_steps > 0
        stopped = leaving[cut]
        rows["n_steps"][stopped], rows["train_s"][stopped] = n_steps[cut], trained_s[cut]
        rows["train_end_at"][stopped] = leaves_at[stopped]

    def _cut_short(self, rows: Sessions, work: Work) -> None:
        """Decide what ends each session before a report: the first cause to come, of equals the first named."""
        end = rows["upload_end_at"].copy()
        outcome = np.full(len(rows), REPORTS, dtype=np.int8)
        for ends_at, of_cause in self._causes(work):
            at = ends_at(rows)
            is_first = at < end
            end[is_first], outcome[is_first] = at[is_first], of_cause
        if self.device.interruption == "ignore":
            reports = np.flatnonzero(outcome == REPORTS)
            is_present, _ = self.availability.at_cells(rows["cell"][reports], end[reports])
            outcome[reports[~is_present]] = INTERRUPTED
        rows["end_at"], rows["outcome"] = end, outcome

    def _causes(self, work: Work) -> list[tuple[Callable[[Sessions], FloatArray], int]]:
        """What can end a session early: instants (inf: not at all), and the outcome it then has."""
        causes: list[tuple[Callable[[Sessions], FloatArray], int]] = []
        if self.device.interruption == "abort":
            causes.append((_departure_in_work if self.device.partial_work else _departure, INTERRUPTED))
        causes.append((self.device.crash_at, FAILED))
        if self.limits is not None:
            causes.append((partial(self._at_floor, self.limits, work), FAILED))
        return [*causes, (self._timeout, TIMEOUT)]

    def _timeout(self, rows: Sessions) -> FloatArray:
        at: FloatArray = on_clock(rows["assigned_at"] + self.device.session_timeout_s)
        return at

    def _at_floor(self, limits: BatteryLimits, work: Work, rows: Sessions) -> FloatArray:
        """Instant at which our own work takes the battery down to its floor (inf: it does not).

        Simplifications: a phone that charges at assignment does not run down, and the work itself is
        what drains, not the rest of the phone.
        """
        reached = np.full(len(rows), np.inf)
        draining = np.flatnonzero(~self._is_charging(rows))
        some, energy = rows.take(draining), self.device.energy
        ids, cells, network = some["device_id"], some["cell"], some["network"]
        left_j = limits.joules(some["battery_percent"] - limits.floor_percent)
        level = self.legs.link.level(ids, some["participation"])

        def receiving(places: IntArray, seconds: FloatArray) -> FloatArray:
            size = some["download_bytes"][places]
            return self.legs.part(
                "down", cells[places], some["assigned_at"][places], size, level[places], radio_s=seconds
            ).at

        def training(places: IntArray, seconds: FloatArray) -> FloatArray:
            return self.legs.after(cells[places], some["download_end_at"][places], seconds)

        def sending(places: IntArray, seconds: FloatArray) -> FloatArray:
            begin, size = some["train_end_at"][places], work.upload_bytes
            return self.legs.part("up", cells[places], begin, size, level[places], radio_s=seconds).at

        down_s = _leg_s(some["assigned_at"], some["download_end_at"], some["download_wait_s"])
        train_s = np.where(np.isfinite(some["download_end_at"]), some["train_s"], 0.0)
        up_s = _leg_s(some["train_end_at"], some["upload_end_at"], some["upload_wait_s"])
        for runs_s, watts, drained_at in (
            (down_s, energy.receive_watts(ids, network), receiving),
            (train_s, energy.compute_watts(ids), training),
            (up_s, energy.send_watts(ids, network), sending),
        ):
            lasts_s = np.divide(left_j, watts, out=np.full(len(some), np.inf), where=watts > 0)
            empty = np.flatnonzero((lasts_s < runs_s) & np.isinf(reached[draining]))
            reached[draining[empty]] = on_clock(drained_at(empty, lasts_s[empty]))
            left_j = left_j - watts * np.where(np.isfinite(runs_s), runs_s, 0.0)
        return reached

    def _is_charging(self, rows: Sessions) -> BoolArray:
        """Which devices are on the charger when they are assigned; where the traces do not tell, none."""
        if self.charging is None:
            return np.zeros(len(rows), dtype=bool)
        return self.charging.at_cells(rows["cell"], rows["assigned_at"])[0]


def _departure(rows: Sessions) -> FloatArray:
    """Instant at which leaving ends each session (inf: it does not)."""
    departure: FloatArray = rows["leaves_at"]
    return departure


def _departure_in_work(rows: Sessions) -> FloatArray:
    """The same where trained work is handed in whoever leaves: nobody does once the training has ended."""
    return np.where(rows["train_end_at"] <= rows["leaves_at"], np.inf, rows["leaves_at"])


def _leg_s(start: FloatArray, stop: FloatArray, waited_s: FloatArray) -> FloatArray:
    """Seconds in which the radio works in transfers (inf: one never ends, 0: it never begins)."""
    seconds = np.where(np.isfinite(start), np.inf, 0.0)
    done = np.flatnonzero(np.isfinite(stop))
    seconds[done] = np.maximum(stop[done] - start[done] - waited_s[done], 0.0)
    return seconds


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
