"""Transfers over the network a trace is on: by hand, and against a walk in exact fractions."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.cost.phones import PhoneClasses
from fedsim.device.network import Network, SymmetricNetwork
from fedsim.errors import InputError
from fedsim.fleet.availability import Track
from fedsim.fleet.fleet import Fleet
from fedsim.schema import NETWORKS
from fedsim.traces.criteria import compile_channel
from tests.hand import events_of, traces_of

DOWN = {"wifi": 100.0, "2g": 10.0, "3g": 20.0, "4g": 50.0, "5g": 200.0}
UP = {"wifi": 50.0, "2g": 5.0, "3g": 10.0, "4g": 25.0, "5g": 100.0}
N = 60_000
Log = list[tuple[float, str | None]]  # seconds since the trace's first instant, network or unknown


def network(**changes: Any) -> Network:
    arguments: dict[str, Any] = {
        "seed": 1,
        "down_bytes_per_s": DOWN,
        "up_bytes_per_s": UP,
        "device_sigma": 0.0,
        "session_sigma": 0.0,
        "connect_s": 0.0,
        "assumed_type": "4g",
    }
    return Network(**(arguments | changes))


def track_of(*logs: Log, period_s: float = 100.0) -> Track:
    events = [events_of([(at, "network", value) for at, value in log]) for log in logs]
    traces = traces_of(events, period_s=period_s, is_local=False)
    return Track(Fleet(traces, n_devices=len(logs), seed=0, is_replay=True), compile_channel(traces, "network"))


def download(log: Log, start: float, size: int, level: float = 1.0, **changes: Any) -> tuple[Any, str]:
    made = network(**changes)
    end, code, _ = made.download(track_of(log), np.array([0]), np.array([start]), size, np.array([level]))
    return float(end[0]), NETWORKS[code[0]]


# ---------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("kind", NETWORKS[1:])
def test_every_type_has_its_rate_each_way(kind: str) -> None:
    made, track, start = network(), track_of([(0, kind)]), np.array([3.0])
    for transfer, rates in ((made.download, DOWN), (made.upload, UP)):
        end, code, _ = transfer(track, np.array([0]), start, 100, np.ones(1))
        assert end.tolist() == [3 + 100 / rates[kind]]
        assert NETWORKS[code[0]] == kind


def test_time_without_a_network_is_told_apart() -> None:
    """Wi-Fi for 8 s, none for 5 s, Wi-Fi again; and a start on none that waits 13 s in all."""
    track = track_of([(0, "none"), (10, "wifi"), (18, "none"), (23, "wifi")])
    two = np.array([0, 0])
    end, _, waited_s = network().download(track, two, np.array([10.0, 2.0]), 1000, np.ones(2))
    assert end.tolist() == [25.0, 25.0]
    assert waited_s.tolist() == [5.0, 13.0]


def test_a_transfer_goes_on_at_the_rate_of_the_next_network() -> None:
    """8 s of Wi-Fi carry 800 of 1200 bytes, 4G the other 400 in 8 s."""
    assert download([(0, "wifi"), (10, "4g")], 2, 1200) == (18.0, "wifi")
    assert download([(0, "4g"), (10, "wifi")], 2, 1200) == (18.0, "4g")
    assert download([(0, "wifi"), (10, "2g"), (20, "5g")], 0, 1500) == (22.0, "wifi")


def test_on_no_network_bytes_wait() -> None:
    log: Log = [(0, "wifi"), (10, "none"), (25, "wifi")]
    assert download(log, 5, 1000) == (30.0, "wifi")
    assert download(log, 12, 1000) == (35.0, "none")


def test_a_transfer_that_ends_with_its_network_needs_no_other() -> None:
    log: Log = [(0, "wifi"), (10, "none"), (60, "2g")]
    assert download(log, 2, 800) == (10.0, "wifi")
    assert download(log, 2, 801) == (60.1, "wifi")
    assert download(log, 10, 1) == (60.1, "none")


def test_an_end_that_only_rounding_moves_past_the_change_counts_as_before_it() -> None:
    """0.1 + 2.2 = 2.3000000000000003 in float64: the last byte is not kept waiting for that."""
    assert 0.1 + 2.2 > 2.3
    assert download([(0, "wifi"), (2.3, "none"), (60, "2g")], 0.1, 220)[0] == pytest.approx(2.3, abs=1e-9)
    later: Log = [(0, "4g"), (1.1, "wifi"), (3.3, "none"), (60, "2g")]
    assert 1.1 + 2.2 > 3.3
    assert download(later, 0.1, 50 + 220)[0] == pytest.approx(3.3, abs=1e-9)


def test_a_transfer_goes_on_over_the_wrap_of_its_trace() -> None:
    """Nothing is known at the trace's start: the assumed 4G from 100 to 110."""
    assert download([(10, "wifi")], 98, 200 + 500 + 300) == (113.0, "wifi")


