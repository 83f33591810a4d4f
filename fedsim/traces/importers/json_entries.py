"""One entry after the other of a JSON object, so that a file larger than memory can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fedsim.errors import InputError
from fedsim.files import JSON_NUMBERS

_CHUNK = 1 << 20  # characters; doubled while one entry does not fit
_BLANK = " \t\n\r"
_OF_NUMBERS = ".eE+-0123456789"  # "12." decodes as 12, though more may follow


def json_entries(path: Path, what: str) -> Iterator[tuple[str, Any]]:
    """Keys and values of the object that a file holds, in its order; only one value is in memory at a time.

    Raises:
        InputError: ``what`` is not valid JSON, or not an object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file).entries()
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON ({error})", where=path) from error
    except OSError as error:
        raise InputError(f"{what} cannot be read ({error.strerror})", where=path) from error
    except TypeError as error:
        raise InputError(f"{what} must be an object of entries", where=path, allowed='{"0": {…}, …}') from error


class _Reader:
    """The text of a file as far as it is needed."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at, self._is_whole = file, "", 0, False
        self._decoder = json.JSONDecoder(**JSON_NUMBERS)

    def entries(self) -> Iterator[tuple[str, Any]]:
        if self._next() != "{":
            raise TypeError
        if self._peek() == "}":
            self._at += 1
            return self._end()
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise json.JSONDecodeError("Expecting a name in quotes", self._text, self._at)
            if self._next() != ":":
                raise json.JSONDecodeError("Expecting ':'", self._text, self._at)
            yield key, self._value()
            mark = self._next()
            if mark == "}":
                return self._end()
            if mark != ",":
                raise json.JSONDecodeError("Expecting ',' or '}'", self._text, self._at)

    def _end(self) -> None:
        if self._next():
            raise json.JSONDecodeError("Extra data", self._text, self._at)

    def _more(self, size: int) -> None:
        """Drop what was read, append what comes next."""
        chunk = self._file.read(size)
        self._text, self._at, self._is_whole = self._text[self._at :] + chunk, 0, not chunk

    def _peek(self) -> str:
        """The next character that is not blank, which is left to be read; nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_whole:
                return ""
            self._more(_CHUNK)

    def _next(self) -> str:
        """The next character that is not blank; nothing at the end."""
        mark = self._peek()
        self._at += len(mark)
        return mark

    def _value(self) -> Any:
        """The next value; a value that seems broken, or ends with the text, is tried again with more of it."""
        self._peek()
        size = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._is_whole:
                    raise
            else:
                is_cut = isinstance(value, int | float) and not self._text[end:].strip(_OF_NUMBERS)
                if self._is_whole or not (end == len(self._text) or is_cut):
                    self._at = end
                    return value
            self._more(size)
            size *= 2
