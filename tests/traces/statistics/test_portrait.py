"""The numbers of the picture: hand-made phones, brute force on levels, and the known answers of FLASH."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_channel
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.statistics.portrait import default_rule, portrait
from tests.hand import events_of, traces_of

HOUR, DAY = 3600, 86_400


def phones(provenance: dict[str, Any] | None = None, *, is_local: bool = True) -> TraceSet:
    """Two phones over two days from 18:00: one charges 6 hours, the other from its second day on."""
    traces = traces_of(
        [
            events_of([(0, "charging", 1), (0, "battery", 40), (6 * HOUR, "charging", 0), (DAY, "battery", 80)]),
            events_of([(0, "charging", 0), (0, "network", "wifi"), (DAY, "charging", 1), (DAY, "network", None)]),
        ],
        period_s=2 * DAY,
        start_s=18 * HOUR,
        is_local=is_local,
    )
    return replace(traces, provenance=provenance or {})


def picture(traces: TraceSet, rule: str = "charging") -> dict[str, Any]:
    numbers = portrait(traces, Rule.parse(rule), unknown="ineligible")
    json.dumps(numbers, allow_nan=False)
    return numbers


def test_the_week_is_by_day_and_hour_and_says_what_was_not_recorded() -> None:
    week = picture(phones())["week"]
    assert not week["has_weekdays"]
    assert week["device_days"] == [0.5, 2, 1.5, 0, 0, 0, 0]
    assert week["share"][0] == [None] * 18 + [0.5] * 6
    assert week["share"][1] == [0.0] * 18 + [0.5] * 6
    assert week["share"][2] == [0.5] * 18 + [None] * 6
    assert week["share"][3] == [None] * 24


def test_a_dated_set_has_weekdays() -> None:
    week = picture(phones({"first_midnight": "2020-01-26"}))["week"]  # a Sunday
    assert week["has_weekdays"]
    assert week["device_days"] == [2, 1.5, 0, 0, 0, 0, 0.5]
    assert week["share"][6] == [None] * 18 + [0.5] * 6


def test_sessions_by_length() -> None:
    sessions = picture(phones())["sessions"]
    assert sessions["n"] == 2
    assert sessions["per_device_day"] == 0.5
    assert sessions["quantiles_s"]["p50"] == 15 * HOUR
    curve = sessions["curve"]
    assert (curve["seconds"][0], curve["seconds"][-1]) == (6 * HOUR, 24 * HOUR)
    assert (curve["sessions"][0], curve["sessions"][1], curve["sessions"][-1]) == (1, 0.5, 0.5)
    assert (curve["time"][0], curve["time"][1], curve["time"][-1]) == (1, 24 / 30, 24 / 30)
    assert sessions["marks"] == {"seconds": [60, 600, 3600], "sessions": [1, 1, 1], "time": [1, 1, 1]}
    assert picture(phones(), "charging & !charging")["sessions"] is None


def test_devices_from_the_most_available_on() -> None:
    devices = picture(phones())["devices"]
    assert (devices["n"], devices["n_never"]) == (2, 0)
    assert devices["curve"]["share"][0] == 0.5
    assert devices["curve"]["share"][-1] == 0.125
    assert devices["quantiles"]["p50"] == (0.5 + 0.125) / 2


def test_battery_paths_and_band() -> None:
    battery = picture(phones())["battery"]
    (path,) = battery["paths"]  # the other phone has none
    assert path["device_id"] == "0"
    assert path["hours"][:3] == [18, 18.5, 19]
    assert path["percent"] == [40.0] * 48 + [80.0] * 48
    assert battery["band"][0] == [42, 50, 60, 70, 78]  # of 40 on one day and 80 on the next
    without = traces_of([events_of([(0, "charging", 1)])], period_s=DAY)
    assert picture(without)["battery"] is None


def test_the_band_equals_looking_at_every_device_and_day() -> None:
    rng = np.random.default_rng(1)
    logs = [
        events_of([(at, "battery", rng.integers(0, 100)) for at in np.sort(rng.integers(3 * HOUR, 3 * DAY, 40))])
        for _ in range(3)
    ]
    starts = [0, 5 * HOUR + 1000, 20 * HOUR]
    traces = traces_of(logs, period_s=3 * DAY, start_s=starts)
    levels = compile_channel(traces, "battery")
    band = portrait(traces, Rule.parse("battery > 50"), unknown="ineligible")["battery"]["band"]
    for hour in range(24):
        seen = []
        for row, start in enumerate(starts):
            mine = slice(levels.offsets[row], levels.offsets[row + 1])
            for day in range(4):
                at_ms = (day * DAY + hour * HOUR + HOUR // 2 - start) * 1000
                if 0 <= at_ms < 3 * DAY * 1000:
                    seen.append(levels.value[mine][levels.at_ms[mine] <= at_ms][-1])
        assert len(seen) == 9
        known = np.array(seen)[~np.isnan(seen)]
        np.testing.assert_allclose(band[hour], np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95]), rtol=1e-6)


def test_network_shares_by_hour_add_up() -> None:
    shares = picture(phones())["network_by_hour"]
    assert shares["wifi"] == [0.25] * 24  # one of four device-days
    assert shares["unknown"] == [0.75] * 24
    assert shares["4g"] == [0.0] * 24


def test_a_relative_clock_has_no_hours() -> None:
    numbers = picture(phones(is_local=False))
    assert numbers["week"] is numbers["by_hour"] is numbers["network_by_hour"] is numbers["battery"]["band"] is None
    assert numbers["battery"]["paths"]


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([("charging", 1), ("network", "wifi"), ("locked", 1)], "charging & network == wifi & locked"),
        ([("charging", 1), ("screen", 1), ("locked", 1)], "charging & locked"),
        ([("available", 1), ("network", "wifi")], "network == wifi"),
        ([("available", 1), ("screen", 1)], "available"),
    ],
)
def test_the_rule_is_flashs_as_far_as_recorded(rows: list[tuple[str, Any]], rule: str) -> None:
    traces = traces_of([events_of([(0, *row) for row in rows])], period_s=DAY)
    assert str(default_rule(traces)) == rule


def test_a_set_without_such_channels_needs_a_rule() -> None:
    with pytest.raises(InputError, match="allowed: --rule RULE"):
        default_rule(traces_of([events_of([(0, "battery", 5)])], period_s=DAY))


@pytest.mark.slow
def test_flash(shared_data: Path, tmp_path: Path) -> None:
    import_flash(shared_data / "raw/flash/state_traces.first100.json", tmp_path / "set")
    traces = load_traces(tmp_path / "set")
    numbers = picture(traces, str(default_rule(traces)))
    assert numbers["rule"] == "charging & network == wifi & locked"
    assert round(numbers["mean_share"], 3) == 0.059  # published
    marks = numbers["sessions"]["marks"]
    assert marks["seconds"][1] == 600
    # published: sessions > 10 min are 39 % of the sessions but 97 % of the available time
    assert (round(marks["sessions"][1], 2), round(marks["time"][1], 2)) == (0.39, 0.97)
    assert (numbers["devices"]["n_never"], numbers["devices"]["n"]) == (32, 100)  # published
    assert sum(numbers["week"]["device_days"]) == pytest.approx(441)
    assert numbers["week"]["has_weekdays"]
    assert np.mean(numbers["network_by_hour"]["wifi"]) == pytest.approx(0.41, abs=0.005)  # published
    assert len(numbers["battery"]["paths"]) == 4
    # published by hour; the week must add up to the same
    share, days = np.array(numbers["week"]["share"]), np.array(numbers["week"]["device_days"])
    assert np.average(share.mean(axis=1), weights=days) == pytest.approx(0.059, abs=0.002)
