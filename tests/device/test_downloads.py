"""What a device fetches before it trains: model, plan, shipped features, and assets that it lacks or that have aged."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsim.data.passes import Passes
from fedsim.device.work import Assets, Work
from fedsim.errors import InputError
from fedsim.units import DAY_S
from tests.build import Sizes, always, by_device, device, played, simulation, sync

WORK = Work(
    download_bytes=1000, upload_bytes=0, passes=Passes(1, 1), plan_bytes=7,
    assets=(Assets(200), Assets(50, refresh_s=100.0)),
)  # fmt: skip
NEVER = -math.inf


def sizes(work: Work, held_version: int, assets_at: list[float], n_examples: int = 10, now: float = 1000.0) -> int:
    held = np.array([held_version], dtype=np.int32)
    (found,) = work.sizes(held, np.array([assets_at]), np.array([n_examples]), version=4, at=np.array([now])).tolist()
    return int(found)


@pytest.mark.parametrize(
    ("assets_at", "fetched"),
    [
        ([NEVER, NEVER], 250),
        ([0.0, 0.0], 50),  # the first never ages, the second is too old
        ([0.0, 900.0], 50),  # exactly as old as it may become
        ([0.0, 900.1], 0),
        ([NEVER, 999.0], 200),
    ],
)
def test_assets_are_fetched_once_and_again_when_they_have_aged(assets_at: list[float], fetched: int) -> None:
    assert sizes(WORK, -1, assets_at) == 1007 + fetched


def test_a_cached_model_is_not_fetched_again() -> None:
    cached = replace(WORK, caches_model=True)
    assert [sizes(cached, version, [0.0, 999.0]) for version in (-1, 3, 4)] == [1007, 1007, 7]
    assert sizes(WORK, 4, [0.0, 999.0]) == 1007


def test_features_of_the_server_travel_with_every_example() -> None:
    shipped = replace(WORK, assets=(), shipped_bytes_per_example=2.5)
    assert [sizes(shipped, -1, [], n) for n in (0, 1, 3, 10)] == [1007, 1009, 1015, 1032]  # whole bytes, half to even


@pytest.mark.parametrize(("n_bytes", "refresh_s"), [(-1, None), (1, 0.0), (1, math.nan)])
def test_bad_assets_are_refused(n_bytes: int, refresh_s: float | None) -> None:
    with pytest.raises(InputError, match="assets"):
        Assets(n_bytes, refresh_s)


def test_a_run_books_what_each_session_fetched(tmp_path: Path) -> None:
    """One phone, a round every 100 s or so: the vocabulary of a day is fetched on the first day and the second."""
    work = Work(
        download_bytes=10, upload_bytes=10, passes=Passes(1, 10), shipped_bytes_per_example=2.0,
        assets=(Assets(500, refresh_s=float(DAY_S)), Assets(300)),
    )  # fmt: skip
    made = simulation(
        sync(1, server_step_s=DAY_S / 3), fleet=always(1), phone=device(by_device(1.0)), work=work, max_steps=5,
        clients=Sizes((4,)),
    )  # fmt: skip
    run = played(made, tmp_path)
    assert run.column("download_bytes").tolist() == [10 + 8 + 800, 18, 18, 518, 18]
    assert run.summary["assets_bytes"] == 800
