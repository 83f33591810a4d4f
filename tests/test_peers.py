"""fedsim against what other simulators' own code has answered (``experiments/peers/recorded``), and against FLASH."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PEERS = Path(__file__).parents[1] / "experiments" / "peers"
MODULES = ("compare", "fedsim_side", "flash", "picks", "shelf")
ARMS = (
    "appfl_fedasync", "appfl_fedbuff", "appfl_fedbuff_floats", "appfl_count", "appfl_count_floats", "appfl_deadline",
    "appfl_window", "fedscale_windows", "fedscale_hand_made", "fedscale_rounds", "fedscale_rounds_floats",
    "fedscale_async", "fedscale_short_rounds",
)  # fmt: skip


@pytest.fixture(scope="module")
def compare() -> Iterator[ModuleType]:
    """The experiment's comparison, imported as its script imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PEERS)
        yield importlib.import_module("compare")
    for name in MODULES:
        sys.modules.pop(name, None)


def failed(lines: list[object]) -> list[str]:
    return [line.text for line in lines if not line.is_met]  # type: ignore[attr-defined]


def test_round_whose_sessions_end_at_bounds_is_fedscales(compare: ModuleType, tmp_path: Path) -> None:
    lines, _ = compare.compared(PEERS / "recorded", tmp_path, ["fedscale_hand_made"])
    assert len(lines) == 5
    assert not failed(lines)


def test_pauses_are_flashs(compare: ModuleType, tmp_path: Path) -> None:
    lines = compare.by_hand(tmp_path)
    assert len(lines) == 9
    assert not failed(lines)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_arm_is_what_the_peer_has_answered(compare: ModuleType, tmp_path: Path, arm: str) -> None:
    lines, _ = compare.compared(PEERS / "recorded", tmp_path, [arm])
    assert len(lines) >= 3
    assert not failed(lines)


def test_some_rounds_of_fedscale_are_short(compare: ModuleType) -> None:
    arms = compare.shelf.load(PEERS / "recorded" / "fedscale.json")
    n_counted = {len(devices) for devices in arms["fedscale_short_rounds"]["round_accepted"]}
    assert min(n_counted) < 8 <= max(n_counted)


@pytest.mark.slow
def test_fedscales_cursor_misses_windows(compare: ModuleType, tmp_path: Path) -> None:
    lines, departing = compare.compared(PEERS / "recorded", tmp_path, compare.DEPARTS)
    assert not lines
    assert len(departing) == 2
    assert all(not sentence.split(": ")[1].startswith("0 ") for sentence in departing)


def test_a_difference_is_seen(compare: ModuleType) -> None:
    assert compare.difference([2.0, [4.0]], [2.0, [4.0]], is_absolute=False) == 0
    assert compare.difference([2.0, 4.0], [2.0, 4.00002], is_absolute=False) == pytest.approx(5e-6, rel=1e-3)
    assert compare.difference([2.0, 4.0], [2.0, 4.00002], is_absolute=True) == pytest.approx(2e-5)
    assert compare.difference([[2.0], [4.0, 5.0]], [[2.0, 4.0], [5.0]], is_absolute=False) == math.inf
    assert compare.difference([], [], is_absolute=False) == math.inf
    assert not compare.Line("peer", "arm", "what", 1, 2e-9, False).is_met
    assert compare.Line("peer", "arm_floats", "what", 1, 1.4e-6, True).is_met
    assert not compare.Line("peer", "arm_floats", "what", 1, 1.6e-6, True).is_met
