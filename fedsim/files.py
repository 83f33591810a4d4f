"""Reading and writing files: whole or not at all, and one clear line when a file or the machine is bad.

Every file and folder that fedsim writes as a whole goes through :func:`whole_file` and :func:`whole_folder`:

- It is made under a temporary name, ``.NAME.PID.tmp``, and takes its place at once: the old or the new one stands at
  every instant. (Without Linux's exchange of two names a folder that is replaced is away for a moment, as
  ``.NAME.PID.old``; whoever is killed in that moment leaves it to the next command, which puts it back.)
- A link is followed: what it names is written, and the link stays.
- A pipe, a character device and an open file of the process (``/dev/stdout``, ``>(command)``) are written through;
  nothing reaches them before all of it is there. Other things that are no files are refused.
- A folder is replaced only if it is empty, or holds nothing but the files of its form.
- What processes that are dead left is swept by the next command that writes there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.errors import InputError, WriteError, printable
from fedsim.schema import Table

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing can be written, whatever the name
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_MAX_DIGITS = 300  # of a whole number; a float holds 308
_MAX_DEPTH = 100  # of JSON that is written: far from where a reader, or a command that adds to it, gives up
_MAX_LINKS = 40  # one after the other, as the kernel has it


# ----------------------------------------------------------------------------------------------- faults of the machine


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """What the machine refuses in the block is an :class:`InputError` that names ``what`` and where it is."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what} cannot be read ({_reason(error)})", where=path) from error


@contextmanager
def writing(path: Path | str, temporary: Path | None = None) -> Iterator[None]:
    """What the machine refuses in the block is a :class:`WriteError` that names ``path``.

    With ``temporary``, the name under which ``path`` is made, errors that name it name ``path`` instead, and what
    cannot be read from elsewhere is told as such.
    """
    try:
        yield
    except OSError as error:
        named = None if error.errno in _FULL else error.filename
        if temporary is not None and named is not None and not str(named).startswith(str(temporary)):
            raise InputError(f"file cannot be read ({_reason(error)})", where=named) from error
        raise WriteError(f"cannot be written ({_reason(error)})", value=Path(path)) from error
    except UnicodeEncodeError as error:  # of a text, or of a name that is no text
        raise InputError(f"cannot be written ({error})", value=Path(path)) from error
    except InputError as error:
        if temporary is None or printable(str(temporary)) not in str(error):
            raise
        raise type(error)(str(error).replace(printable(str(temporary)), str(path))) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


# ------------------------------------------------------------------------------------------------------ whole files


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name whose file takes the place of ``path`` when the block ends without error.

    Raises:
        InputError: a folder, or what cannot be written.
    """
    with writing(path):
        is_stream = _is_stream(path)
    with _poured(path) if is_stream else _replaced(path) as temporary:
        yield temporary


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    require_file(path)
    with writing(path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
    temporary = _beside(target, "tmp")
    try:
        with writing(path, temporary):
            yield temporary
        with writing(path):
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _poured(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedsim-") as folder:
        temporary = Path(folder) / "whole"
        with writing(path, temporary):
            yield temporary
        with writing(path), temporary.open("rb") as source, open(_opened(path), "wb") as sink:
            shutil.copyfileobj(source, sink)


def _is_stream(path: Path) -> bool:
    """Whether a name stands for what is written through, never replaced."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise InputError("neither a file, a pipe nor a character device", value=path)
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _descriptor(path: Path) -> int | None:
    """The number of the open file of this process that a name such as /dev/stdout or /dev/fd/63 stands for."""
    for _ in range(_MAX_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)
    return None


def _opened(path: Path) -> int:
    """A descriptor that writes to what the name stands for, from where an open file of ours is now."""
    number = _descriptor(path)
    if number is not None:
        sys.stdout.flush()  # what was printed stands before
        return os.dup(number)
    try:
        # a pipe without a reader would wait for ever
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise WriteError("nobody reads from this pipe", value=path) from error
    os.set_blocking(descriptor, True)
    return descriptor


def require_file(path: Path) -> None:
    """Refuse a folder where a file is to be written."""
    with writing(path):
        if path.is_dir():
            raise InputError("a file is to be written, not a folder", value=path)


# ---------------------------------------------------------------------------------------------------- whole folders


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
        _sweep(_target(path))
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
        target = _target(path)
        temporary = _beside(target, "tmp")
        _sweep(target)
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
        old = _beside(target, "old")
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


def _target(path: Path) -> Path:
    """What a name stands for once all links are followed."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise InputError("a link that leads round to itself", value=path)
    return target


def _beside(target: Path, end: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{end}")


# ------------------------------------------------------------------------------------------------- what is left over


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """The folder ``.NAME.work`` beside ``path``, which one process at a time may use; it stays until it is removed.

    Raises:
        InputError: another process uses it.
    """
    with writing(path):
        work = _work(_target(path))
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
    try:
        with writing(path):
            is_ours = _is_locked(descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(work))
        if not is_ours:
            raise InputError("another command is writing there", value=path)
        yield work
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Take the lock of an open folder; False if another process has it. A file system without locks gives it to all."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _work(target: Path) -> Path:
    return target.with_name(f".{target.name}.work")


def _sweep(target: Path) -> None:
    """Remove what dead processes left beside a target; a set that one of them had put aside takes its place again."""
    if not target.parent.is_dir():
        return
    left = re.compile(rf"\.{re.escape(target.name)}\.(\d{{1,9}})\.(tmp|old)")
    for path in list(target.parent.iterdir()):
        found = left.fullmatch(path.name)
        if found is None or _is_alive(int(found[1])):
            continue
        if found[2] == "old" and not target.exists():
            os.replace(path, target)
        else:
            remove(path)
    if _is_abandoned(_work(target)):
        remove(_work(target))


def _is_alive(pid: int) -> bool:
    """Whether a process of that number runs. A number is used again: what is left is then kept for longer."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_abandoned(work: Path) -> bool:
    """Whether it is a folder that no process uses."""
    try:
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


# ---------------------------------------------------------------------------------------------------------- writing


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


# ---------------------------------------------------------------------------------------------------------- reading


def existing(path: Path | str, what: str) -> Path:
    """The path, or an :class:`InputError` that names what is missing, or is neither a file nor a folder."""
    path = Path(path)
    with reading(path, what):
        if not path.exists():
            raise InputError(f"{what} not found", value=path)
        if not (path.is_file() or path.is_dir() or _descriptor(path) is not None):
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


def sha256(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    with reading(path, "file"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped(*parts: str) -> Path:
    """A file or folder that travels with fedsim: in the wheel under ``_shipped``, else beside the package."""
    package = Path(__file__).resolve().parent
    root = package / "_shipped"
    return (root if root.exists() else package.parent).joinpath(*parts)
