"""What phone a device is, and which phones may take part."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.errors import InputError
from fedsim.fleet.admission import Requirement, Rollout
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.hardware import Hardware
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import Events, TraceSet
from fedsim.traces.criteria import Rule
from fedsim.units import DAY_S

N = 60_000
IDS = np.arange(N)


def table(**columns: list[Any]) -> pa.Table:
    n = len(columns["weight"])
    known: dict[str, list[Any]] = {"inference_ms_per_sample": [1.0] * n} | columns
    return pa.table({c.name: pa.array(known.get(c.name, [None] * n), c.type) for c in HARDWARE.columns})


def fleet(*models: str | None) -> Fleet:
    logs = [Events.of([(0, "charging", 1)])] * len(models)
    return Fleet(TraceSet.of(logs, period_s=DAY_S, facts={"model": models}), n_devices=N, seed=3)


PHONES = table(
    model=["A", "B", "C", "A"],
    weight=[1.0, 2.0, 4.0, 1.0],
    inference_ms_per_sample=[10.0, 20.0, 30.0, 40.0],
    ram_gb=[1.0, 2.0, None, 8.0],
)


def near(share: float) -> Any:
    return pytest.approx(share, abs=4.5 * math.sqrt(max(share * (1 - share), 1e-12) / N) + 1e-9)


def test_a_device_takes_the_row_of_its_trace_s_model() -> None:
    """Of several rows with one name the first; where the table does not know the model one drawn by weight."""
    made = fleet("C", "A", "X", None)
    hardware = Hardware(made, PHONES, match="trace_model")
    rows, traces = hardware.row_of(IDS), made.trace_of(IDS)
    assert set(rows[traces == 0]) == {2}
    assert set(rows[traces == 1]) == {0}
    drawn = rows[traces >= 2]
    assert (np.bincount(drawn) / len(drawn)).tolist() == pytest.approx([1 / 8, 2 / 8, 4 / 8, 1 / 8], abs=0.012)
    assert (rows == Hardware(made, PHONES).row_of(IDS))[traces >= 2].all()  # the same draw as without the join


@pytest.mark.parametrize("match", ["share", "trace_model"])
def test_shares_of_rows_are_what_is_drawn(match: Any) -> None:
    hardware = Hardware(fleet("C", "A", "X", None), PHONES, match=match)
    shares = hardware.share_of_rows()
    assert shares.sum() == pytest.approx(1.0)
    counts = np.bincount(hardware.row_of(IDS), minlength=4) / N
    assert [near(share) for share in shares] == counts.tolist()


def test_requirements_are_about_the_phone() -> None:
    """A fact that is not known does not meet a requirement."""
    hardware = Hardware(fleet(None), PHONES)
    for text, rows in [
        ("ram_gb >= 2", [1, 3]),
        ("model == A", [0, 3]),
        ("ram_gb < 4 & model != B", [0]),
        ("true", [0, 1, 2, 3]),
    ]:
        gate = Requirement(hardware, Rule.parse(text))
        assert gate.admits(IDS, IDS, 0.0).tolist() == np.isin(hardware.row_of(IDS), rows).tolist()
        assert gate.share(0.0) == pytest.approx(sum([1, 2, 4, 1][row] for row in rows) / 8)
    with pytest.raises(InputError, match="leaves no phone"):
        Requirement(hardware, Rule.parse("ram_gb > 100"))
    with pytest.raises(InputError, match="about the phone"):
        Requirement(hardware, Rule.parse("charging & ram_gb > 1"))


@pytest.mark.parametrize("days", [0.0, 4.0])
def test_a_rollout_reaches_its_share_and_takes_nothing_back(days: float) -> None:
    rollout = Rollout(seed=1, start_share=0.1, end_share=0.7, days=days)
    had = np.zeros(N, dtype=bool)
    for day in range(7):
        share = 0.7 if days == 0 else min(0.7, 0.1 + 0.15 * day)
        assert rollout.share(day * DAY_S) == pytest.approx(share)
        has = rollout.admits(IDS, IDS, day * DAY_S)
        assert has.mean() == near(share)
        assert (has >= had).all()
        had = has


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"weight": []}, "no row has a weight"),
        ({"weight": [0.0, 0.0]}, "no row has a weight"),
        ({"weight": [1.0, math.nan]}, "weight .*row 1"),
        ({"weight": [1.0, 1.0], "inference_ms_per_sample": [1.0, -2.0]}, "inference_ms_per_sample .*row 1: -2.0"),
    ],
)
def test_a_bad_table_is_refused(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Hardware(fleet(None), table(**columns))


@pytest.mark.parametrize(
    "changes",
    [
        {"start_share": -0.1},
        {"end_share": 1.1},
        {"start_share": 0.8},
        {"days": -1.0},
        {"days": math.nan},
        {"end_share": math.nan},
    ],
)
def test_a_bad_rollout_is_refused(changes: dict[str, float]) -> None:
    arguments: dict[str, Any] = {"seed": 1, "start_share": 0.1, "end_share": 0.7, "days": 4.0}
    with pytest.raises(InputError, match=r"fleet\.rollout"):
        Rollout(**(arguments | changes))


def test_an_unknown_match_is_refused() -> None:
    with pytest.raises(InputError, match="match is unknown: 'name'"):
        Hardware(fleet(None), PHONES, match="name")  # type: ignore[arg-type]
