"""Statistics of eligibility: hand-made windows, brute force and the known answers of FLASH."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, Windows, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.statistics import stats
from fedsim.traces.statistics.criteria_text import render_criteria
from fedsim.traces.statistics.overview import render_show, show_table
from tests.hand import events_of, traces_of

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def windows_of(
    spans: list[list[tuple[int, int]]], period_ms: list[int], start_ms: list[int], is_local: bool = True
) -> Windows:
    flat = [span for trace in spans for span in trace]
    return Windows(
        offsets=np.cumsum([0, *map(len, spans)]),
        start_ms=np.array([a for a, _ in flat], dtype=np.int64),
        end_ms=np.array([b for _, b in flat], dtype=np.int64),
        period_ms=np.array(period_ms),
        trace_start_ms=np.array(start_ms),
        is_local=np.full(len(spans), is_local),
    )


def text_of(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(renderable)
    return out.getvalue()


def test_shares_weigh_device_time() -> None:
    windows = windows_of([[(0, DAY_MS)], [], [(0, DAY_MS)]], [DAY_MS, DAY_MS, 4 * DAY_MS], [0, 0, 0])
    assert stats.mean_share(windows) == 2 / 6
    assert stats.share_per_device(windows).tolist() == [1, 0, 0.25]
    assert stats.never_eligible(windows) == 1
    assert stats.device_quantiles(windows, [0, 0.5, 1]).tolist() == [0, 0.25, 1]


def test_a_window_is_split_at_hour_bounds_of_the_local_clock() -> None:
    # the trace starts at 22:30; open from 23:15 to 01:30 of the next day
    windows = windows_of([[(45 * 60_000, 180 * 60_000)]], [DAY_MS], [int(22.5 * HOUR_MS)])
    expected = np.zeros(24)
    expected[[23, 0, 1]] = 0.75, 1.0, 0.5
    np.testing.assert_array_equal(stats.share_by_hour(windows), expected)


def test_days_and_devices_share_the_hours() -> None:
    windows = windows_of(
        [[(0, HOUR_MS), (DAY_MS, DAY_MS + HOUR_MS)], [(0, DAY_MS)]], [2 * DAY_MS, DAY_MS], [0, 3 * DAY_MS]
    )
    assert stats.share_by_hour(windows).tolist() == [1.0] + [1 / 3] * 23


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_hours_equal_counting_every_quarter(data: st.DataObject) -> None:
    quarter = HOUR_MS // 4
    days = data.draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    starts = [data.draw(st.integers(0, 200)) for _ in days]
    masks = [data.draw(st.lists(st.booleans(), min_size=96 * n, max_size=96 * n)) for n in days]
    spans, open_quarters, all_quarters = [], np.zeros(24), np.zeros(24)
    for mask, start in zip(masks, starts, strict=True):
        edges = np.flatnonzero(np.diff([0, *mask, 0])) * quarter
        spans.append(list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)))
        hours = (start + np.arange(len(mask))) // 4 % 24
        open_quarters += np.bincount(hours[np.array(mask)], minlength=24)
        all_quarters += np.bincount(hours, minlength=24)
    windows = windows_of(spans, [n * DAY_MS for n in days], [start * quarter for start in starts])
    np.testing.assert_allclose(stats.share_by_hour(windows), open_quarters / all_quarters, rtol=1e-12)


def test_hours_of_a_relative_clock_are_not_invented() -> None:
    windows = windows_of([[(0, DAY_MS)]], [DAY_MS], [0], is_local=False)
    with pytest.raises(InputError, match="hour of day is unknown"):
        stats.share_by_hour(windows)


def test_session_quantiles() -> None:
    windows = windows_of([[(0, 1000), (2000, 4000)], [(0, 6000)]], [DAY_MS] * 2, [0, 0])
    found = stats.session_quantiles(windows, [0, 0.5, 1])
    assert found is not None
    assert found.tolist() == [1, 2, 6]
    assert stats.session_quantiles(windows_of([[]], [DAY_MS], [0])) is None


def three_phones(is_local: bool = True) -> TraceSet:
    return traces_of(
        [
            events_of([(0, "charging", 1), (0, "screen", 0), (3600, "charging", 0), (7200, "screen", 1)]),
            events_of([(0, "charging", 0), (0, "screen", 0)]),
            events_of([(0, "charging", 0), (0, "screen", 1)]),
        ],
        period_s=86_400,
        is_local=is_local,
    )


def test_criteria_table_has_every_rule_alone_and_all_together() -> None:
    table = stats.criteria_table(three_phones(), [Rule.parse("charging"), Rule.parse("!screen")], unknown="ineligible")
    json.dumps(table, allow_nan=False)
    charging, dark = table["rules"]
    assert charging["rule"] == "charging"
    assert charging["mean_share"] == pytest.approx(1 / 72)
    assert charging["n_never_eligible"] == 2
    assert charging["ever_eligible_fraction"] == pytest.approx(1 / 3)
    assert charging["sessions_per_device_day"] == pytest.approx(1 / 3)
    assert charging["session_s"] == dict.fromkeys(["p5", "p25", "p50", "p75", "p95"], 3600.0)
    assert charging["by_hour"] == [1 / 3] + [0.0] * 23
    assert dark["mean_share"] == pytest.approx((2 / 24 + 1) / 3)
    assert dark["ever_eligible_fraction"] == pytest.approx(2 / 3)
    assert table["joint"] == charging | {"rule": "charging & !screen"}


def test_one_rule_has_no_joint_and_none_left_has_no_sessions() -> None:
    table = stats.criteria_table(three_phones(), [Rule.parse("charging & screen")], unknown="ineligible")
    assert table["joint"] is None
    assert table["rules"][0]["session_s"] is None
    assert "none" in text_of(render_criteria(table))
    with pytest.raises(InputError, match="at least one rule"):
        stats.criteria_table(three_phones(), [], unknown="ineligible")


def test_a_relative_set_marks_its_hours_unknown() -> None:
    table = stats.criteria_table(three_phones(is_local=False), [Rule.parse("charging")], unknown="ineligible")
    assert table["rules"][0]["by_hour"] is None
    assert "unknown: the set has relative clocks" in text_of(render_criteria(table))


def test_overview_of_hand_made_phones() -> None:
    hour = 3600
    phone = events_of(
        [
            (0, "charging", 1), (0, "battery", 50.0),
            (2 * hour, "battery", 90.0),  # + 20 %/h
            (2 * hour, "battery", 91.0),  # no time passed: no slope
            (2 * hour, "battery", 90.0),
            (3 * hour, "battery", 90.0),  # full enough: no slope
            (4 * hour, "charging", 0),
            (5 * hour, "battery", 80.0),  # the charger changed meanwhile: no slope
            (9 * hour, "battery", 60.0),  # − 5 %/h
            (9 * hour, "network", "wifi"),
            (10 * hour, "charging", 1),
            (11 * hour, "battery", 55.0),  # the charger changed meanwhile: no slope
            (11 * hour, "charging", 0),
            (21 * hour, "network", None),
        ]
    )  # fmt: skip
    stranger = events_of([(12 * hour, "battery", 10.0), (18 * hour, "battery", 5.0)])  # charger unknown: no slope
    table = show_table(traces_of([phone, stranger], period_s=24 * hour, facts={"model": ["A", None]}))
    json.dumps(table, allow_nan=False)
    assert table["n_events"] == {"available": 0, "network": 2, "charging": 4, "screen": 0, "locked": 0, "battery": 10}
    assert table["battery_percent_per_h"] == {"charging": 20.0, "discharging": -5.0}
    assert table["time_shares"]["network"]["wifi"] == 12 / 48
    assert table["time_shares"]["network"]["unknown"] == 36 / 48
    assert table["time_shares"]["charging"] == {"off": 19 / 48, "on": 5 / 48, "unknown": 24 / 48}
    assert table["time_shares"]["battery"] == {"known": 36 / 48, "unknown": 12 / 48}
    # known hours: 6 at 5, 6 at 10, 2 at 50, 13 at 55, 2 at 60, 4 at 80, 3 at 90
    assert table["battery_percent"] == {"p5": 5.0, "p25": 10.0, "p50": 55.0, "p75": 55.0, "p95": 90.0}
    assert table["facts"]["model"] == {"n_known": 1, "n_distinct": 1}
    assert "wifi 0.250" in text_of(render_show(table))


def test_overview_without_a_battery() -> None:
    table = show_table(three_phones())
    assert table["battery_percent"] is None
    assert table["battery_percent_per_h"] is None
    assert "not recorded" in text_of(render_show(table))


# ------------------------------------------------------------------------------- known answers on real phones

FLASH_ROWS = {
    "charging & network == wifi & locked": (
        0.059,
        ".072 .078 .083 .080 .073 .067 .073 .067 .052 .043 .032 .037 "
        ".041 .032 .044 .058 .049 .051 .065 .071 .059 .060 .058 .071",
    ),
    "!screen & network == wifi & charging": (
        0.067,
        ".077 .088 .091 .085 .080 .067 .079 .076 .058 .048 .034 .041 "
        ".050 .046 .054 .062 .061 .063 .085 .081 .065 .067 .067 .075",
    ),
    "network == wifi & charging": (
        0.093,
        ".109 .111 .106 .102 .095 .084 .102 .102 .077 .064 .057 .059 "
        ".069 .070 .083 .090 .093 .106 .128 .112 .107 .107 .099 .106",
    ),
    "charging": (
        0.209,
        ".261 .270 .266 .254 .249 .249 .231 .197 .170 .161 .144 .138 "
        ".141 .169 .191 .215 .203 .208 .233 .209 .194 .207 .213 .238",
    ),
}


@pytest.fixture(scope="module")
def flash(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TraceSet:
    folder = tmp_path_factory.mktemp("flash") / "set"
    import_flash(shared_data / "raw/flash/state_traces.first100.json", folder)
    return load_traces(folder)


@pytest.mark.parametrize("rule", FLASH_ROWS)
def test_flash_by_hour(flash: TraceSet, rule: str) -> None:
    windows = compile_rule(flash, Rule.parse(rule), unknown="ineligible")
    mean, hours = FLASH_ROWS[rule]
    assert round(stats.mean_share(windows), 3) == mean
    assert " ".join(f"{share:.3f}"[1:] for share in stats.share_by_hour(windows)) == hours


def test_flash_sessions_and_devices(flash: TraceSet) -> None:
    lock_rule = compile_rule(flash, Rule.parse("charging & network == wifi & locked"), unknown="ineligible")
    assert stats.never_eligible(lock_rule) == 32
    assert len(lock_rule.start_ms) == 1073
    sessions_s = stats.session_quantiles(lock_rule)
    assert sessions_s is not None
    assert sessions_s.round().tolist() == [3, 12, 208, 1488, 10_321]
    assert stats.device_quantiles(lock_rule).round(3).tolist() == [0, 0, 0.017, 0.087, 0.262]
    wifi_rule = compile_rule(flash, Rule.parse("network == wifi & charging"), unknown="ineligible")
    assert len(wifi_rule.start_ms) == 1033
    sessions_s = stats.session_quantiles(wifi_rule)
    assert sessions_s is not None
    assert sessions_s.round().tolist() == [2, 71, 926, 3480, 15_009]
    assert stats.device_quantiles(wifi_rule).round(3).tolist() == [0, 0, 0.042, 0.145, 0.372]


def test_flash_criteria_table_prints_the_published_row(flash: TraceSet) -> None:
    rule = Rule.parse("charging & network == wifi & locked")
    shown = text_of(render_criteria(stats.criteria_table(flash, [rule], unknown="ineligible")))
    assert "00–11  0.072 0.078 0.083 0.080 0.073 0.067 0.073 0.067 0.052 0.043 0.032 0.037\n" in shown
    assert "3/12/208/1488/10321" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_flash_overview(flash: TraceSet) -> None:
    table = show_table(flash)
    shares = table["time_shares"]
    assert table["device_days"] == 441
    assert round(shares["charging"]["on"], 2) == 0.21
    assert round(shares["network"]["wifi"], 2) == 0.41
    assert round(shares["screen"]["off"], 2) == 0.59
    assert round(shares["locked"]["on"], 2) == 0.56
    assert list(table["battery_percent"].values()) == [0, 29, 55, 79, 100]
    assert table["battery_percent_per_h"]["charging"] == pytest.approx(21.2, abs=0.1)
    assert table["battery_percent_per_h"]["discharging"] == pytest.approx(-5.6, abs=0.1)
    assert table["facts"]["model"] == {"n_known": 100, "n_distinct": 75}
    assert "BSD-2-Clause" in text_of(render_show(table))
