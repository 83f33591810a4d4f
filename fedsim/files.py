"""Reading and writing files: whole or not at all, and one clear line when a file is bad."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.schema import Table


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that is renamed to it when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, what: str) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends without error.

    A folder that is there is replaced only if it is empty or has a ``provenance.json``, as all that fedsim writes
    in this way has. ``what`` names the kind of folder in the message.

    Raises:
        InputError: the folder holds anything else, or is a file.
    """
    if _holds_something(path) and not (path / "provenance.json").exists():
        raise InputError(f"will not replace what is not a {what}", value=str(path), allowed="a new folder")
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)  # a folder that holds something cannot be renamed over
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds_something(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; NaN is refused because no JSON reader takes it."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_table(path: Path, table: pa.Table, schema: Table) -> None:
    """Write a Parquet file after casting it to its documented schema."""
    with whole_file(path) as temporary:
        pq.write_table(table.cast(schema.arrow()), temporary, compression="zstd")


def existing(path: Path | str, what: str) -> Path:
    """The path, or an :class:`InputError` that names what is missing."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{what} not found", value=str(path))
    return path


def read_json(path: Path | str, what: str) -> Any:
    """Read a JSON file; a missing or truncated one is an :class:`InputError`."""
    path = existing(path, what)
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON ({error})", where=path) from error
    except OSError as error:
        raise InputError(f"{what} cannot be read ({error.strerror})", where=path) from error


def read_table(path: Path | str, schema: Table, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a documented schema, its columns checked for presence and type."""
    path = existing(path, f"table {schema.name!r}")
    try:
        present = pq.read_schema(path).names  # what is missing is for the schema to tell
        table = pq.read_table(path, columns=None if columns is None else [c for c in columns if c in present])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"table {schema.name!r} cannot be read ({error})", where=path) from error
    return schema.check(table, where=path, columns=columns)


def sha256(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped(*parts: str) -> Path:
    """A file or folder that travels with fedsim: in the wheel under ``_shipped``, else beside the package."""
    package = Path(__file__).resolve().parent
    root = package / "_shipped"
    return (root if root.exists() else package.parent).joinpath(*parts)
