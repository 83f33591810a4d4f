"""Frozen results of a few runs: a change of results between two commits is seen here, and explained in CHANGELOG.

Schedules are held by their bytes (a digest of each column), what is trained to 1e-6. After a change that is meant,
``pytest tests/test_baselines.py --record-baselines`` writes ``tests/baselines/`` anew; the diff names the columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedsim import rng
from fedsim.config.simulation import build_simulation
from tests.smoke import composed

FOLDER = Path(__file__).parent / "baselines"
QUEUE = ("server/aggregator=queue", "server.aggregator.n_workers=1", "server.aggregator.service_s=0.3")
RUNS: Mapping[str, tuple[str, ...]] = {
    "sync_schedule": ("training=none", "fleet.n_devices=200_000", "stop.max_steps=12", "device.crash_fraction=0.07"),
    "sync_long_work": (
        "training=none", "fleet.n_devices=3_000", "device/compute=fixed", "device.compute.train_s=700",
        "server.report_goal=20", "server.deadline_s=900", "server.quorum_fraction=0.6", "stop.max_steps=9",
        "server.selector.min_between_participations_s=3600", "device.session_timeout_s=1100", *QUEUE,
    ),
    "buffered_queue_battery": (
        "training=none", "server=buffered", "server.concurrency=60", "server.buffer_size=7", "fleet.n_devices=5_000",
        "device/battery=phone", "device/compute=fixed", "device.compute.train_s=90", "device.interruption=pause",
        "server.max_staleness=9", "stop.max_steps=40", "evaluation.every_steps=3", *QUEUE,
    ),
    "buffered_ignore_rollout": (
        "training=none", "server=buffered", "server.concurrency=90", "server.buffer_size=11", "fleet=america",
        "fleet.n_devices=70_001", "device.interruption=ignore",
        "fleet.rollout={start_share: 0.2, end_share: 0.7, days: 1}",
        "device/compute=fixed", "device.compute.train_s=41", "stop.max_steps=null", "stop.max_s=2500",
        "model.caches_model=true", "model.assets_bytes=90000", "holders=speed",
    ),
    "sync_abandoned_floor": (  # rounds below their quorum, batteries at their floor, whole seconds that tie
        "training=none", "fleet.n_devices=160", "device/compute=fixed", "device.compute.train_s=60", "fleet.jitter_s=0",
        "server.report_goal=6", "server.over_selection=1.5", "server.quorum_fraction=0.6", "server.deadline_s=61",
        "device/battery=phone", "device.battery.capacity_wh=0.2", "device.battery.floor_percent=40",
        "device.energy.compute_w=3", "device.network.device_sigma=2", "stop.max_steps=6", "stop.max_s=40_000",
        "server.server_step_s=60", "fleet.rule=screen", "device.setup_s=0",
    ),
    "sync_cohort": ("server.report_goal=12", "stop.max_steps=7", "training.central.epochs=0"),
    "buffered_loop_fedadam": (
        "server=buffered", "server.concurrency=20", "server.buffer_size=5", "stop.max_steps=9", "training=loop",
        "training/server_optimizer=fedadam", "training.local.batch_size=7", "evaluation.every_steps=2",
    ),
}  # fmt: skip
SLOW = ("sync_abandoned_floor", "buffered_ignore_rollout", "sync_cohort")
TRAINED = {"steps": ("train_loss", "update_norm"), "evals": ("value",)}


def digest(column: pa.ChunkedArray, *, is_share: bool) -> str:
    """Of the values and of which of them are null, whatever the chunks and the file's coding.

    A share of the fleet and the mean of a gauge are long sums, whose last bits are the processor's.
    """
    values = column.combine_chunks()
    if is_share:
        values = pc.round(values, 12)
    if pa.types.is_string(values.type):
        content = "\0".join(values.fill_null("").to_pylist()).encode()
    else:
        content = values.cast(pa.float64()).fill_null(0.0).to_numpy().tobytes()  # every number here is below 2**53
    return hashlib.sha256(content + np.packbits(values.is_null().to_numpy(False)).tobytes()).hexdigest()[:16]


def _is_long_sum(column: str) -> bool:
    return "eligible" in column or column.endswith("_mean") or column == "openings_per_device"


def told(folder: Path) -> dict[str, Any]:
    """What is frozen of a run: digests of the schedule's columns, values of what was trained."""
    tables = {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}
    tables["sessions"] = pq.read_table(folder / "sessions")
    found: dict[str, Any] = {"rows": {name: table.num_rows for name, table in sorted(tables.items())}}
    for name, table in sorted(tables.items()):
        trained = TRAINED.get(name, ())
        schedule = [column for column in table.column_names if column not in trained]
        found[name] = {c: digest(table[c], is_share=_is_long_sum(c)) for c in schedule}
        found |= {f"{name}.{c}": table[c].drop_null().to_pylist() for c in trained}
    return found


def played(name: str, folder: Path) -> dict[str, Any]:
    build_simulation(composed(RUNS[name])).run(folder)
    return told(folder)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in RUNS])
def test_results_are_those_of_the_baseline(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found, file = played(name, tmp_path), FOLDER / f"{name}.json"
    if request.config.getoption("--record-baselines"):
        file.write_text(json.dumps(found, indent=1) + "\n")
    frozen = json.loads(file.read_text())
    trained = [f"{table}.{column}" for table, columns in TRAINED.items() for column in columns]
    for values in trained:
        assert found.pop(values) == pytest.approx(frozen.pop(values), rel=1e-6), values
    assert found == frozen


def test_a_draw_that_changes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connect latency is not drawn; the speed of a phone is: everything after its download moves, no more."""
    drawn = rng.normal
    monkeypatch.setattr(rng, "normal", lambda seed, name, *given: drawn(seed, name + "'", *given))
    found = played("sync_schedule", tmp_path)
    frozen = json.loads((FOLDER / "sync_schedule.json").read_text())
    assert found["sessions"]["train_end_at"] != frozen["sessions"]["train_end_at"]
    assert found["eligibility"] == frozen["eligibility"]


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column"), [("sessions", "end_at"), ("sessions", "outcome"), ("steps", "version")])
def test_one_value_that_changes_is_seen(table: str, column: str, tmp_path: Path) -> None:
    before = played("buffered_ignore_rollout", tmp_path)
    file = tmp_path / "sessions" / "part-00000.parquet" if table == "sessions" else tmp_path / f"{table}.parquet"
    rows = pq.read_table(file)
    values = rows[column].to_numpy().copy()
    values[3] = np.nextafter(values[3], 1e9) if values.dtype.kind == "f" else values[3] ^ 1
    at = rows.column_names.index(column)
    pq.write_table(
        rows.set_column(at, rows.schema.field(column), pa.array(values, rows.schema.field(column).type)), file
    )
    after = told(tmp_path)
    changed = {(t, c) for t in ("sessions", "steps") for c in before[t] if before[t][c] != after[t][c]}
    assert changed == {(table, column)}
