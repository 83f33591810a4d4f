"""Resampling and merging: whole devices, with all that is known about them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.errors import InputError
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import Rule, compile_rule
from fedsim.traces.edit.merge import merge
from fedsim.traces.edit.resample import resample
from fedsim.traces.folder import load_traces, save_traces
from fedsim.traces.statistics.stats import share_by_hour
from fedsim.traces.validation import validate
from tests.hand import events_of, traces_of

DAY_S, DAY_MS = 86_400, 86_400_000


def phones() -> TraceSet:
    traces = traces_of(
        [
            events_of([(0, "charging", 1), (5, "network", "wifi"), (9, "network", None)]),
            events_of([]),
            events_of([(7, "charging", 0), (DAY_S, "charging", 1)]),
        ],
        period_s=[DAY_S, 2 * DAY_S, DAY_S],
        start_s=[10, 20, 30],
        facts={"model": ["A", None, "C"], "ram_gb": [1, 2, None]},
    )
    return replace(traces, provenance={"source": "phones", "licence": "CC0", "transforms": ["made up"]})


def clients() -> TraceSet:
    traces = traces_of([events_of([(1, "available", 1)])] * 2, period_s=1000, is_local=False)
    said = {"source": "clients", "licence": "MIT", "files": [{"name": "x", "sha256": "0"}]}
    return replace(traces, provenance=said, hardware=hardware([1.0, 3.0]))


def hardware(weights: list[float]) -> pa.Table:
    n = len(weights)
    columns = {"model": [None] * n, "weight": weights, "inference_ms_per_sample": [10.0] * n}
    return HARDWARE.check(pa.table(columns | {"bytes_per_s": [None] * n, "ram_gb": [None] * n}), where="test")


def log_of(traces: TraceSet, row: int) -> list[tuple[Any, ...]]:
    mine = slice(traces.offsets[row], traces.offsets[row + 1])
    columns = (traces.events.at_ms, traces.events.channel, np.nan_to_num(traces.events.value, nan=-1))
    return list(zip(*(column[mine].tolist() for column in columns), strict=True))


# ------------------------------------------------------------------------------------------------- resample


def test_whole_devices_are_drawn_with_all_that_is_known_of_them() -> None:
    source = phones()
    drawn = resample(source, n_devices=50, seed=1)
    validate(drawn, where="drawn")
    assert drawn.n == 50
    assert set(drawn.device_id) == {"0", "1", "2"}
    for row, name in enumerate(drawn.device_id):
        origin = int(name)
        assert log_of(drawn, row) == log_of(source, origin)
        assert drawn.start_ms[row] == source.start_ms[origin]
        assert drawn.period_ms[row] == source.period_ms[origin]
        assert drawn.facts["model"][row] == source.facts["model"][origin]
        np.testing.assert_equal(drawn.facts["ram_gb"][row], source.facts["ram_gb"][origin])
    assert drawn.provenance["source"] == "phones"
    assert drawn.provenance["transforms"] == [
        "made up",
        "resampled: 50 whole devices drawn of 3 with replacement, seed 1",
    ]
    assert source.provenance["transforms"] == ["made up"]


def test_a_draw_depends_on_the_seed_and_the_device_alone() -> None:
    source = phones()
    few, many = resample(source, n_devices=10, seed=1), resample(source, n_devices=200, seed=1)
    assert few.device_id.tolist() == many.device_id[:10].tolist()
    assert resample(source, n_devices=10, seed=2).device_id.tolist() != few.device_id.tolist()
    counts = np.unique(resample(source, n_devices=3000, seed=3).device_id, return_counts=True)[1]
    assert (abs(counts - 1000) < 130).all()  # five standard deviations


def test_two_draws_are_equal_byte_by_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_traces(resample(phones(), n_devices=7, seed=5), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_at_least_one_device_is_drawn() -> None:
    with pytest.raises(InputError, match="number of devices must be positive: 0"):
        resample(phones(), n_devices=0, seed=1)


# ---------------------------------------------------------------------------------------------------- merge


def test_sets_follow_each_other_and_keep_their_clocks_facts_and_sources(tmp_path: Path) -> None:
    save_traces(merge([phones(), clients(), phones()]), tmp_path / "set")
    merged = load_traces(tmp_path / "set")
    assert merged.n == 8
    parts = [(phones(), 0), (clients(), 3), (phones(), 5)]
    for part, first in parts:
        for row in range(part.n):
            assert log_of(merged, first + row) == log_of(part, row)
    assert merged.is_local.tolist() == [True] * 3 + [False] * 2 + [True] * 3
    assert merged.device_id.tolist() == ["0", "1", "2", "0", "1", "0", "1", "2"]
    assert merged.facts["model"].tolist() == ["A", None, "C", None, None, "A", None, "C"]
    np.testing.assert_array_equal(merged.facts["ram_gb"], np.float32([1, 2, *[np.nan] * 3, 1, 2, np.nan]))
    said = merged.provenance
    assert said["source"] == "phones; clients"
    assert said["licence"] == "CC0; MIT"
    assert said["files"] == [{"name": "x", "sha256": "0"}]
    assert said["transforms"] == ["merged 3 sets of 3, 2, 3 devices"]
    assert [(one["first_device"], one["n_devices"]) for one in said["sources"]] == [(0, 3), (3, 2), (5, 3)]
    assert [one["provenance"] for one in said["sources"]] == [part.provenance for part, _ in parts]


def dated(day: str | None) -> TraceSet:
    said: dict[str, Any] = {"source": "x"} if day is None else {"source": "x", "first_midnight": day}
    return replace(phones(), provenance=said)


def test_dates_are_kept_if_all_local_clocks_have_one() -> None:
    merged = merge([dated("2020-01-24"), clients(), dated("2020-01-22")])
    assert merged.provenance["first_midnight"] == "2020-01-22"
    assert (merged.start_ms - np.concatenate([phones().start_ms, [0, 0], phones().start_ms])).tolist() == [
        *[2 * DAY_MS] * 3, 0, 0, 0, 0, 0,
    ]  # fmt: skip


def test_without_all_dates_the_hours_of_day_are_kept() -> None:
    merged = merge([dated("2020-01-24"), dated(None)])
    assert "first_midnight" not in merged.provenance
    assert merged.start_ms.tolist() == [10_000, 20_000, 30_000] * 2
    rule = Rule.parse("charging")
    one, two = (compile_rule(traces, rule, unknown="ineligible") for traces in (phones(), merged))
    np.testing.assert_allclose(share_by_hour(two), share_by_hour(one))


def test_device_classes_weigh_as_much_as_the_devices_of_their_set() -> None:
    three = replace(phones(), hardware=hardware([5.0, 1.0, 0.0]))
    merged = merge([clients(), three, phones()])
    assert merged.hardware is not None
    assert merged.hardware.column("weight").to_pylist() == [0.5, 1.5, 2.5, 0.5, 0.0]
    assert merge([phones(), phones()]).hardware is None


def test_one_set_is_not_merged() -> None:
    with pytest.raises(InputError, match="at least two trace sets: 1"):
        merge([phones()])
