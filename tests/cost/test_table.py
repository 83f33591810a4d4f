"""Costs per device class: sums that add up, limits at their edges, unknown figures that stay unknown."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.cost.phones import PhoneClasses
from fedsim.cost.summary import summarise
from fedsim.cost.table import DEVICE_COSTS, Limits, TaskWork, device_costs
from fedsim.device.compute import PhoneCompute
from fedsim.device.energy import Energy
from fedsim.device.session import Device
from fedsim.errors import InputError
from fedsim.schema import HARDWARE
from fedsim.units import FloatArray, IntArray
from tests.build import network, rates
from tests.device.task_works import N_EXAMPLES, phones, task

LINK: dict[str, Any] = {"down": 10_000.0, "up": 2_000.0, "connect_s": 0.5}
POWERS: dict[str, Any] = {"compute_w": 3.0, "receive_w": 1.0, "send_w": 2.0}
GENEROUS = {"max_ram_fraction": 10.0, "max_session_s": 1e9, "max_battery_percent": 1e9}


class Says(PhoneCompute):
    """A law that says what it was told."""

    def __init__(self, phones: PhoneClasses, seconds: tuple[float, ...], sigma: float) -> None:
        super().__init__(seed=0, phones=phones, session_sigma=sigma)
        self.seconds = np.array(seconds)

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        assert set(n_samples.tolist()) <= {2 * N_EXAMPLES} and set(n_steps.tolist()) <= {6}  # those of `task()`
        return self.seconds[self.phones.row_of(ids)]


def phone(of: PhoneClasses, *seconds: float, link: Any = None, sigma: float = 0.0, **changed: Any) -> Device:
    parts: dict[str, Any] = {
        "compute": Says(of, seconds, sigma),
        "network": network(**(LINK | (link or {})), phones=of),
        "energy": Energy(**POWERS, phones=of),
    }
    plain: dict[str, Any] = {"interruption": "abort", "crash_fraction": 0.0, "session_timeout_s": None}
    return Device(seed=0, **parts, **(plain | changed))


def both(
    *seconds: float, work: TaskWork | None = None, of: PhoneClasses | None = None, limits: Any = None, **changed: Any
) -> tuple[pa.Table, pa.Table]:
    classes = of or phones()
    return device_costs(
        work or task(),
        classes,
        device=phone(classes, *seconds, **changed),
        n_examples=np.full(classes.n_devices, N_EXAMPLES),
        capacity_wh=10.0,
        limits=Limits(**{**GENEROUS, **(limits or {})}),
    )


def costs(*seconds: float, **changed: Any) -> list[dict[str, Any]]:
    table, _ = both(*seconds, **changed)
    assert table.column_names == [column.name for column in DEVICE_COSTS.columns]
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_a_row_by_hand() -> None:
    row = costs(20.0, 30.0, 40.0)[0]
    assert row["model"] == "A"
    assert (row["epoch_s"], row["train_s"]) == (10.0, 20.0)
    assert (row["download_s"], row["upload_s"]) == (0.5 + 1.0 + 2.0, 2.0)
    assert row["session_s"] == 0.5 + 1.0 + 2.0 + 20.0 + 2.0
    assert row["epoch_flops"] == 2.5e6 * 25
    assert (row["compute_j"], row["radio_j"]) == (60.0, 3.5 * 1.0 + 2.0 * 2.0)
    assert row["battery_percent"] == pytest.approx(100 * 67.5 / 36_000)
    assert row["ram_fraction"] == pytest.approx(0.1)
    assert (row["download_bytes"], row["upload_bytes"]) == (10_000 + 20_000, 4_000)
    assert (row["storage_bytes"], row["memory_bytes"]) == (50_000 + 4 * 25, 100_000_000)
    assert (row["is_feasible"], row["feasible_fraction"], row["exceeds"]) == ("yes", 1.0, "")


def test_a_class_may_have_its_own_network_and_power() -> None:
    own = phones(bytes_per_s=[np.nan, 1000.0, np.nan], compute_w=[np.nan, 5.0, np.nan])
    rows = costs(10.0, 10.0, 10.0, of=own)
    assert [row["model"] for row in rows] == ["A", "C", "B"]  # B's slow network makes it last
    # a tenth of the median rate down, and so up
    assert (rows[2]["download_s"], rows[2]["upload_s"], rows[2]["compute_j"]) == (30.5, 20.0, 50.0)
    assert (rows[0]["download_s"], rows[0]["compute_j"]) == (3.5, 30.0)


def test_round_trips_before_each_transfer() -> None:
    twice = {"rtt_s": rates(0.125), "n_round_trips": 2}
    none, some = costs(20.0, 30.0, 40.0)[0], costs(20.0, 30.0, 40.0, link=twice)[0]
    assert some["session_s"] == none["session_s"] + 2 * 0.25
    assert some["radio_j"] == none["radio_j"] + 0.25 * 1.0 + 0.25 * 2.0


def test_a_warm_phone_slows_down_and_a_runtime_has_to_start() -> None:
    rows = costs(10.0, 30.0, 40.0, thermal_after_s=20.0, thermal_slowdown=1.5, setup_s=2.0, time_factor=1.0)
    assert [row["train_s"] for row in rows] == [12.0, 37.0, 52.0]
    assert [row["train_s"] for row in costs(10.0, 30.0, 40.0, time_factor=1.5)] == [15.0, 45.0, 60.0]


def test_sessions_vary_as_those_of_a_run_do() -> None:
    """A thousand sessions of each class: link and compute spread around the medians of the class."""
    crowd, link = replace(phones(), n_each=1000), {"device_sigma": 1.2, "session_sigma": 0.35}
    table, sessions = both(20.0, 30.0, 40.0, of=crowd, link=link, sigma=0.2)
    assert (table.num_rows, sessions.num_rows) == (3, 3000)
    assert sum(sessions.column("share").to_pylist()) == pytest.approx(1.0)
    down_s, train_s = (sessions.column(name).to_numpy() for name in ("download_s", "train_s"))
    assert np.std(np.log(down_s - 0.5)) == pytest.approx(np.hypot(1.2, 0.35), rel=0.05)
    assert np.std(np.log(train_s[:1000])) == pytest.approx(0.2, rel=0.07)
    assert table.column("train_s")[0].as_py() == pytest.approx(20.0, rel=0.03)


def test_limits_at_their_edges() -> None:
    at = costs(20.0, 20.0, 20.0, limits={"max_session_s": 25.5, "max_ram_fraction": 0.1})
    assert [row["is_feasible"] for row in at] == ["yes", "yes", "yes"]  # a limit may be reached
    beyond = costs(20.0, 20.1, 20.0, limits={"max_session_s": 25.5, "max_ram_fraction": 0.05})
    assert {row["model"]: row["exceeds"] for row in beyond} == {"A": "ram", "B": "time", "C": ""}
    all_three = costs(9.0, 9.0, 9.0, limits=dict.fromkeys(GENEROUS, 1e-6))
    assert {row["exceeds"] for row in all_three} == {"ram time battery"}


def test_what_is_unknown_is_neither_allowed_nor_refused() -> None:
    rows = costs(np.nan, 5.0, 5.0, of=phones(ram_gb=[1.0, np.nan, 4.0]), limits={"max_ram_fraction": 0.05})
    found = {row["model"]: row for row in rows}
    assert rows[-1]["model"] == "A"  # unknown times stand last
    assert (found["A"]["session_s"], found["A"]["battery_percent"]) == (None, None)
    assert (found["A"]["is_feasible"], found["A"]["exceeds"]) == ("no", "ram")
    assert (found["B"]["is_feasible"], found["B"]["ram_fraction"]) == ("unknown", None)
    assert found["C"]["is_feasible"] == "yes"


@given(
    st.lists(st.floats(0.01, 1e5), min_size=3, max_size=3),
    st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
)
def test_phases_and_energies_add_up(seconds: list[float], sizes: tuple[int, int]) -> None:
    down, up = sizes
    for row in costs(*seconds, work=task(download_bytes=down, upload_bytes=up)):
        assert row["session_s"] == pytest.approx(row["train_s"] + row["download_s"] + row["upload_s"])
        assert row["battery_percent"] == pytest.approx(100 * (row["compute_j"] + row["radio_j"]) / 36_000)
        assert row["epoch_s"] * 2 == pytest.approx(row["train_s"])


def test_phones_of_a_hardware_table_leave_out_what_nobody_has() -> None:
    rows = [
        {"model": "X", "weight": 3.0, "inference_ms_per_sample": 5.0, "ram_gb": 2.0},
        {"model": "Y", "weight": 0.0, "inference_ms_per_sample": 5.0},
        {"model": None, "weight": 1.0, "inference_ms_per_sample": 7.0, "latency_source": "drawn", "compute_w": 2.0},
    ]
    found = PhoneClasses.of(pa.Table.from_pylist(rows, HARDWARE.arrow()), where="test")
    assert found.models == ["X", None]
    assert found.share.tolist() == [0.75, 0.25]
    assert np.isnan(found.ram_gb).tolist() == [False, True]
    assert (found.latency_source[1], found.compute_w[1]) == ("drawn", 2.0)
    with pytest.raises(InputError, match="no device class has a weight"):
        PhoneClasses.of(pa.Table.from_pylist(rows[1:2], HARDWARE.arrow()), where="test")


def test_classes_of_a_lognormal_latency_have_its_quantiles() -> None:
    found = PhoneClasses.lognormal(median_ms=63.0, sigma=0.7, n=101)
    assert found.latency_ms[50] == pytest.approx(63.0)
    assert np.std(np.log(found.latency_ms)) == pytest.approx(0.7, rel=0.02)
    assert found.share.sum() == pytest.approx(1.0)
    assert len(set(found.models)) == 101


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Limits(**{**GENEROUS, "max_session_s": 0}), r"cost.limits.max_session_s: 0"),
        (lambda: Limits(**{**GENEROUS, "max_ram_fraction": float("nan")}), r"cost.limits.max_ram_fraction"),
        (lambda: PhoneClasses.lognormal(median_ms=1.0, sigma=1.0, n=0), r"cost.n_classes: 0"),
    ],
)
def test_a_wrong_number_is_refused_by_name(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def summary(*seconds: float, **limits: float) -> dict[str, Any]:
    return summarise(*both(*seconds, limits=limits))


def test_a_summary_weighs_phones_by_their_share() -> None:
    told = summary(50.0, 5.0, np.nan, max_session_s=40.0, max_ram_fraction=0.04)
    assert told["feasible"] == {"yes": 0.0, "no": 0.8, "unknown": 0.2}
    assert told["exceeds"] == {"ram": 0.8, "time": 0.5, "battery": 0.0}
    assert told["known"]["session_s"] == 0.8
    assert told["quantiles"]["epoch_s"] == {"p5": 2.5, "p25": 2.5, "p50": 25.0, "p75": 25.0, "p95": 25.0}
    assert [row["model"] for row in told["named"]] == ["B", "A"]
    unknown = summary(np.nan, np.nan, np.nan)
    assert unknown["quantiles"]["session_s"] is None
    assert len(unknown["named"]) == 3


def test_a_summary_names_few_phones_however_many_there_are() -> None:
    many = PhoneClasses.lognormal(median_ms=60.0, sigma=0.7, n=2000)
    share = many.share.copy()
    share[1234] *= 20
    crowd = PhoneClasses(**{**vars(many), "share": share / share.sum()})
    named = summarise(*both(*many.latency_ms, of=crowd))["named"]
    assert len(named) <= 12
    assert many.models[1234] in {row["model"] for row in named}
    assert named == sorted(named, key=lambda row: row["session_s"])
