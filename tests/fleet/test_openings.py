"""Openings of windows against a walk along every cell's changes; windows that touch the wrap open once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fedsim.config.simulation import build_simulation
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.traces.criteria import Windows
from tests.hand import events_of, traces_of
from tests.smoke import composed

DAY_S = 86400.0


def walked(availability: Availability, until: float) -> float:
    """Openings per device before an instant, cell by cell and change by change."""
    weights = availability.fleet.cell_weights()
    active, at, found = np.flatnonzero(weights), np.zeros(len(weights)), 0.0
    while len(active):
        is_open, change = availability.at_cells(active, at[active])
        is_before = change < until
        found += weights[active[~is_open & is_before]].sum()
        active = active[is_before]
        at[active] = change[is_before]
    return found


@pytest.mark.parametrize(
    "overrides",
    [["fleet.n_devices=1_000_000"], ["fleet.n_devices=700"], ["fleet.n_devices=700", "fleet.rule=screen"]],
)
def test_openings_are_those_of_a_walk(overrides: list[str]) -> None:
    availability = build_simulation(composed(["training=none", *overrides])).world.availability
    edges = np.array([0.0, 0.1, 0.35, 1.0, 2.2]) * DAY_S
    found = availability.openings_per_device(edges)
    until = [walked(availability, edge) for edge in edges]
    assert found == pytest.approx(np.diff(until), abs=1e-9)
    assert found.sum() > 0.1


def replayed(*spells: Sequence[tuple[float, float]], period_h: float) -> Availability:
    """Phones as they are, eligible in these hours of a period that repeats."""
    ms = np.array([edge for phone in spells for edge in phone]).reshape(-1, 2) * 3_600_000
    n = len(spells)
    windows = Windows(
        offsets=np.concatenate([[0], np.cumsum([len(phone) for phone in spells])]),
        start_ms=ms[:, 0].astype(np.int64),
        end_ms=ms[:, 1].astype(np.int64),
        period_ms=np.full(n, round(period_h * 3_600_000)),
        trace_start_ms=np.zeros(n, dtype=np.int64),
        is_local=np.zeros(n, dtype=bool),
    )
    traces = traces_of([events_of([])] * n, period_s=period_h * 3600, is_local=False)
    return Availability(Fleet(traces, n_devices=n, seed=0, is_replay=True), windows)


def test_windows_that_open_are_counted_once_across_the_end_of_a_trace() -> None:
    """From 40 h over the end of two days to 6 h, and from 20 h to 21 h: two openings each time round."""
    availability = replayed([(0, 6), (20, 21), (40, 48)], period_h=48)
    edges = 3600.0 * np.array([0, 20, 21, 40, 48, 54, 68, 69, 89])
    assert availability.openings_per_device(edges).tolist() == [0, 1, 0, 1, 0, 0, 1, 1]


def test_who_is_always_or_never_eligible_never_begins_to_be() -> None:
    availability = replayed([(0, 24)], [], period_h=24)
    assert availability.openings_per_device(np.array([0.0, 5 * DAY_S])).tolist() == [0.0]
