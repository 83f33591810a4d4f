"""What phone a device is, and which phones may take part."""

import numpy as np
import pyarrow as pa
import pytest

from fedsim.errors import InputError
from fedsim.fleet.admission import Gate, Requirement, Rollout
from fedsim.fleet.availability import Availability
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.schema import HARDWARE
from fedsim.traces.criteria import compile_rule
from fedsim.traces.rule import Rule
from fedsim.units import DAY_S
from tests.hand import events_of, traces_of

IDS = np.arange(20_000)
ROWS = [
    {"model": "old", "weight": 3.0, "inference_ms_per_sample": 200.0, "ram_gb": 1.0, "os_version": 8.0},
    {"model": "mid", "weight": 6.0, "inference_ms_per_sample": 80.0, "ram_gb": 4.0, "os_version": 11.0},
    {"model": "new", "weight": 1.0, "inference_ms_per_sample": 20.0, "ram_gb": None, "os_version": 14.0},
]


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS, HARDWARE.arrow())


def fleet(models: list[str | None], n_devices: int = 1_000_000) -> Fleet:
    logs = [events_of([(0, "charging", 1)])] * len(models)
    return Fleet(traces_of(logs, period_s=DAY_S, facts={"model": models}), n_devices=n_devices, seed=5)


def test_rows_are_drawn_by_share() -> None:
    hardware = Hardware(fleet([None]), table())
    share = np.bincount(hardware.row_of(IDS), minlength=3) / len(IDS)
    assert share == pytest.approx([0.3, 0.6, 0.1], abs=0.015)
    assert hardware.share_of_rows() == pytest.approx([0.3, 0.6, 0.1])


def test_a_trace_that_names_its_model_takes_that_row() -> None:
    """Three of four traces are 'new', the other names a model that the table does not have."""
    whole = fleet(["new", "unheard of", "new", "new"])
    hardware = Hardware(whole, table(), match="trace_model")
    rows, trace = hardware.row_of(IDS), whole.trace_of(IDS)
    assert set(rows[trace != 1]) == {2}
    assert set(rows[trace == 1]) == {0, 1, 2}
    assert hardware.share_of_rows() == pytest.approx([0.075, 0.15, 0.775])


def test_a_requirement_asks_the_phone_and_unknown_is_no() -> None:
    hardware = Hardware(fleet([None]), table())
    gate = Requirement(hardware, Rule.parse("ram_gb >= 2"))
    admitted = gate.admits(IDS, IDS, 0.0)
    assert (admitted == (hardware.row_of(IDS) == 1)).all()  # 'new' does not tell its memory
    assert gate.share(0.0) == pytest.approx(0.6)


def test_a_phone_without_speed_is_refused() -> None:
    rows = pa.Table.from_pylist([ROWS[0] | {"bytes_per_s": 1e6}, ROWS[1] | {"bytes_per_s": 0.0}], HARDWARE.arrow())
    with pytest.raises(InputError, match="bytes_per_s must be positive at row 1"):
        Hardware(fleet([None]), rows)


@pytest.mark.parametrize("rule", ["charging", "ram_gb >= 64"])
def test_a_requirement_that_makes_no_sense_is_refused(rule: str) -> None:
    with pytest.raises(InputError, match=rule.split()[0]):
        Requirement(Hardware(fleet([None]), table()), Rule.parse(rule))


def test_a_rollout_grows_and_keeps_whom_it_has() -> None:
    gate = Rollout(seed=1, start_share=0.1, end_share=0.7, days=8)
    shares = [gate.share(day * DAY_S) for day in (0, 2, 8, 100)]
    assert shares == pytest.approx([0.1, 0.25, 0.7, 0.7])
    early, late = (gate.admits(IDS, IDS, day * DAY_S) for day in (1, 5))
    assert not (early & ~late).any()
    assert late.mean() == pytest.approx(0.475, abs=0.015)


@pytest.mark.parametrize(("start", "end", "days"), [(0.5, 0.4, 1), (-0.1, 0.4, 1), (0.1, 1.1, 1), (0.1, 0.2, -1)])
def test_a_bad_rollout_is_refused(start: float, end: float, days: float) -> None:
    with pytest.raises(InputError, match="rollout"):
        Rollout(seed=1, start_share=start, end_share=end, days=days)


