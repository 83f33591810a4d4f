"""What a run assumes: values of its YAML files that are marked ``assumed``, with the range that stands beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.config.sources import chosen_files
from fedsim.decide.campaign import Tried
from fedsim.decide.spec import Change

_LINE = re.compile(r"^(\s*)([A-Za-z_]\w*):\s*([^#]*?)\s*(?:#\s*(.*))?$")
_RANGE = re.compile(
    r"assumed\s*\(\s*([\d.,]+)\s*(thousand|million|[a-zA-Z/%]+)?\s*…\s*([\d.,]+)\s*(thousand|million|[a-zA-Z/%]+)?"
)
_FACTORS = {"thousand": 1e3, "million": 1e6, "MB": 1e6, "MB/s": 1e6, "GB": 1e9, "GB/s": 1e9, None: 1.0}


@dataclass(frozen=True)
class Assumed:
    """A value that a run read, with what its file says of it; ``change`` is None where no range can be read."""

    key: str
    value: Any
    source: str
    change: Change | None


def assumed_of(tried: Tried, values: Mapping[str, Any]) -> tuple[Assumed, ...]:
    """The assumed values of a candidate's configuration ``values`` that the run uses and no override of it sets."""
    words = tried.candidate.words
    said = {word.lstrip("+").partition("=")[0] for word in words}
    found = {}
    for prefix, file in chosen_files(words):
        for key, note in _marked(file, prefix):
            value = _at(values, key)
            if key not in said and isinstance(value, int | float) and not isinstance(value, bool):
                found[key] = Assumed(key, value, note, _change(key, note))
    return tuple(found.values())


def _marked(file: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted keys of a YAML file whose comment says ``assumed``, with the comment."""
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        indent, name, _, note = len(found[1]), found[2], found[3], found[4] or ""
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, name))
        if "assumed" in note:
            yield ".".join([*([prefix] if prefix else []), *(each for _, each in above)]), note


def _at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _change(key: str, note: str) -> Change | None:
    """The ends of the range as values to try; None: it cannot be read as numbers."""
    found = _RANGE.search(note)
    if found is None:
        return None
    low_unit, high_unit = found[2] or found[4], found[4]
    if low_unit not in _FACTORS or high_unit not in _FACTORS:
        return None
    ends = [_number(found[1]) * _FACTORS[low_unit], _number(found[3]) * _FACTORS[high_unit]]
    return Change(key, key, tuple(int(each) if each == int(each) else each for each in ends), note)


def _number(text: str) -> float:
    return float(text.replace(",", "").rstrip("."))
