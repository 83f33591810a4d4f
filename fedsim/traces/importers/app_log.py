"""What the logs of an app have in common: a column of users, a clock, and labels for the provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.traces.importers.columns import Clock
from fedsim.traces.importers.source import Source


@dataclass(frozen=True, kw_only=True)
class AppLog:
    """How a log of an app is read; its users become devices.

    ``user`` names a column. ``unit``, ``clock`` and ``zone`` are those of :class:`Clock`. ``source`` says what the log
    is (None: its file's name) and ``licence`` under which terms.
    """

    user: str = "user"
    unit: str = "iso"
    clock: str = "utc"
    zone: str = "0"
    source: str | None = None
    licence: str = "not stated"

    def read_clock(self) -> Clock:
        """The log's clock; an :class:`InputError` if unit, clock and zone do not fit."""
        return Clock(self.unit, self.clock, self.zone)

    def source_of(self, importer: str, src: Path) -> Source:
        """What provenance says of the log."""
        return Source(importer, self.source or src.name, self.licence)

    def plan(self, importer: str, *columns: str) -> dict[str, Any]:
        """What the rows depend on, for :class:`fedsim.traces.importers.shards.Grouping`."""
        return {"importer": importer, "columns": [self.user, *columns], "clock": [self.unit, self.clock, self.zone]}
