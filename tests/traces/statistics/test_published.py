"""The comparison with published statistics: right about the real logs, and the reference set close to them."""

from pathlib import Path

import numpy as np
import pytest

from fedsim.files import shipped
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.statistics.published import (
    DARK,
    LOCKED,
    PLUGGED,
    WIFI,
    PublishedStatistic,
    compare_with_published,
    markdown,
)
from fedsim.traces.statistics.slopes import Slopes
from fedsim.units import FloatArray
from tests.hand import events_of, traces_of

README = Path(__file__).parents[3] / "traces" / "README.md"
HOUR_S, DAY_S = 3600, 86_400


def by_name(traces: TraceSet) -> dict[str, PublishedStatistic]:
    rows = compare_with_published(traces)
    named = {f"{row.statistic} / {row.unit}": row for row in rows}
    assert len(named) == len(rows)
    return named


@pytest.fixture(scope="module")
def reference_set() -> TraceSet:
    return load_traces(shipped("traces", "reference"))


@pytest.fixture(scope="module")
def reference(reference_set: TraceSet) -> dict[str, PublishedStatistic]:
    return by_name(reference_set)


@pytest.fixture(scope="module")
def flash_set(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TraceSet:
    folder = tmp_path_factory.mktemp("published") / "flash"
    import_flash(shared_data / "raw" / "flash" / "state_traces.first100.json", folder)
    return load_traces(folder)


# --- known answers ----------------------------------------------------------------------------------------------


def test_slopes_of_a_hand_made_phone() -> None:
    """Down 2 % in an hour of darkness, 6 % in half an hour of light, up 20 % in an hour on the charger."""
    log = events_of(
        [
            (0, "charging", 0),
            (0, "screen", 0),
            (0, "battery", 50),
            (HOUR_S, "battery", 48),
            (HOUR_S, "screen", 1),
            (1.5 * HOUR_S, "battery", 42),
            (1.5 * HOUR_S, "screen", 0),
            (1.5 * HOUR_S, "charging", 1),
            (2.5 * HOUR_S, "battery", 62),
            (3.0 * HOUR_S, "charging", 0),
            (4.0 * HOUR_S, "battery", 70),
            (5.0 * HOUR_S, "battery", 71),
        ]
    )
    slopes = Slopes.of(traces_of([log], period_s=DAY_S))
    assert slopes.mean(slopes.is_idle) == pytest.approx(2.0)
    assert slopes.mean(slopes.is_active) == pytest.approx(12.0)
    assert slopes.mean(slopes.is_charging) == pytest.approx(20.0)
    assert slopes.per_device(slopes.is_unplugged).tolist() == pytest.approx([8 / 1.5])
    # the pair in which the charger was pulled, and the one that rises without a charger, tell nothing
    told = slopes.is_idle | slopes.is_active | slopes.is_charging
    assert told.tolist() == [True, True, True, False, False]


def test_slopes_do_not_run_from_one_phone_into_the_next() -> None:
    def log(level: float) -> Events:
        return events_of([(0, "charging", 0), (0, "screen", 0), (0, "battery", level), (HOUR_S, "battery", level - 1)])

    slopes = Slopes.of(traces_of([log(90), log(40)], period_s=DAY_S))
    assert slopes.is_idle.tolist() == [True, False, True]
    assert slopes.mean(slopes.is_idle) == pytest.approx(1.0)


def test_error_is_the_largest_difference() -> None:
    assert PublishedStatistic("x", "s", published=(1.0, 2.0, 3.0), measured=(1.5, 1.0, 3.0)).error == 1.0


def test_the_real_logs_give_the_published_numbers(flash_set: TraceSet) -> None:
    rows = by_name(flash_set)
    for name, row in rows.items():
        if row.unit.startswith("share"):
            assert row.error <= 0.007, name  # two or three decimals were published
    for name in (f"`{LOCKED}` sessions, p5 p25 p50 p75 p95 / s", f"`{WIFI}` sessions, p5 p25 p50 p75 p95 / s"):
        assert rows[name].error <= 0.5
    assert rows["battery level over time, p5 p25 p50 p75 p95 / %"].error == 0
    assert rows["discharge, screen off / % per h"].error < 0.1
    assert rows["discharge, screen on / % per h"].error < 0.2
    # published from raw plug events and raw readings: windows leave out sessions that begin and end in one second
    assert rows["charger sessions / per device-day"].measured[0] == pytest.approx(4.45, rel=0.06)
    assert rows["charge / % per h"].measured[0] == pytest.approx(21.2, rel=0.12)


# --- the reference set ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, hourly, mean", [(LOCKED, 0.015, 0.05), (DARK, 0.02, 0.06), (WIFI, 0.02, 0.06), (PLUGGED, 0.03, 0.05)]
)
def test_reference_hour_by_hour(
    reference: dict[str, PublishedStatistic], rule: str, hourly: float, mean: float
) -> None:
    assert reference[f"`{rule}` / share of device-time by hour"].error <= hourly
    row = reference[f"`{rule}`, mean / share of device-time"]
    assert row.measured[0] == pytest.approx(row.published[0], rel=mean)


