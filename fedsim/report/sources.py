"""Where the values of a run come from, as the comments of the shipped configuration say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fedsim.files import shipped

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?P<value>.*?)(?:\s#\s*(?P<note>.*))?$")


class Noted(NamedTuple):
    """A value of the run that equals the shipped one, with the comment that stands beside it."""

    key: str
    value: Any
    note: str

    @property
    def is_assumed(self) -> bool:
        """Whether the comment says that the value was assumed rather than measured or published."""
        return "assumed" in self.note


def noted_values(config: dict[str, Any], folder: Path | None = None) -> list[Noted]:
    """The commented values of the configuration tree (by default the shipped one) that the run kept.

    A value the run changed is the user's choice and is left out, as are options of a group that the
    run did not choose (their ``_target_`` differs).
    """
    folder = shipped("configs") if folder is None else folder
    found: dict[str, Noted] = {}
    for path in sorted(folder.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        group = [] if text.startswith("# @package _global_") else list(path.relative_to(folder).parent.parts)
        values = yaml.safe_load(text) or {}
        if _value(values, ["_target_"]) not in (None, _value(config, [*group, "_target_"])):
            continue
        for keys, note in _notes(text):
            value = _value(values, keys)
            if value is not None and value == _value(config, [*group, *keys]):
                key = ".".join([*group, *keys])
                found.setdefault(key, Noted(key, value, note))
    return [found[key] for key in sorted(found)]


def _notes(text: str) -> list[tuple[list[str], str]]:
    """Key path and comment of each commented line."""
    notes: list[tuple[list[str], str]] = []
    stack: list[tuple[int, str]] = []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        indent = len(match["indent"])
        stack = [level for level in stack if level[0] < indent] + [(indent, match["key"])]
        if match["note"]:
            notes.append(([key for _, key in stack], match["note"].strip()))
    return notes


def _value(config: Any, keys: list[str]) -> Any:
    """The value at a path of keys; None where there is none."""
    for key in keys:
        if not isinstance(config, dict) or key not in config:
            return None
        config = config[key]
    return config
