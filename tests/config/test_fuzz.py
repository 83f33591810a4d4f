"""Any value in any place is refused in one line, or the run ends with sound tables.

The places are all keys and groups of a few configurations, the values those that people mistype and that numbers
break on. ``FEDSIM_FUZZ_VALUES`` says how many of them are tried in place of 300, ``FEDSIM_FUZZ_SEED`` which.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fedsim.files import write_table
from fedsim.schema import HARDWARE
from tests.config.player import Player
from tests.smoke import composed

N_VALUES = int(os.environ.get("FEDSIM_FUZZ_VALUES", "300"))
SEED = int(os.environ.get("FEDSIM_FUZZ_SEED", "0"))
LIMIT_S = 30.0

SMALL = (
    "fleet.n_devices=2000",
    "data.n_clients=50",
    "stop.max_steps=2",
    "stop.max_s=1800",
    "training.central.epochs=0",
    "evaluation.every_steps=1",
)
SYNC, BUFFERED = "server.report_goal=5", ("server=buffered", "server.concurrency=10", "server.buffer_size=5")
CLICKS = ("data=clicks", "model=clicks", "training.loss=binary_cross_entropy", "features=clicks")
SETUPS: dict[str, tuple[str, ...]] = {
    "sync": ("training=none", SYNC, "server/aggregator=queue", "holders=speed", "fleet=america"),
    "buffered": ("training=none", *BUFFERED, "device/battery=phone", "device/energy=by_class"),
    "table": ("training=none", SYNC, "fleet/hardware=table", "fleet.hardware.table=HARDWARE", "device/energy=by_type"),
    "rollout": ("training=none", SYNC, "fleet.rollout={start_share: 0.5, end_share: 0.9, days: 1}", *CLICKS),
    "fixed": ("training=none", *BUFFERED, "device/compute=fixed", "device.interruption=pause"),
    "loop": ("training=loop", SYNC, "device/compute=flops", "training/server_optimizer=fedadam"),
    "cohort": ("training=cohort", *BUFFERED, "training/server_optimizer=fedavgm"),
}
NUMBERS = (
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e-300, 1e30, 1e21, 1e15, 1e12, 1e9, 1e6, 1e3, 10.0, 1.0,
    0.5, 1e-2, 1e-3, 1e-6, 1e-9, 0.0, -0.0, -1.0, -1, 0, 1, 2, 3, 7, 64, 100, 1000, 10_000, 10**6, 10**7, 2**31 - 1,
    2**31, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**70, 10**400, 10**5000,
)  # fmt: skip
OTHERS = (
    "", "abc", "nan", "x" * 5000, "a\nb", "\0", "\ud800", "wifi", "os.system", "fedsim.errors.InputError", "os", "....",
    "torch.nn.Linear", "fedsim.config.build.build", None, True, False, [], [1], [None], {}, {"a": 1}, {1: 2},
    {"a": None}, {"_target_": "os.system"}, [[]], ["x"] * 3, [1] * 1000, {"_target_": 5},
)  # fmt: skip
Change = tuple[str, tuple[str | int, ...], Any]  # set, delete or add; where; the value


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"weight": 1.0, "inference_ms_per_sample": ms, "ram_gb": 4.0} for ms in (20.0, 60.0, 200.0)]
    file = tmp_path_factory.mktemp("table") / "hardware.parquet"
    write_table(file, pa.Table.from_pylist(rows, HARDWARE.arrow()), HARDWARE)
    return file


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """All keys of a configuration and what stands there, groups too."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inner:
        yield (*path, name), value
        yield from places(value, (*path, name))


def changes(values: dict[str, Any], draw: random.Random) -> Iterator[Change]:
    """Endless changes, most of them of a value."""
    where = list(places(values))
    while True:
        path, before = draw.choice(where)
        kind = draw.random()
        if kind < 0.05:
            yield "delete", path, None
        elif kind < 0.1 and isinstance(before, dict):
            yield "add", (*path, draw.choice(["unknown", "2g", "seed", "_target_x", "x" * 3000])), draw.choice(OTHERS)
        elif draw.random() < 0.65:
            yield "set", path, draw.choice(NUMBERS)
        else:
            yield "set", path, draw.choice(OTHERS)


def changed(values: dict[str, Any], change: Change) -> dict[str, Any]:
    """A copy with one change."""
    what, path, value = change
    values = deepcopy(values)
    parent: Any = values
    for name in path[:-1]:
        parent = parent[name]
    if what == "delete":
        del parent[path[-1]]
    else:
        parent[path[-1]] = deepcopy(value)
    return values


def told(value: Any) -> str:
    """A value, short enough for a report of faults."""
    return "a long number" if isinstance(value, int) and value > 10**400 else repr(value)[:60]


@pytest.mark.slow
@pytest.mark.parametrize("setup", SETUPS)
def test_any_value_is_refused_in_a_line_or_the_run_ends(setup: str, hardware: Path, tmp_path: Path) -> None:
    overrides = [override.replace("HARDWARE", str(hardware)) for override in (*SETUPS[setup], *SMALL)]
    values = composed(overrides)
    player, draw = Player(tmp_path / "run", limit_s=LIMIT_S), random.Random(f"{setup} {SEED}")
    faults: list[str] = []
    ends = {"ran": 0, "refused": 0}
    try:
        assert player.play(values) == "ran"
        for _, change in zip(range(-(-N_VALUES // len(SETUPS))), changes(values, draw), strict=False):
            end = player.play(changed(values, change))
            if end in ends:
                ends[end] += 1
            else:
                faults.append(f"{change[0]} {'.'.join(map(str, change[1]))[:100]} = {told(change[2])}: {end}")
    finally:
        player.close()
    print(setup, ends, f"faults {len(faults)}")
    assert not faults, "\n".join(faults)
