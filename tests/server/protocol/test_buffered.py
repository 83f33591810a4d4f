"""Buffered aggregation: the edges of its rules, one by one (all of them together: tests/test_alone.py)."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import rng
from fedsim.data.passes import Passes
from fedsim.device.battery import BatteryLimits
from fedsim.device.work import Work
from fedsim.errors import InputError, SimulationError
from fedsim.fleet.admission import Rollout
from fedsim.schema import OUTCOMES
from fedsim.server.task import Evaluation, Stop
from tests.build import (
    ALWAYS,
    Counting,
    RecordingTrainer,
    Seconds,
    Sizes,
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
)
from tests.server.small_fleets import SMALL_FLEETS, SmallFleet

# ------------------------------------------------------------------------------------ the edges, one by one


def loop(folder: Path, concurrency: int, buffer_size: int, *train_s: float, **changes: Any) -> Tables:
    """One always eligible device per training time, without transfers; run settings and server's are told apart."""
    names = (
        "max_steps",
        "max_s",
        "clients",
        "min_between_participations_s",
        "gauge_interval_s",
        "stop",
        "evaluation",
        "trainer",
    )
    run = {name: changes.pop(name) for name in names if name in changes}
    parts = simulation(
        buffered(concurrency, buffer_size, **changes),
        fleet=replay(*[ALWAYS] * len(train_s)),
        phone=device(by_device(*train_s)),
        **run,
    )
    return played(parts, folder)


def test_a_device_is_assigned_again_on_the_next_tick(tmp_path: Path) -> None:
    """Sessions of 10 s with ticks of 4 s start at 0, 12, 24 …"""
    run = loop(tmp_path, 1, 1, 10, assignment_interval_s=4.0, max_s=40.0)
    np.testing.assert_array_equal(run.column("assigned_at"), [0, 12, 24, 36])
    np.testing.assert_array_equal(run.step_column("closed_at"), [10, 22, 34])  # not the ticks


def test_versions_count_from_the_tick(tmp_path: Path) -> None:
    """The step at 10 is known to whoever is assigned on the tick at 12, and to a report at the same tick."""
    run = loop(tmp_path, 2, 1, 10, 12, assignment_interval_s=4.0, max_s=13.0)
    assert run.column("version").tolist() == [0, 0, 2, 2]
    by_phone = dict(zip(run.column("device_id")[:2], run.column("staleness")[:2], strict=True))
    assert by_phone == {0: 0.0, 1: 1.0}


def test_a_fleet_as_large_as_the_concurrency_never_idles(tmp_path: Path) -> None:
    """Ten devices, ten wanted, sessions of 10 s: a report a second, though no window of the fleet changes."""
    run = loop(tmp_path, 10, 5, *[10] * 10, max_s=600.0)
    assert run.summary["outcomes"]["AGGREGATED"] == 600


def test_more_devices_than_the_fleet_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="20 devices cannot be in flight; the fleet has 10"):
        loop(tmp_path, 20, 5, *[10] * 10, max_s=600.0)


def test_a_free_device_is_found_within_a_minute_when_nothing_else_happens(tmp_path: Path) -> None:
    """The only device reports at 10 and may participate again 100 s later."""
    run = loop(tmp_path, 1, 1, 10, min_between_participations_s=100.0, max_s=300.0)
    begun = run.column("assigned_at")
    assert begun[0] == 0
    assert 110 <= begun[1] <= 170


def test_no_device_is_aggregated_twice_within_the_separation_even_while_its_report_waits(tmp_path: Path) -> None:
    """A buffer that fills slowly: 4 devices of 10 s, 8 to a buffer, 300 s between participations: it never fills."""
    run = loop(tmp_path / "apart", 4, 8, *[10] * 4, min_between_participations_s=300.0, max_s=280.0)
    assert run.outcomes.tolist() == ["OPEN"] * 4
    assert run.column("end_at").tolist() == [10.0] * 4  # they reported, and wait in the buffer
    run = loop(tmp_path / "at will", 4, 8, *[10] * 4, max_s=280.0)
    assert run.summary["outcomes"]["AGGREGATED"] == 112  # without separation each one fills its share of every buffer


def test_a_refused_device_may_try_again(tmp_path: Path) -> None:
    """Device 1 is refused at 25 (two steps since it began); it did not participate, so it starts again at once."""
    run = loop(tmp_path, 3, 1, 10, 25, 20, max_staleness=1, min_between_participations_s=1000.0, max_s=26.0)
    outcome = dict(zip(run.column("device_id")[:3], run.outcomes[:3], strict=True))
    assert outcome == {0: "AGGREGATED", 1: "STALE", 2: "AGGREGATED"}
    assert run.column("device_id")[3:].tolist() == [1]
    assert run.column("assigned_at")[3:].tolist() == [25.0]


