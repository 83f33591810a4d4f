"""Reading pickles of strangers: only listed globals are ever looked up, everything else is refused."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fedsim.errors import InputError

Globals = Mapping[str, Callable[..., Any]]


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: Globals, where: Path) -> None:
        super().__init__(file)
        self._allowed = allowed
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in self._allowed:
            allowed = ", ".join(self._allowed) or "plain dict, list, int, float and str"
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


NUMPY_FLOATS: Globals = {
    "numpy.core.multiarray.scalar": _scalar,  # as pickled by numpy 1
    "numpy._core.multiarray.scalar": _scalar,  # as pickled by numpy 2
    "numpy.dtype": _Float64,
}


def load(path: Path, *, allowed: Globals) -> Any:
    """Unpickle a file; ``allowed`` maps ``module.name`` to what stands in for it.

    Raises:
        InputError: a global that is not listed, or a truncated or damaged file.
    """
    with path.open("rb") as file:
        try:
            return _RestrictedUnpickler(file, allowed, path).load()
        except InputError:
            raise
        except Exception as error:  # damaged bytes can raise almost anything
            raise InputError(f"pickle cannot be read ({type(error).__name__}: {error})", where=path) from error
