"""JSON that a diff can be read of: one line per entry of the outermost two levels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(path: Path) -> dict[str, Any]:
    """A file that :func:`save` has written."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def save(path: Path, values: dict[str, Any]) -> None:
    """Write it."""
    path.write_text(_text(values, 2) + "\n", encoding="utf-8")


def _text(values: Any, n_levels: int) -> str:
    if not n_levels or not isinstance(values, dict):
        return json.dumps(values)
    lines = [f"{json.dumps(key)}: {_text(value, n_levels - 1)}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}"