def test_a_buffer_of_one_is_fedasync(tmp_path: Path) -> None:
    run = loop(tmp_path, 3, 1, 10, 11, 12, max_steps=3)
    np.testing.assert_array_equal(run.step_column("closed_at"), [10, 11, 12])
    np.testing.assert_allclose(np.sort(run.column("weight")[:3]), [1 / sqrt(3), 1 / sqrt(2), 1])


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        # device 0 reports at 4, 8 (step) and, from version 1, at 12; device 1, from version 0, at 15 (step)
        ({"divisor": "buffer_size"}, [1 / 2, 1 / 2, 1 / 2, 1 / 2 / sqrt(2)]),
        ({"divisor": "weight_sum"}, [1 / 2, 1 / 2, sqrt(2) / (1 + sqrt(2)), 1 / (1 + sqrt(2))]),
        ({"divisor": "buffer_size", "staleness_weight": "constant"}, [1 / 2] * 4),
    ],
)
def test_weights_of_a_step(tmp_path: Path, server: dict[str, Any], expected: list[float]) -> None:
    run = loop(tmp_path, 2, 2, 4, 15, max_steps=2, **server)
    rows = np.lexsort((run.column("end_at"),))[:4]
    assert run.column("end_at")[rows].tolist() == [4, 8, 12, 15]
    np.testing.assert_allclose(run.column("weight")[rows], expected)


def test_weights_by_examples(tmp_path: Path) -> None:
    """w · s(τ) ÷ Σ w: examples weigh, staleness discounts what it weighs."""
    run = loop(tmp_path, 6, 3, *range(10, 16), weighting="examples", clients=Sizes((10, 30)), max_steps=2)
    rows = np.lexsort((run.column("end_at"),))[:6]
    n_examples = run.column("n_examples")[rows].astype(float)
    assert set(n_examples) == {10.0, 30.0}
    share = np.concatenate([n_examples[:3] / n_examples[:3].sum(), n_examples[3:] / n_examples[3:].sum()])
    np.testing.assert_allclose(run.column("weight")[rows], share / np.sqrt([1, 1, 1, 2, 2, 2]))


def test_a_queue_before_the_aggregator_delays_steps_and_ages_updates(tmp_path: Path) -> None:
    """Reports at 10, 11, 12; 5 s each to take in: steps at 15, 20, 25, staleness 0, 1, 2."""
    run = loop(tmp_path, 3, 1, 10, 11, 12, aggregator=aggregator(5.0), max_steps=3, gauge_interval_s=12.5)
    np.testing.assert_array_equal(run.step_column("closed_at"), [15, 20, 25])
    np.testing.assert_array_equal(run.step_column("mean_staleness"), [0, 1, 2])
    np.testing.assert_array_equal(np.sort(run.column("ingest_start_at")[:3]), [10, 15, 20])
    np.testing.assert_array_equal(np.sort(run.column("ingested_at")[:3]), [15, 20, 25])
    # those of 11 and 12 wait until 15 and 20, those of 20, 22 and 24 until the end at 25
    np.testing.assert_allclose(run.gauges.column("waiting_mean"), [(1.5 + 0.5) / 12.5, (2.5 + 7.5 + 5 + 3 + 1) / 12.5])
    assert run.gauges.column("waiting_max").to_pylist() == [2, 3]


def test_reports_at_one_instant_are_taken_in_order_of_assignment(tmp_path: Path) -> None:
    run = loop(tmp_path, 4, 2, *[10] * 4, max_steps=2)
    assert run.column("session_id")[run.column("staleness") == 0].tolist() == [0, 1]
    assert run.column("session_id")[run.column("staleness") == 1].tolist() == [2, 3]


def test_the_run_ends_with_the_step_that_ends_it(tmp_path: Path) -> None:
    """The second step is at 20.5, between the ticks at 20 and 25: who is in flight then is cut there."""
    run = loop(tmp_path, 3, 1, 10.1, 20.5, 20.7, max_steps=2, assignment_interval_s=5.0)
    assert run.summary["simulated_s"] == 20.5
    assert run.summary["stop_reason"] == "max_steps"
    assert run.outcomes.tolist().count("AGGREGATED") == 2
    assert run.outcomes.tolist().count("OPEN") == 2  # device 2, and device 0 a second time
    assert run.column("end_at")[run.outcomes == "OPEN"].tolist() == [20.5, 20.5]


def test_the_tick_that_closes_the_run_takes_nothing_from_after_its_end(tmp_path: Path) -> None:
    """The step is at 15.5; device 1 has trained by 16 and would leave at 18 in the middle of its upload."""
    parts = simulation(
        buffered(2, 1, assignment_interval_s=20.0),
        fleet=replay(ALWAYS, ((0.0, 18.0),)),
        phone=device(by_device(10.5, 16.0), link=network(up=10.0)),
        work=Work(download_bytes=0, upload_bytes=50, passes=Passes(1, 10)),
        max_steps=1,
    )
    run = played(parts, tmp_path)
    by_phone = {int(row["device_id"]): row for row in run.sessions.to_pylist()}
    assert run.summary["simulated_s"] == 15.5
    assert OUTCOMES[by_phone[1]["outcome"]] == "OPEN"
    assert (by_phone[1]["end_at"], by_phone[1]["upload_bytes"], by_phone[1]["train_end_at"]) == (15.5, 0, None)


