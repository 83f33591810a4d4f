"""Measurement folders: there and back, checked, whole or not at all; quantiles over time."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import InputError
from fedsim.schema import HARDWARE, LEVELS, LINKS, NETWORKS, PROFILES
from fedsim.traces.measurements import (
    Measurements,
    MeasurementWriter,
    link_quantiles,
    weighted_quantiles,
)

WIFI, LTE = NETWORKS.index("wifi"), NETWORKS.index("4g")


def links(**changes: Any) -> pa.Table:
    """Ten seconds of 4g: 8 s at 100, 2 s at 900; and Wi-Fi without a rate."""
    columns: dict[str, Any] = {
        "network": [LTE, LTE, WIFI],
        "trace": ["bus", "bus", "home"],
        "scenario": ["bus", "bus", None],
        "at_ms": [0, 8000, 0],
        "duration_ms": [8000, 2000, 3_600_000],
        "down_bytes_per_s": [100.0, 900.0, None],
        "up_bytes_per_s": [None, 50.0, None],
        "rtt_ms": [None, 40.0, 10.0],
    }
    return LINKS.check(pa.table(columns | changes), where="hand")


def written(folder: Path, *tables: tuple[Any, pa.Table]) -> Measurements:
    with MeasurementWriter(folder) as writer:
        for schema, rows in tables:
            writer.add(schema, rows)
        writer.provenance = {"source": "hand"}
    return Measurements.load(folder)


def test_there_and_back(tmp_path: Path) -> None:
    profile = pa.table({"device": ["p"], "op": ["lstm"], "kind": ["train_step"], "batch_size": [8], "step_s": [0.5]})
    profile = (
        profile.append_column("in_size", [[None]]).append_column("out_size", [[3]]).append_column("seq_len", [[1]])
    )
    found = written(tmp_path / "m", (LINKS, links()), (PROFILES, profile), (LINKS, links()))
    assert found[LINKS].to_pydict() == pa.concat_tables([links(), links()]).to_pydict()
    assert found[PROFILES].to_pylist()[0] | {"peak_bytes": None, "n_threads": None} == found[PROFILES].to_pylist()[0]
    assert found.provenance == {"source": "hand"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    with pytest.raises(InputError, match=r"no levels in these measurements \(allowed: links, profiles\)"):
        found[LEVELS]


def test_a_quantile_counts_time_not_segments() -> None:
    assert link_quantiles(links(), "4g", q=[0.5, 0.8, 0.81, 1.0]) == pytest.approx([100, 100, 900, 900])
    assert link_quantiles(links(), "4g", scenario="bus", column="up_bytes_per_s", q=[0.01]) == pytest.approx([50])
    assert link_quantiles(links(), "4g", scenario="train") is None
    assert link_quantiles(links(), "wifi") is None
    assert link_quantiles(links(), "wifi", column="rtt_ms", q=[0.5]) == pytest.approx([10])


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=12),
    st.floats(0.001, 1.0),
)
def test_weighted_quantiles_are_those_of_values_repeated(pairs: list[tuple[int, int]], q: float) -> None:
    values, weights = zip(*pairs, strict=True)
    repeated = np.sort(np.repeat(values, weights))
    least = next(v for v in repeated if np.count_nonzero(repeated <= v) >= q * len(repeated) - 1e-9)
    assert weighted_quantiles(values, weights, q=[q])[0] == least


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"network": [LTE, 9, WIFI]}, "network out of range at row 1: 9 in .*links.parquet"),
        ({"duration_ms": [0, 1, 1]}, "duration_ms out of range at row 0: 0"),
        ({"down_bytes_per_s": [None, -1.0, None]}, "down_bytes_per_s out of range at row 1: -1.0"),
        ({"up_bytes_per_s": [None, None, -2.0]}, "up_bytes_per_s out of range at row 2"),
    ],
)
def test_bad_links_are_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        written(tmp_path / "m", (LINKS, links(**changes)))


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="measurement folder not found"):
        Measurements.load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no measurement found in .*allowed: hardware\.parquet, links\.parquet"):
        Measurements.load(tmp_path)
    written(tmp_path / "m", (LINKS, links()))
    pq.write_table(links().drop_columns(["trace"]), tmp_path / "m" / "links.parquet")
    with pytest.raises(InputError, match=r"column 'trace' is missing in .*links\.parquet"):
        Measurements.load(tmp_path / "m")
    (tmp_path / "m" / "provenance.json").unlink()
    pq.write_table(links(), tmp_path / "m" / "links.parquet")
    with pytest.raises(InputError, match="measurement provenance not found"):
        Measurements.load(tmp_path / "m")


def test_old_hardware_files_lack_the_optional_columns(tmp_path: Path) -> None:
    hardware = pa.table({"model": ["a"], "weight": [1.0], "inference_ms_per_sample": [20.0]})
    hardware = hardware.append_column("bytes_per_s", [[1e6]]).append_column("ram_gb", [[2.0]])
    (row,) = written(tmp_path / "m", (HARDWARE, hardware))[HARDWARE].to_pylist()
    assert (row["ram_gb"], row["os_version"], row["latency_source"]) == (2.0, None, None)


def test_an_error_while_writing_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    written(tmp_path / "m", (LINKS, links()))
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    for name in ("m", "new"):
        with pytest.raises(RuntimeError, match="half way"), MeasurementWriter(tmp_path / name) as writer:
            writer.add(LINKS, links())
            raise RuntimeError("half way")
        with pytest.raises(RuntimeError, match="at once"), MeasurementWriter(tmp_path / name):  # not: no measurement
            raise RuntimeError("at once")
        with pytest.raises(InputError, match="no measurement found"), MeasurementWriter(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(InputError, match="will not replace"):
            written(target, (LINKS, links()))
    assert (precious / "thesis.txt").read_text() == "years of work"