def test_where_the_trace_does_not_know_the_assumed_type_is_used() -> None:
    assert download([(0, None), (50, "wifi")], 0, 100) == (2.0, "4g")
    assert download([(0, None), (50, "wifi")], 0, 100, assumed_type="2g") == (10.0, "2g")


def test_without_a_track_every_transfer_is_on_the_assumed_type() -> None:
    made = network(assumed_type="3g")
    end, codes, _ = made.upload(None, np.array([0, 1]), np.array([5.0, 6.0]), 100, np.array([1.0, 2.0]))
    assert end.tolist() == [15.0, 11.0]
    assert [NETWORKS[code] for code in codes] == ["3g", "3g"]


def test_the_level_multiplies_every_rate() -> None:
    assert download([(0, "wifi"), (10, "4g")], 2, 2400, level=2.0) == (18.0, "wifi")


def test_never_on_a_network_never_ends() -> None:
    track, two = track_of([(0, "none")], [(0, "wifi")]), np.array([0, 1])
    end, _, _ = network().download(track, two, np.zeros(2), 100, np.ones(2))
    assert end.tolist() == [math.inf, 1.0]
    later, codes, _ = network().upload(track, two, end, 100, np.ones(2))  # begins when the download ended
    assert later.tolist() == [math.inf, 3.0]
    assert [NETWORKS[code] for code in codes] == ["none", "wifi"]


def test_what_never_flows_waits_until_it_is_given_up() -> None:
    """Through more changes of a log than anyone would walk: 3 entries in 10 s, for 30 days."""
    track, far = track_of([(0, "none"), (3, "wifi"), (7, "none")], period_s=10.0), 30 * 86_400.0
    part = network(waits_on=["wifi"]).downloaded(track, np.array([0]), np.array([2.0]), 100, np.ones(1), until=far)
    assert (part.at.tolist(), part.n_bytes.tolist(), part.waited_s.tolist()) == ([far], [0.0], [far - 2.0])


RTT = {"wifi": 0.1, "2g": 1.0, "3g": 0.5, "4g": 0.2, "5g": 0.05}


def test_round_trips_come_before_the_first_byte() -> None:
    """Three of the network it begins on: 0.3 s on Wi-Fi; a transfer that starts anew pays no second time."""
    trips: dict[str, Any] = {"rtt_s": RTT, "n_round_trips": 3}
    assert download([(0, "wifi"), (10, "4g")], 2, 100, **trips) == (pytest.approx(3.3), "wifi")
    assert download([(0, "wifi"), (10, "4g")], 2, 770 + 100, **trips) == (pytest.approx(12.0), "wifi")
    assert download([(0, "2g"), (10, "wifi")], 8, 100, **trips) == (pytest.approx(12.0), "2g")  # still at it at 10
    made = network(assumed_type="3g", **trips)
    assert made.upload(None, np.array([0]), np.array([5.0]), 100, np.ones(1))[0].tolist() == [16.5]


def test_on_networks_that_are_not_for_use_bytes_wait() -> None:
    log: Log = [(0, "wifi"), (10, "4g"), (25, "5g"), (30, "wifi")]
    assert download(log, 5, 1000, waits_on=["4g", "5g"]) == (35.0, "wifi")
    assert download(log, 5, 1000, waits_on=["4g"]) == (27.5, "wifi")


def test_every_row_may_have_its_own_size() -> None:
    track = track_of([(0, "wifi"), (10, "4g")], [(0, "wifi"), (10, "4g")], [(0, "wifi"), (10, "4g")])
    sizes = np.array([0, 100, 1200])
    end, _, _ = network().download(track, np.arange(3), np.full(3, 2.0), sizes, np.ones(3))
    assert end.tolist() == [2.0, 3.0, 18.0]


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    logs: list[Log] = [[(0, "wifi"), (10, "4g")], [(0, "wifi"), (10, "none"), (25, "wifi")], [(0, "5g")]]
    track, start = track_of(*logs), np.array([2.0, 5.0, 7.0])
    end, _, _ = network().download(track, np.arange(3), start, 1200, np.ones(3))
    assert end.tolist() == [download(log, at, 1200)[0] for log, at in zip(logs, start.tolist(), strict=True)]
    assert end.tolist() == [18.0, 32.0, 13.0]
    assert start.tolist() == [2.0, 5.0, 7.0]


