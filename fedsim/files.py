"""Files as fedsim reads and writes them: text, JSON and tables, with one clear line when one is bad."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError
from fedsim.schema import Table
from fedsim.targets import descriptor_of, reading, whole_file

_MAX_DIGITS = 300  # of a whole number; a float holds 308
_MAX_DEPTH = 100  # of JSON that is written: far from where a reader, or a command that adds to it, gives up


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys; what no JSON reader takes is refused."""
    write_text(path, json_text(value, where=path))


def json_text(value: Any, *, where: Path | str) -> str:
    """JSON with sorted keys; ``where`` it belongs is named if it cannot be written or read again.

    Raises:
        InputError: NaN and infinities, halves of a surrogate pair, endless or too deep nesting, other objects.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
        if "\n" + "  " * _MAX_DEPTH in text:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        return text
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"cannot be written as JSON ({error})", where=where) from error


def write_table(path: Path, table: pa.Table, schema: Table) -> None:
    """Write a Parquet file after casting it to its documented schema."""
    with whole_file(path) as temporary:
        pq.write_table(table.cast(schema.arrow()), temporary, compression="zstd")


def existing(path: Path | str, what: str) -> Path:
    """The path, or an :class:`InputError` that names what is missing, or is neither a file nor a folder."""
    path = Path(path)
    with reading(path, what):
        if not path.exists():
            raise InputError(f"{what} not found", value=path)
        if not (path.is_file() or path.is_dir() or descriptor_of(path) is not None):
            raise InputError(f"{what} is neither a file nor a folder", value=path)
    return path


def read_json(path: Path | str, what: str) -> Any:
    """Read a JSON file; a missing or truncated one, and what JSON does not allow, is an :class:`InputError`."""
    path = existing(path, what)
    with reading(path, what):
        data = path.read_bytes()
    try:
        value = json.loads(data, **JSON_NUMBERS)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON ({error})", where=path) from error
    return value


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) == float("inf"):
        raise ValueError(f"a number that is too large: {text[:40]}")
    return number


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} digits")
    return int(text)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


JSON_NUMBERS: Mapping[str, Any] = {"parse_float": _finite, "parse_int": _whole, "parse_constant": _no_number}
"""What to tell Python's JSON decoder, which else takes NaN, infinities and whole numbers that no float can hold."""


def read_table(path: Path | str, schema: Table, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a documented schema, its columns checked for presence and type."""
    path = existing(path, f"table {schema.name!r}")
    try:
        present = pq.read_schema(path).names  # what is missing is for the schema to tell
        table = pq.read_table(path, columns=None if columns is None else [c for c in columns if c in present])
        table.validate(full=True)  # texts that are no UTF-8
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"table {schema.name!r} cannot be read ({error})", where=path) from error
    return schema.check(table, where=path, columns=columns)


def portable(value: Any, folders: Mapping[str, str]) -> Any:
    """A configuration's value with folders by their names, ``<datasets>/clicks`` say: the same on every machine."""
    if isinstance(value, Mapping):
        return {key: portable(item, folders) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item, folders) for item in value]
    if isinstance(value, str):
        for name, folder in folders.items():
            if value.startswith(f"{folder}/"):
                return f"<{name}>{value[len(folder) :]}"
    return value


def sha256(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    with reading(path, "file"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped(*parts: str) -> Path:
    """A file or folder that travels with fedsim: in the wheel under ``_shipped``, else beside the package."""
    package = Path(__file__).resolve().parent
    root = package / "_shipped"
    return (root if root.exists() else package.parent).joinpath(*parts)
