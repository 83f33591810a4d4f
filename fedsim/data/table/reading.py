"""Tables as teams have them: Parquet, CSV, LEAF's JSON and NumPy's npz; a file, a folder, a pattern, here or remote.

A table is read in batches of named columns, as often as is needed; it is never held whole, but for a JSON or npz file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fedsim.errors import InputError, one_line

Column: TypeAlias = Any  # an arrow array; an array of NumPy where a value has dimensions of its own
Batch: TypeAlias = Mapping[str, Column]
KINDS = {"parquet": ("parquet", "pq"), "csv": ("csv", "tsv", "csv.gz", "tsv.gz"), "leaf": ("json",), "npz": ("npz",)}
_CSV_BYTES = 1 << 22  # of a block
_LEAF_USERS = 512  # of a batch


@dataclass(frozen=True)
class Files:
    """The files of a table in their order, all of one kind; ``stamp`` changes when one of them does."""

    system: Any  # an fsspec file system
    paths: tuple[str, ...]
    kind: str
    said: str

    @property
    def stamp(self) -> list[list[Any]]:
        """Name, size and time of change of each file, as far as the file system tells."""
        told = [self.system.info(path) for path in self.paths]
        return [[one["name"], one.get("size"), str(one.get("mtime") or one.get("LastModified"))] for one in told]

    def batches(self, columns: Mapping[str, pa.DataType | None], *, n_rows: int) -> Iterator[tuple[str, Batch]]:
        """File and columns of ``n_rows`` rows or so, in the order of the files; CSV columns are read as these types.

        Raises :class:`InputError` for a file that cannot be read or lacks a column.
        """
        for path in self.paths:
            with _told(path):
                for batch in _READERS[self.kind](self.system, path, columns, n_rows):
                    yield path, batch


def both(train: Files, test: Files) -> Files:
    """The files of two tables of one kind as those of one."""
    if type(train.system) is not type(test.system) or train.kind != test.kind:
        raise InputError("files to train on and to test on are not of one kind", value=f"{train.said}, {test.said}")
    twice = sorted({*train.paths} & {*test.paths})
    if twice:
        raise InputError("a file is to be trained on and tested on", value=twice[0], allowed="one of the two")
    return Files(train.system, train.paths + test.paths, train.kind, f"{train.said}, {test.said}")


def files_of(path: str | Sequence[str]) -> Files:
    """The files behind a path, a folder, a pattern with ``*``, an address that fsspec knows, or a list of these."""
    said = [path] if isinstance(path, str) else list(path)
    if not said:
        raise InputError("a table needs a path", value=said)
    found: list[str] = []
    system = None
    for each in said:
        system, paths = _expanded(each)
        found += paths
    kinds = {kind_of(path) for path in found}
    if len(kinds) != 1:
        raise InputError("files of a table are of several kinds", value=sorted(kinds), where=", ".join(said))
    return Files(system, tuple(found), kinds.pop(), ", ".join(said))


def _expanded(path: str) -> tuple[Any, list[str]]:
    try:
        system, inner = fsspec.core.url_to_fs(path)
        if system.isdir(inner):
            paths = [name for name in system.find(inner) if kind_of(name, default="")]
        else:
            paths = system.glob(inner) if any(sign in inner for sign in "*?[") else [inner]
        paths = sorted(name for name in paths if system.isfile(name))
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"table cannot be found ({one_line(error)})", value=path) from error
    if not paths:
        allowed = f"a file, a folder or a pattern of files that end in {', '.join(sum(KINDS.values(), ()))}"
        raise InputError("table not found", value=path, allowed=allowed)
    return system, paths


def kind_of(path: str, default: str | None = None) -> str:
    """What a file is, by the end of its name."""
    for kind, ends in KINDS.items():
        if path.lower().endswith(tuple(f".{end}" for end in ends)):
            return kind
    if default is None:
        raise InputError("kind of a table's file", value=path, allowed=", ".join(sum(KINDS.values(), ())))
    return default


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(f"table cannot be read ({one_line(error)})", where=path) from error


def _present(columns: Mapping[str, Any], there: Sequence[str], path: str) -> list[str]:
    missing = [name for name in columns if name not in there]
    if missing:
        shown = ", ".join(list(there)[:20]) + (", …" if len(there) > 20 else "")
        raise InputError("table has no column", value=missing[0], where=path, allowed=shown)
    return list(columns)


def _parquet(system: Any, path: str, columns: Mapping[str, Any], n_rows: int) -> Iterator[Batch]:
    with system.open(path, "rb") as handle:
        file = pq.ParquetFile(handle)
        names = _present(columns, file.schema_arrow.names, path)
        for batch in file.iter_batches(n_rows, columns=names):
            yield {name: batch.column(name) for name in names}


def _csv(system: Any, path: str, columns: Mapping[str, Any], n_rows: int) -> Iterator[Batch]:
    parse = pa_csv.ParseOptions(delimiter="\t" if ".tsv" in path.lower() else ",", newlines_in_values=True)
    convert = pa_csv.ConvertOptions(
        column_types={name: kind for name, kind in columns.items() if kind is not None},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read = pa_csv.ReadOptions(block_size=_CSV_BYTES)
    with fsspec.core.OpenFile(system, path, "rb", compression="infer") as handle:
        for batch in pa_csv.open_csv(handle, read, parse, convert):
            names = _present(columns, batch.schema.names, path)
            for first in range(0, batch.num_rows, n_rows):
                part = batch.slice(first, n_rows)
                yield {name: part.column(name) for name in names}


def _leaf(system: Any, path: str, columns: Mapping[str, Any], n_rows: int) -> Iterator[Batch]:
    """LEAF's form (Caldas et al. 2018): ``users``, and ``user_data`` with the lists x and y of each."""
    with system.open(path, "rb") as handle:
        told = json.load(handle)
    if not isinstance(told, dict) or not {"users", "user_data"} <= told.keys():
        raise InputError("JSON is not of LEAF's form", where=path, allowed='{"users": [...], "user_data": {...}}')
    users, data = told["users"], told["user_data"]
    _present(columns, ("user", "x", "y"), path)
    empty = [user for user in users if not data.get(user, {}).get("y")]
    if empty:
        raise InputError("client has no example", value=empty[0], where=path)
    for first in range(0, len(users), _LEAF_USERS):
        some = users[first : first + _LEAF_USERS]
        lengths = [len(data[user]["y"]) for user in some]
        table: dict[str, Any] = {"user": np.repeat(np.array(some, dtype=object), lengths)}
        for name in ("x", "y"):
            table[name] = [value for user in some for value in data[user][name]]
            if len(table[name]) != sum(lengths):
                raise InputError("x and y of a client differ in number", value=some[0], where=path)
        yield {name: pa.array(table[name]) for name in columns}


