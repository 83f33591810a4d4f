"""What a selector is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability
from fedsim.fleet.participation import Participation
from fedsim.units import IntArray


@dataclass(frozen=True)
class Selection:
    """Devices found (distinct, eligible, free) and their cells."""

    ids: IntArray
    cells: IntArray


NOBODY = Selection(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Selector(Protocol):
    """A policy that picks up to ``n`` free eligible devices."""

    def select(
        self,
        availability: Availability,
        participation: Participation,
        *,
        now: float,
        n: int,
        gates: Sequence[Gate] = (),
    ) -> Selection:
        """Up to ``n`` devices that all gates admit; fewer if the bounded search finds no more."""
        ...
