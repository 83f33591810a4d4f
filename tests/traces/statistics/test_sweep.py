"""Sweeps written out, and the shares of a criteria table against brute force and the known answers of FLASH."""

import csv
import io
import json
import re
from functools import cache, reduce
from itertools import product
from operator import and_
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, RuleCompiler, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.importers.flash import import_flash
from fedsim.traces.statistics.criteria_text import criteria_csv, render_criteria
from fedsim.traces.statistics.stats import criteria_table
from fedsim.traces.statistics.sweep import expand
from tests.hand import events_of, traces_of

HOUR = 3600
KINDS = ("devices", "sessions", "device_hours")


def table_of(traces: TraceSet, *texts: str, base: str | None = None, unknown: Any = "ineligible") -> dict[str, Any]:
    sweep = expand(texts)
    return criteria_table(
        traces,
        sweep.rules,
        unknown=unknown,
        base=None if base is None else Rule.parse(base),
        combinations=sweep.combinations,
    )


def shares(row: dict[str, Any]) -> list[float]:
    return [row[kind] for kind in KINDS]


# ------------------------------------------------------------------------------------------------ expansion


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("charging", ["charging"]),
        ("battery >= {20,40, 60 ,80}", ["battery >= 20", "battery >= 40", "battery >= 60", "battery >= 80"]),
        ("network == {wifi, 4g} & screen", ["network == wifi & screen", "network == 4g & screen"]),
        (
            "battery>={20,40} | ram_gb <{2,3}",
            [f"battery >= {level} | ram_gb < {size}" for level in (20, 40) for size in (2, 3)],
        ),
        ("network in {wifi, 4g}", ["network in {wifi, 4g}"]),
        ('model == {"a, {b}", c}', ['model == "a, {b}"', "model == c"]),
        ("model != '>= {1,2}'", ['model != ">= {1,2}"']),
    ],
)
def test_a_sweep_is_written_out(text: str, rules: list[str]) -> None:
    assert [str(rule) for rule in expand([text]).rules] == rules


def test_combinations_choose_one_value_of_each_sweep() -> None:
    assert expand(["charging", "screen"]).combinations == []
    assert expand(["battery >= {20,40}"]).combinations == []
    combined = expand(["battery >= {20,40}", "charging", "ram_gb > {1,2}"]).combinations
    assert [str(rule) for rule in combined] == [
        "battery >= 20 & charging & ram_gb > 1",
        "battery >= 20 & charging & ram_gb > 2",
        "battery >= 40 & charging & ram_gb > 1",
        "battery >= 40 & charging & ram_gb > 2",
    ]


@pytest.mark.parametrize("text", ["battery >= {}", "battery >= {20,,30}", "battery >= {20,}", "battery >= { }"])
def test_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a sweep needs values"):
        expand([text])


def test_a_wrong_value_is_refused_by_the_rule() -> None:
    with pytest.raises(InputError, match=r"cannot be compared with '101'.*rule 'battery >= 101'"):
        expand(["battery >= {20,101}"])


# --------------------------------------------------------------------------------------------------- shares


def three_phones() -> TraceSet:
    """Two days each, from 22:00 on; hours below count from there."""
    return traces_of(
        [
            events_of([(0, "charging", 1), (0, "screen", 0), (6 * HOUR, "charging", 0), (30 * HOUR, "screen", 1)]),
            events_of([(0, "charging", 0), (0, "screen", 1), (24 * HOUR, "charging", 1), (36 * HOUR, "screen", 0)]),
            events_of([(0, "charging", 0), (0, "screen", 0)]),
        ],
        period_s=48 * HOUR,
        start_s=22 * HOUR,
    )


def test_without_a_base_a_session_is_24_hours_of_a_device() -> None:
    table = table_of(three_phones(), "charging", "!screen")
    json.dumps(table, allow_nan=False)
    assert table["base"] is None
    assert {kind: table["base_counts"][kind] for kind in KINDS} == {"devices": 3, "sessions": 6, "device_hours": 144.0}
    charging, dark = table["rules"]
    assert shares(charging["left"]) == [2 / 3, 2 / 6, (6 + 24) / 144]
    assert shares(dark["left"]) == [1, 5 / 6, (30 + 12 + 48) / 144]
    assert shares(table["joint"]["left"]) == [2 / 3, 2 / 6, (6 + 12) / 144]
    assert charging["left"]["by_hour"]["sessions"] is None
    # 22 h … 3 h of the first phone's first day, and all hours of the second phone's second day
    in_hour = [1, 1, 1, 1, *[0] * 18, 1, 1]
    assert charging["left"]["by_hour"]["devices"] == [(n + 1) / 6 for n in in_hour]
    assert charging["left"]["by_hour"]["device_hours"] == [(n + 1) / 6 for n in in_hour]


