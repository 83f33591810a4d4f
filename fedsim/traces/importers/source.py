"""What every importer says about where its folder came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import InputError
from fedsim.files import existing, sha256


def source_file(path: Path, what: str) -> Path:
    """The path if it is a file, else an :class:`InputError`."""
    if not existing(path, what).is_file():
        raise InputError(f"{what} must be a file", value=str(path))
    return path


@dataclass(frozen=True)
class Source:
    """Raw data as provenance names them: who reads them, what they are, and the terms that their publishers state."""

    importer: str
    name: str
    licence: str

    def provenance(self, files: Sequence[Path], transforms: Sequence[str], *noted: Mapping[str, Any]) -> dict[str, Any]:
        """The contents of ``provenance.json``: files by name and hash, never by path; then counts and other notes."""
        said = {
            "source": self.name,
            "licence": self.licence,
            "importer": self.importer,
            "files": [{"name": file.name, "sha256": sha256(file)} for file in files],
            "transforms": list(transforms),
        }
        for notes in noted:
            said.update(notes)
        return said
