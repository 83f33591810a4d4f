"""How a command ends: one line for whatever goes wrong, and an exit code that says what kind of thing it was."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from fedsim.errors import FedsimError

EXIT_CODES = """\
exit codes:
  0    done
  1    a curve or a load regressed (check)
  2    bad input, or the system refused: a file, the disk, memory
  3    the simulated world cannot go on
  4    decide: iterate, and with --strict go if
  5    decide: no-go
  6    decide: incomplete, the budget was used up before every must was looked at
  7    check --strict: undecided, or the draws changed, so that little can be seen
  8    a job of a sweep failed
  9    a required metric was not reached (stop.is_required)
  70   a fault of fedsim's own, or of a class of yours; FEDSIM_TRACEBACK=1 shows where
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)"""

_SYSTEM, _FAULT, _INTERRUPTED, _TERMINATED = 2, 70, 130, 143
TRACEBACK_VARIABLE = "FEDSIM_TRACEBACK"


class Terminated(BaseException):
    """SIGTERM, raised so that what is open is closed and what is half-written goes."""


def ended(action: Callable[[], object]) -> int:
    """Do it, print what went wrong in one line, and return the exit code."""
    before = _listen_to_sigterm()
    try:
        action()
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not when the interpreter ends
    except BrokenPipeError:  # the reader has seen enough
        _silence_stdout()
        return 0
    except (Exception, KeyboardInterrupt, Terminated) as error:
        return told(error)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def told(error: BaseException) -> int:
    """Print the line of an error on standard error; its exit code."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    code, line = explained(error)
    if isinstance(error, OSError) and error.filename is None:
        _silence_stdout()
    print(f"fedsim: {line}", file=sys.stderr)
    return code


def explained(error: BaseException) -> tuple[int, str]:
    """Exit code and line of an error."""
    if isinstance(error, FedsimError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED, "interrupted; what was written is incomplete"
    if isinstance(error, Terminated):
        return _TERMINATED, "terminated; what was written is incomplete"
    if isinstance(error, MemoryError):
        return _SYSTEM, "not enough memory" + (f" ({_one_line(error)})" if str(error) else "")
    if isinstance(error, OSError):
        where = f": {_short(str(error.filename))}" if error.filename is not None else ""
        return _SYSTEM, f"{error.strerror or _one_line(error)}{where}"
    return _FAULT, f"{type(error).__name__} in {_place(error)}: {_one_line(error)} ({TRACEBACK_VARIABLE}=1 shows where)"


def _one_line(error: BaseException) -> str:
    return _short(" ".join(str(error).split()))


def _short(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _place(error: BaseException) -> str:
    """File and line where an unforeseen error arose."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "an unknown place"


def _listen_to_sigterm() -> signal.Handlers | Callable[[int, FrameType | None], object] | int | None:
    """Raise SIGTERM as an error; what was done about it before, None outside the main thread."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        return None


def _silence_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not stumble over it at its end."""
    with suppress(OSError, ValueError):  # standard output is no file, as under a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
