"""Units: every instant and duration inside fedsim is in seconds (float64), sizes in bytes."""

from __future__ import annotations

import re
from typing import overload

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86_400
DAY_MS = DAY_S * 1000
US_PER_S = 1_000_000
J_PER_KWH = 3.6e6
US_PER_MS = 1000

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def to_us(seconds: npt.ArrayLike) -> IntArray:
    """Seconds to whole microseconds (int64), the resolution at which instants are compared.

    Exact for |seconds| < 2.25e9 (71 years): quotient and product then err by less than half a microsecond.
    """
    return np.rint(np.asarray(seconds, dtype=np.float64) * US_PER_S).astype(np.int64)


@overload
def on_clock(seconds: float) -> float: ...


@overload
def on_clock(seconds: FloatArray) -> FloatArray: ...


def on_clock(seconds: float | FloatArray) -> float | FloatArray:
    """Instants on the clock's grid: the nearest whole microsecond, still in seconds (inf and NaN stay).

    Rounded once, when they are made, instants are compared exactly.
    """
    instants = np.rint(np.asarray(seconds, dtype=np.float64) * US_PER_S) / US_PER_S
    return instants if isinstance(seconds, np.ndarray) else float(instants)


def format_duration(seconds: float) -> str:
    """``93784`` → ``'1 d 2 h 3 min'``; below a minute with one decimal."""
    if round(seconds, 1) < MINUTE_S:
        return f"{seconds:.1f} s"
    minutes = round(seconds / MINUTE_S)
    days, minutes = divmod(minutes, DAY_S // MINUTE_S)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 min"


def format_bytes(size: float) -> str:
    """``1536000`` → ``'1.5 MB'`` (decimal prefixes)."""
    for unit, n_digits in (("B", 0), ("kB", 1), ("MB", 1), ("GB", 1), ("TB", 1)):
        if abs(round(size, n_digits)) < 1000:
            return f"{size:.{n_digits}f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"


def parse_bytes(text: str, *, what: str) -> int:
    """``'1.5 MB'`` → ``1500000``, as :func:`format_bytes` writes it, with or without the space.

    Raises:
        InputError: naming ``what``, for a size that is none or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB)?", text.strip())
    n_bytes = round(float(match[1]) * _PREFIXES[(match[2] or "B").upper()]) if match else 0
    if not 1 <= n_bytes <= _MOST_BYTES:
        raise InputError(what, value=text, allowed="a size such as 500kB, 1.4MB or 2GB, up to 100 GB")
    return n_bytes


_PREFIXES = {"B": 1, "KB": 1000, "MB": 1_000_000, "GB": 1_000_000_000}
_MOST_BYTES = 100_000_000_000


def format_count(n: float) -> str:
    """``1234567`` → ``'1.23 M'``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= 0.9995 * factor:  # from here on three digits round up to the unit
            return f"{n / factor:.3g} {unit}"
    return f"{n:.3g}"
