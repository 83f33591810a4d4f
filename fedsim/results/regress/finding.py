"""What was found of one quantity, and how findings of several are held at one level of error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

LEAST_MARGIN = 1e-6  # of a value: what another machine's last digits make
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
    """Holm's step-down: which hypotheses fall, with a chance of ``alpha`` in all that a true one does (Holm 1979).

    One with p = 1 is of a quantity in which nothing changed. It cannot fall by chance, and does not count.
    """
    order = np.argsort(p_values, kind="stable")
    found, n = [False] * len(p_values), sum(p < 1 for p in p_values)
    for place, index in enumerate(order[:n].tolist()):
        if not p_values[index] <= alpha / (n - place):
            break
        found[index] = True
    return found
