"""Importers: raw logs and benchmark tables in, a canonical folder with provenance out.

The registry says what each format is called, what it makes and which options it takes. It imports nothing heavy:
an importer's module is loaded when the importer is called (a documented lazy door), so that a command line can
list all formats at once.

A package outside this one adds a format with an entry point of the group ``fedsim.importers`` that names an
:class:`Importer`; ``fedsim traces import NAME`` then finds it::

    [project.entry-points."fedsim.importers"]     # its pyproject.toml
    mylog = "mypackage.formats:MYLOG"

    MYLOG = Importer("Logs of my app.", "mypackage.mylog:import_mylog")     # its mypackage/formats.py
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """One keyword of an importer; on a command line ``name`` becomes ``--name``, ``_`` becomes ``-``.

    ``type`` turns the user's text into the value. A default of None means "not given".
    """

    name: str
    type: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    is_required: bool = False


@dataclass(frozen=True)
class Importer:
    """One format: call it with ``(src, dst, **options)``.

    It writes a trace set (:mod:`fedsim.traces.folder`) or measurements (:mod:`fedsim.traces.measurements`).
    """

    help: str  # one sentence: what it reads
    door: str  # module:function; a module that begins with a dot is one of ours
    options: tuple[Option, ...] = ()

    def function(self) -> Callable[..., None]:
        """What does the work, its module loaded."""
        module, _, name = self.door.partition(":")
        function: Callable[..., None] = getattr(importlib.import_module(module, __name__), name)
        return function

    def __call__(self, src: Path, dst: Path, **options: Any) -> None:
        """Import ``src`` into the folder ``dst``, whole or not at all."""
        self.function()(src, dst, **options)


UNITS = ("iso", "ns", "us", "ms", "s", "min")
CLOCKS = ("utc", "local", "relative")

_USER = Option("user", str, "user", "column that identifies the user; becomes the device id")
_CLOCK = (
    Option("unit", str, "iso", "unit of the instants; iso: dates as text, or timestamp columns", UNITS),
    Option("clock", str, "utc", "what the instants count: UTC, local wall time, or time since the log began", CLOCKS),
    Option("zone", str, "0", "local clock of the users if the log is in UTC: hours (5.5) or a zone (Asia/Shanghai)"),
)
_LABELS = (
    Option("source", str, None, "what the log is, for the provenance (default: its file name)"),
    Option("licence", str, "not stated", "under which terms, for the provenance"),
)

IMPORTERS: Mapping[str, Importer] = {
    "flash": Importer("FLASH state_traces.json: battery, charger, network, screen and lock.", ".flash:import_flash"),
    "fedscale": Importer(
        "FedScale client_behave_trace pickle, or a folder that may hold client_device_capacity as well.",
        ".fedscale:import_fedscale",
        options=(Option("capacity", Path, None, "device capacity pickle (default: the one beside the behaviour)"),),
    ),
    "stunner": Importer(
        "STUNner device-weeks: online and offline durations, one line each.",
        ".stunner:import_stunner",
    ),
    "sessions": Importer(
        "App sessions (user, start, end), CSV or Parquet: a user is available inside a session.",
        ".sessions:import_sessions",
        options=(
            _USER,
            Option("start", str, "start", "column of the instants at which sessions start"),
            Option("end", str, "end", "column of the instants at which they end"),
            *_CLOCK,
            *_LABELS,
        ),
    ),
    "events": Importer(
        "App events (user, time), CSV or Parquet: events close in time make a session.",
        ".events:import_events",
        options=(
            _USER,
            Option("time", str, "time", "column of the instants"),
            Option("gap_s", float, 1800.0, "a longer silence ends a session"),
            Option("tail_s", float, 60.0, "how long a user stays after the last event of a session (assumed)"),
            Option("days", str, "all", "logged: leave out days on which nobody has an event", ("all", "logged")),
            *_CLOCK,
            *_LABELS,
        ),
    ),
    "mapping": Importer(
        "Any CSV or Parquet state log, its columns declared in a YAML file.",
        ".mapping:import_mapping",
        options=(Option("mapping", Path, None, "the YAML file that declares the columns", is_required=True),),
    ),
    "propius": Importer(
        "Propius client_spec_speed pickle: latency, CPU score, RAM and OS by phone model.",
        ".propius:import_propius",
        options=(
            Option(
                "suspect",
                str,
                "trend",
                "latencies copied from another phone by the source's bug: replace by the trend, drop, or keep",
                ("trend", "drop", "keep"),
            ),
        ),
    ),
    "flash_tables": Importer(
        "FLASH model shares, AI-Benchmark 2020, phone speeds and layer timings (a folder).",
        ".flash_tables:import_flash_tables",
        options=(
            Option("propius", Path, None, "Propius pickle that gives RAM, OS, scores and latencies of the models"),
            Option("seed", int, 0, "of the draw that gives unmatched models a latency"),
        ),
    ),
    "sabre": Importer(
        "SABRE bandwidth periods: a JSON file, or folders named for their network (3Glogs, 4Glogs).",
        ".sabre:import_sabre",
        options=(
            Option("network", str, None, "network type where no folder name tells", ("wifi", "2g", "3g", "4g", "5g")),
        ),
    ),
    "ucc5g": Importer(
        "UCC 5G production data set: a zip of CSV files of radio metrics, one row a second.",
        ".ucc5g:import_ucc5g",
    ),
}
