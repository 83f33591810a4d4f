"""Requirements, variables and changes as flags say them."""

from __future__ import annotations

import re
from typing import Any

from fedsim.errors import InputError

_CONDITION = re.compile(r"\s*([\w.]+?)\s*(?:\(([^)]*)\))?\s*(<=|>=)\s*(.+?)\s*")


def condition(text: str) -> dict[str, Any]:
    """A requirement as a flag says it: ``days<=7``, ``auc>=0.8``, ``days_to.auc(0.8)<=36 h``."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise InputError("--require", value=text, allowed="QUANTITY<=NUMBER or QUANTITY>=NUMBER, as 'days<=7'")
    name, target, sign, limit = found.groups()
    told: dict[str, Any] = {"metric": name, "at_most" if sign == "<=" else "at_least": _number_or_text(limit)}
    return told if target is None else told | {"target": _number_or_text(target)}


def span(text: str) -> tuple[str, Any]:
    """A variable as a flag says it: ``KEY=20..2000``, ``KEY=1.0..2.0:0.05``, ``KEY=1.0,1.3,1.5``."""
    key, sign, values = text.partition("=")
    if not (key and sign and values):
        raise InputError("a variable", value=text, allowed="KEY=20..2000, KEY=1.0..2.0:0.05, or KEY=1.0,1.3,1.5")
    found = re.fullmatch(r"(-?[\d_.]+?)\.\.(-?[\d_.]+?)(?::([\d_.]+))?", values)
    if found is None:
        return key, [_number_or_text(each) for each in values.split(",")]
    numbers = [_number_or_text(each) for each in found.groups() if each is not None]
    return key, dict(zip(("from", "to", "step"), numbers, strict=False))


def _number_or_text(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        return _float_or_text(text)


def _float_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def split_changes(text: str) -> list[str]:
    """Overrides of one text, with commas between them: ``fleet.rule=charging,server.over_selection=1.5``."""
    return [quoted(each) for each in re.split(r",(?=[+~]*[\w./@]+=(?!=))", text)]


def quoted(override: str) -> str:
    """An override whose value has signs that Hydra's grammar reads gets quotes, unless it has its own."""
    key, sign, value = override.partition("=")
    if not sign or re.fullmatch(r"[\w.:+\-/]*", value) or value[:1] in "'\"[{$":
        return override
    return f'{key}="{value}"' if '"' not in value else f"{key}='{value}'"
