"""Every number of a report on five sessions that can be checked in the head (see fake_run.HAND_SESSIONS)."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.results import tables
from fedsim.results.numbers import (
    NetworkRow,
    display,
    eligible_by_hour,
    headline,
    in_flight,
    metric_curve,
    metric_names,
    n_abandoned,
    network_rows,
    outcome_rows,
    peak,
    phase_rows,
    step_times,
    top_share,
)
from fedsim.results.run import Run
from fedsim.schema import OUTCOMES
from fedsim.units import HOUR_S
from tests.report.fake_run import hand_made, random_run, without_sessions, without_training

WITHIN = 0.0061  # of the streaming quantiles


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.load(hand_made(tmp_path / "run", n_files=2))


def per_hour(run: Run, values: np.ndarray) -> list[float]:
    return run.grid.coarsen(values, run.grid.coarser(HOUR_S)).tolist()


def test_outcomes_and_what_they_cost(run: Run) -> None:
    rows = {row.outcome: row for row in outcome_rows(run)}
    assert {name: row.n for name, row in rows.items() if row.n} == {"AGGREGATED": 2, "STALE": 1, "INTERRUPTED": 2}
    assert [name for name, row in rows.items() if row.is_useful] == ["AGGREGATED"]
    useful, stale, interrupted = rows["AGGREGATED"], rows["STALE"], rows["INTERRUPTED"]
    assert (useful.device_s, stale.device_s, interrupted.device_s) == (5400.0, 3600.0, 1800.0)
    assert (useful.compute_s, stale.compute_s, interrupted.compute_s) == (2700.0, 0.0, 600.0)
    assert (useful.download_bytes, stale.download_bytes, interrupted.download_bytes) == (12000, 0, 9000)
    assert (useful.upload_bytes, stale.upload_bytes, interrupted.upload_bytes) == (6000, 3600, 0)
    assert (useful.joules, stale.joules, interrupted.joules) == (300.0, 30.0, 70.0)


def test_sessions_are_conserved(run: Run) -> None:
    t = run.totals
    assert t.n.sum() == t.ended.sum() == t.nth_session.sum() == t.base_trace.sum() == 5
    assert t.phase_s.sum() == t.in_flight_s.sum() == t.device_s.sum() == 10800.0
    assert t.download_by_bin.sum() == t.download_bytes.sum() == 21000
    assert t.upload_by_bin.sum() == t.upload_bytes.sum() == 9600


def test_energy_of_each_phase(run: Run) -> None:
    assert run.totals.phase_j.sum(axis=1).tolist() == [28.0, 330.0, 42.0]
    assert run.totals.phase_j[:, OUTCOMES.index("AGGREGATED")].tolist() == [18.0, 270.0, 12.0]
    assert run.totals.phase_j.sum() == run.totals.joules.sum() == 400.0


def test_networks_on_which_sessions_began(run: Run) -> None:
    assert network_rows(run) == [NetworkRow("wifi", 3, 21600.0, 330.0), NetworkRow("4g", 2, 9000.0, 70.0)]


def test_batteries_of_the_phones(run: Run, tmp_path: Path) -> None:
    """Used 0.25, 0.5 and 1 %, from 55.5, 100 and 18 %; two sessions do not tell."""
    numbers = headline(run)
    assert numbers["battery_used_median_percent"] == pytest.approx(0.5, rel=WITHIN)
    assert numbers["battery_used_p95_percent"] == pytest.approx(1.0, rel=WITHIN)
    assert numbers["battery_start_median_percent"] == 55
    assert np.flatnonzero(run.totals.battery_start).tolist() == [18, 55, 100]
    unknown = headline(Run.load(without_training(tmp_path / "untrained")))
    assert unknown["battery_used_median_percent"] is unknown["battery_start_median_percent"] is None


def test_series_by_hour(run: Run) -> None:
    t = run.totals
    assert per_hour(run, t.in_flight_s) == [3600.0, 2700.0, 450.0, 4050.0]
    assert per_hour(run, t.download_by_bin) == pytest.approx([12000.0, 6000.0, 1500.0, 1500.0])
    assert per_hour(run, t.upload_by_bin) == pytest.approx([3000.0, 3000.0, 0.0, 3600.0])
    ended = dict(zip(OUTCOMES, per_hour(run, t.ended), strict=True))
    assert ended["AGGREGATED"] == [1, 1, 0, 0]
    assert ended["INTERRUPTED"] == [0, 0, 1, 1]
    assert ended["STALE"] == [0, 0, 0, 1]


def test_display_series(run: Run) -> None:
    hourly = display(run, run.totals.download_by_bin, n_bins=5)
    assert hourly.grid.width_s == HOUR_S
    assert hourly.per_hour() == pytest.approx([12000.0, 6000.0, 1500.0, 1500.0])
    assert in_flight(run, n_bins=5).values == pytest.approx([1.0, 0.75, 0.125, 1.125])
    assert display(run, run.totals.in_flight_s, n_bins=500, at_least_s=50.0).grid.width_s == 60


def test_peaks(run: Run) -> None:
    assert peak(run, run.totals.download_by_bin, width_s=HOUR_S) == pytest.approx(12000.0)
    assert headline(run)["peak_in_flight"] == 2.0  # the two that overlap at the third hour's end


def test_a_run_shorter_than_an_hour_has_no_busiest_hour(tmp_path: Path) -> None:
    numbers = headline(Run.load(hand_made(tmp_path / "run", simulated_s=3599.0)))
    assert numbers["peak_hour_download_bytes"] is None
    assert numbers["peak_in_flight"] == 1.0


def test_stragglers_count_in_totals_but_not_in_series(tmp_path: Path) -> None:
    run = Run.load(hand_made(tmp_path / "run", simulated_s=7200.0))
    assert run.totals.n.sum() == 5
    assert run.totals.ended.sum() == 3
    assert run.totals.device_s.sum() == 10800.0
    assert run.totals.in_flight_s.sum() == 6300.0
    assert headline(run)["mean_in_flight"] == 6300.0 / 7200.0


def test_phases(run: Run) -> None:
    rows = {row.phase: row for row in phase_rows(run)}
    assert {name: row.device_s for name, row in rows.items()} == {
        "download": 2400.0,
        "training": 3300.0,
        "upload": 4500.0,
        "waiting": 600.0,
        "whole session": 10800.0,
    }
    assert [row.n_reached for row in rows.values()] == [5, 4, 3, 3, 5]
    assert [row.n_completed for row in rows.values()] == [4, 3, 3, 3, 5]
    assert rows["download"].median_s == pytest.approx(300.0, rel=WITHIN)  # of 0, 300, 600, 600
    assert rows["training"].p95_s == pytest.approx(1800.0, rel=WITHIN)
    assert rows["waiting"].median_s == 0.0
    assert rows["whole session"].median_s == pytest.approx(1800.0, rel=WITHIN)


def test_steps_of_both_protocols(run: Run, tmp_path: Path) -> None:
    assert n_abandoned(run) == 1
    assert step_times(run).seconds.tolist() == [3600.0]  # from the first committed step to the second
    sync = Run.load(hand_made(tmp_path / "sync", protocol="sync"))
    assert step_times(sync).at.tolist() == [1800.0, 5400.0]
    assert step_times(sync).seconds.tolist() == [1200.0, 1800.0]


def test_metric_against_time_and_device_hours(run: Run) -> None:
    assert metric_names(run) == ["accuracy", "log_loss"]
    curve = metric_curve(run, "accuracy")
    assert curve.at.tolist() == [0.0, 1800.0, 5400.0]
    assert curve.device_h.tolist() == [0.0, 0.5, 1.5]  # a session that ends at the evaluation counts
    assert curve.value.tolist() == [0.1, 0.5, 0.9]


def test_eligible_share_by_hour_of_day(run: Run) -> None:
    share = eligible_by_hour(run)
    assert share[[0, 1, 3]] == pytest.approx([0.09, 0.06, 0.04])  # hour 0 was sampled on two days
    assert np.isnan(np.delete(share, [0, 1, 3])).all()


def test_headline(run: Run) -> None:
    numbers = headline(run)
    expected = {
        "simulated_s": 14400,
        "n_devices": 1000,
        "n_sessions": 5,
        "n_steps": 2,
        "n_abandoned_rounds": 1,
        "step_median_s": 3600.0,
        "step_p95_s": 3600.0,
        "staleness_median": 0,
        "staleness_p95": 1,
        "aggregated_fraction": 0.4,
        "device_s": 10800.0,
        "wasted_device_s": 5400.0,
        "wasted_fraction": 0.5,
        "mean_in_flight": 0.75,
        "download_bytes": 21000,
        "upload_bytes": 9600,
        "joules_per_session": 80.0,
        "energy_kwh": 400 / 3.6e6,
        "wasted_energy_fraction": 0.25,
        "n_distinct_devices": 3,
        "distinct_fraction": 0.003,
        "max_sessions_per_device": 3,
        "top_tenth_share": 0.6,  # the busiest of three devices did three of five sessions
        "n_base_traces_used": 2,
    }
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert numbers["metrics"] == {"accuracy": 0.9, "log_loss": 0.4}
    assert numbers["central_metrics"] == {"accuracy": 0.95}
    json.dumps(numbers, allow_nan=False)


def test_unknown_is_none_and_not_zero(tmp_path: Path) -> None:
    untrained = headline(Run.load(without_training(tmp_path / "untrained")))
    assert untrained["joules_per_session"] is untrained["energy_kwh"] is untrained["central_metrics"] is None
    idle = headline(Run.load(without_sessions(tmp_path / "idle")))
    unknown = {name for name, value in idle.items() if value is None}
    assert {"aggregated_fraction", "wasted_fraction", "step_median_s", "session_median_s", "top_tenth_share"} <= unknown
    assert idle["n_sessions"] == idle["n_distinct_devices"] == idle["device_s"] == 0


def test_top_share_of_unequal_devices() -> None:
    # One device with four sessions, two with two, seven with one: 15 sessions.
    nth_session = np.array([10, 3, 1, 1])
    assert top_share(nth_session, 0.1) == 4 / 15
    assert top_share(nth_session, 0.2) == 6 / 15
    assert top_share(nth_session, 1.0) == 1.0


def test_batches_do_not_change_the_totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = random_run(tmp_path / "run", n=3000, days=1.0)
    whole = Run.load(folder).totals
    monkeypatch.setattr(tables, "ROWS_PER_BATCH", 97)
    pieces = Run.load(folder).totals
    for name in whole.__dataclass_fields__:
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-9, atol=1e-4, err_msg=name)


def test_distinct_devices_equal_a_set_of_ids(tmp_path: Path) -> None:
    run = Run.load(random_run(tmp_path / "run", n=3000, days=1.0))
    ids = np.concatenate([batch.column("device_id").to_numpy() for batch in run.session_batches(("device_id",))])
    n_distinct = headline(run)["n_distinct_devices"]
    assert n_distinct == len(np.unique(ids)) < 3000


def test_a_run_without_summary_is_not_complete(tmp_path: Path) -> None:
    folder = hand_made(tmp_path / "run")
    (folder / "summary.json").unlink()
    with pytest.raises(InputError, match=r"not complete, summary.json is missing"):
        Run.load(folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("summary.json", "[]", "summary is not a mapping"),
        ("summary.json", '{"seed": 1}', "lacks documented keys.*simulated_s"),
        ("summary.json", '{"seed"', "not valid JSON"),
        ("provenance.json", "[]", "provenance is not a mapping"),
        ("config.yaml", "a: [", "not valid YAML"),
        ("config.yaml", "- a", "config of the run is not a mapping"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = hand_made(tmp_path / "run")
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        Run.load(folder)
    assert file in str(error.value)


def test_bad_session_files_are_named(tmp_path: Path) -> None:
    folder = hand_made(tmp_path / "run", n_files=2)
    (folder / "sessions" / "part-00001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"part-00001.parquet"):
        headline(Run.load(folder))


def test_rows_that_the_summary_does_not_count_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sessions and summary.json disagree"):
        headline(Run.load(hand_made(tmp_path / "more", n_sessions=6)))
    with pytest.raises(InputError, match=r"sessions and summary.json disagree"):
        headline(Run.load(hand_made(tmp_path / "other", outcomes={"AGGREGATED": 3, "STALE": 0, "INTERRUPTED": 2})))


def test_time_must_have_passed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="simulated_s must be positive"):
        Run.load(hand_made(tmp_path / "run", simulated_s=0))
