"""What every importer says about where its trace set came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsim.errors import InputError
from fedsim.files import existing, sha256


def source_file(path: Path, what: str) -> Path:
    """The path if it is a file, else an :class:`InputError`."""
    if not existing(path, what).is_file():
        raise InputError(f"{what} must be a file", value=str(path))
    return path


def provenance(
    *, source: str, licence: str, importer: str, files: Sequence[Path], transforms: Sequence[str]
) -> dict[str, Any]:
    """The contents of ``provenance.json``: files by name and hash, never by path."""
    return {
        "source": source,
        "licence": licence,
        "importer": importer,
        "files": [{"name": file.name, "sha256": sha256(file)} for file in files],
        "transforms": list(transforms),
    }
