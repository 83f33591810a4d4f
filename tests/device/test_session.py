"""Trips planned in one call against a phone that lives through them, and golden ones by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.passes import Passes
from fedsim.device.compute import FixedCompute
from fedsim.device.session import FAILED, INTERRUPTED, REPORTS, TIMEOUT
from fedsim.device.work import Work
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.fleet import Fleet
from fedsim.schema import NETWORKS
from fedsim.traces.criteria import Rule, compile_channel, compile_rule
from fedsim.units import DAY_S
from tests.build import booked as spent
from tests.build import planned as planned_trips
from tests.device.lived import GOLDEN, MODES, Phone, cut_of, device, fleet_of, network, planned, play, scenes, trip
from tests.hand import events_of, traces_of


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_a_planned_batch_is_every_trip_played_alone(mode: str, data: st.DataObject) -> None:
    scene = data.draw(scenes(mode))
    rows, booked = planned(scene)
    for i, row in enumerate(rows):
        whole = play(scene, i)
        ends = [row["download_end_at"], row["train_end_at"], row["upload_end_at"]]
        assert ends == pytest.approx([float(end) for end in whole.ends], abs=1e-6)
        cut, cause = cut_of(scene, i, whole)
        short = play(scene, i, cut)
        wanted = REPORTS if len(short.ends) == 3 else (INTERRUPTED, FAILED, TIMEOUT)[cause]
        if wanted == REPORTS and mode == "ignore" and not scene.phones[i].is_open(short.at):
            wanted = INTERRUPTED
        assert row["outcome"] == wanted
        end_at = short.at if wanted == REPORTS or len(short.ends) == 3 else cut
        assert row["end_at"] == pytest.approx(float(end_at), abs=1e-6)  # instants are whole microseconds
        active = [booked.download_s[i], booked.compute_s[i], booked.upload_s[i]]
        assert active == pytest.approx([float(s) for s in short.active_s], abs=2e-6)
        joules = [booked.download_j[i], booked.compute_j[i], booked.upload_j[i]]
        works = [float(s) for s in short.active_s]
        assert joules == pytest.approx([0.5 * works[0], 3.0 * works[1], 1.25 * works[2]], abs=1e-5)
        for phase, n_bytes in ((0, booked.download_bytes[i]), (2, booked.upload_bytes[i])):
            assert abs(n_bytes - short.n_bytes[phase]) <= 0.5 + 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_nothing_is_booked_twice_or_lost(mode: str, data: st.DataObject) -> None:
    scene = data.draw(scenes(mode))
    rows, booked = planned(scene)
    for n_bytes, size in (
        (booked.download_bytes, scene.work.download_bytes),
        (booked.upload_bytes, scene.work.upload_bytes),
    ):
        assert ((n_bytes >= 0) & (n_bytes <= size)).all()
    total_s = booked.download_s + booked.compute_s + booked.upload_s
    elapsed = rows["end_at"] - rows["assigned_at"]
    assert (total_s <= elapsed + 1e-6).all()
    whole = rows["outcome"] == REPORTS
    waited_s = rows["download_wait_s"] + rows["upload_wait_s"]
    if mode != "pause":
        assert (total_s + waited_s)[whole] == pytest.approx(elapsed[whole], abs=1e-6)
    assert (booked.download_bytes[whole] == scene.work.download_bytes).all()
    assert (booked.upload_bytes[whole] == scene.work.upload_bytes).all()
    assert booked.compute_s[whole] == pytest.approx(rows["train_s"][whole], abs=1e-6)


# ---------------------------------------------------------------------------------------- golden trips


@pytest.mark.parametrize(
    ("mode", "now", "train_s", "ends", "end_at", "outcome"),
    [
        # 4 s down, 5 s training, 2 s up, all on Wi-Fi in the first window.
        ("abort", 0, 5, (4, 9, 11), 11, REPORTS),
        ("pause", 0, 5, (4, 9, 11), 11, REPORTS),
        ("ignore", 0, 5, (4, 9, 11), 11, REPORTS),
        # The upload (4G, 20 bytes/s: 5 s) ends with the window, and a moment later.
        ("abort", 1, 10, (5, 15, 20), 20, REPORTS),
        ("abort", 1, 10.001, (5, 15.001, 20.001), 20, INTERRUPTED),
        ("pause", 1, 10, (5, 15, 20), 20, REPORTS),
        ("pause", 1, 11, (5, 16, 31), 31, REPORTS),
        ("ignore", 1, 11, (5, 16, 21), 21, INTERRUPTED),
        # Training over the gap: 9 s of 20 s are left at 20 s.
        ("abort", 5, 20, (9, 29, 34), 20, INTERRUPTED),
        ("pause", 5, 20, (9, 39, 46.6), 46.6, REPORTS),
        ("ignore", 5, 20, (9, 29, 34), 34, REPORTS),
        # The upload begins without a network and waits for it.
        ("abort", 30, 5, (38, 43, 47), 47, REPORTS),
    ],
)
def test_golden_trips(
    mode: str, now: float, train_s: float, ends: tuple[float, ...], end_at: float, outcome: int
) -> None:
    row, _ = trip(now=now, train_s=train_s, mode=mode)
    assert [row["download_end_at"], row["train_end_at"], row["upload_end_at"]] == pytest.approx(list(ends))
    assert (row["end_at"], row["outcome"]) == (pytest.approx(end_at), outcome)
    assert NETWORKS[row["network"]] == ("wifi" if now < 12 else "4g")


def test_connecting_comes_before_the_first_byte() -> None:
    row, booked = trip(now=0, train_s=5, network=network(connect_s=1.5))
    assert [row["download_end_at"], row["train_end_at"], row["upload_end_at"]] == [5.5, 10.5, 13.25]
    assert booked["download_s"] == 5.5  # the radio is on while it connects


def test_a_trip_that_fills_its_window_but_for_rounding_reports() -> None:
    """1.1 + 2.2 = 3.3000000000000003 in float64, which is no departure at 3.3."""
    assert 1.1 + 2.2 > 3.3
    traces = traces_of([events_of([(0, "charging", 1), (3.3, "charging", 0)])], period_s=10.0, is_local=False)
    windows = compile_rule(traces, Rule.parse("charging"), unknown="ineligible")
    availability = Availability(Fleet(traces, n_devices=1, seed=0, is_replay=True), windows)
    zero, work = np.zeros(1, dtype=np.int64), Work(download_bytes=22, upload_bytes=0, passes=Passes(1, 1))
    for timeout_s, mode in ((None, "abort"), (3.3, "pause")):
        made = device(compute=FixedCompute(train_s=2.2), interruption=mode, session_timeout_s=timeout_s)
        rows = planned_trips(
            made, availability, None, work, now=0.0, ids=zero, k=zero.astype(np.int32), n_examples=zero
        )
        assert rows["outcome"].tolist() == [REPORTS]


def test_a_session_times_out() -> None:
    assert trip(now=0, train_s=5, session_timeout_s=11.0)[0]["outcome"] == REPORTS  # 11 s in all
    row, booked = trip(now=0, train_s=5, session_timeout_s=10.0)
    assert (row["outcome"], row["end_at"]) == (TIMEOUT, 10.0)
    assert (booked["upload_s"], booked["upload_bytes"]) == (1.0, 50)
    late, _ = trip(now=5, train_s=20, mode="pause", session_timeout_s=30.0)
    assert (late["outcome"], late["end_at"]) == (TIMEOUT, 35.0)
    assert trip(now=5, train_s=20, session_timeout_s=15.0)[0]["outcome"] == INTERRUPTED  # at the same instant


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pause", "ignore"])
def test_a_phone_that_is_never_on_a_network_is_given_up_after_thirty_days(mode: str) -> None:
    offline = Phone([(0, 60)], [(0, "none")], 100, 0)
    availability, track = fleet_of([offline])
    made, zero = device(interruption=mode), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=10, upload_bytes=10, passes=Passes(1, 1))
    rows = planned_trips(made, availability, track, work, now=50.0, ids=zero, k=zero.astype(np.int32), n_examples=zero)
    assert rows["outcome"].tolist() == [TIMEOUT]
    assert rows["end_at"].tolist() == [50.0 + 30 * DAY_S]
    assert np.isinf([rows[f"{phase}_end_at"][0] for phase in ("download", "train", "upload")]).all()
    booked = spent(rows, work, made, availability, track)
    assert (booked.download_bytes[0], booked.upload_bytes[0], booked.compute_s[0]) == (0, 0, 0.0)


# ------------------------------------------------------------------------------------------------- spent


@pytest.mark.parametrize(
    ("now", "train_s", "mode", "timeout_s", "wanted"),
    [
        # seconds down, training, up; bytes down, up
        (0, 5, "abort", None, (4, 5, 2, 400, 100)),
        (0, 5, "abort", 1.0, (1, 0, 0, 100, 0)),
        (0, 5, "abort", 4.0, (4, 0, 0, 400, 0)),
        (0, 5, "abort", 6.5, (4, 2.5, 0, 400, 0)),
        (0, 5, "abort", 10.5, (4, 5, 1.5, 400, 75)),
        (1, 13, "abort", None, (4, 13, 2, 400, 40)),  # 18–20 s of an upload that takes 18–23 s
        (18, 5, "pause", None, (8, 5, 2, 400, 100)),  # down 18–20, 30–36; training to 41; Wi-Fi awaited, up 45–47
        (18, 5, "pause", 14.0, (4, 0, 0, 200, 0)),  # 2 s before the gap and 2 s after it, of 8 s
        (5, 20, "pause", 26.0, (4, 12, 0, 400, 0)),  # 9–20 and 30–31
        (5, 20, "ignore", 20.0, (4, 16, 0, 400, 0)),  # work goes on while the device is away
    ],
)
def test_cut_phases_are_booked_in_part(
    now: float, train_s: float, mode: str, timeout_s: float | None, wanted: tuple[float, ...]
) -> None:
    _, booked = trip(now=now, train_s=train_s, mode=mode, session_timeout_s=timeout_s)
    names = ("download_s", "compute_s", "upload_s", "download_bytes", "upload_bytes")
    assert [booked[name] for name in names] == pytest.approx(list(wanted), abs=1e-6)
    assert booked["compute_j"] == pytest.approx(3.0 * wanted[1])
    assert booked["download_j"] == pytest.approx(0.5 * wanted[0])
    assert booked["upload_j"] == pytest.approx(1.25 * wanted[2])


def test_a_gap_without_a_network_counts_once_in_a_paused_transfer() -> None:
    """1,000 bytes at 100 a second, eligible and online up to 4 s, away and offline for an hour: done at 3,610 s."""
    phone = Phone([(0, 4), (3604, 9000)], [(0, "wifi"), (4, "none"), (3604, "wifi")], 10_000, 0)
    availability, track = fleet_of([phone])
    made, zero = device(interruption="pause"), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=1000, upload_bytes=0, passes=Passes(1, 1))
    rows = planned_trips(made, availability, track, work, now=0.0, ids=zero, k=zero.astype(np.int32), n_examples=zero)
    assert rows["download_end_at"].tolist() == [3610.0]
    assert rows["download_wait_s"].tolist() == [3600.0]


def test_waits_and_instants_are_exact_to_the_microsecond() -> None:
    """Offline from 4 s to 6,004.123 s of a transfer of 10 s: 0.000001 s would be lost in 32 bits."""
    phone_log = [(0, "network", "wifi"), (4, "network", "none"), (6004.123, "network", "wifi"), (0, "charging", 1)]
    traces = traces_of([events_of(sorted(phone_log))], period_s=20_000.0, is_local=False)
    fleet = Fleet(traces, n_devices=1, seed=0, is_replay=True)
    availability = Availability(fleet, compile_rule(traces, Rule.parse("charging"), unknown="ineligible"))
    track, zero = Track(fleet, compile_channel(traces, "network")), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=1000, upload_bytes=0, passes=Passes(1, 1))
    rows = planned_trips(
        device(), availability, track, work, now=0.0, ids=zero, k=zero.astype(np.int32), n_examples=zero
    )
    assert rows["download_wait_s"].tolist() == pytest.approx([6000.123], abs=1e-9)
    assert rows["download_end_at"].tolist() == [6010.123]


def test_the_network_of_a_session_is_that_of_its_assignment() -> None:
    """On Wi-Fi at 11 s, on 4G from 12 s on: it connects until 13 s, and downloads over 4G."""
    row, _ = trip(now=11, train_s=1, down=50, network=network(connect_s=2.0))
    assert NETWORKS[row["network"]] == "wifi"
    assert row["download_end_at"] == 14.0  # 50 bytes at 50 a second


@pytest.mark.parametrize(
    ("timeout_s", "n_bytes"),
    [(1.5, 0), (3.0, 100), (13.0, 1050)],  # connecting; 1 s of Wi-Fi; 10 s of it and 1 s of 4G
)
def test_bytes_of_a_cut_transfer_are_those_that_had_flowed(timeout_s: float, n_bytes: int) -> None:
    """Connecting takes until 2 s and moves nothing; 100 bytes a second on Wi-Fi, 50 on 4G from 12 s on."""
    _, booked = trip(now=0, train_s=1, down=2000, network=network(connect_s=2.0), session_timeout_s=timeout_s)
    assert booked["download_bytes"] == n_bytes
    assert booked["download_s"] == timeout_s  # the radio works while it connects


def test_a_session_that_is_told_before_its_upload_sends_nothing() -> None:
    """The server ends a row at its training's end (ABORTED): whole download and training, no upload."""
    availability, track = fleet_of([GOLDEN])
    made, zero = device(), np.zeros(1, dtype=np.int64)
    work = Work(download_bytes=400, upload_bytes=100, passes=Passes(1, 1))
    rows = planned_trips(made, availability, track, work, now=0.0, ids=zero, k=zero.astype(np.int32), n_examples=zero)
    rows["end_at"] = rows["train_end_at"]
    booked = spent(rows, work, made, availability, track)
    assert (booked.download_bytes[0], booked.compute_s[0], booked.upload_bytes[0]) == (400, 5.0, 0)
    assert booked.upload_s[0] == 0.0
