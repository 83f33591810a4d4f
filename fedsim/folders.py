"""Folders that are written whole: each form of them is known by its files, and replaced by its own kind alone."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedsim.errors import InputError
from fedsim.targets import beside, is_locked, sweep, target_of, work_of, writing

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@dataclass(frozen=True)
class Form:
    """A kind of folder that fedsim writes as a whole, known by the names of its files.

    A folder is of the form if it holds all ``needed`` files, two at least, and nothing but ``needed`` and ``optional``
    ones.
    """

    what: str
    needed: frozenset[str]
    optional: frozenset[str]

    def require_replaceable(self, path: Path) -> None:
        """Refuse to replace anything but an empty folder and one of this form."""
        with writing(path):
            is_fine = not _holds_something(path) or (path.is_dir() and self._is_of(path))
        if not is_fine:
            raise InputError(f"will not replace what is not a {self.what}", value=path, allowed="a new folder")

    def _is_of(self, folder: Path) -> bool:
        with os.scandir(folder) as entries:
            are_files = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        names = are_files.keys()
        return all(are_files.values()) and self.needed <= names <= self.needed | self.optional and len(names) > 1


def require_new(path: Path, *, option: str) -> None:
    """Refuse to replace what a folder holds; ``option`` is what the user may give to do so.

    What dead processes left beside it is swept, whether it is refused or not.
    """
    with writing(path):
        sweep(target_of(path))
        if _holds_something(path):
            raise InputError("will not replace what is there", value=path, allowed=f"a new folder{option}")


@contextmanager
def whole_folder(path: Path, form: Form) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends without error.

    Raises:
        InputError: ``path`` holds anything but files of the form, or cannot be written.
    """
    form.require_replaceable(path)
    with writing(path):
        target = target_of(path)
        temporary = beside(target, "tmp")
        sweep(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        with writing(path, temporary):
            yield temporary
        form.require_replaceable(path)  # others may have put something there in the meantime
        with writing(path):
            _take_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was replaced, if it was exchanged


def _holds_something(path: Path) -> bool:
    """Anything but nothing and an empty folder."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _take_place(new: Path, target: Path) -> None:
    if not _holds_something(target):
        os.replace(new, target)
    elif not _exchange(new, target):
        old = beside(target, "old")
        os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or not sys.platform.startswith("linux"):
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """The folder ``.NAME.work`` beside ``path``, which one process at a time may use; it stays until it is removed.

    Raises:
        InputError: another process uses it.
    """
    with writing(path):
        work = work_of(target_of(path))
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
    try:
        with writing(path):
            is_ours = is_locked(descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(work))
        if not is_ours:
            raise InputError("another command is writing there", value=path)
        yield work
    finally:
        os.close(descriptor)
