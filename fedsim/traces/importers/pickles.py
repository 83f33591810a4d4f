"""Reading pickles of strangers: only listed globals are ever looked up, everything else is refused.

Tuples and sets may be the arguments of such a global, but no data: as a key, or in one another, they can end the
interpreter or take for ever to hash. The bytes are looked through for them before anything is built.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fedsim.errors import InputError
from fedsim.targets import reading

Globals = Mapping[str, Callable[..., Any]]
MOST = 1e30  # beyond any measurement; what is computed from it still is a float
_PLAIN_DATA = "plain dict, list, int, float and str"


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: Globals, where: Path) -> None:
        super().__init__(file)
        self._allowed = allowed
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in self._allowed:
            allowed = ", ".join(self._allowed) or _PLAIN_DATA
            raise InputError(
                "pickle asks for a global that is not allowed", value=wanted, where=self._where, allowed=allowed
            )
        return self._allowed[wanted]


class _Float64:
    """Stand-in for ``numpy.dtype``: takes the pickled description of little-endian float64 and no other."""

    def __init__(self, code: str, *_flags: object) -> None:
        self._is_float64 = code == "f8"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._is_float64 = self._is_float64 and state[1] == "<"

    def decode(self, raw: bytes) -> float:
        if not self._is_float64:
            raise ValueError("only little-endian float64 scalars are read")
        return float(struct.unpack("<d", raw)[0])


def _scalar(dtype: _Float64, raw: bytes) -> float:
    """Stand-in for numpy's scalar constructor, so that no numpy code ever sees the file's bytes."""
    return dtype.decode(raw)


def _pattern(of: pickletools.OpcodeInfo) -> bytes | None:
    """How an opcode and what belongs to it look; None if a length is told first."""
    code = re.escape(of.code.encode("latin-1"))
    n_bytes = 0 if of.arg is None else of.arg.n
    if n_bytes >= 0:
        return code + b".{%d}" % n_bytes
    if n_bytes == pickletools.UP_TO_NEWLINE:
        return code + rb"[^\n]*\n" * (2 if of.name in ("GLOBAL", "INST") else 1)
    return None


_STOP, _TUPLES, _SETS = ".", "t\x85\x86\x87", "\x8f\x90\x91"  # ")" is the empty tuple, which harms nobody
_LENGTHS = {  # opcodes that are followed by a length of so many bytes
    of.code.encode("latin-1"): {-2: 1, -3: 4, -4: 4, -5: 8}[of.arg.n]
    for of in pickletools.opcodes
    if of.arg is not None and of.arg.n < -1
}
_PLAIN = re.compile(
    b"(?:%s){1,10000}+"
    % b"|".join(
        pattern for of in pickletools.opcodes if of.code not in _STOP + _TUPLES + _SETS and (pattern := _pattern(of))
    ),
    re.DOTALL,
)
_ARGUMENTS = re.compile(rb"[t\x85\x86\x87](?:\x94|q.|r.{4}|p[^\n]*\n)?[Rb]", re.DOTALL)  # of a global, or of its state


def _holds_plain_data(data: bytes) -> bool:
    """Whether all tuples of a pickle are arguments and there are no sets; what is damaged is left to the reader."""
    at = 0
    while at < len(data):
        found = _PLAIN.match(data, at) or _ARGUMENTS.match(data, at)
        if found is not None:
            at = found.end()
            continue
        code = data[at : at + 1]
        if code not in _LENGTHS:
            return code.decode("latin-1") not in _TUPLES + _SETS
        width = _LENGTHS[code]
        at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "little")
    return True


NUMPY_FLOATS: Globals = {
    "numpy.core.multiarray.scalar": _scalar,  # as pickled by numpy 1
    "numpy._core.multiarray.scalar": _scalar,  # as pickled by numpy 2
    "numpy.dtype": _Float64,
}


def load(path: Path, *, allowed: Globals) -> Any:
    """Unpickle a file; ``allowed`` maps ``module.name`` to what stands in for it.

    Raises:
        InputError: a global that is not listed, tuples or sets as data, a truncated or damaged file.
    """
    with reading(path, "pickle"):
        data = path.read_bytes()
    if not _holds_plain_data(data):
        raise InputError("pickle holds a tuple or a set", where=path, allowed=_PLAIN_DATA)
    try:
        return _RestrictedUnpickler(io.BytesIO(data), allowed, path).load()
    except InputError:
        raise
    except Exception as error:  # damaged bytes can raise almost anything
        raise InputError(f"pickle cannot be read ({type(error).__name__}: {error})", where=path) from error


def is_number(value: Any) -> bool:
    """Whether it is a number that a float holds; True and False are none."""
    return type(value) in (int, float) and -MOST <= value <= MOST
