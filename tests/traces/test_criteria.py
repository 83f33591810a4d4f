"""The rule language and its compilation to windows, against golden cases and brute force."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.schema import NETWORKS
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, Windows, compile_channel, compile_rule
from tests.hand import events_of, traces_of


def spans(windows: Windows, trace: int = 0) -> list[tuple[float, float]]:
    """Windows of one trace in seconds."""
    rows = slice(windows.offsets[trace], windows.offsets[trace + 1])
    return [
        (a / 1000, b / 1000)
        for a, b in zip(windows.start_ms[rows].tolist(), windows.end_ms[rows].tolist(), strict=True)
    ]


def one_phone(*rows: tuple[float, str, object], period_s: float = 100.0, **facts: object) -> TraceSet:
    columns = {name: [value] for name, value in facts.items()}
    return traces_of([events_of(rows)], period_s=period_s, is_local=False, facts=columns)


def compiled(traces: TraceSet, rule: str, unknown: Any = "ineligible") -> list[tuple[float, float]]:
    return spans(compile_rule(traces, Rule.parse(rule), unknown=unknown))


# ---------------------------------------------------------------------------------------------- language


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("charging&network==wifi &locked", "charging & network == wifi & locked"),
        ("screen and battery >= 80", "screen & battery >= 80"),
        ("charging ∧ ¬ screen ∨ locked", "charging & !screen | locked"),
        ("charging & (screen | locked)", "charging & (screen | locked)"),
        ("((charging)) & (screen & locked)", "charging & screen & locked"),
        ("! network == wifi", "!network == wifi"),
        ("not (charging or screen)", "!(charging | screen)"),
        ("network in {wifi , 5g}", "network in {wifi, 5g}"),
        ("network in {wifi}", "network == wifi"),
        ("model in {'Redmi 4A', SM-A105G}", 'model in {"Redmi 4A", SM-A105G}'),
        ("model == 'and'", 'model == "and"'),
        ("model != 'say \"hi\"'", "model != 'say \"hi\"'"),
        ("ram_gb >= 2.5 & os_version < 10", "ram_gb >= 2.5 & os_version < 10"),
        ("true", "true"),
        ("true & charging", "charging"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    rule = Rule.parse(text)
    assert str(rule) == canonical
    assert rule.text == text
    assert Rule.parse(canonical) == rule


def test_and_binds_tighter_than_or() -> None:
    assert Rule.parse("charging | screen & locked") == Rule.parse("charging | (screen & locked)")
    assert Rule.parse("charging | screen & locked") != Rule.parse("(charging | screen) & locked")


def test_names_of_a_rule() -> None:
    rule = Rule.parse("charging & network == wifi | !locked & ram_gb >= 2 & model == X")
    assert rule.channels == {"charging", "network", "locked"}
    assert rule.facts == {"ram_gb", "model"}


def test_rules_combine_and_ask_everything_once() -> None:
    both = Rule.parse("charging & network == wifi") & Rule.parse("charging & locked | screen")
    assert str(both) == "charging & network == wifi & (charging & locked | screen)"
    assert str(Rule.parse("charging & screen") & Rule.parse("screen & locked")) == "charging & screen & locked"
    assert str(Rule.parse("true") & Rule.parse("screen")) == "screen"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"end of rule at position 1 .*allowed: a channel or fact \(available, network, charging"),
        ("charging &", r"end of rule at position 11"),
        ("charging screen", r"'screen' at position 10 .*allowed: & or \|"),
        ("(charging", r"end of rule at position 10 .*allowed: & or \| or \)"),
        ("charging)", r"'\)' at position 9"),
        (
            "wifi",
            r"unknown channel or fact 'wifi' at position 1 .*available, network, charging, screen, locked, battery",
        ),
        ("charging & WIFI == 1", r"'WIFI' at position 12 in rule 'charging & WIFI == 1'"),
        ("network == wify", r"'wify' at position 12 .*allowed: none, wifi, 2g, 3g, 4g, 5g"),
        ("network in {wifi, 6g}", r"'6g' at position 19"),
        ("network in {}", r"'}' at position 13"),
        ("network in {wifi", r"end of rule at position 17 .*allowed: , or }"),
        ("network in wifi", r"'wifi' at position 12 .*allowed: { after in"),
        ("network < wifi", r"'<' at position 9 .*allowed: ==, != or in"),
        ("network", r"end of rule at position 8"),
        ("charging == 1", r"'charging' cannot be compared: '==' at position 10 .*allowed: charging or !charging"),
        ("battery", r"end of rule at position 8 .*allowed: == != < <= > >="),
        ("battery >= full", r"'full' at position 12 .*allowed: a number, 0 … 100"),
        ("battery >= 101", r"'101' at position 12"),
        ("battery >= '80'", r"at position 12 .*a number"),
        ("ram_gb in {2, 3}", r"'in' at position 8"),
        ("ram_gb >= 2GB", r"'2GB' at position 11 .*a number"),
        ("model == ", r"end of rule .*model name"),
        ("charging = 1", r"unexpected character '=' at position 10"),
        ("model == 'X", r"unexpected character \"'\" at position 10"),
        ("'charging'", r"at position 1"),
        ("__import__('os')", r"unknown channel or fact '__import__' at position 1"),
        ("(" * 2000 + "charging" + ")" * 2000, r"nested too deeply at '\(' at position 101"),
        ("!" * 2000 + "charging", r"nested too deeply"),
    ],
)
def test_bad_rules_are_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        Rule.parse(text)
    assert re.search(says, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("sign", ["&", "|"])
def test_the_bound_on_nesting_counts_levels_not_terms(sign: str) -> None:
    terms = [f"battery >= {half / 2:g}" for half in range(150)]
    assert str(Rule.parse(f" {sign} ".join(terms))) == f" {sign} ".join(terms)
    groups = [f"!({term} & screen)" for term in terms]
    assert str(Rule.parse(f" {sign} ".join(groups))) == f" {sign} ".join(groups)
    assert str(Rule.parse("(" * 99 + "charging" + ")" * 99)) == "charging"
    with pytest.raises(InputError, match="nested too deeply"):
        Rule.parse("(" * 100 + "charging" + ")" * 100)


# ------------------------------------------------------------------------------------------- golden cases


def test_a_rule_opens_and_closes_with_its_channels() -> None:
    phone = one_phone(
        (0, "charging", 0), (0, "network", "wifi"),
        (10, "charging", 1),
        (30, "network", "4g"),
        (40, "network", "wifi"),
        (60, "charging", 0),
        (90, "charging", 1),
    )  # fmt: skip
    windows = compile_rule(phone, Rule.parse("charging & network == wifi"), unknown="ineligible")
    assert spans(windows) == [(10, 30), (40, 60), (90, 100)]
    assert windows.open_ms.tolist() == [50_000]
    assert windows.trace_of_window.tolist() == [0, 0, 0]


def test_events_of_one_instant_count_together_and_in_file_order() -> None:
    phone = one_phone((0, "screen", 0), (10, "screen", 1), (10, "screen", 0), (20, "screen", 0), (20, "screen", 1))
    assert compiled(phone, "screen") == [(20, 100)]


def test_a_change_that_leaves_the_rule_true_does_not_split_the_window() -> None:
    phone = one_phone((5, "network", "wifi"), (10, "network", "5g"), (20, "network", "wifi"), (30, "network", "3g"))
    assert compiled(phone, "network in {wifi, 5g}") == [(5, 30)]


def test_an_event_at_the_end_of_the_period_never_holds() -> None:
    assert compiled(one_phone((0, "screen", 0), (100, "screen", 1)), "screen") == []
    assert compiled(one_phone((0, "screen", 1), (100, "screen", 0)), "screen") == [(0, 100)]


def test_sentinels_are_ignored() -> None:
    phone = one_phone((0, "screen", 0), (50, "screen", 1))
    phone.events.is_sentinel[1] = True
    assert compiled(phone, "screen") == []
    phone.events.is_sentinel[0] = True
    with pytest.raises(InputError, match="no event of channel: 'screen'"):
        compiled(phone, "screen")


def test_unknown_is_decided_at_the_end_by_choice() -> None:
    phone = one_phone((10, "charging", 1), (20, "charging", None), (30, "charging", 0), (40, "screen", 0))
    assert compiled(phone, "charging") == [(10, 20)]
    assert compiled(phone, "charging", "eligible") == [(0, 30)]
    assert compiled(phone, "!charging") == [(30, 100)]
    assert compiled(phone, "!charging", "eligible") == [(0, 10), (20, 100)]
    # what is known decides, whatever the unknown: charging | screen before anything is known of screen
    assert compiled(phone, "charging | screen") == [(10, 20)]
    assert compiled(phone, "charging & screen", "eligible") == [(0, 30)]


def test_a_start_that_is_known_at_once_leaves_no_empty_window() -> None:
    phone = one_phone((0, "charging", 0), (10, "charging", 1))
    assert compiled(phone, "charging", "eligible") == [(10, 100)]


def test_a_value_does_not_leak_to_the_next_device() -> None:
    phones = traces_of(
        [events_of([(0, "charging", 1)]), events_of([(50, "screen", 1)]), events_of([(20, "charging", 1)])],
        period_s=100,
        is_local=False,
    )
    windows = compile_rule(phones, Rule.parse("charging"), unknown="ineligible")
    assert [spans(windows, trace) for trace in range(3)] == [[(0, 100)], [], [(20, 100)]]
    assert windows.n == 3
    assert windows.open_ms.tolist() == [100_000, 0, 80_000]


def test_facts_rule_whole_devices_even_without_events() -> None:
    phones = traces_of(
        [events_of([])] * 4,
        period_s=[10, 20, 30, 40],
        is_local=False,
        facts={"ram_gb": [1, 2, None, 4], "model": ["A", None, "B", "A"]},
    )

    def eligible(rule: str, unknown: Any = "ineligible") -> list[int]:
        return (compile_rule(phones, Rule.parse(rule), unknown=unknown).open_ms // 1000).tolist()

    assert eligible("ram_gb >= 2") == [0, 20, 0, 40]
    assert eligible("ram_gb >= 2", "eligible") == [0, 20, 30, 40]
    assert eligible("model == A") == [10, 0, 0, 40]
    assert eligible("model != A") == [0, 0, 30, 0]
    assert eligible("model in {A, B} & ram_gb < 4") == [10, 0, 0, 0]
    assert eligible("true") == [10, 20, 30, 40]
    assert eligible("!true", "eligible") == [0, 0, 0, 0]


def test_facts_and_channels_together() -> None:
    phones = traces_of(
        [events_of([(10, "charging", 1)]), events_of([(30, "charging", 1)])],
        period_s=100,
        is_local=False,
        facts={"os_version": [9, 11]},
    )
    windows = compile_rule(phones, Rule.parse("charging & os_version >= 10"), unknown="ineligible")
    assert [spans(windows, trace) for trace in range(2)] == [[], [(30, 100)]]


def test_a_rule_about_what_the_set_does_not_know_is_refused() -> None:
    phone = one_phone((0, "charging", 1), (0, "network", "wifi"), model="A")
    with pytest.raises(InputError, match=r"no event of channel: 'available' \(allowed: network, charging\)"):
        compiled(phone, "available")
    with pytest.raises(InputError, match=r"fact: 'ram_gb' in rule 'ram_gb > 1' \(allowed: model\)"):
        compiled(phone, "ram_gb > 1")
    with pytest.raises(InputError, match="allowed: ineligible or eligible"):
        compiled(phone, "charging", "maybe")
    with pytest.raises(InputError, match="none, the set has no events"):
        compile_channel(traces_of([events_of([])], period_s=1, is_local=False), "screen")


def test_a_channel_is_a_step_function_that_starts_at_zero() -> None:
    phones = traces_of(
        [
            events_of([(10, "battery", 50.0), (10, "battery", 51.0), (20, "screen", 1), (30, "battery", None)]),
            events_of([]),
            events_of([(0, "battery", 7.0), (100, "battery", 8.0)]),
        ],
        period_s=100,
        start_s=[1, 2, 3],
        is_local=False,
    )
    levels = compile_channel(phones, "battery")
    assert levels.offsets.tolist() == [0, 3, 4, 5]
    assert levels.at_ms.tolist() == [0, 10_000, 30_000, 0, 0]
    np.testing.assert_array_equal(levels.value, np.float32([np.nan, 51, np.nan, np.nan, 7]))
    assert levels.hold_ms.tolist() == [10_000, 20_000, 70_000, 100_000, 100_000]
    assert levels.trace_start_ms.tolist() == [1000, 2000, 3000]
    with pytest.raises(InputError, match="unknown channel: 'wifi'"):
        compile_channel(phones, "wifi")


# -------------------------------------------------------------------------------------------- brute force

PERIOD_MS = 12
KLEENE = {"and": min, "or": max}  # over 0 false, 0.5 unknown, 1 true
VALUES: dict[str, list[Any]] = {
    "charging": [0, 1, None],
    "screen": [0, 1, None],
    "network": [*NETWORKS, None],
    "battery": [0.0, 20.0, 79.3, 80.0, 100.0, None],
}
ATOMS: list[tuple[str, str, Any]] = [
    ("charging", "charging", lambda v: v == 1),
    ("screen", "screen", lambda v: v == 1),
    ("network", "network == wifi", lambda v: v == "wifi"),
    ("network", "network != 4g", lambda v: v != "4g"),
    ("network", "network in {wifi, 5g, none}", lambda v: v in ("wifi", "5g", "none")),
    ("battery", "battery >= 80", lambda v: v >= 80),
    ("battery", "battery < 79.3", lambda v: v < 79.3),
    ("battery", "battery == 79.3", lambda v: v == 79.3),
    ("battery", "battery <= 20", lambda v: v <= 20),
    ("battery", "battery > 20", lambda v: v > 20),
    ("ram_gb", "ram_gb >= 2", lambda v: v >= 2),
    ("model", "model == A", lambda v: v == "A"),
]
Tree = tuple[Any, ...]

trees: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from(range(len(ATOMS))).map(lambda index: ("atom", index)),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=6,
)
events_of_device = st.lists(
    st.tuples(st.integers(0, PERIOD_MS), st.sampled_from(sorted(VALUES)), st.integers(0, 99), st.booleans()),
    max_size=10,
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


def text_of(tree: Tree) -> str:
    if tree[0] == "atom":
        return str(ATOMS[tree[1]][1])
    if tree[0] == "not":
        return f"!({text_of(tree[1])})"
    return f"({text_of(tree[1])}) {tree[0]} ({text_of(tree[2])})"


def truth_of(tree: Tree, state: dict[str, Any]) -> float:
    if tree[0] == "atom":
        name, _, test = ATOMS[tree[1]]
        return 0.5 if state.get(name) is None else float(test(state[name]))
    if tree[0] == "not":
        return 1 - truth_of(tree[1], state)
    return float(KLEENE[tree[0]](truth_of(tree[1], state), truth_of(tree[2], state)))


def slow_open(tree: Tree, rows: Any, facts: dict[str, Any], unknown: str) -> list[int]:
    """The milliseconds in which the device is eligible, one by one."""
    state, open_ms = dict(facts), []
    for now in range(PERIOD_MS):
        for at_ms, channel, pick, is_sentinel in rows:
            if at_ms == now and not is_sentinel:
                state[channel] = VALUES[channel][pick % len(VALUES[channel])]
        if truth_of(tree, state) > (0.5 if unknown == "ineligible" else 0):
            open_ms.append(now)
    return open_ms


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    trees,
    st.lists(events_of_device, min_size=1, max_size=4),
    st.lists(st.sampled_from([1.0, 2.0, None]), min_size=4, max_size=4),
    st.lists(st.sampled_from(["A", "B", None]), min_size=4, max_size=4),
    st.sampled_from(["ineligible", "eligible"]),
)
def test_windows_equal_brute_force(tree: Tree, devices: Any, rams: Any, models: Any, unknown: Any) -> None:
    # a last device that knows everything keeps the rule answerable
    known = [(PERIOD_MS, channel, 0, False) for channel in sorted(VALUES)]
    devices = [*devices, known]
    rams, models = [*rams[: len(devices) - 1], 2.0], [*models[: len(devices) - 1], "A"]
    logs = [
        events_of([(at / 1000, channel, VALUES[channel][pick % len(VALUES[channel])]) for at, channel, pick, _ in rows])
        for rows in devices
    ]
    traces = traces_of(logs, period_s=PERIOD_MS / 1000, is_local=False, facts={"ram_gb": rams, "model": models})
    traces.events.is_sentinel[:] = [row[3] for rows in devices for row in rows]
    windows = compile_rule(traces, Rule.parse(text_of(tree)), unknown=unknown)

    for trace, rows in enumerate(devices):
        mine = slice(windows.offsets[trace], windows.offsets[trace + 1])
        starts, ends = windows.start_ms[mine], windows.end_ms[mine]
        assert (starts < ends).all()
        assert (starts[1:] > ends[:-1]).all(), "windows of one trace must not touch"
        found = [ms for a, b in zip(starts, ends, strict=True) for ms in range(a, b)]
        assert found == slow_open(tree, rows, {"ram_gb": rams[trace], "model": models[trace]}, unknown)


@settings(max_examples=200, deadline=None)
@given(trees)
def test_canonical_text_means_the_same(tree: Tree) -> None:
    rule = Rule.parse(text_of(tree))
    assert Rule.parse(str(rule)) == rule
    assert str(Rule.parse(str(rule))) == str(rule)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(events_of_device, min_size=1, max_size=4), st.sampled_from(sorted(VALUES)))
def test_levels_equal_brute_force(devices: Any, channel: str) -> None:
    devices = [*devices, [(3, channel, 0, False)]]
    logs = [
        events_of([(at / 1000, name, VALUES[name][pick % len(VALUES[name])]) for at, name, pick, _ in rows])
        for rows in devices
    ]
    traces = traces_of(logs, period_s=PERIOD_MS / 1000, is_local=False)
    traces.events.is_sentinel[:] = [row[3] for rows in devices for row in rows]
    levels = compile_channel(traces, channel)
    numbers = {name: code for code, name in enumerate(NETWORKS)}
    for trace, rows in enumerate(devices):
        mine = slice(levels.offsets[trace], levels.offsets[trace + 1])
        assert levels.at_ms[mine][0] == 0
        assert (np.diff(levels.at_ms[mine]) > 0).all()
        value: Any = None
        for now in range(PERIOD_MS):
            for at_ms, name, pick, is_sentinel in rows:
                if at_ms == now and name == channel and not is_sentinel:
                    value = VALUES[name][pick % len(VALUES[name])]
            found = levels.value[mine][np.searchsorted(levels.at_ms[mine], now, side="right") - 1]
            expected = np.nan if value is None else numbers.get(value, value)
            np.testing.assert_equal(found, np.float32(expected))


def test_closed_windows_end_a_millisecond_later_unless_something_begins_there() -> None:
    """Two traces: 0–10 s, 10.001–20 s and 30–60 s of 60 s; 5–7 s of 60 s."""
    first = [(0, "charging", 1), (10, "charging", 0), (10.001, "charging", 1), (20, "charging", 0), (30, "charging", 1)]
    second = [(0, "charging", 0), (5, "charging", 1), (7, "charging", 0)]
    traces = traces_of([events_of(first), events_of(second)], period_s=60.0, is_local=False)
    closed = compile_rule(traces, Rule.parse("charging"), unknown="ineligible").closed()
    assert closed.start_ms.tolist() == [0, 10_001, 30_000, 5_000]
    assert closed.end_ms.tolist() == [10_000, 20_001, 60_000, 7_001]
    never = traces_of([events_of([(0, "charging", 0)])], period_s=60.0, is_local=False)
    assert compile_rule(never, Rule.parse("charging"), unknown="ineligible").closed().end_ms.tolist() == []
