"""Rules of the format beyond events: facts, hardware and provenance, each named with file, row and field."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.errors import InputError
from fedsim.files import write_json
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import TraceSet
from fedsim.traces.folder import load_traces, save_traces
from fedsim.traces.validation import validate_devices, validate_hardware, validate_provenance
from tests.hand import events_of, traces_of


def phones() -> TraceSet:
    return traces_of([events_of([])] * 3, period_s=86_400, facts={"ram_gb": [2, None, 4.5], "os_version": [9, 10, 8]})


def hardware(**changed: list[Any]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "model": ["a", None],
        "weight": [1.0, 0.0],
        "inference_ms_per_sample": [20.0, 30.0],
        "bytes_per_s": [None, 1e6],
        "ram_gb": [None, 2.0],
    }
    return HARDWARE.check(pa.table(columns | changed), where="test")


@pytest.mark.parametrize("name", ["ram_gb", "os_version"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_facts_are_positive_or_unknown(name: str, value: float) -> None:
    traces = phones()
    validate_devices(traces, where="here")
    traces.facts[name][2] = value
    with pytest.raises(InputError, match=f"{name} must be positive at device 2: {value} in here"):
        validate_devices(traces, where="here")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"weight": [1.0, -1.0]}, r"weight must not be negative at row 1: -1\.0 in here"),
        ({"weight": [np.nan, 1.0]}, r"weight must not be negative at row 0"),
        ({"weight": [0.0, 0.0]}, "no device class has a weight above zero in here"),
        ({"inference_ms_per_sample": [0.0, 1.0]}, r"inference_ms_per_sample must be positive at row 0: 0\.0"),
        ({"bytes_per_s": [1.0, -1.0]}, "bytes_per_s must be positive at row 1"),
        ({"ram_gb": [np.inf, 1.0]}, "ram_gb must be positive at row 0"),
    ],
)
def test_hardware_can_be_drawn_from(changed: dict[str, list[Any]], says: str) -> None:
    validate_hardware(hardware(), where="here")
    with pytest.raises(InputError, match=says):
        validate_hardware(hardware(**changed), where="here")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ([], "provenance must be an object: 'list' in here"),
        ({"transforms": "all"}, "'transforms' must be a list of texts: 'all' in here"),
        ({"transforms": [1]}, "'transforms' must be a list of texts"),
        ({"first_midnight": "yesterday"}, "'first_midnight' must be a date: 'yesterday' in here"),
        ({"first_midnight": 20200124}, "'first_midnight' must be a date: 20200124"),
    ],
)
def test_provenance_can_be_read(said: Any, says: str) -> None:
    validate_provenance({}, where="here")
    validate_provenance({"transforms": ["a"], "first_midnight": "2020-01-24"}, where="here")
    with pytest.raises(InputError, match=says):
        validate_provenance(said, where="here")


def _set_column(file: Path, name: str, values: list[Any]) -> None:
    table = pq.read_table(file)
    column = pa.array(values * (table.num_rows // len(values)), table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), file)


def test_a_folder_is_refused_with_the_file(tmp_path: Path) -> None:
    save_traces(replace(phones(), hardware=hardware()), tmp_path / "set")
    load_traces(tmp_path / "set")
    heavy = replace(phones(), hardware=hardware(weight=[-1.0, 1.0]))
    small = phones()
    small.facts["ram_gb"][0] = -1
    loud = traces_of([events_of([(1, "screen", 1)])], period_s=86_400)
    loud.events.value[0] = 7
    for bad, says in (
        (heavy, "weight .*"),
        (small, r"ram_gb .* at device 0: -1\.0"),
        (loud, r"value .* event 0: 7\.0"),
    ):
        with pytest.raises(InputError, match=says):
            save_traces(bad, tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    _set_column(tmp_path / "set" / "hardware.parquet", "weight", [-1.0, 1.0])
    with pytest.raises(InputError, match=r"weight .* in .*hardware\.parquet"):
        load_traces(tmp_path / "set")
    _set_column(tmp_path / "set" / "devices.parquet", "ram_gb", [-1.0])
    with pytest.raises(InputError, match=r"ram_gb .* at device 0: -1\.0 in .*devices\.parquet"):
        load_traces(tmp_path / "set")
    save_traces(phones(), tmp_path / "set")
    write_json(tmp_path / "set" / "provenance.json", [])
    with pytest.raises(InputError, match=r"an object.* in .*provenance\.json"):
        load_traces(tmp_path / "set")
