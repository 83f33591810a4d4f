"""What was found of one quantity, and how findings of several are held at one level of error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["regressed", "changed", "improved", "harmless", "undecided"]


class Finding(NamedTuple):
    """One quantity: candidate − baseline with its interval (NaN: none), what is allowed, and what follows.

    ``margin`` is the change that does no harm (paired), or the smallest that would be seen four times of five
    (unpaired). ``changed`` is a regression of a quantity of which it is not known whether more or less is better.
    """

    quantity: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    verdict: Verdict


def rejected(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Holm's step-down: which hypotheses fall, with a chance of ``alpha`` in all that a true one does (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    found, n = [False] * len(p_values), len(p_values)
    for place, index in enumerate(order.tolist()):
        if not p_values[index] <= alpha / (n - place):
            break
        found[index] = True
    return found
