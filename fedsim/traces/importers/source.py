"""What every importer says about where its folder came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import InputError, printable
from fedsim.files import existing, sha256


def source_file(path: Path, what: str) -> Path:
    """The path if it is a file, else an :class:`InputError`."""
    if not existing(path, what).is_file():
        raise InputError(f"{what} must be a file", value=str(path))
    return path


def plain(text: str, name: str, where: str) -> str:
    """The text if it can be written, else (half of a surrogate pair) an :class:`InputError`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r} is no text that can be written", value=text, where=where) from error
    return text


@dataclass(frozen=True)
class Source:
    """Raw data as provenance names them: who reads them, what they are, and the terms that their publishers state."""

    importer: str
    name: str
    licence: str

    def provenance(self, files: Sequence[Path], transforms: Sequence[str], *noted: Mapping[str, Any]) -> dict[str, Any]:
        """The contents of ``provenance.json``: files by name and hash, never by path; then counts and other notes."""
        said = {
            "source": printable(self.name),
            "licence": printable(self.licence),
            "importer": self.importer,
            "files": [{"name": printable(file.name), "sha256": sha256(file)} for file in files],
            "transforms": list(transforms),
        }
        for notes in noted:
            said.update(notes)
        return said
