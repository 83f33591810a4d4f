"""The whole forecast: from the tables alone again, over seeds, for another population; the command and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.cli.main import main
from fedsim.config.play import simulate
from fedsim.forecast.tables import PRICES
from tests.forecast.again import Again
from tests.report.fake_run import without_sessions
from tests.smoke import small

pytestmark = pytest.mark.slow
ASKED = (
    "training=none", "fleet.n_devices=4000", "server.report_goal=20", "stop.max_steps=null", "stop.max_s=20000",
    "+fleet.regions={utc: {share: 0.7, utc_offset_hours: 5.5, country: IND}, "
    "western: {share: 0.3, utc_offset_hours: -8.0, country: USA}}",
)  # fmt: skip
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
def again(sweep: Path) -> Again:
    return Again(sweep / "0", countries=("IND", "USA"))


def test_every_figure_is_what_the_tables_alone_say(one: Told, again: Again) -> None:
    assert all(row["end_at"] <= 20_000 for row in again.rows)
    figures = again.figures()
    assert figures.keys() == one.keys()
    for key, value in figures.items():
        assert one[key]["value"] == pytest.approx(value, rel=1e-6, abs=1e-6), key


def test_the_loads_by_the_hour_are_what_the_tables_alone_say(sweep: Path, one: Told, again: Again) -> None:
    told = json.loads((sweep.parent / "one" / "forecast.json").read_text())["by_hour"]
    expected = again.by_hour()
    assert told.keys() == expected.keys()
    for name, hours in expected.items():
        assert [value is None for value in told[name]] == [value is None for value in hours]  # hours not simulated
        known = [value for value in hours if value is not None]
        assert [value for value in told[name] if value is not None] == pytest.approx(known, rel=1e-6, abs=1e-6), name


def test_check_ins_alone_scale_with_the_population(one: Told) -> None:
    scaled = {name for (_, name, _), row in one.items() if row["scales_with"] == "population"}
    assert scaled == {"check-ins"}


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
        (["0", "--grid", "small.csv"], "the grid table has no value for this country: 'IND' (allowed: its codes: USA)"),
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
