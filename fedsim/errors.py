"""Errors that fedsim raises on purpose; each is one clear line of bounded length."""

from __future__ import annotations

import reprlib
from pathlib import PurePath

_MAX_VALUE = 120  # characters of a value
_MAX_PART = 1000  # characters of what else a message quotes
_MAX_BITS = 300  # a whole number beyond it is told by its length: its digits take long to write, or are refused


class FedsimError(Exception):
    """Anything fedsim refuses to do; ``str()`` is one line for the user. Each kind has an exit code of its own."""

    exit_code: int


class InputError(FedsimError):
    """Bad input: what is wrong, its value, where it stands and what is allowed."""

    exit_code = 2

    def __init__(self, what: str, *, value: object = None, where: object = None, allowed: object = None) -> None:
        text = one_line(what)
        if value is not None:
            text += f": {shown(value)}"
        if where is not None:
            text += f" in {one_line(where)}"
        if allowed is not None:
            text += f" (allowed: {one_line(allowed)})"
        super().__init__(text)


class WriteError(InputError):
    """A file or folder cannot be written: the machine refuses it or has no room, so what was done so far is kept."""


class SimulationError(FedsimError):
    """The simulated world cannot go on, for example because no device is ever eligible."""

    exit_code = 3


class SweepError(FedsimError):
    """Jobs of a sweep failed: a line for each."""

    exit_code = 8


class NotReachedError(FedsimError):
    """A run ended, and is complete, without the metric that was required of it."""

    exit_code = 9


class RegressedError(FedsimError):
    """Runs are worse than their baseline, or contradict themselves."""

    exit_code = 1


class IterateError(FedsimError):
    """A decision that is not a go: something has to change first, or more has to be known."""

    exit_code = 4


class NoGoError(FedsimError):
    """A decision against federated learning."""

    exit_code = 5


class StoppedError(FedsimError):
    """A decision that could not be taken: the budget was used up before every must was looked at."""

    exit_code = 6


class UndecidedError(FedsimError):
    """Whether runs are worse than their baseline cannot be said, where it was to be (``--strict``)."""

    exit_code = 7


def shown(value: object) -> str:
    """A value as a message quotes it: some 120 printable characters at most, however large and deep it is.

    A path is told whole, but for the longest.
    """
    if isinstance(value, PurePath):
        return repr(_cut(str(value), _MAX_PART))
    return _cut(" ".join(_SHORT.repr(value).split()), _MAX_VALUE)


def one_line(value: object) -> str:
    """Text on one line, without its middle if it is long."""
    return _cut(printable(_cut(" ".join(str(value).split()), _MAX_PART)), _MAX_PART)


def printable(text: str) -> str:
    """The text with whatever no terminal and no file takes (control characters, halves of a pair) as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _cut(text: str, size: int) -> str:
    half = size // 2 - 1
    return text if len(text) <= size else f"{text[:half]}…{text[-half:]}"


class _Short(reprlib.Repr):
    """``repr`` that looks at no more of a value than it tells."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 8
        self.maxstring = self.maxother = _MAX_VALUE

    def repr_str(self, text: str, _level: int) -> str:
        return repr(_cut(text, _MAX_VALUE))

    def repr_bytes(self, data: bytes, _level: int) -> str:
        return repr(data) if len(data) <= _MAX_VALUE else f"{data[: _MAX_VALUE // 2]!r}…"

    def repr_int(self, number: int, _level: int) -> str:
        if number.bit_length() <= _MAX_BITS:
            return repr(number)
        return f"a whole number of about {round(number.bit_length() * 0.30103):,} digits"


_SHORT = _Short()