def test_with_a_base_each_of_its_unbroken_times_is_a_session() -> None:
    table = table_of(three_phones(), "charging", base="screen")
    assert table["base"] == "screen"
    assert {kind: table["base_counts"][kind] for kind in KINDS} == {"devices": 2, "sessions": 2, "device_hours": 54.0}
    (row,) = table["rules"]
    assert row["rule"] == "charging"
    assert shares(row["left"]) == [1 / 2, 1 / 2, 12 / 54]
    assert row["mean_share"] == 12 / 144  # of all device-time, whatever the base
    by_hour = row["left"]["by_hour"]
    assert by_hour["sessions"][22] == 1.0  # the second phone's session begins at 22 h
    assert by_hour["sessions"][4] == 0.0  # the first phone's at 4 h
    assert by_hour["sessions"][5] is None
    assert by_hour["device_hours"][22] == 1 / 2  # the second phone's screen is on at 22 h on both days
    assert table_of(three_phones(), "screen", base="screen")["rules"][0]["left"]["device_hours"] == 1


def test_a_session_that_the_rule_meets_twice_counts_once() -> None:
    flickers = [(0, "screen", 1), (0, "charging", 0), (10 * HOUR, "screen", 0), (12 * HOUR, "screen", 1)]
    flickers += [(at * HOUR, "charging", value) for at, value in ((1, 1), (2, 0), (3, 1), (4, 0))]
    once = [(0, "screen", 1), (0, "charging", 0), (6 * HOUR, "charging", 1)]
    logs = [events_of(sorted(log, key=lambda row: row[0])) for log in (flickers, once)]
    table = table_of(traces_of(logs, period_s=24 * HOUR), "charging", base="screen")
    assert table["base_counts"]["sessions"] == 3
    (row,) = table["rules"]
    assert row["n_sessions"] == 3  # times under the rule itself
    assert shares(row["left"]) == [1, 2 / 3, (2 + 18) / (22 + 24)]
    assert row["left"]["by_hour"]["sessions"][0] == 1
    assert row["left"]["by_hour"]["sessions"][12] == 0


def test_the_funnel_says_what_each_further_rule_costs() -> None:
    table = table_of(three_phones(), "charging", "!screen", "screen")
    first, second, third = table["funnel"]
    assert [step["rule"] for step in table["funnel"]] == ["charging", "!screen", "screen"]
    assert shares(first["left"]) == shares(first["kept"]) == shares(table["rules"][0]["left"])
    assert shares(second["left"]) == [2 / 3, 2 / 6, 18 / 144]
    assert second["kept"]["device_hours"] == pytest.approx(18 / 30)
    assert second["kept"]["devices"] == 1
    assert shares(third["left"]) == shares(third["kept"]) == [0, 0, 0]
    after_nothing = table_of(three_phones(), "screen & !screen", "charging")["funnel"][1]
    assert after_nothing["kept"] == dict.fromkeys(KINDS)


def test_sweeps_are_rows_and_combinations() -> None:
    phones = traces_of(
        [events_of([(0, "battery", level), (0, "charging", 1)]) for level in (10, 50, 90)], period_s=24 * HOUR
    )
    table = table_of(phones, "charging", "battery >= {20,80}")
    assert [row["rule"] for row in table["rules"]] == ["charging", "battery >= 20", "battery >= 80"]
    assert [row["rule"] for row in table["combinations"]] == ["charging & battery >= 20", "charging & battery >= 80"]
    assert [row["left"]["devices"] for row in table["combinations"]] == [2 / 3, 1 / 3]


def test_a_base_that_nobody_meets_is_refused() -> None:
    with pytest.raises(InputError, match="no device of the trace set ever meets the base rule: 'screen & !screen'"):
        table_of(three_phones(), "charging", base="screen & !screen")


def test_relative_clocks_have_no_hours() -> None:
    phones = traces_of([events_of([(0, "available", 1)])], period_s=1.5 * 24 * HOUR, is_local=False)
    table = table_of(phones, "available")
    assert table["rules"][0]["left"]["by_hour"] is None
    assert table["base_counts"]["sessions"] == 2  # the second of them half a day long


N_HOURS = 48
CHANNELS = ("charging", "screen", "locked")
logs = st.lists(
    st.tuples(st.integers(0, 4 * N_HOURS), st.sampled_from(CHANNELS), st.sampled_from([0, 1, None])), max_size=25
).map(lambda rows: sorted(rows, key=lambda row: row[0]))
RULES = ("charging", "!screen", "locked | charging", "screen", "!(locked & screen)")


@cache
def is_met(rule: str, state: tuple[int | None, ...], unknown: str) -> bool:
    """Python's own logic in every world that the unknown values allow."""
    code = rule.replace("!", " not ").replace("|", " or ").replace("&", " and ")
    worlds = product(*([False, True] if value is None else [bool(value)] for value in state))
    answers = [eval(code, {}, dict(zip(CHANNELS, world, strict=True))) for world in worlds]
    return any(answers) if unknown == "eligible" else all(answers)


