"""The tables of one job while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from fedsim.device.session import Sessions, joined
from fedsim.device.work import Work
from fedsim.device.world import World
from fedsim.files import write_table
from fedsim.log import RowLog, SessionLog
from fedsim.schema import EVALS, GAUGES, GROUPS, STEPS
from fedsim.server.gauges import Gauges
from fedsim.units import FloatArray

_ROWS_AT_ONCE = 1 << 14  # sessions are told to the gauges in portions of at least so many


class GaugeLog:
    """The gauges of a job, folded from its sessions in large portions."""

    def __init__(self, interval_s: float, world: World, work: Work) -> None:
        self._world, self._work = world, work
        self._outlives_windows = world.device.outlives_windows
        curve = world.availability.curve
        self._gauges = Gauges(
            interval_s,
            changes=curve.changes,
            scale=curve.scale,
            n_devices=world.fleet.n_devices,
            outlives_windows=self._outlives_windows,
        )
        self._pending: list[Sessions] = []
        self._n_pending = 0

    def add(self, rows: Sessions) -> None:
        """Add sessions that are certain to go as their rows say."""
        self._pending.append(rows)
        self._n_pending += len(rows)

    def waits(self, arrived_at: FloatArray, started_at: FloatArray) -> None:
        """Add reports that waited for a worker from when they arrived until they were taken."""
        self._gauges.waits(arrived_at, started_at)

    def advance(self, now: float) -> None:
        """All sessions that began before ``now`` have been added, and so have the reports that came before."""
        if self._n_pending >= _ROWS_AT_ONCE:
            self._tell()
            self._gauges.advance(now)

    def _tell(self) -> None:
        rows = joined(self._pending)
        self._pending, self._n_pending = [], 0
        spent = self._world.spent(rows, self._work)
        present = None
        if self._outlives_windows:
            present = self._world.availability.spells(rows["cell"], rows["assigned_at"], rows["end_at"])
        self._gauges.sessions(rows, spent.download_bytes, spent.upload_bytes, present=present)

    def write(self, folder: Path, *, end_at: float, stepped_at: FloatArray) -> None:
        """Write the table of a run that ended at ``end_at`` and made versions at these instants."""
        if self._pending:
            self._tell()
        columns = self._gauges.table(end_at, stepped_at)
        write_table(folder / f"{GAUGES.name}.parquet", pa.table(columns, schema=GAUGES.arrow()), GAUGES)


@dataclass(frozen=True)
class JobLog:
    """The tables of one job."""

    sessions: SessionLog
    gauges: GaugeLog
    steps: RowLog = field(default_factory=lambda: RowLog(STEPS))
    evals: RowLog = field(default_factory=lambda: RowLog(EVALS))
    groups: RowLog = field(default_factory=lambda: RowLog(GROUPS))
