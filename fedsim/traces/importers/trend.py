"""A robust power law between two benchmark figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim.units import FloatArray


@dataclass(frozen=True)
class Trend:
    """``y = factor · x ** exponent``; ``spread`` is the robust standard deviation of log y around it."""

    factor: float
    exponent: float
    spread: float

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> Trend:
        """Theil's (1950) and Sen's (1968) line through the logarithms: the median slope of all pairs.

        Up to 29 % of the points may be anything. Takes O(n²) memory, meant for some thousand points.
        """
        log_x, log_y = np.log(np.asarray(x, dtype=np.float64)), np.log(np.asarray(y, dtype=np.float64))
        i, j = np.triu_indices(len(log_x), 1)
        is_pair = log_x[i] != log_x[j]
        slope = np.median((log_y[j] - log_y[i])[is_pair] / (log_x[j] - log_x[i])[is_pair])
        intercept = np.median(log_y - slope * log_x)
        spread = 1.4826 * np.median(np.abs(log_y - intercept - slope * log_x))
        return cls(float(np.exp(intercept)), float(slope), float(spread))

    def at(self, x: npt.ArrayLike) -> FloatArray:
        """The y expected at each x, ``float64[n]``."""
        expected: FloatArray = self.factor * np.asarray(x, dtype=np.float64) ** self.exponent
        return expected
