"""Scenes for selectors: a fleet that charges, who of it is busy, and what is asked besides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsim.fleet.admission import Gate
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.participation import Participation
from fedsim.server.selector.selection import Scene
from fedsim.server.selector.uniform import UniformSearch, UniformSelector
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import IntArray


def charging(fleet: Fleet) -> Availability:
    """When the devices of a fleet charge."""
    return Availability(fleet, compile_rule(fleet.traces, Rule.parse("charging"), unknown="ineligible"))


def busy(ids: IntArray, *, until: float) -> Participation:
    """These devices are in a session until then."""
    participation = Participation(keeps_participations=True)
    participation.begin(ids, np.full(len(ids), until))
    return participation


def scene(fleet: Fleet, participation: Participation | None = None, gates: Sequence[Gate] = ()) -> Scene:
    """A fleet whose devices are asked while they charge."""
    availability = charging(fleet)
    return Scene(availability, availability.watch(), participation or Participation(keeps_participations=True), gates)


def search_of(
    made: Scene, *, seed: int, min_between_sessions_s: float = 0.0, min_between_participations_s: float = 0.0
) -> UniformSearch:
    """A uniform search of a scene."""
    selector = UniformSelector(
        seed=seed,
        min_between_sessions_s=min_between_sessions_s,
        min_between_participations_s=min_between_participations_s,
    )
    return selector.start(made)


def drawn(search: UniformSearch, now: float, n: int) -> IntArray:
    """Up to ``n`` devices found at one instant and taken."""
    selection = search.find(np.full(n, now))
    search.take(selection, len(selection))
    return selection.ids