def _npz(system: Any, path: str, columns: Mapping[str, Any], n_rows: int) -> Iterator[Batch]:
    with system.open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
        names = _present(columns, file.files, path)
        arrays = {name: file[name] for name in names}
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = {name: len(array) for name, array in arrays.items()}
        raise InputError("arrays of the file differ in length", value=sizes, where=path)
    for first in range(0, len(next(iter(arrays.values()))), n_rows):
        part = {name: array[first : first + n_rows] for name, array in arrays.items()}
        yield {name: array if array.ndim > 1 else pa.array(array) for name, array in part.items()}


_READERS: dict[str, Callable[[Any, str, Mapping[str, Any], int], Iterator[Batch]]] = {
    "parquet": _parquet, "csv": _csv, "leaf": _leaf, "npz": _npz,
}  # fmt: skip


def names_of(files: Files) -> list[str]:
    """The columns of the first file."""
    system, path = files.system, files.paths[0]
    with _told(path):
        if files.kind == "leaf":
            return ["user", "x", "y"]
        if files.kind == "parquet":
            with system.open(path, "rb") as handle:
                return list(pq.ParquetFile(handle).schema_arrow.names)
        if files.kind == "npz":
            with system.open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
                return list(file.files)
        parse = pa_csv.ParseOptions(delimiter="\t" if ".tsv" in path.lower() else ",", newlines_in_values=True)
        with fsspec.core.OpenFile(system, path, "rb", compression="infer") as handle:
            return list(pa_csv.open_csv(handle, parse_options=parse).schema.names)