def test_traces_are_drawn_by_weight() -> None:
    logs = [events_of([(0, "charging", 1)])] * 3
    traces = traces_of(logs, period_s=DAY_S)
    mixed = Fleet(traces, n_devices=10**6, seed=5, trace_weight=np.array([6.0, 0.0, 2.0]))
    share = np.bincount(mixed.trace_of(IDS), minlength=3) / len(IDS)
    assert share == pytest.approx([0.75, 0.0, 0.25], abs=0.015)
    assert mixed.cell_weights() == pytest.approx([0.75, 0.0, 0.25])


def test_jitter_spreads_the_same_trace_over_its_width() -> None:
    traces = traces_of([events_of([(0, "charging", 1)])], period_s=DAY_S)
    spread = Fleet(traces, n_devices=10**6, seed=5, jitter_s=1600.0)
    phase_s = spread.cell_phase_us[spread.cell_of(IDS)] / 1e6
    assert sorted(set(phase_s)) == [-750.0 + 100 * i for i in range(16)]
    assert phase_s.mean() == pytest.approx(0.0, abs=12)


def test_the_admitted_share_is_that_of_the_devices_that_are_let_in() -> None:
    """Phones of the first trace are there and new, those of the second are there and drawn, the third is away."""
    logs = [events_of([(0, "charging", on)]) for on in (1, 1, 0)]
    traces = traces_of(logs, period_s=DAY_S, facts={"model": ["mid", None, "mid"]})
    whole = Fleet(traces, n_devices=1_000_000, seed=5)
    availability = Availability(whole, compile_rule(traces, Rule.parse("charging"), unknown="ineligible"))
    gates: list[Gate] = [
        Requirement(Hardware(whole, table(), match="trace_model"), Rule.parse("ram_gb >= 2")),
        Rollout(seed=1, start_share=0.2, end_share=0.2, days=1),
    ]
    cells = whole.cell_of(IDS)
    is_in = availability.at(IDS, 0.0)[0]
    for gate in gates:
        is_in = is_in & gate.admits(IDS, cells, 0.0)
    (share,) = availability.admitted_fraction(np.zeros(1), gates)
    assert share == pytest.approx((1 / 3 + 1 / 3 * 0.6) * 0.2)
    assert share == pytest.approx(is_in.mean(), abs=0.01)
    assert availability.admitted_fraction(np.zeros(1), [])[0] == availability.eligible_fraction(0.0)


def test_the_first_row_is_joined_like_any_other() -> None:
    """Of three traces one is 'old', which is the table's row 0; the others are drawn: 3, 6 and 1 of ten."""
    whole = fleet(["old", None, "unheard of"])
    hardware = Hardware(whole, table(), match="trace_model")
    rows, trace = hardware.row_of(IDS), whole.trace_of(IDS)
    assert set(rows[trace == 0]) == {0}
    assert set(rows[trace == 1]) == set(rows[trace == 2]) == {0, 1, 2}
    assert hardware.share_of_rows() == pytest.approx([1 / 3 + 0.2, 0.4, 0.2 / 3])
    is_old = np.array([True, False, False])
    assert hardware.share_by_trace(is_old) == pytest.approx([1.0, 0.3, 0.3])


def test_of_a_model_that_the_table_has_twice_the_first_row_counts() -> None:
    """'old' stands in the rows 0 and 3, of 200 and 130 ms; a trace that names it is the former."""
    twice = pa.Table.from_pylist([*ROWS, ROWS[0] | {"inference_ms_per_sample": 130.0}], HARDWARE.arrow())
    whole = fleet(["old", "new", "new"])
    hardware = Hardware(whole, twice, match="trace_model")
    trace = whole.trace_of(IDS)
    assert set(hardware.inference_ms(IDS[trace == 0])) == {200.0}
    assert set(hardware.inference_ms(IDS[trace != 0])) == {20.0}
    assert hardware.share_of_rows() == pytest.approx([1 / 3, 0.0, 2 / 3, 0.0])


def test_by_row_device_i_has_the_phone_of_row_i_and_begins_again_after_the_last() -> None:
    """Weights do not count then."""
    fleet = Fleet(traces_of([events_of([(0, "charging", 1)])], period_s=DAY_S), n_devices=100, seed=5)
    hardware = Hardware(fleet, table(), match="row")
    n_rows = table().num_rows
    assert hardware.row_of(np.array([0, 1, n_rows, 2 * n_rows + 1])).tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(hardware.share_of_rows(), 1 / n_rows)
