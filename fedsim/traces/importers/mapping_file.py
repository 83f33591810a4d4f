"""The YAML file that declares how the columns of a state log map to channels.

::

    source: health log of our app          # for the provenance; optional, as is licence
    licence: internal
    device: device_id                      # a column
    time: {column: ts, unit: ms, clock: utc, zone: 8}
    facts: {model: build_model, ram_gb: {column: ram_mb, scale: 0.001}}      # optional
    channels:                              # a row states the whole device, one column per channel
      charging: {column: plugged, values: {AC: 1, USB: 1, NONE: 0}}
      network: {column: net, values: {WIFI: wifi, LTE: 4g, OFFLINE: none, "?": null}}
      battery: {column: level, scale: 100}

or, where a row is one event, ``events`` in place of ``channels``::

    events:
      column: what
      words:
        screen_on: {channel: screen, value: 1}
        network: {channel: network, column: state, values: {WIFI: wifi}}
        heartbeat: skip

``null`` makes the channel unknown; an empty cell states nothing. Without ``values`` a network's cell must be its
canonical name and any other channel's a number (true and false count as 1 and 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.targets import reading
from fedsim.traces.canonical import FACTS, NETWORK_CODE
from fedsim.traces.importers.columns import Clock

_TOP = ("source", "licence", "device", "time", "facts", "channels", "events")
_NULLS = ("", "null", "~")
_UNKNOWN = float("nan")


@dataclass(frozen=True)
class Statement:
    """What some cells say about one channel: of all rows, or of those whose event is ``word``.

    The value is ``constant``, or the cell of ``column`` looked up in ``table`` (None: taken as it is) times
    ``scale``. ``key`` is the place in the mapping file, for messages.
    """

    key: str
    channel: str
    word: str | None = None
    constant: float | None = None
    column: str | None = None
    table: Mapping[str, float] | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Fact:
    """The column of a static fact."""

    column: str
    scale: float = 1.0


@dataclass(frozen=True)
class StateLog:
    """What a mapping file declares; ``event_column`` and ``skipped`` words belong to logs of events."""

    device: str
    time: str
    clock: Clock
    statements: tuple[Statement, ...]
    facts: Mapping[str, Fact]
    event_column: str | None
    skipped: frozenset[str]
    source: str | None
    licence: str

    @property
    def columns(self) -> list[str]:
        """All columns that are read, each once."""
        named = [self.device, self.time, self.event_column, *(statement.column for statement in self.statements)]
        named += [fact.column for fact in self.facts.values()]
        return list(dict.fromkeys(name for name in named if name is not None))

    @classmethod
    def load(cls, path: Path) -> StateLog:
        """Read and check the file; every message names the key that is wrong."""
        try:
            # the base loader keeps every scalar as its text: `no`, `on` and 1.0 stay what the log says
            with reading(path, "mapping"):
                declared = yaml.load(existing(path, "mapping").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # TypeError: a list as a key
            raise InputError(f"mapping is not valid YAML ({error})", where=path) from error
        try:
            return _state_log(declared)
        except InputError as error:
            raise InputError(str(error), where=path) from error


def _state_log(declared: Any) -> StateLog:
    top = _group(declared, "mapping", _TOP, needed=("device", "time"))
    if ("channels" in top) == ("events" in top):
        raise InputError("one of the keys must be given", value="channels, events", allowed="either, not both")
    time = _group(top["time"], "time", ("column", "unit", "clock", "zone"), needed=("column", "unit", "clock"))
    try:
        clock = Clock(_text(time, "unit", "time"), _text(time, "clock", "time"), _text(time, "zone", "time", "0"))
    except InputError as error:
        raise InputError(f"time: {error}") from error
    statements, event_column, skipped = (
        _of_channels(top["channels"]) if "channels" in top else _of_events(top["events"])
    )
    return StateLog(
        device=_text(top, "device", ""),
        time=_text(time, "column", "time"),
        clock=clock,
        statements=statements,
        facts=_facts(top.get("facts", {})),
        event_column=event_column,
        skipped=skipped,
        source=_text(top, "source", "") if "source" in top else None,
        licence=_text(top, "licence", "", "not stated"),
    )


def _of_channels(declared: Any) -> tuple[tuple[Statement, ...], None, frozenset[str]]:
    channels = _group(declared, "channels", CHANNELS)
    if not channels:
        raise InputError("no channel is declared: channels", allowed=", ".join(CHANNELS))
    statements = []
    for channel, given in channels.items():
        key = f"channels.{channel}"
        cell = _group(given, key, ("column", "values", "scale"), needed=("column",))
        statements.append(_statement(cell, key, channel))
    return tuple(statements), None, frozenset()


def _of_events(declared: Any) -> tuple[tuple[Statement, ...], str, frozenset[str]]:
    events = _group(declared, "events", ("column", "words"), needed=("column", "words"))
    words = _group(events["words"], "events.words", None)
    statements = []
    for word, given in words.items():
        if given == "skip":
            continue
        key = f"events.words.{word}"
        cell = _group(given, key, ("channel", "value", "column", "values", "scale"), needed=("channel",))
        channel = _text(cell, "channel", key)
        if channel not in CHANNELS:
            raise InputError(f"unknown channel: {key}.channel", value=channel, allowed=", ".join(CHANNELS))
        if ("value" in cell) == ("column" in cell):
            raise InputError(f"one of the keys must be given: {key}", value="value, column", allowed="either, not both")
        statements.append(_statement(cell, key, channel, word))
    if not statements:
        raise InputError("no word states anything: events.words", allowed="{word: {channel: …, value: …}}")
    skipped = frozenset(word for word, given in words.items() if given == "skip")
    return tuple(statements), _text(events, "column", "events"), skipped


def _statement(cell: Mapping[str, Any], key: str, channel: str, word: str | None = None) -> Statement:
    scale = _number(cell["scale"], f"{key}.scale") if "scale" in cell else 1.0
    if "scale" in cell and channel != "battery":
        raise InputError(f"only the battery has a scale: {key}.scale", value=cell["scale"])
    if "value" in cell:
        return Statement(key, channel, word, constant=_value(_text(cell, "value", key), channel, f"{key}.value"))
    table = None
    if "values" in cell:
        given = _group(cell["values"], f"{key}.values", None)
        texts = {name: _text(given, name, f"{key}.values") for name in given}
        table = {name: _value(text, channel, f"{key}.values.{name}") for name, text in texts.items()}
    return Statement(key, channel, word, column=_text(cell, "column", key), table=table, scale=scale)


def _value(text: str, channel: str, key: str) -> float:
    """A canonical value as it stands in the mapping file."""
    if text in _NULLS:
        return _UNKNOWN
    if channel == "network":
        if text not in NETWORK_CODE:
            raise InputError(f"unknown network: {key}", value=text, allowed=", ".join((*NETWORKS, "null")))
        return float(NETWORK_CODE[text])
    value = _number(text, key)
    if not (0 <= value <= 100 if channel == "battery" else value in (0, 1)):
        allowed = "0 … 100, null" if channel == "battery" else "0, 1, null"
        raise InputError(f"value out of range: {key}", value=text, allowed=allowed)
    return value


def _facts(declared: Any) -> dict[str, Fact]:
    facts = {}
    for name, given in _group(declared, "facts", FACTS).items():
        if isinstance(given, str):
            facts[name] = Fact(given)
            continue
        cell = _group(given, f"facts.{name}", ("column", "scale"), needed=("column",))
        if "scale" in cell and name == "model":
            raise InputError("a model has no scale: facts.model.scale", value=cell["scale"])
        scale = _number(cell.get("scale", "1"), f"facts.{name}.scale")
        facts[name] = Fact(_text(cell, "column", f"facts.{name}"), scale)
    return facts


def _group(given: Any, key: str, allowed: tuple[str, ...] | None, *, needed: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """A group of keys: no unknown one (unless ``allowed`` is None), all ``needed`` ones there."""
    if not isinstance(given, dict):
        raise InputError(
            f"{key} must be a group of keys", value=given, allowed=None if allowed is None else ", ".join(allowed)
        )
    for name in given:
        if allowed is not None and name not in allowed:
            raise InputError(f"unknown key in {key}", value=name, allowed=", ".join(allowed))
    for name in needed:
        if name not in given:
            raise InputError(f"{key} needs the key", value=name)
    return given


def _text(group: Mapping[str, Any], name: str, key: str, default: str | None = None) -> str:
    value = group.get(name, default)
    if not isinstance(value, str):
        raise InputError(f"{key}.{name} must be one value".lstrip("."), value=value)
    return value


def _number(text: Any, key: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key} must be a number", value=text) from error
    if not abs(value) < float("inf"):
        raise InputError(f"{key} must be a number", value=text)
    return value