def test_the_run_ends_with_the_step_that_meets_the_target(tmp_path: Path) -> None:
    run = loop(
        tmp_path,
        1,
        1,
        10.3,
        trainer=RecordingTrainer(),
        stop=Stop(max_steps=None, max_s=1000.0, metric="version", metric_at_least=2.0),
        evaluation=Evaluation(every_steps=1, every_s=None),
    )
    assert (run.summary["stop_reason"], run.summary["n_steps"]) == ("target", 2)
    assert run.summary["simulated_s"] == pytest.approx(11 + 10.3)


def test_end_of_run_off_the_tick(tmp_path: Path) -> None:
    """A report between the last tick and the end is still aggregated; nobody is assigned at the end."""
    run = loop(tmp_path, 1, 1, 10.2, max_s=10.5)
    assert run.outcomes.tolist() == ["AGGREGATED"]
    assert run.summary["simulated_s"] == 10.5


def test_ticks_are_skipped_while_nothing_can_happen() -> None:
    """A thousand times longer sessions take no more selections."""
    calls = []
    for scale in (1.0, 1000.0):
        counting = Counting.plain()
        simulation(
            buffered(2, 1),
            fleet=always(10),
            phone=device(Seconds(lambda ids, k, s=scale: np.full(len(ids), 10.0 * s))),
            max_s=100.0 * scale,
            selector=counting,
        ).run()
        calls.append(len(counting.asked))
    assert calls[0] == calls[1] == 10


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"buffer_size": 0}, "buffer_size"),
        ({"max_staleness": -1}, "max_staleness"),
        ({"staleness_weight": "linear"}, "inverse_sqrt, constant"),
        ({"divisor": "half"}, "buffer_size, weight_sum"),
        ({"assignment_interval_s": 0.0}, "assignment_interval_s"),
    ],
)
def test_bad_input(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        buffered(**{"concurrency": 2, "buffer_size": 2} | changes)


# ------------------------------------------------------------------------------------ strides


@pytest.mark.slow
@given(
    small=SMALL_FLEETS,
    concurrency=st.integers(1, 4),
    buffer_size=st.integers(1, 5),
    max_staleness=st.sampled_from([0, 1, 3, 1000]),
    assignment_interval_s=st.sampled_from([1.0, 4.0, 0.7]),
    service=st.sampled_from([(0.0, "fixed"), (7.0, "fixed"), (3.0, "exponential")]),
    max_steps=st.sampled_from([None, 3, 20]),
    max_s=st.sampled_from([47.0, 700.0, 4000.0]),
    battery=st.booleans(),
    rollout=st.booleans(),
    caches=st.booleans(),
)
def test_strides_give_the_tables_of_one_tick_after_the_other_byte_for_byte(
    small: SmallFleet, concurrency: int, buffer_size: int, service: tuple[float, str], max_s: float,
    max_steps: int | None, battery: bool, rollout: bool, caches: bool, **server: Any,
) -> None:  # fmt: skip
    """Over small fleets that come and go, with batteries, separations, a roll-out, cached models and a queue."""
    more: dict[str, Any] = {}
    if battery:
        more["limits"] = BatteryLimits(
            capacity_wh=0.05, floor_percent=20.0, charge_percent_per_h=100.0, assumed_percent=90.0
        )
    if rollout:
        more["gates"] = [Rollout(seed=small.draw_seed, start_share=0.3, end_share=1.0, days=max_s / 86_400)]
    queue = aggregator(service[0], service=service[1], n_workers=2)
    found = []
    for looks_ahead in (True, False):
        coordinator = buffered(concurrency, buffer_size, aggregator=queue, looks_ahead=looks_ahead, **server)
        parts = small.simulation(coordinator, max_s=max_s, max_steps=max_steps, **more)
        if caches:
            parts = replace(parts, task=replace(parts.task, work=replace(parts.task.work, caches_model=True)))
        found.append(bytes_of(parts))
    assert found[0] == found[1]


def bytes_of(parts: Any) -> dict[str, bytes] | str:
    """Everything a run writes, by file; or why it does not go on."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            parts.run(Path(folder))
        except SimulationError as error:
            return str(error)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*.parquet"))}


def test_strides_are_taken(tmp_path: Path) -> None:
    """Forty devices of 60 s and more: a search is asked for many ticks at once, and far more rarely."""
    asked = {}
    for looks_ahead in (True, False):
        counting = Counting.plain()
        parts = simulation(
            buffered(40, 10, looks_ahead=looks_ahead),
            fleet=always(5_000),
            phone=device(Seconds(lambda ids, k: 60.0 + 60.0 * rng.uniform(3, "seconds", ids, k))),
            max_s=2_000.0,
            selector=counting,
        )
        parts.run()
        asked[looks_ahead] = len(counting.asked)
    assert 4 * asked[True] < asked[False]
