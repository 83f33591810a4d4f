"""The whole forecast: from the tables alone again, over seeds, for another population; the command and its page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from fedsim.cli.main import main
from fedsim.config.play import simulate
from fedsim.forecast.energy import GREEN_FL
from fedsim.forecast.tables import PRICES, read_constants, read_grid
from fedsim.schema import OUTCOMES
from tests.report.fake_run import without_sessions
from tests.smoke import small

pytestmark = pytest.mark.slow
ASKED = ("training=none", "fleet.n_devices=4000", "server.report_goal=20", "stop.max_steps=null", "stop.max_s=20000")
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for seed in (0, 1, 2):
        simulate(*small([*ASKED, f"seed={seed}"]), folder=folder / str(seed))
    return folder


Told = dict[tuple[str, str, str], dict[str, Any]]


def told(out: Path) -> Told:
    rows = json.loads((out / "forecast.json").read_text())["figures"]
    return {(row["section"], row["quantity"], row["statistic"]): row for row in rows}


@pytest.fixture(scope="module")
def one(sweep: Path) -> Told:
    """The forecast of the first seed."""
    assert main(["forecast", str(sweep / "0"), "--out", str(sweep.parent / "one")]) == 0
    return told(sweep.parent / "one")


# ------------------------------------------------------------------------------------ from the tables alone


@pytest.fixture(scope="module")
def sessions(sweep: Path) -> pa.Table:
    return ds.dataset(sweep / "0" / "sessions").to_table()


def total(values: Any) -> float:
    return float(pc.sum(values).as_py() or 0)


def sorted_quantile(values: Any, fraction: float) -> float:
    """The smallest value at or below which so many lie, by sorting."""
    ordered = sorted(values)
    return float(ordered[max(0, math.ceil(fraction * len(ordered)) - 1)])


def test_every_load_from_the_sessions(one: Told, sessions: pa.Table) -> None:
    n_seconds = 20_000
    arrived = [at for at in sessions["upload_end_at"].to_pylist() if at is not None and at <= n_seconds]
    per_second = [0] * n_seconds
    for at in arrived:
        per_second[min(int(at), n_seconds - 1)] += 1
    load: Callable[[str, str], float] = lambda name, statistic: one["load", name, statistic]["value"]  # noqa: E731
    assert load("updates", "mean") == pytest.approx(len(arrived) / n_seconds)
    for fraction, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        assert load("updates", name) == sorted_quantile(per_second, fraction)
    assert load("updates", "busiest second") == max(per_second)
    minutes = [sum(per_second[start : start + 60]) / 60 for start in range(0, n_seconds - 59, 60)]
    assert load("updates", "busiest minute") == pytest.approx(max(minutes))
    assert load("assignments", "mean") == pytest.approx(sessions.num_rows / n_seconds)
    seconds = pc.subtract(sessions["end_at"], sessions["assigned_at"])
    inside = pc.less_equal(sessions["end_at"], 20_000.0)
    assert pc.all(inside).as_py()
    assert load("connections in a session", "mean") == pytest.approx(total(seconds) / n_seconds)
    assert load("egress", "mean") == pytest.approx(total(sessions["download_bytes"]) / n_seconds)
    assert load("ingress", "mean") == pytest.approx(total(sessions["upload_bytes"]) / n_seconds)


def test_check_ins_from_the_week_and_the_gauges(one: Told, sweep: Path) -> None:
    week, gauges = (pq.read_table(sweep / "0" / f"{name}.parquet").to_pydict() for name in ("eligibility", "gauges"))
    retry_s, found = read_constants().check_in_retry_s, 0.0
    for second in range(20_000):
        row, at = second // 600, float(second)
        after = next((k for k, start in enumerate(gauges["at"]) if start > at), len(gauges["at"]))
        low, high = max(after - 1, 0), min(after, len(gauges["at"]) - 1)
        share = 0.0 if high == low else (at - gauges["at"][low]) / (gauges["at"][high] - gauges["at"][low])
        busy = (1 - share) * gauges["in_flight_mean"][low] + share * gauges["in_flight_mean"][high]
        idle = max(0.0, week["admitted_fraction"][row] * 4000 - busy)
        found += week["openings_per_device"][row] * 4000 / 600 + idle / retry_s
    assert one["load", "check-ins", "mean"]["value"] == pytest.approx(found / 20_000, rel=1e-9)
    assert one["load", "check-ins", "mean"]["scales_with"] == "population"


def test_the_phones_time_and_what_it_takes(one: Told, sessions: pa.Table) -> None:
    seconds = pc.subtract(sessions["end_at"], sessions["assigned_at"])
    for number, name in enumerate(OUTCOMES):
        mask = pc.equal(sessions["outcome"], number)
        hours = total(pc.if_else(mask, seconds, 0.0)) / 3600 * DAY_S / 20_000
        assert one["device-hours a day", name.lower(), ""]["value"] == pytest.approx(hours)
    moved = pc.add(sessions["download_bytes"], sessions["upload_bytes"])
    of_phone = pa.table({"id": sessions["device_id"], "n": moved}).group_by("id").aggregate([("n", "sum")])
    per_day = [value * DAY_S / 20_000 for value in of_phone["n_sum"].to_pylist()]
    phones: Callable[[str], float] = lambda statistic: one["phones", "bytes of a phone and day", statistic]["value"]  # noqa: E731
    assert phones("p95") == pytest.approx(sorted_quantile(per_day, 0.95))
    worst = sorted(per_day)[-max(1, round(len(per_day) / 100)) :]
    assert phones("worst 1 %") == pytest.approx(sum(worst) / len(worst))
    asked = pa.table({"id": sessions["device_id"]}).group_by("id").aggregate([([], "count_all")])
    assert one["phones", "sessions of a phone", "most"]["value"] == pc.max(asked["count_all"]).as_py()


def test_the_queue_by_a_list_of_workers(one: Told, sessions: pa.Table) -> None:
    constants, waited = read_constants(), []
    reports = [row for row in sessions.select(["upload_end_at", "upload_bytes"]).to_pylist() if row["upload_end_at"]]
    n = round(one["aggregator", "workers", ""]["value"])
    free = [0.0] * n
    for row in sorted(reports, key=lambda row: row["upload_end_at"]):
        worker = min(range(n), key=free.__getitem__)
        start = max(free[worker], row["upload_end_at"])
        free[worker] = start + constants.ingest_report_s + row["upload_bytes"] / constants.ingest_bytes_per_s
        waited.append(start - row["upload_end_at"])
    assert one["aggregator", "mean wait", ""]["value"] == pytest.approx(sum(waited) / len(waited))
    assert one["aggregator", "p99 wait", ""]["value"] == pytest.approx(sorted_quantile(waited, 0.99))
    assert sorted_quantile(waited, 0.99) <= constants.wait_p99_s


def test_energy_carbon_and_money(one: Told, sessions: pa.Table) -> None:
    constants, per_day = read_constants(), DAY_S / 20_000
    kwh = {name: total(sessions[f"{name}_j"]) / 3.6e6 * per_day for name in ("compute", "download", "upload")}
    n_gb = (total(sessions["download_bytes"]) + total(sessions["upload_bytes"])) / 1e9 * per_day
    value: Callable[[str, str], float] = lambda section, name: one[section, name, ""]["value"]  # noqa: E731
    assert value("energy a day", "training on phones") == pytest.approx(kwh["compute"])
    network = value("energy a day", "network down") + value("energy a day", "network up")
    assert network == pytest.approx(n_gb * constants.network_kwh_per_gb)
    servers = 24 * constants.server_w * constants.n_server_processes * constants.pue / 1000
    assert value("energy a day", "servers") == pytest.approx(servers)
    everything = sum(kwh.values()) + n_gb * constants.network_kwh_per_gb + servers
    assert value("energy a day", "all") == pytest.approx(everything)
    highest = everything + n_gb * (constants.network_kwh_per_gb_high - constants.network_kwh_per_gb)
    assert value("energy a day", "all, network at its highest") == pytest.approx(highest)
    assert value("carbon a day", "network up") == pytest.approx(
        value("energy a day", "network up") * read_grid()["WOR"] / 1000
    )
    assert sum(value("shares of energy", name) for name in GREEN_FL) == pytest.approx(1.0)
    egress_gb = total(sessions["download_bytes"]) / 1e9 * 30 * per_day
    assert value("money a month", "egress") == pytest.approx(egress_gb * 0.09)


# ------------------------------------------------------------------------------------ seeds and populations


def test_several_seeds_have_intervals_and_one_says_that_it_has_none(
    sweep: Path, one: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forecast", str(sweep), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "one seed" not in said.err
    several = told(tmp_path)
    row = several["load", "updates", "mean"]
    assert row["low"] < row["value"] < row["high"]
    assert (row["n_runs"], row["method"]) == (3, "t")
    assert one["load", "updates", "mean"]["low"] is None
    assert main(["forecast", str(sweep / "0"), "--out", str(tmp_path)]) == 0
    assert "one seed: no interval can be told" in capsys.readouterr().err


def test_another_population_scales_check_ins_alone(sweep: Path, one: Told, tmp_path: Path) -> None:
    assert main(["forecast", str(sweep / "0"), "--population", "40000", "--out", str(tmp_path)]) == 0
    for key, row in told(tmp_path).items():
        factor = 10 if key[1] == "check-ins" else 1
        assert row["value"] == pytest.approx(factor * one[key]["value"]), key
    text = (tmp_path / "forecast.html").read_text()
    assert "Scaled from 4,000 simulated phones: check-ins follow the number of phones" in text


def test_days_to_a_target(tmp_path: Path) -> None:
    asked = ["fleet.n_devices=3000", "server.report_goal=9", "stop.max_steps=8", "evaluation.every_steps=2"]
    stop = ["stop.metric=accuracy", "stop.metric_at_least=0.2"]
    run = simulate(*small([*asked, *stop]), folder=tmp_path / "run")
    assert main(["forecast", str(run.folder), "--out", str(tmp_path)]) == 0
    accuracy = run.evals[run.evals["metric"] == "accuracy"]
    reached = accuracy[accuracy["value"] >= 0.2]["at"].iloc[0]
    assert told(tmp_path)["learning", "days to accuracy ≥ 0.2", ""]["value"] == pytest.approx(reached / DAY_S)


# ------------------------------------------------------------------------------------ the command


def test_the_page_and_the_terminal(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forecast", str(sweep), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\| updates \| [\d.]+ ± [\d.]+ 1/s \|", said)
    page = (tmp_path / "forecast.html").read_text()
    assert page.count("<svg") == 6
    for expected in ("Device-hours by outcome", "Allen and Cunneen", "network at its highest", "kWh/GB", "2026-04"):
        assert expected in page
    before = page, (tmp_path / "forecast.json").read_bytes()
    assert main(["forecast", str(sweep), "--out", str(tmp_path)]) == 0
    assert ((tmp_path / "forecast.html").read_text(), (tmp_path / "forecast.json").read_bytes()) == before


def test_a_run_without_sessions_says_what_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = without_sessions(tmp_path / "run")
    assert main(["forecast", str(run), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    for expected in ("check-ins are not known", "no report arrived", "energy is not known"):
        assert expected in said
    assert ("energy a day", "all", "") not in told(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["0", "--population", "30"], "phones are free and eligible at times, and the run has"),
        (["0", "--population", "0"], "--population: 0"),
        (["0", "--prices", "wrong.yaml"], "unknown key of the price list: 'worker_per_day'"),
        (["0", "--grid", "small.csv"], "the grid table has no value for this country: 'WOR'"),
        (["0", "--constants", "nowhere.yaml"], "constants not found"),
        (["0", "other"], "a forecast is of one configuration, these runs are of several"),
        (["nothing"], "run directory not found"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], expected: str, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    simulate(*small([*ASKED, "server.report_goal=21"]), folder=tmp_path / "other")
    (tmp_path / "0").symlink_to(sweep / "0")
    prices = yaml.safe_load(PRICES.read_text()) | {"worker_per_day": 4}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(prices))
    (tmp_path / "small.csv").write_text("country,g_co2e_per_kwh\nUSA,384\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["forecast", *words]) == 2
    said = capsys.readouterr()
    assert expected in said.err and len(said.err.splitlines()) == 1
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before
