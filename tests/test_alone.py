"""Runs of small set-ups drawn at random, played by the engine and by a simulator of its own: all tables agree.

``FEDSIM_ALONE_SETUPS`` says how many are played in place of 240, ``FEDSIM_ALONE_SEED`` from which number on;
``python -m tests.alone.play SEED`` plays one.
"""

from __future__ import annotations

import os

import pytest

from tests.alone.compare import differences
from tests.alone.setups import setup_of

N_SETUPS = int(os.environ.get("FEDSIM_ALONE_SETUPS", "240"))
FIRST = int(os.environ.get("FEDSIM_ALONE_SEED", "0"))
N_PARTS = 8  # that workers share


@pytest.mark.slow
@pytest.mark.parametrize("part", range(N_PARTS))
def test_engine_and_simulator_agree_on_every_table(part: int) -> None:
    found = [line for seed in range(FIRST + part, FIRST + N_SETUPS, N_PARTS) for line in differences(seed)]
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + N_SETUPS, 8))
def test_a_run_that_looks_ahead_agrees_with_one_tick_by_tick(seed: int) -> None:
    if setup_of(seed).protocol == "buffered":
        assert not differences(seed, looks_ahead=False)
