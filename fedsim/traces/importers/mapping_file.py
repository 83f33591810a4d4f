"""The YAML file that declares how the columns of a state log map to channels.

::

    source: health log of our app          # for the provenance
    licence: internal
    device: device_id                      # column
    time: {column: ts, unit: ms, clock: utc, zone: 8}
    facts: {model: build_model, ram_gb: ram, os_version: sdk}       # columns; optional
    channels:                              # wide: a row states several channels
      charging: {column: plugged, values: {AC: 1, USB: 1, NONE: 0}}
      network: {column: net, values: {WIFI: wifi, LTE: 4g, OFFLINE: none, "?": null}}
      battery: {column: level, scale: 100}

or, where a row states one channel, in place of ``channels``::

    channel: {column: what, values: {POWER: charging, NET: network, BAT: battery}}   # others: skip
    value: {column: state, values: {charging: {ON: 1, OFF: 0}, network: {WIFI: wifi}}, scale: {battery: 1}}

``null`` makes the channel unknown. Without ``values`` a network must be a canonical name, any other channel a
number (true and false count as 1 and 0). An empty cell states nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import FACTS
from fedsim.traces.importers.columns import Clock

SKIP = "skip"
_UNKNOWN = float("nan")
_NULLS = ("", "null", "~")


@dataclass(frozen=True)
class ChannelValues:
    """How the cells of one channel become values; ``table`` is None if they are taken as they are."""

    channel: str
    table: Mapping[str, float] | None
    scale: float = 1.0


@dataclass(frozen=True)
class Wide:
    """Every row states several channels, each in a column of its own."""

    columns: Mapping[str, ChannelValues]  # by column


@dataclass(frozen=True)
class Long:
    """Every row states one channel."""

    channel_column: str
    channels: Mapping[str, str]  # channel by the word that names it, or "skip"
    value_column: str
    values: Mapping[str, ChannelValues]  # by channel


@dataclass(frozen=True)
class Mapping_:
    """What a mapping file declares."""

    device: str
    time: str
    clock: Clock
    form: Wide | Long
    facts: Mapping[str, str] = field(default_factory=dict)  # column by fact
    source: str | None = None
    licence: str = "not stated"
