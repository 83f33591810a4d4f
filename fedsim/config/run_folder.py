"""A run folder belongs to one run: one step opens it, refuses a used one, or clears it wholly."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsim.errors import FedsimError, InputError
from fedsim.schema import RUN_TABLES, SESSIONS

_TABLES = ("sessions", *(f"{table.name}.parquet" for table in RUN_TABLES if table is not SESSIONS))
RUN_FILES = (
    "summary.json",
    "config.yaml",
    "provenance.json",
    "report.html",
    "model",
    *_TABLES,
)  # cleared in this order
MODEL_FILES = ("final.safetensors", "best.safetensors", "central.safetensors", "model.yaml")


@contextmanager
def opened(folder: Path, *, force: bool) -> Iterator[None]:
    """Have the folder for this run alone, made if need be, until the block ends; whoever else wants it is refused.

    Raises:
        InputError: another process has it, it holds a run and ``force`` is not set, or it holds what is no run's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        _make_room(folder, force=force)
        try:
            yield
        except FedsimError:  # a run that cannot be leaves nothing half-written
            _clear(folder)
            raise
    finally:
        os.close(handle)  # the lock goes with it, and with a process that is killed


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError("another run is writing to the run folder", value=str(folder)) from error


def _make_room(folder: Path, *, force: bool) -> None:
    present, models = _names(folder), _names(folder / "model")
    strangers = sorted([*present - set(RUN_FILES), *(f"model/{name}" for name in models - set(MODEL_FILES))])
    if strangers:
        raise InputError(
            "run folder holds what is no run's", value=strangers[0], where=folder, allowed="a new or empty folder"
        )
    if present and not force:
        raise InputError("run folder holds a run", value=str(folder), allowed="a new folder, or force=true")
    _clear(folder)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not _is_leftover(path)} if folder.is_dir() else set()


def _is_leftover(path: Path) -> bool:
    """Whether a killed run left it."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _clear(folder: Path) -> None:
    """Take a run's files away; first the one that says that it is complete."""
    for path in (folder / name for name in RUN_FILES):
        if path.exists():
            _remove(path)
    for path in list(folder.iterdir()):
        if _is_leftover(path):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
