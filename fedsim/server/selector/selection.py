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
from fedsim.fleet.watch import Watch
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class Scene:
    """What a selector looks at in a run: who is eligible when, who is busy until when, and what else is asked."""

    availability: Availability
    watch: Watch
    participation: Participation
    gates: Sequence[Gate] = ()

    @property
    def fleet(self) -> Fleet:
        """The devices."""
        return self.availability.fleet


@dataclass(frozen=True)
class Selection:
    """Devices found, columns of length n: each eligible, free and admitted at the instant it was found for.

    ``until`` is when its eligibility ends (inf: never). ``n_walked`` is up to which point of its own the search had
    come with each device, ``n_walked_in_all`` up to which it has come with all of them.
    """

    ids: IntArray
    cells: IntArray
    at: FloatArray
    until: FloatArray
    n_walked: IntArray
    n_walked_in_all: int

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, places: IntArray) -> Selection:
        """The devices at these places; the others that were found with them are passed over when these are taken."""
        return Selection(
            ids=self.ids[places],
            cells=self.cells[places],
            at=self.at[places],
            until=self.until[places],
            n_walked=self.n_walked[places],
            n_walked_in_all=self.n_walked_in_all,
        )


def nobody(n_walked: int = 0) -> Selection:
    """A selection without devices."""
    none = np.zeros(0, dtype=np.int64)
    return Selection(none, none, np.zeros(0), np.zeros(0), none, n_walked)


class Search(Protocol):
    """A selector in a run: it may remember whom it met, and what it was told."""

    def find(self, at: FloatArray) -> Selection:
        """One device for each instant of ``at`` (ascending, at least one), in that order; it changes nothing.

        A device is free again when its session has ended; one found for an earlier instant is busy at the later ones.
        All that can be found for the first instant is found. Of the later instants those follow that are certain:
        whole instants, all devices that were wanted then. A search that cannot look ahead answers for the first alone.
        """
        ...

    def take(self, selection: Selection, n: int) -> None:
        """The first ``n`` devices of what was found last are assigned: go on from there."""
        ...

    def observe(self, rows: Sessions, losses: FloatArray) -> None:
        """Learn from the sessions of a server step and their mean training losses, ``float64[n]``."""
        ...


class Selector(Protocol):
    """A policy that picks free eligible devices; it holds its configuration, what changes is in its searches.

    ``keeps_participations``: whether its searches ask when a device's update was aggregated last.
    """

    keeps_participations: bool

    def start(self, scene: Scene) -> Search:
        """The search at the start of a run."""
        ...