# ---------------------------------------------------------------------------------------- exact fractions


def walk(log: Log, period_s: int, start: Fraction, size: int, rates: dict[str, float]) -> tuple[Fraction, Fraction]:
    """End of a transfer and its waiting, from second-grid change to change."""
    at, left, waited = start, Fraction(size), Fraction(0)
    while True:
        position, kind, until = at % period_s, None, Fraction(period_s)
        for instant, value in log:
            if instant <= position:
                kind = value
        until = min((Fraction(instant) for instant, _ in log if instant > position), default=until)
        rate = Fraction(0) if kind == "none" else Fraction(rates[kind or "4g"])
        stay = until - position
        if rate and left <= rate * stay:
            return at + left / rate, waited
        waited += 0 if rate else stay
        left -= rate * stay
        at += stay


@st.composite
def network_logs(draw: st.DrawFn, period_s: int) -> Log:
    instants = sorted(draw(st.sets(st.integers(0, period_s - 1), min_size=1, max_size=6)))
    kinds = st.sampled_from([*NETWORKS, "none", "none", None])
    log: Log = [(float(at), draw(kinds)) for at in instants]
    if all(value == "none" for _, value in log):  # a phone that is never on a network has a test of its own
        log[-1] = (log[-1][0], draw(st.sampled_from(NETWORKS[1:])))
    return log


@given(data=st.data(), period_s=st.integers(2, 60), way=st.sampled_from(["down", "up"]))
def test_transfers_are_the_walk_from_change_to_change(data: st.DataObject, period_s: int, way: str) -> None:
    logs = data.draw(st.lists(network_logs(period_s), min_size=1, max_size=4))
    track = track_of(*logs, period_s=period_s)
    n = len(logs)
    starts = data.draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n))
    size = data.draw(st.integers(1, 3000))
    made = network()
    transfer, rates = (made.download, DOWN) if way == "down" else (made.upload, UP)
    end, _, waited_s = transfer(track, np.arange(n), np.array(starts) / 10, size, np.ones(n))
    wanted = [walk(log, period_s, Fraction(s, 10), size, rates) for log, s in zip(logs, starts, strict=True)]
    assert end.tolist() == pytest.approx([float(at) for at, _ in wanted], abs=1e-6, rel=1e-12)
    assert waited_s.tolist() == pytest.approx([float(waited) for _, waited in wanted], abs=1e-6)


# ----------------------------------------------------------------------------------------------- spreads


def test_device_level_and_session_variation_multiply() -> None:
    ids, k = np.arange(N), np.zeros(N, dtype=np.int32)
    device = np.log(network(device_sigma=0.5).level(ids, k))
    both = np.log(network(device_sigma=0.5, session_sigma=0.3).level(ids, k))
    for logs, sigma in ((device, 0.5), (both - device, 0.3), (both, math.hypot(0.5, 0.3))):
        assert np.median(logs) == pytest.approx(0, abs=4 * 1.2533 * sigma / math.sqrt(N))
        assert logs.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * N))


def test_a_device_keeps_its_level_and_varies_by_session() -> None:
    ids, zeros = np.arange(100), np.zeros(100, dtype=np.int32)
    steady, varied = network(device_sigma=0.5), network(device_sigma=0.5, session_sigma=0.3)
    assert (steady.level(ids, zeros) == steady.level(ids, zeros + 1)).all()
    assert (varied.level(ids, zeros) != varied.level(ids, zeros + 1)).all()
    assert (network().level(ids, zeros) == 1.0).all()
    assert (network(seed=2, device_sigma=0.5).level(ids, zeros) != steady.level(ids, zeros)).all()


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assumed_type": "none"}, "assumed_type is unknown: 'none' .*wifi, 2g"),
        ({"assumed_type": "lte"}, "assumed_type is unknown: 'lte'"),
        ({"device_sigma": -0.1}, "device_sigma"),
        ({"session_sigma": -0.1}, "session_sigma"),
        ({"connect_s": -1.0}, "connect_s"),
        ({"connect_s": math.nan}, "connect_s"),
        ({"n_round_trips": -1}, "n_round_trips"),
        ({"rtt_s": {"wifi": 0.1}, "n_round_trips": 1}, "rtt_s .*one rate"),
        ({"waits_on": ["lte"]}, "waits_on: .*'lte'"),
        ({"waits_on": ["none"]}, "waits_on: .*'none'"),
        ({"down_bytes_per_s": {k: v for k, v in DOWN.items() if k != "5g"}}, "down_bytes_per_s .*one rate.*'5g'"),
        ({"up_bytes_per_s": UP | {"lte": 1.0}}, "up_bytes_per_s .*one rate.*'lte'"),
        ({"up_bytes_per_s": UP | {"none": 1.0}}, "up_bytes_per_s .*one rate.*'none'"),
        ({"down_bytes_per_s": DOWN | {"2g": 0.0}}, "down_bytes_per_s must be positive.*'2g': 0.0"),
        ({"up_bytes_per_s": UP | {"3g": -5.0}}, "up_bytes_per_s must be positive.*'3g': -5.0"),
        ({"up_bytes_per_s": UP | {"3g": math.nan}}, "up_bytes_per_s must be positive.*'3g': nan"),
    ],
)
def test_bad_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network(**changes)


