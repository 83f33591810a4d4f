"""The same configuration and seed give the same bytes; what has no part in a draw does not change it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim import log
from fedsim.config.simulation import build_simulation
from fedsim.data.passes import Passes
from fedsim.device.network import Network
from fedsim.device.work import Work
from fedsim.fleet.fleet import Fleet
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.simulation import Simulation
from fedsim.traces.canonical import TraceSet
from fedsim.units import DAY_S
from tests.build import (
    RecordingTrainer,
    Sizes,
    Tables,
    aggregator,
    buffered,
    device,
    inference_compute,
    phone,
    played,
    rates,
    simulation,
    sync,
)
from tests.hand import traces_of
from tests.smoke import composed

PROTOCOLS = ("sync", "buffered")


def coordinator(protocol: str) -> Coordinator:
    queue = aggregator(0.5, service="exponential", n_workers=2)
    if protocol == "sync":
        return sync(20, over_selection=1.3, deadline_s=300.0, quorum_fraction=0.5, aggregator=queue)
    return buffered(40, 10, max_staleness=6, assignment_interval_s=4.0, aggregator=queue)


def traces() -> TraceSet:
    draw = np.random.default_rng(0)
    starts = np.sort(draw.uniform(0, 80_000, (30, 20)))
    phones = [phone(*((at, at + 0.8 * gap) for at, gap in zip(row, np.diff(row), strict=False))) for row in starts]
    return traces_of(phones, period_s=DAY_S)


TRACES = traces()


def parts(protocol: str, *, seed: int = 1, n_devices: int = 3000, max_s: float = 2000.0, **more: Any) -> Simulation:
    """A run in which everything that can be drawn is drawn."""
    link = Network(
        seed=seed,
        down_bytes_per_s=rates(1e5),
        up_bytes_per_s=rates(3e4),
        device_sigma=0.5,
        session_sigma=0.3,
        connect_s=0.5,
        assumed_type="wifi",
    )
    compute = inference_compute(seed=seed, median_inference_ms=400.0, sigma=0.6, session_sigma=0.2)
    return simulation(
        coordinator(protocol),
        fleet=Fleet(TRACES, n_devices=n_devices, seed=seed, jitter_s=120.0),
        phone=device(compute, link=link, crash_fraction=0.05, seed=seed),
        work=Work(download_bytes=1_000_000, upload_bytes=500_000, passes=Passes(1, 10)),
        clients=Sizes((10, 20, 35, 60)),
        max_s=max_s,
        seed=seed,
        gauge_interval_s=100.0,
        **more,
    )


def digests(folder: Path) -> dict[str, str]:
    """A hash of every file below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_same_seed_same_bytes(protocol: str, tmp_path: Path) -> None:
    summaries = [parts(protocol).run(tmp_path / name).summary for name in ("a", "b")]
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert summaries[0] == summaries[1]
    assert {"steps.parquet", "gauges.parquet", "sessions/part-00000.parquet"} <= set(digests(tmp_path / "a"))
    ends = ("AGGREGATED", "LATE" if protocol == "sync" else "STALE", "INTERRUPTED", "FAILED", "OPEN")
    assert min(summaries[0]["outcomes"][name] for name in ends) > 0


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_seed_other_sessions(protocol: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        parts(protocol, seed=seed).run(tmp_path / str(seed))
    one, other = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one["sessions/part-00000.parquet"] != other["sessions/part-00000.parquet"]
    assert one["steps.parquet"] != other["steps.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_does_not_change_the_schedule(protocol: str, tmp_path: Path) -> None:
    parts(protocol).run(tmp_path / "none")
    trainer = RecordingTrainer()
    parts(protocol, trainer=trainer).run(tmp_path / "stub")
    assert trainer.version > 10
    none, stub = digests(tmp_path / "none"), digests(tmp_path / "stub")
    for name in none:
        if name not in ("steps.parquet", "evals.parquet"):
            assert none[name] == stub[name], name
    schedule = [
        pq.read_table(tmp_path / run / "steps.parquet").drop_columns(["train_loss", "update_norm"])
        for run in ("none", "stub")
    ]
    assert schedule[0].equals(schedule[1])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_how_often_rows_are_written_does_not_change_them(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parts(protocol).run(tmp_path / "whole").summary
    monkeypatch.setattr(log, "ROWS_PER_FLUSH", 7)
    monkeypatch.setattr(log, "ROWS_PER_FILE", 50)
    split = parts(protocol).run(tmp_path / "split").summary
    assert whole == split
    assert len(list((tmp_path / "split/sessions").iterdir())) > 1
    tables = [pq.read_table(tmp_path / name / "sessions") for name in ("whole", "split")]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_simulation_is_played_again(protocol: str, tmp_path: Path) -> None:
    """What changes in a run belongs to the run: policies are as they were."""
    once = parts(protocol)
    summaries = [once.run(tmp_path / name).summary for name in ("first", "second")]
    assert summaries[0] == summaries[1]
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


@pytest.mark.parametrize("optimizer", ["fedavgm", "fedadam"])
def test_training_begins_anew_in_each_run(optimizer: str, tmp_path: Path) -> None:
    """Model versions and the optimiser's moments are of the run too."""
    small = ["server.report_goal=5", "stop.max_steps=3", "evaluation.every_steps=1", "data.n_clients=20"]
    once = build_simulation(composed([f"training/server_optimizer={optimizer}", *small]))
    metrics = [once.run(tmp_path / name).summary["metrics"] for name in ("first", "second")]
    assert metrics[0] == metrics[1]
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


@pytest.mark.slow
def test_sampling_gauges_does_not_change_the_sessions(tmp_path: Path) -> None:
    replace(parts("buffered"), gauge_interval_s=0.9).run(tmp_path / "often")
    parts("buffered").run(tmp_path / "seldom")
    names = ("sessions/part-00000.parquet", "steps.parquet")
    one, other = digests(tmp_path / "often"), digests(tmp_path / "seldom")
    assert [one[name] for name in names] == [other[name] for name in names]


# ------------------------------------------------------------------------------------ common random numbers


def draws(run: Tables) -> dict[tuple[int, int], tuple[float, ...]]:
    """What was drawn for each finished session, by device and participation."""
    begun = run.column("assigned_at")
    columns = [
        run.column("compute_s"),
        run.column("upload_end_at") - run.column("train_end_at"),
        run.column("download_end_at") - begun,
        run.column("client_id"),
        run.column("base_trace"),
    ]
    rows = np.flatnonzero(np.isfinite(run.column("upload_end_at")))
    keys = zip(run.column("device_id")[rows].tolist(), run.column("participation")[rows].tolist(), strict=True)
    values = np.stack(columns, axis=1)[rows].round(6).tolist()
    return {key: tuple(value) for key, value in zip(keys, values, strict=True)}


def common(one: Tables, other: Tables) -> int:
    """Number of sessions that both runs have; their draws must agree."""
    mine, yours = draws(one), draws(other)
    shared = sorted(mine.keys() & yours.keys())
    assert [mine[key] for key in shared] == [yours[key] for key in shared]
    return len(shared)


def test_two_arms_share_their_draws(tmp_path: Path) -> None:
    arms = [played(parts(protocol), tmp_path / protocol) for protocol in PROTOCOLS]
    assert common(*arms) > 100
    repeated = [key for key in draws(arms[1]) if key[1] > 0]
    assert repeated  # a device draws anew in its next session


def test_a_session_number_keys_its_draw(tmp_path: Path) -> None:
    run = draws(played(parts("buffered", n_devices=200), tmp_path))
    pairs = [(run[device_id, 0], run[device_id, 1]) for device_id, k in run if k == 1 and (device_id, 0) in run]
    assert len(pairs) > 10
    assert all(first[:3] != second[:3] and first[3:] == second[3:] for first, second in pairs)


def test_adding_devices_does_not_change_those_there_are(tmp_path: Path) -> None:
    """A fleet three times as large: the devices that both assign are the same phones with the same speeds."""
    small, large = (played(parts("sync", n_devices=n), tmp_path / str(n)) for n in (1000, 3000))
    assert common(small, large) > 50
    assert large.column("device_id").max() > 1000


@pytest.mark.slow
def test_how_long_a_run_lasts_does_not_change_its_beginning(tmp_path: Path) -> None:
    short, long = (played(parts("buffered", max_s=s), tmp_path / str(s)) for s in (1000.0, 2000.0))
    n = short.sessions.num_rows
    names = ["session_id", "device_id", "version", "assigned_at", "download_end_at"]
    is_over = short.column("end_at") < 900.0
    for name in (*names, "end_at", "outcome"):
        np.testing.assert_array_equal(short.column(name)[is_over], long.column(name)[:n][is_over])


def test_one_simulation_is_played_in_two_threads_at_once(tmp_path: Path) -> None:
    """What a run changes is its own: nothing is shared but what never changes."""
    once = parts("buffered", n_devices=800)
    once.run(tmp_path / "alone")
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(once.run, tmp_path / name) for name in ("left", "right")]:
            future.result()
    assert digests(tmp_path / "left") == digests(tmp_path / "right") == digests(tmp_path / "alone")
