"""Series, queue, phones, energy, money and tables against numbers by hand and slow loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fedsim.errors import InputError
from fedsim.forecast.devices import per_device
from fedsim.forecast.energy import footprint, shares
from fedsim.forecast.money import monthly, stored_bytes, tiered
from fedsim.forecast.queueing import Service, allen_cunneen_s, arrivals, erlang_c, replayed, waits, workers_for
from fedsim.forecast.series import check_ins, load_of, series_of
from fedsim.forecast.tables import (
    CONSTANTS,
    PRICES,
    Constants,
    intensity_of,
    read_constants,
    read_grid,
    read_prices,
)  # fmt: skip
from fedsim.results.run import Run
from tests.report.fake_run import hand_made, random_run, without_sessions, without_training


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.load(hand_made(tmp_path / "run"))


# ------------------------------------------------------------------------------------ loads by the second


def test_loads_of_five_sessions(run: Run) -> None:
    """Four hours: reports at 1800, 4800 and 14400 s; 180 device-minutes; 21,000 bytes down, 9,600 up."""
    found = {series.name: series for series in series_of(run)}
    assert np.flatnonzero(found["updates"].values).tolist() == [1800, 4800, 14399]  # the end belongs to the last second
    assert found["assignments"].values.sum() == 5
    assert found["connections in a session"].values.sum() == pytest.approx(180 * 60)
    assert found["egress"].values.sum() == pytest.approx(21_000)
    assert found["ingress"].values.sum() == pytest.approx(9_600)
    assert found["egress"].values[:600] == pytest.approx(10.0)  # 6,000 bytes in ten minutes
    load = load_of(found["ingress"])
    assert (load.mean, load.busiest_second) == pytest.approx((9_600 / 14_400, 10.0))
    assert load.quantiles == pytest.approx((0.0, 5.0, 10.0))  # 10, 5 and 1 a second for 5, 10 and 60 of 240 minutes
    assert load.by_hour[3] == pytest.approx(1.0)
    assert math.isnan(load.by_hour[5])


def test_series_are_those_of_a_loop(tmp_path: Path) -> None:
    run = Run.load(random_run(tmp_path / "run", n=400, days=0.02))
    sessions = run.sessions()
    n = math.ceil(run.summary["simulated_s"])
    flying, egress = np.zeros(n), np.zeros(n)
    for row in sessions.itertuples():
        ends = min(row.download_end_at if row.download_end_at == row.download_end_at else math.inf, row.end_at)
        for second in range(n):
            flying[second] += max(0.0, min(row.end_at, second + 1) - max(row.assigned_at, second))
            if ends > row.assigned_at:
                part = max(0.0, min(ends, second + 1) - max(row.assigned_at, second)) / (ends - row.assigned_at)
                egress[second] += part * row.download_bytes
    found = {series.name: series.values for series in series_of(run)}
    assert found["connections in a session"] == pytest.approx(flying, abs=1e-6)
    assert found["egress"] == pytest.approx(egress, rel=1e-6, abs=1e-3)


def test_quantiles_minutes_and_hours_of_a_series(run: Run) -> None:
    series = next(series for series in series_of(run) if series.name == "updates")
    values = np.zeros(7200)
    values[:60], values[60:90], values[3600:] = 2.0, 8.0, 1.0
    load = load_of(type(series)("x", "", "sessions", values))
    assert load.busiest_minute == 4.0
    assert load.busiest_second == 8.0
    assert load.quantiles == (1.0, 1.0, 2.0)
    assert load.by_hour[:2] == pytest.approx([(120 + 240) / 3600, 1.0])


def test_check_ins_follow_openings_and_idle_phones(tmp_path: Path) -> None:
    """A thousand phones: 0.6 openings a phone and hour are 1/6 a second; 100 eligible, 20 busy come back every 40 s."""
    folder = hand_made(tmp_path / "run")
    rows = {"at": [0.0, 3600.0], "eligible_fraction": [0.3, 0.3], "admitted_fraction": [0.1, 0.1]}
    pq.write_table(pa.table({**rows, "openings_per_device": [0.6, 0.0]}), folder / "eligibility.parquet")
    gauges = pq.read_table(folder / "gauges.parquet")
    flying = pa.array([20.0])
    place = gauges.schema.get_field_index("in_flight_mean")
    pq.write_table(gauges.set_column(place, "in_flight_mean", flying), folder / "gauges.parquet")
    found = check_ins(Run.load(folder), retry_s=40.0)
    assert found is not None
    assert found.values[0] == pytest.approx(0.6 * 1000 / 3600 + 80 / 40)
    assert found.values[3600] == pytest.approx(80 / 40)
    assert found.values[7200] == found.values[0]  # the week repeats


def test_runs_that_do_not_tell_openings_have_no_check_ins(run: Run) -> None:
    assert check_ins(run, retry_s=40.0) is None


def test_a_run_without_sessions_has_no_load(tmp_path: Path) -> None:
    run = Run.load(without_sessions(tmp_path / "run"))
    assert all(not series.values.any() for series in series_of(run))
    assert per_device(run, battery_wh=15.0) == []
    assert arrivals(run)[0].tolist() == []


def test_a_run_that_is_too_long_is_refused(tmp_path: Path) -> None:
    run = Run.load(hand_made(tmp_path / "run", simulated_s=101 * 86_400.0))
    with pytest.raises(InputError, match=r"counts by the second: '101 days' .allowed: 100 days"):
        series_of(run)


# ------------------------------------------------------------------------------------ the queue


def test_waits_by_hand() -> None:
    """Three reports a second apart, two seconds each: one worker is one and two seconds late, two are in time."""
    at, service = np.array([0.0, 1.0, 2.0]), np.array([2.0, 2.0, 2.0])
    assert waits(at, service, 1)[0].tolist() == [0.0, 1.0, 2.0]
    assert waits(at, service, 2)[0].tolist() == [0.0, 0.0, 0.0]
    assert workers_for(at, service, wait_p99_s=1.5).n == 2
    assert workers_for(at, service, wait_p99_s=2.0).n == 1
    one = replayed(at, service, 1)
    assert (one.wait_mean_s, one.wait_max_s, one.utilisation) == (1.0, 2.0, 1.0)


def test_the_fewest_workers_are_found() -> None:
    rng = np.random.default_rng(0)
    at, service = np.sort(rng.uniform(0, 1000, 4000)), rng.exponential(3.0, 4000)
    found = workers_for(at, service, wait_p99_s=0.5)
    assert waits(at, service, found.n)[1] <= 0.5 < waits(at, service, found.n - 1)[1]
    assert found.n == next(n for n in range(1, 50) if waits(at, service, n)[1] <= 0.5)


def test_erlangs_formula() -> None:
    """One worker waits as often as it is busy; two with one Erlang: 1/3 (textbook)."""
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_formula_is_exact_where_arrivals_and_service_are_exponential() -> None:
    """M/M/3 at 70 %: replay and formula meet."""
    rng = np.random.default_rng(1)
    at, service = np.cumsum(rng.exponential(1.0, 200_000)), rng.exponential(2.1, 200_000)
    found = replayed(at, service, 3)
    assert found.formula_s == pytest.approx(erlang_c(3, 2.1) * 2.1 / 0.9, rel=0.03)
    assert found.wait_mean_s == pytest.approx(found.formula_s, rel=0.05)
    assert found.utilisation == pytest.approx(0.7, rel=0.02)


def test_where_the_formula_knows_nothing() -> None:
    assert math.isnan(allen_cunneen_s(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 1))
    assert math.isinf(allen_cunneen_s(np.arange(5.0), np.full(5, 2.0), 1))
    with pytest.raises(InputError, match="no report arrived"):
        workers_for(np.zeros(0), np.zeros(0), wait_p99_s=1.0)


def test_service_takes_a_time_and_bytes() -> None:
    assert Service(0.05, 1000.0).seconds(np.array([0.0, 500.0])).tolist() == [0.05, 0.55]


# ------------------------------------------------------------------------------------ phones


def test_what_phones_give(run: Run) -> None:
    """Phones 7, 8 and 9 over a sixth of a day: 3, 1 and 1 sessions; 18,600, 9,000 and 3,000 bytes; 195, 200, 5 J."""
    found = {spread.name: spread for spread in per_device(run, battery_wh=10.0)}
    asked, moved = found["sessions of a phone"], found["bytes of a phone and day"]
    assert (asked.mean, asked.quantiles, asked.most) == (pytest.approx(5 / 3), (1, 3, 3), 3)
    assert moved.quantiles == (pytest.approx(9_000 * 6), pytest.approx(18_600 * 6), pytest.approx(18_600 * 6))
    assert moved.worst_percent_mean == moved.most == pytest.approx(18_600 * 6)
    energy = found["energy of a phone and day"]
    assert energy.mean * 3 == pytest.approx((195 + 200 + 5) * 6)
    battery = found["battery of a phone and day"]  # not all sessions know their battery: of 10 Wh, then
    assert battery.most == pytest.approx(100 * 200 / 36_000 * 6)


# ------------------------------------------------------------------------------------ energy, money, tables


def constants(**values: object) -> Constants:
    return Constants(**{**vars(read_constants()), **values})  # type: ignore[arg-type]


def test_energy_and_carbon_by_hand(tmp_path: Path) -> None:
    """400 J of phones, 30,600 bytes, four hours of servers: each by its own grid."""
    folder = hand_made(tmp_path / "run", regions=["here", "there"])
    config = {"seed": 3, "fleet": {"regions": {"here": {"country": "AAA"}, "there": {"country": None}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    told = constants(
        network_kwh_per_gb=2.0, network_kwh_per_gb_low=1.0, network_kwh_per_gb_high=5.0, server_w=50.0,
        n_server_processes=3, pue=1.2, server_country="BBB",
    )  # fmt: skip
    found = footprint(Run.load(folder), constants=told, grid={"AAA": 300.0, "BBB": 700.0, "WOR": 1.0})
    assert found is not None
    assert found.kwh["training on phones"] == pytest.approx(330 / 3.6e6)
    assert found.kwh["download radio"] + found.kwh["upload radio"] == pytest.approx(70 / 3.6e6)
    assert found.kwh["network down"] == pytest.approx(21_000 / 1e9 * 2)
    assert found.kwh["network up"] == pytest.approx(9_600 / 1e9 * 2)
    assert found.kwh["servers"] == pytest.approx(0.05 * 3 * 1.2 * 4)
    assert found.kg["servers"] == pytest.approx(0.72 * 0.7)
    assert found.kg["training on phones"] == pytest.approx(330 / 3.6e6 * 0.3)
    assert found.by_country["AAA"] == pytest.approx((400 / 3.6e6 + 6.12e-5) * 0.3)
    assert found.by_country["not said"] == 0.0
    assert found.kwh_low == pytest.approx(sum(found.kwh.values()) - 3.06e-5)
    assert found.kg_high == pytest.approx(sum(found.kg.values()) + 3 * 3.06e-5 * 0.3)


def test_shares_are_divided_as_green_fl_does() -> None:
    kwh = {
        "training on phones": 5.0,
        "download radio": 1.0,
        "upload radio": 1.5,
        "network down": 0.5,
        "network up": 1.0,
    }
    assert shares(kwh | {"servers": 1.0}) == {"client compute": 0.5, "upload": 0.25, "download": 0.15, "server": 0.1}


def test_energy_that_was_not_simulated_is_not_known(tmp_path: Path) -> None:
    run = Run.load(without_training(tmp_path / "run"))
    assert footprint(run, constants=read_constants(), grid=read_grid()) is None


def test_a_country_without_a_grid_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(InputError, match=r"no value for this country: 'XXX' .allowed: its codes: "):
        footprint(run, constants=constants(server_country="XXX"), grid=read_grid())


def test_tiers_are_paid_each_at_its_price() -> None:
    tiers = ((0, 0.09), (10_000, 0.085), (50_000, 0.07))
    assert tiered(12_000, tiers) == pytest.approx(900 + 170)
    assert tiered(60_000, tiers) == pytest.approx(900 + 3400 + 700)
    assert tiered(500, tiers) == pytest.approx(45)


def test_a_month_of_a_run(run: Run) -> None:
    """21,000 bytes in four hours are 180 times as many in 30 days; two workers; thirty models of 19,240 bytes."""
    prices, told = read_prices(), read_constants()
    found = monthly(run, prices=prices, constants=told, n_workers=2)
    assert found["egress"] == pytest.approx(21_000 * 180 / 1e9 * 0.09)
    assert found["workers"] == pytest.approx(2 * 720 * 0.17)
    assert found["TEE surcharge"] == pytest.approx(0.1 * found["workers"])
    kept = stored_bytes(run, constants=told)
    assert kept["checkpoints"] == 30 * 19_240
    files = list(run.folder.rglob("*.parquet"))
    assert kept["logs of a month"] == pytest.approx(180 * sum(file.stat().st_size for file in files))
    assert found["storage"] == pytest.approx(sum(kept.values()) / 1e9 * 0.023)


def test_shipped_tables_have_their_sources() -> None:
    grid = read_grid()
    assert (len(grid), grid["USA"], grid["WOR"]) == (215, 384.4, 458.29)
    assert intensity_of(grid, None) == 458.29
    assert "sha256" in (CONSTANTS.parent / "grid.csv").read_text().splitlines()[0]
    assert read_prices().egress_tiers[0] == (0.0, 0.09)
    for file in (PRICES, CONSTANTS):
        for line in file.read_text().splitlines():
            assert "_" not in line.split(":")[0] or "#" in line or line.lstrip().startswith("-"), line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"worker_per_h": -1}, "worker_per_h: -1"),
        ({"worker_per_h": "cheap"}, "worker_per_h: 'cheap'"),
        ({"worker_per_day": 4}, "unknown key of the price list: 'worker_per_day' in .*allowed: worker_per_h"),
        ({"egress_per_mb": 0.1}, "unknown key of the price list: 'egress_per_mb'"),
        ({"egress_tiers": [{"from_gb": 5, "per_gb": 1}]}, "egress_tiers of the price list"),
        ({"egress_tiers": [{"from_gb": 0, "per_tb": 1}]}, "egress_tiers of the price list"),
        ({"egress_tiers": 3}, "egress_tiers of the price list: 3"),
        ({"currency": None}, None),
    ],
)
def test_a_price_list_with_a_wrong_unit_is_one_line(
    change: dict[str, object], expected: str | None, tmp_path: Path
) -> None:
    told = yaml.safe_load(PRICES.read_text()) | change
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(told))
    if expected is None:
        assert read_prices(tmp_path / "p.yaml").currency == "None"
        return
    with pytest.raises(InputError, match=expected) as refused:
        read_prices(tmp_path / "p.yaml")
    assert "p.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n", "grid table"),
        ("country,g_co2e_per_kwh\nUSA,much\n", "row of the grid table: 'USA,much'"),
        ("", "grid table"),
    ],
)
def test_a_grid_table_that_is_none_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        read_grid(tmp_path / "g.csv")


def test_a_price_that_is_missing_is_said(tmp_path: Path) -> None:
    told = yaml.safe_load(PRICES.read_text())
    del told["worker_per_h"]
    (tmp_path / "p.yaml").write_text(json.dumps(told))
    with pytest.raises(InputError, match="price list lacks: 'worker_per_h'"):
        read_prices(tmp_path / "p.yaml")