# ---------------------------------------------------------------------------------- phones of known speed


def test_a_phone_of_known_speed_has_it_on_wifi_and_in_proportion_elsewhere() -> None:
    """B moves 1 kB/s where the median phone moves 4; A and C are drawn."""
    three = PhoneClasses.named(["A", "B", "C"], [1.0] * 3)
    known = replace(three, bytes_per_s=np.array([np.nan, 1000.0, np.nan]))
    made = Network(**(PLAIN | {"device_sigma": 0.7}), phones=known)
    drawn = Network(**(PLAIN | {"device_sigma": 0.7}))
    ids, k = np.arange(3), np.zeros(3, dtype=np.int32)
    assert made.level(ids, k).tolist() == [drawn.level(ids, k)[0], 0.25, drawn.level(ids, k)[2]]
    plain = Network(**PLAIN, phones=known)
    end, _, _ = plain.download(None, ids, np.zeros(3), 1000, plain.level(ids, k))
    assert end.tolist() == [0.25, 1.0, 0.25]
    assert Network(**PLAIN, phones=three).level(ids, k).tolist() == [1.0] * 3


PLAIN: dict[str, Any] = {
    "seed": 3, "down_bytes_per_s": dict.fromkeys(NETWORKS[1:], 4000.0), "assumed_type": "wifi",
    "up_bytes_per_s": dict.fromkeys(NETWORKS[1:], 4000.0), "device_sigma": 0.0, "session_sigma": 0.0, "connect_s": 0.0,
}  # fmt: skip


def test_a_phone_s_own_speed_is_one_on_wifi_whatever_the_rates_of_other_networks() -> None:
    """30 bytes/s on Wi-Fi, where the median phone has 100: three tenths of every rate, down and up."""
    one = replace(PhoneClasses.named(["A"], [1.0]), bytes_per_s=np.array([30.0]))
    made, zero = network(phones=one), np.zeros(1, dtype=np.int64)
    level = made.level(zero, zero.astype(np.int32))
    assert level.tolist() == [0.3]
    for kind, down_s, up_s in (("wifi", 10.0, 20.0), ("4g", 20.0, 40.0), ("5g", 5.0, 10.0)):  # of 300 bytes
        track = track_of([(0, kind)])
        assert made.download(track, zero, np.zeros(1), 300, level)[0] == pytest.approx([down_s])
        assert made.upload(track, zero, np.zeros(1), 300, level)[0] == pytest.approx([up_s])


def test_a_symmetric_network_has_one_rate_both_ways_on_every_network() -> None:
    """300 bytes at 30 a second take 10 s down and up, on 3g as on wifi; on none they wait."""
    made = SymmetricNetwork(
        seed=1, median_bytes_per_s=30.0, device_sigma=0.0, session_sigma=0.0, connect_s=0.0, assumed_type="wifi"
    )
    track, two = track_of([(0, "3g"), (20, "none"), (50, "wifi")]), np.zeros(2, dtype=np.int64)
    level = made.level(two, two.astype(np.int32))
    start = np.array([0.0, 15.0])
    assert made.download(track, two, start, 300, level)[0].tolist() == [10.0, 55.0]
    assert made.upload(track, two, start, 300, level)[0].tolist() == [10.0, 55.0]


@pytest.mark.parametrize("changes", [{"median_bytes_per_s": 0.0}, {"device_sigma": -1.0}, {"session_sigma": math.nan}])
def test_a_bad_symmetric_network_is_refused(changes: dict[str, float]) -> None:
    values = {"median_bytes_per_s": 30.0, "device_sigma": 0.0, "session_sigma": 0.0} | changes
    with pytest.raises(InputError, match=next(iter(changes))):
        SymmetricNetwork(seed=1, connect_s=0.0, assumed_type="wifi", **values)
