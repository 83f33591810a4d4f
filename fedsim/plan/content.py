"""What a run will read, by its content: two runs with the same key come to the same tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fedsim
from fedsim.errors import InputError
from fedsim.files import read_json, sha256, write_json
from fedsim.schema import RUN_SCHEMA

KEY_DIGITS = 16
# Where files are, what is made of them, what a sweeper is told: none of it changes a table.
_NOT_PART = ("report", "paths", "hydra", "force", "objective", "estimate")


class Digests:
    """SHA-256 of files and folders, of files that have not changed from a list of those seen before.

    A file counts as unchanged while its size and the time of its last change are.
    """

    def __init__(self, seen: Path) -> None:
        self._seen_at = seen
        self._seen: dict[str, list[Any]] = _read_or_nothing(seen)
        self._is_new = False

    def of(self, path: Path) -> str:
        """The digest of a file, or of the names and contents of all files in a folder."""
        if path.is_file():
            return self._of_file(path)
        files = sorted(each for each in path.rglob("*") if each.is_file())
        return digest([[str(each.relative_to(path)), self._of_file(each)] for each in files])

    def _of_file(self, path: Path) -> str:
        state, place = path.stat(), str(path.resolve())
        found = self._seen.get(place)
        if found is None or found[:2] != [state.st_size, state.st_mtime_ns]:
            found = self._seen[place] = [state.st_size, state.st_mtime_ns, sha256(path)]
            self._is_new = True
        return str(found[2])

    def keep(self) -> None:
        """Write the list, if it has grown."""
        if self._is_new:
            self._seen_at.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._seen_at, self._seen)
            self._is_new = False


def _read_or_nothing(path: Path) -> dict[str, list[Any]]:
    """A list that cannot be read only costs time."""
    try:
        return dict(read_json(path, "list of digests")) if path.exists() else {}
    except (InputError, TypeError, ValueError):
        return {}


def digest(value: Any) -> str:
    """Hex digest of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def run_key(composed: Mapping[str, Any], digests: Digests) -> str:
    """The key of runs of a configuration, but for the seed, with files by their content.

    Simplification: code of the user's own, which a ``_target_`` names, counts by its name.
    """
    values = {name: value for name, value in composed.items() if name not in _NOT_PART}
    content = {"config": by_content(values, digests), "schema": RUN_SCHEMA, "version": fedsim.__version__}
    return digest(content)[:KEY_DIGITS]


def by_content(value: Any, digests: Digests) -> Any:
    """The value with what names a file or a folder replaced by its digest."""
    if isinstance(value, Mapping):
        return {str(key): by_content(item, digests) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [by_content(item, digests) for item in value]
    if isinstance(value, str) and "/" in value and Path(value).exists():
        return f"sha256:{digests.of(Path(value))}"
    return value