def quarters(rows: list[tuple[int, str, Any]], rule: str, unknown: str) -> list[bool]:
    """Eligible in each quarter of an hour."""
    state: dict[str, Any] = dict.fromkeys(CHANNELS)
    found = []
    for now in range(4 * N_HOURS):
        state |= {channel: value for at, channel, value in rows if at == now}
        found.append(is_met(rule, tuple(state.values()), unknown))
    return found


@given(
    st.lists(logs, min_size=1, max_size=3),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=3),
    st.sampled_from([None, *RULES]),
    st.integers(0, 95),
    st.sampled_from(["ineligible", "eligible"]),
)
def test_shares_equal_counting_quarters(devices: Any, rules: list[str], base: Any, start: int, unknown: Any) -> None:
    known = [(4 * N_HOURS, channel, 1) for channel in CHANNELS]  # so that no rule is about an unknown channel
    traces = traces_of(
        [events_of([(at * 900, channel, value) for at, channel, value in [*rows, *known]]) for rows in devices],
        period_s=N_HOURS * HOUR,
        start_s=start * 900,
    )
    in_base = np.array([[True] * 4 * N_HOURS if base is None else quarters(rows, base, unknown) for rows in devices])
    if not in_base.any():
        with pytest.raises(InputError, match="ever meets the base rule"):
            table_of(traces, *rules, base=base, unknown=unknown)
        return
    met = {rule: np.array([quarters(rows, rule, unknown) for rows in devices]) & in_base for rule in rules}
    session = np.cumsum(np.diff(in_base, axis=1, prepend=False), axis=1) * in_base  # odd numbers inside the base
    if base is None:
        session = np.broadcast_to(np.arange(4 * N_HOURS) // 96 + 1, in_base.shape)
    hour = (np.arange(4 * N_HOURS) + start) // 4

    def counted(mask: np.ndarray) -> list[float]:
        sessions = {(d, session[d, i]) for d, i in zip(*np.nonzero(mask), strict=True)}
        return [np.count_nonzero(mask.any(axis=1)), len(sessions), np.count_nonzero(mask) / 4]

    def by_hour(mask: np.ndarray) -> list[int]:
        touched = {(d, hour[i]) for d, i in zip(*np.nonzero(mask), strict=True)}
        return [sum(h % 24 == k for _, h in touched) for k in range(24)]

    table = table_of(traces, *rules, base=base, unknown=unknown)
    whole, hours = counted(in_base), by_hour(in_base)
    for rule, row in zip(rules, table["rules"], strict=True):
        np.testing.assert_allclose(shares(row["left"]), np.array(counted(met[rule])) / whole, rtol=1e-12)
        expected = [n / m if m else None for n, m in zip(by_hour(met[rule]), hours, strict=True)]
        assert row["left"]["by_hour"]["devices"] == expected
    masks = [reduce(and_, [met[rule] for rule in rules[:n]]) for n in range(1, len(rules) + 1)]
    for mask, step in zip(masks, table["funnel"], strict=True):
        np.testing.assert_allclose(shares(step["left"]), np.array(counted(mask)) / whole, rtol=1e-12)


@given(st.lists(logs, min_size=1, max_size=3), st.lists(st.sampled_from(RULES), min_size=2, max_size=4))
def test_rules_compiled_together_equal_rules_compiled_alone(devices: Any, rules: list[str]) -> None:
    known = [(4 * N_HOURS, channel, 1) for channel in CHANNELS]
    traces = traces_of(
        [events_of([(at * 900, channel, value) for at, channel, value in [*rows, *known]]) for rows in devices],
        period_s=N_HOURS * HOUR,
    )
    parsed = [Rule.parse(text) for text in rules]
    together = RuleCompiler(traces, parsed, unknown="ineligible")
    for rule in [*parsed, parsed[0] & parsed[1]]:
        alone, found = compile_rule(traces, rule, unknown="ineligible"), together.windows(rule)
        for name in ("offsets", "start_ms", "end_ms"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


# ----------------------------------------------------------------------------------------------------- text


def text_of(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(renderable)
    return out.getvalue()


def test_the_terminal_shows_shares_steps_and_hours() -> None:
    shown = text_of(render_criteria(table_of(three_phones(), "charging", "!screen")))
    assert "3 devices, 6 sessions (each 24 h of a device), 144 device-hours" in shown
    assert " 49680/75600/108k/140k/166k │" in shown
    assert re.search(r"│  all │   0.667 │    0.333 │ 0.125 │ +0.33 │", shown)
    assert "│  + 2 │   0.667 │    0.333 │ 0.125 │   1.000 │    1.000 │ 0.600 │" in shown
    assert "00–11  0.333 0.333 0.333 0.333 0.167" in shown
    assert max(map(len, shown.splitlines())) <= 80
    shown = text_of(render_criteria(table_of(three_phones(), "charging", base="screen")))
    assert "(each an unbroken time of screen)" in shown
    assert "one after the other" not in shown
    night = traces_of([events_of([(0, "screen", 1), (HOUR, "screen", 0)])], period_s=24 * HOUR)
    assert "00–11  1.000     –     –" in text_of(render_criteria(table_of(night, "screen", base="screen")))


def test_combinations_stand_in_for_all_together() -> None:
    phones = traces_of([events_of([(0, "battery", 50), (0, "charging", 1)])], period_s=24 * HOUR)
    shown = text_of(render_criteria(table_of(phones, "charging", "battery >= {20,80}")))
    assert " c2  charging & battery >= 80\n" in shown
    assert "all  " not in shown


def test_csv_has_a_line_per_rule_and_hour() -> None:
    lines = list(csv.DictReader(io.StringIO(criteria_csv(table_of(three_phones(), "charging", "!screen")))))
    assert [(line["part"], line["rule"]) for line in lines if line["hour"] == ""] == [
        ("alone", "charging"),
        ("alone", "!screen"),
        ("joint", "charging & !screen"),
        ("funnel", "charging"),
        ("funnel", "!screen"),
    ]
    assert [line["hour"] for line in lines[1:25]] == [str(hour) for hour in range(24)]
    assert float(lines[0]["device_hours"]) == 30 / 144
    assert float(lines[-1]["kept_device_hours"]) == pytest.approx(0.6)
    assert lines[0]["kept_device_hours"] == lines[1]["sessions"] == ""


# --------------------------------------------------------------------------------- known answers on real phones


@pytest.fixture(scope="module")
def flash(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TraceSet:
    folder = tmp_path_factory.mktemp("flash") / "set"
    import_flash(shared_data / "raw/flash/state_traces.first100.json", folder)
    return load_traces(folder)


def test_flash_funnel_passes_the_published_shares(flash: TraceSet) -> None:
    table = table_of(flash, "charging", "network == wifi", "locked", "!screen", "battery >= 50")
    hours = [round(step["left"]["device_hours"], 3) for step in table["funnel"]]
    assert hours[:3] == [0.209, 0.093, 0.059]  # published: charging, wifi ∧ charging, and with the lock
    alone = [round(row["left"]["device_hours"], 2) for row in table["rules"]]
    assert alone == [0.21, 0.41, 0.56, 0.59, 0.54]  # published: charging, wifi, locked, screen off; battery is ours
    assert table["funnel"][2]["left"]["devices"] == 0.68  # published: 32 of 100 are never available
    wifi_of_charging = table["funnel"][1]["kept"]["device_hours"]
    locked_of_both = table["funnel"][2]["kept"]["device_hours"]
    assert wifi_of_charging == pytest.approx(0.44, abs=0.01)  # published
    assert round(locked_of_both, 2) == 0.63  # published
    lock_rule = table_of(flash, "charging & network == wifi & locked")["rules"][0]
    assert table["funnel"][2]["left"] == {kind: lock_rule["left"][kind] for kind in KINDS}


def test_flash_five_criteria_equal_a_slow_replay(flash: TraceSet) -> None:
    texts = ["charging", "network == wifi", "locked", "!screen", "battery >= 50"]
    table = table_of(flash, *texts)
    open_ms = np.array([slow_replay(flash, row) for row in range(flash.n)])
    n_ms = flash.period_ms.sum()
    rows = [*table["rules"], table["joint"]]
    assert [row["left"]["device_hours"] for row in rows] == pytest.approx((open_ms.sum(axis=0) / n_ms).tolist())
    assert [row["left"]["devices"] for row in rows] == (np.count_nonzero(open_ms, axis=0) / flash.n).tolist()


def slow_replay(traces: TraceSet, row: int) -> list[int]:
    """Milliseconds for which a phone meets each of the five criteria and all of them, event by event."""
    names = ("available", "network", "charging", "screen", "locked", "battery")
    state: dict[str, float] = dict.fromkeys(names, float("nan"))
    total, now = [0] * 6, 0
    events = traces.events
    period = int(traces.period_ms[row])
    for i in [*range(traces.offsets[row], traces.offsets[row + 1]), None]:
        until = period if i is None else int(events.at_ms[i])
        met = [
            state["charging"] == 1,
            state["network"] == 1,
            state["locked"] == 1,
            state["screen"] == 0,
            state["battery"] >= 50,
        ]
        for k, is_met in enumerate([*met, all(met)]):
            total[k] += (until - now) * is_met
        now = until
        if i is not None and not events.is_sentinel[i]:
            state[names[events.channel[i]]] = float(events.value[i])
    return total