@pytest.mark.parametrize(
    "name, published, tolerance",
    [
        (f"`{LOCKED}`, never / share of devices", 0.32, 0.04),
        ("on wifi / share of device-time", 0.41, 0.03),
        ("on cellular / share of device-time", 0.22, 0.03),
        ("no or unknown network / share of device-time", 0.38, 0.03),
        ("screen off / share of device-time", 0.59, 0.03),
        ("locked / share of device-time", 0.56, 0.03),
        ("wifi while charging / share of that time", 0.44, 0.03),
        ("locked while charging on wifi / share of that time", 0.63, 0.05),
        ("battery below 20 % / share of device-time", 0.18, 0.06),
        (f"`{LOCKED}` sessions > 10 min / share of sessions", 0.39, 0.05),
        (f"`{LOCKED}` sessions > 10 min / share of their time", 0.97, 0.03),
        (f"`{LOCKED}` sessions / per device-day", 2.43, 0.5),
        ("charger sessions / per device-day", 4.45, 0.5),
        ("discharge, screen off / % per h", 1.8, 0.4),
        ("discharge, screen on / % per h", 11.4, 3.0),
        ("charge / % per h", 21.2, 4.0),
    ],
)
def test_reference_statistic(
    reference: dict[str, PublishedStatistic], name: str, published: float, tolerance: float
) -> None:
    """Published: statistics of FLASH's first 100 phones (Yang et al., WWW 2021), 441 device-days."""
    assert reference[name].published == (published,)
    assert reference[name].measured[0] == pytest.approx(published, abs=tolerance)


@pytest.mark.parametrize(
    "name, published, factor",
    [
        (f"`{LOCKED}` sessions, p5 p25 p50 p75 p95 / s", (208, 1488, 10_321), 1.8),
        (f"`{WIFI}` sessions, p5 p25 p50 p75 p95 / s", (926, 3480, 15_009), 1.5),
        ("charger sessions, p5 p25 p50 p75 p95 / min", (15, 63, 326), 2.0),
        ("charge by device, p5 p50 p95 / % per h", (11.4, 22.9, 40.9), 1.3),
        ("discharge by device, p5 p50 p95 / % per h", (1.9, 5.3, 15.1), 1.5),
    ],
)
def test_reference_upper_quantiles(
    reference: dict[str, PublishedStatistic], name: str, published: tuple[float, ...], factor: float
) -> None:
    row = reference[name]
    assert row.published[-3:] == published
    ratio = np.array(row.measured[-3:]) / published
    assert ratio.max() < factor
    assert ratio.min() > 1 / factor


@pytest.mark.parametrize(
    "name, tolerance",
    [
        (f"`{LOCKED}` by device, p5 p25 p50 p75 p95 / share of time", 0.05),
        (f"`{WIFI}` by device, p5 p25 p50 p75 p95 / share of time", 0.06),
        ("battery level over time, p5 p25 p50 p75 p95 / %", 8.0),
    ],
)
def test_reference_quantiles(reference: dict[str, PublishedStatistic], name: str, tolerance: float) -> None:
    assert reference[name].error <= tolerance


def test_reference_sessions_against_the_real_ones(reference_set: TraceSet, flash_set: TraceSet) -> None:
    """Kolmogorov and Smirnov's distance between the lengths of sessions under FLASH's rule."""
    assert ks_distance(lengths_s(reference_set, LOCKED), lengths_s(flash_set, LOCKED)) < 0.12


def lengths_s(traces: TraceSet, rule: str) -> FloatArray:
    windows = compile_rule(traces, Rule.parse(rule), unknown="ineligible")
    return np.sort((windows.end_ms - windows.start_ms) / 1000)


def ks_distance(a: FloatArray, b: FloatArray) -> float:
    grid = np.concatenate([a, b])
    return float(np.abs(np.searchsorted(a, grid, "right") / len(a) - np.searchsorted(b, grid, "right") / len(b)).max())


# --- the tables -------------------------------------------------------------------------------------------------


def test_tables() -> None:
    hours = PublishedStatistic("plugged", "share", (0.1,) * 24, (0.1,) * 23 + (0.25,))
    text = markdown([PublishedStatistic("level", "%", (29.0, 100.0), (20.0, 100.0)), hours], name="mine")
    statistics, by_hour = text.split("\n\n")
    assert statistics.splitlines() == [
        "| statistic | unit | real | mine | largest difference |",
        "| --- | --- | --- | --- | --- |",
        "| level | % | 29.000 100 | 20.000 100 | 9.000 |",
    ]
    assert by_hour.splitlines()[0] == "| share by hour | plugged: real | plugged: mine |"
    assert by_hour.splitlines()[-2:] == ["| 23 | 0.100 | 0.250 |", "| largest difference |   | 0.150 |"]


def test_the_readme_shows_the_tables_of_the_shipped_set(reference_set: TraceSet) -> None:
    for table in markdown(compare_with_published(reference_set), name="reference").split("\n\n"):
        assert table in README.read_text(encoding="utf-8")
