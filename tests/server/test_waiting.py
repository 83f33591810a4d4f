"""How long a large fleet is left alone when a cohort is not complete: up to a minute, by what is lacking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedsim.fleet.fleet import Fleet
from fedsim.units import DAY_S
from tests.build import Seconds, always, device, phone, played, simulation, sync
from tests.hand import traces_of

TEN_SECONDS = device(Seconds(lambda ids, k: np.full(len(ids), 10.0)))


@pytest.mark.parametrize(
    ("cohort", "begins_at"),
    [
        (40_000, 108.0),  # 3 % are lacking: three tenths of a minute; looked at at 0, 18, 36 … 108 s
        (58_200, 120.0),  # a third is lacking: once a minute
    ],
)
def test_the_fewer_are_lacking_the_sooner_a_large_fleet_is_looked_at_again(
    tmp_path: Path, cohort: int, begins_at: float
) -> None:
    """One phone of four charges, from 100 s on two do. Of 150,544 devices 37,636 are there, at most 38,800.

    (37,636 = 194², six standard deviations are 6 × 194.)
    """
    phones = [phone((0.0, DAY_S)), phone((100.0, DAY_S)), phone(), phone()]
    fleet = Fleet(traces_of(phones, period_s=DAY_S), n_devices=150_544, seed=1)
    run = played(simulation(sync(cohort), fleet=fleet, phone=TEN_SECONDS, max_steps=1), tmp_path)
    assert run.step_column("started_at").tolist() == pytest.approx([begins_at])
    assert len(run.sessions) == cohort


@pytest.mark.slow
def test_stragglers_that_are_lacking_are_waited_for_in_proportion(tmp_path: Path) -> None:
    """All 80,000 are wanted, 76,000 close the first round at 10 s, 4,000 train until 95 s: a twentieth is lacking.

    So the fleet is looked at half a minute apart, at 10, 40, 70 and 100 s.
    """
    some_slow = device(Seconds(lambda ids, k: np.where(ids < 4000, 95.0, 10.0)))
    server = sync(76_000, over_selection=80 / 76, selection_timeout_s=3600.0)
    run = played(simulation(server, fleet=always(80_000), phone=some_slow, max_steps=2), tmp_path)
    assert run.step_column("started_at").tolist() == pytest.approx([0.0, 100.0])
    assert run.step_column("n_assigned").tolist() == [80_000, 80_000]
