"""What a selector is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim.device.session import Sessions
from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class Selection:
    """Devices found (distinct, eligible, free) and their cells."""

    ids: IntArray
    cells: IntArray


NOBODY = Selection(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Search(Protocol):
    """A selector in a run: it may remember whom it met, and what it was told."""

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

    def observe(self, rows: Sessions, losses: FloatArray) -> None:
        """Learn from the sessions of a server step and their mean training losses, ``float64[n]``."""
        ...


class Selector(Protocol):
    """A policy that picks free eligible devices; it holds its configuration, what changes is in its searches."""

    def start(self, fleet: Fleet) -> Search:
        """The search at the start of a run."""
        ...
