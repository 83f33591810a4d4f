"""Values that a line can show: what an error repeats of a configuration has a bound."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fedsim.errors import InputError
from fedsim.ranges import Range

FINITE = Range(-sys.float_info.max, sys.float_info.max)
INT64 = Range(-(2**63), 2**63 - 1)
_LONGEST_TEXT = 1000
_LONGEST_LIST = 500
_LONGEST_SHOWN = 200


def shown(value: object) -> object:
    """The value as far as it fits into a line; null as its name in YAML."""
    if value is None:
        return "null"
    if isinstance(value, int) and not INT64.holds(value):
        return float(value) if FINITE.holds(value) else "a number of many digits"
    text = str(value)
    return value if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def dotted(key: str, name: object) -> str:
    """The full name of a key within a group."""
    return f"{key}.{name}" if key else str(name)


def check_lines(value: Any, key: str) -> None:
    """Refuse what no line can show and no table hold, wherever it stands: texts, names, lists, whole numbers."""
    if isinstance(value, str) and not (len(value) <= _LONGEST_TEXT and value.replace("\n", "").isprintable()):
        allowed = f"up to {_LONGEST_TEXT} signs that can be printed"
        raise InputError(f"{shown(key)} is no text", value=shown(value), allowed=allowed)
    if isinstance(value, int) and not INT64.holds(value):
        raise InputError(f"{shown(key)} is too large", value=shown(value), allowed="numbers of 64 bits")
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        raise InputError(f"{shown(key)} is too long", value=len(value), allowed=f"up to {_LONGEST_LIST} values")
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        if not isinstance(name, str):
            raise InputError(f"{shown(key)} has a name that is no text", value=shown(name), allowed="a text, in quotes")
        check_lines(name, f"a key of {key}" if key else "a key")
        check_lines(inner, dotted(key, name))
    for inner in value if isinstance(value, list) else ():
        check_lines(inner, key)
