"""A run as a whole: its summary, its gauges against the session table, progress, and what it refuses."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim.data.passes import Passes
from fedsim.device.work import Work
from fedsim.device.world import reachable
from fedsim.errors import InputError, SimulationError
from fedsim.schema import GROUPS, RUN_TABLES, SESSIONS
from fedsim.server.protocol.coordinator import Coordinator
from fedsim.simulation import Progress, Simulation
from fedsim.traces.rule import Rule
from fedsim.units import HOUR_S, IntArray
from tests.build import (
    ALWAYS,
    NO_BYTES,
    RecordingTrainer,
    Seconds,
    Span,
    Tables,
    aggregator,
    always,
    buffered,
    by_device,
    device,
    network,
    played,
    replay,
    simulation,
    sync,
)
from tests.hand import events_of, traces_of


def busy(coordinator: Coordinator, folder: Path, *, gauge_interval_s: float = 17.3) -> Tables:
    """Twenty devices that come and go, with transfers and many ways to end."""
    draw = np.random.default_rng(1)
    edges = np.sort(draw.uniform(0, 7000, (20, 10)), axis=1).reshape(20, 5, 2)
    phone = device(
        Seconds(lambda ids, k: 10.0 + 40 * ((ids * 7 + k * 3) % 5)),
        link=network(down=10.0, up=5.0, connect_s=1.0),
        crash_fraction=0.1,
    )
    parts = simulation(
        coordinator,
        fleet=replay(*edges.tolist()),
        phone=phone,
        work=Work(download_bytes=100, upload_bytes=100, passes=Passes(1, 10)),
        max_s=2.0 * HOUR_S,
        gauge_interval_s=gauge_interval_s,
    )
    return played(parts, folder)


BUSY = {
    "sync": lambda: sync(3, over_selection=1.5, quorum_fraction=0.3, aggregator=aggregator(8.0), deadline_s=200.0),
    "buffered": lambda: buffered(6, 3, max_staleness=2, aggregator=aggregator(8.0)),
}


def levels(starts: Any, stops: Any, rates: Any, edges: Any) -> tuple[list[float], list[float]]:
    """Mean and maximum, between each two edges, of what spells add up to; instant by instant."""
    bounds = np.unique(np.concatenate([starts, stops, edges]))
    means, maxima = [], []
    for low, high in pairwise(edges):
        instants = bounds[(bounds >= low) & (bounds < high)]
        level = np.array([rates[(starts <= at) & (at < stops)].sum() for at in instants])
        lasts = np.diff(np.append(instants, high))
        means.append(float(level @ lasts / (high - low)))
        maxima.append(float(level.max()))
    return means, maxima


@pytest.mark.parametrize("protocol", BUSY)
def test_gauges_are_what_the_tables_say(protocol: str, tmp_path: Path) -> None:
    run = busy(BUSY[protocol](), tmp_path, gauge_interval_s=700.0)
    gauges, edges = run.gauges, np.append(700.0 * np.arange(11), 7200.0)
    np.testing.assert_array_equal(gauges.column("at"), edges[:-1])
    np.testing.assert_array_equal(gauges.column("until"), edges[1:])
    begin, end = run.column("assigned_at"), run.column("end_at")
    arrived, taken = run.column("upload_end_at"), np.nan_to_num(run.column("ingest_start_at"), nan=7200.0)
    has_arrived = ~np.isnan(arrived)
    sent, one = np.flatnonzero(run.column("upload_bytes") > 0), np.ones(len(begin))
    got, asks_at = np.fmin(run.column("download_end_at"), end), run.column("train_end_at")[sent]
    left = np.fmin(arrived, end)[sent]
    spells = {
        "in_flight": (begin, end, one),
        "waiting": (arrived[has_arrived], taken[has_arrived], one[has_arrived]),
        "download_bytes_per_s": (begin, got, run.column("download_bytes") / (got - begin)),
        "upload_bytes_per_s": (asks_at, left, run.column("upload_bytes")[sent] / (left - asks_at)),
    }
    for name, (starts, stops, rates) in spells.items():
        means, maxima = levels(starts, stops, rates, edges)
        # whole bytes and thousandths; transfers that the end of the run cuts off count at the rate of the whole
        kept = slice(-1) if name.endswith("per_s") else slice(None)
        np.testing.assert_allclose(gauges.column(f"{name}_mean").to_numpy()[kept], means[kept], rtol=1e-6, atol=5e-3)
        np.testing.assert_allclose(gauges.column(f"{name}_max").to_numpy()[kept], maxima[kept], rtol=1e-6, atol=1e-3)
    assert gauges.column("waiting_max").to_numpy().max() > 0
    is_committed = run.step_column("is_committed")
    version = (run.step_column("closed_at")[is_committed] <= edges[:-1, None]).sum(axis=1)
    np.testing.assert_array_equal(gauges.column("version"), version)
    assert run.summary["n_devices_touched"] == np.unique(run.column("device_id")).size


@pytest.mark.parametrize("interruption", ["abort", "pause"])
def test_free_eligible_devices_are_those_that_are_eligible_and_in_no_session(interruption: Any, tmp_path: Path) -> None:
    """Five phones charge until 10, 40, 60, 100 and 30 (and again from 80 on) seconds; three are wanted at a time."""
    plugged: list[list[Span]] = [
        [(0.0, 10.0)],
        [(0.0, 40.0)],
        [(0.0, 60.0)],
        [(0.0, 100.0)],
        [(0.0, 30.0), (80.0, 90.0)],
    ]
    made = simulation(
        buffered(3, 2),
        fleet=replay(*plugged),
        phone=device(by_device(7, 33, 21, 50, 12), interruption=interruption),
        max_s=100.0,
        gauge_interval_s=25.0,
    )
    run = played(made, tmp_path)
    ids, begin, end = run.column("device_id"), run.column("assigned_at"), run.column("end_at")
    free = np.array(
        [
            sum(
                any(a <= at < b for a, b in spans) and not ((ids == phone) & (begin <= at) & (at < end)).any()
                for phone, spans in enumerate(plugged)
            )
            for at in np.arange(0.0, 100.0, 0.5)
        ]
    ).reshape(4, 50)
    np.testing.assert_allclose(run.gauges.column("free_eligible_mean"), free.mean(axis=1), atol=1e-12)
    assert run.gauges.column("free_eligible_max").to_pylist() == free.max(axis=1).tolist()


@pytest.mark.parametrize("protocol", BUSY)
def test_summary_is_what_the_tables_say(protocol: str, tmp_path: Path) -> None:
    run = busy(BUSY[protocol](), tmp_path)
    summary, is_committed = run.summary, run.step_column("is_committed")
    assert (summary["protocol"], summary["stop_reason"], summary["simulated_s"]) == (protocol, "max_s", 7200.0)
    assert (summary["n_devices"], summary["n_base_traces"], summary["rule"]) == (20, 20, "charging")
    assert summary["n_sessions"] == run.sessions.num_rows
    assert summary["n_steps"] == summary["n_versions"] == is_committed.sum()
    assert summary["n_abandoned_rounds"] == (~is_committed).sum()
    assert summary["outcomes"]["AGGREGATED"] == run.step_column("n_aggregated").sum()
    assert summary["upload_bytes"] == run.column("upload_bytes").sum()
    week = pq.read_table(tmp_path / "eligibility.parquet").column("eligible_fraction").to_numpy()
    assert summary["eligible_fraction_mean"] == pytest.approx(week.mean())
    np.testing.assert_allclose(week[:144], week[144:288])  # the traces last a day


def test_every_table_has_its_documented_schema(tmp_path: Path) -> None:
    simulation(sync(2), fleet=always(5), phone=device(by_device(*[1] * 5)), max_steps=2).run(tmp_path)
    for table in (table for table in RUN_TABLES if table is not GROUPS):  # where groups are asked for
        path = tmp_path / ("sessions" if table is SESSIONS else f"{table.name}.parquet")
        assert pq.read_table(path).schema.equals(table.arrow()), table.name
    assert not [path.name for path in tmp_path.rglob("*") if "tmp" in path.name]


def test_without_a_folder_nothing_is_written_and_the_summary_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def parts() -> Simulation:
        return simulation(sync(2), fleet=always(5), phone=device(by_device(*[1] * 5)), max_steps=2)

    assert parts().run().summary == parts().run(tmp_path / "run").summary
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_round_that_never_finds_enough_devices_is_an_error() -> None:
    """A round wants both devices, which are never there together."""
    fleet = replay([(0.0, 100.0)], [(200.0, 300.0)])
    parts = simulation(sync(2), fleet=fleet, phone=device(by_device(1, 1)), max_s=1000.0)
    with pytest.raises(SimulationError, match="no round began before the run's end at 17 min: it needs 2 free"):
        parts.run()


def test_progress_is_told_at_every_step() -> None:
    told: list[Progress] = []
    parts = simulation(
        sync(2), fleet=always(5), phone=device(by_device(*[10] * 5)), max_steps=3, trainer=RecordingTrainer()
    )
    parts.run(on_progress=told.append)
    seen = [(p.now, p.version, p.n_sessions) for p in told]
    assert seen == sorted(seen)
    assert {(10.0, 1, 2), (20.0, 2, 4), (30.0, 3, 6)} <= set(seen)
    assert seen[-1] == (30.0, 3, 6)
    assert told[-1].metrics == {"version": 0.0}  # the last one measured so far
    assert told[-1].stop.max_steps == 3


def test_central_metrics_are_passed_on() -> None:
    parts = simulation(sync(1), fleet=always(1), phone=device(by_device(1)), max_steps=1)
    assert parts.run(central_metrics={"auc": 0.7}).summary["central_metrics"] == {"auc": 0.7}
    assert "central_metrics" not in simulation(
        sync(1), fleet=always(1), phone=device(by_device(1)), max_steps=1
    ).run().summary  # fmt: skip


def test_a_phone_without_network_does_not_check_in(tmp_path: Path) -> None:
    offline = events_of([(0.0, "network", "none"), (0.0, "charging", 1), (500.0, "network", "wifi")])
    online = events_of([(0.0, "network", "wifi"), (0.0, "charging", 1)])
    traces = traces_of([offline, online], period_s=86_400.0)
    rule = reachable(Rule.parse("charging"), traces)
    assert rule.channels == {"charging", "network"}
    fleet = replay(ALWAYS, ALWAYS)
    fleet.traces = traces  # type: ignore[misc]
    run = played(simulation(buffered(2, 1), fleet=fleet, phone=device(by_device(100, 100)), max_s=700.0), tmp_path)
    first = {int(phone): run.column("assigned_at")[run.column("device_id") == phone].min() for phone in (0, 1)}
    assert first == {0: 500.0, 1: 0.0}


def test_traces_without_network_are_taken_as_reachable() -> None:
    traces = traces_of([events_of([(0.0, "charging", 1)])], period_s=86_400.0)
    assert reachable(Rule.parse("charging"), traces).channels == {"charging"}


def test_a_fleet_of_a_billion_costs_no_more_than_its_touched_devices() -> None:
    """Every device id stays a number: no array of the fleet's length could be built here."""
    seen: list[IntArray] = []

    def law(ids: IntArray, k: IntArray) -> np.ndarray:
        seen.append(ids)
        return np.full(len(ids), 60.0)

    parts = simulation(sync(1000), fleet=always(1_000_000_000), phone=device(Seconds(law)), max_steps=5)
    assert parts.run().summary["n_devices_touched"] == np.unique(np.concatenate(seen)).size == 5000
    assert np.concatenate(seen).max() > 900_000_000


def test_bad_gauge_interval() -> None:
    with pytest.raises(InputError, match="gauge_interval_s"):
        simulation(sync(1), fleet=always(1), phone=device(by_device(1)), max_steps=1, work=NO_BYTES, gauge_interval_s=0)
