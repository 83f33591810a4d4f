"""Where files and folders are written: whole or not at all, and one clear line when the machine refuses.

Every file and folder that fedsim writes as a whole goes through :func:`whole_file` and
:func:`fedsim.folders.whole_folder`:

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

import errno
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedsim.errors import InputError, WriteError, printable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing can be written, whatever the name
_MAX_LINKS = 40  # one after the other, as the kernel has it


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
        target = target_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
    temporary = beside(target, "tmp")
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
    if descriptor_of(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise InputError("neither a file, a pipe nor a character device", value=path)
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def descriptor_of(path: Path) -> int | None:
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
    number = descriptor_of(path)
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


def target_of(path: Path) -> Path:
    """What a name stands for once all links are followed."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise InputError("a link that leads round to itself", value=path)
    return target


def beside(target: Path, end: str) -> Path:
    """A temporary name of this process beside the target."""
    return target.with_name(f".{target.name}.{os.getpid()}.{end}")


def is_locked(descriptor: int) -> bool:
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


def work_of(target: Path) -> Path:
    """The folder in which an import towards the target keeps what is done."""
    return target.with_name(f".{target.name}.work")


def sweep(target: Path) -> None:
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
    if _is_abandoned(work_of(target)):
        remove(work_of(target))


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
