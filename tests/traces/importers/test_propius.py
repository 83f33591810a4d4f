"""Propius phones: the join bug of the source, namesakes, order of keys, and back to the same dict."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.schema import HARDWARE
from fedsim.traces.importers.propius import PhoneTable, import_propius
from fedsim.traces.importers.trend import Trend
from fedsim.traces.measurements import Measurements


def phone(device: str, cpu_f: float, speed: float, ram: float = 4.0) -> dict[str, Any]:
    return {"device": device, "cpu_f": cpu_f, "ram": ram, "fp16_mem": 100.0, "android_os": 9.0, "speed": speed}


# On the trend speed = 200 / cpu_f, but: rank 2 has the latency of rank 1 though its chip is four times slower;
# rank 4 equals rank 3 because it has the same chip; rank 6 equals rank 5 far off the trend, but its namesake at
# rank 7 has that latency too, so the table that was joined by name does list it; rank 8 is odd all by itself.
PHONES = {
    3: phone("C", 2.0, 100.0),
    1: phone("A", 20.0, 10.0),
    2: phone("B", 5.0, 10.0),
    0: phone("Z", 40.0, 5.0),
    4: phone("C plus", 2.0, 100.0),
    5: phone("D", 4.0, 50.0),
    6: phone("E", 1.0, 50.0),
    7: phone("E", 4.0, 50.0),
    8: phone("F", 10.0, 90.0),
    9: phone("G", 8.0, 25.0),
}


def written(folder: Path, phones: Any) -> Path:
    path = folder / "client_spec_speed.pkl"
    path.write_bytes(phones if isinstance(phones, bytes) else pickle.dumps(phones))
    return path


def imported(folder: Path, phones: Any, **options: Any) -> tuple[dict[str, Any], Any]:
    import_propius(written(folder, phones), folder / "m", **options)
    found = Measurements.load(folder / "m")
    return {row["model"]: row for row in found[HARDWARE].to_pylist()}, found.provenance


def test_theil_sen_ignores_outliers() -> None:
    x = np.arange(1.0, 30.0)
    y = 7 * x**-0.9
    y[::5] *= 50
    trend = Trend.of(x, y)
    assert (trend.factor, trend.exponent) == (pytest.approx(7), pytest.approx(-0.9))
    assert trend.at([1, 10]) == pytest.approx([7, 7 * 10**-0.9])


def test_only_what_the_bug_can_have_made_is_suspect(tmp_path: Path) -> None:
    phones = PhoneTable.load(written(tmp_path, PHONES))
    assert phones.rank.tolist() == list(range(10))
    assert phones.rank[phones.is_repeated].tolist() == [2, 4, 6, 7]
    assert phones.name[phones.is_suspect].tolist() == ["B"]


@pytest.mark.parametrize(("suspect", "source"), [("trend", "trend"), ("keep", "suspect"), ("drop", None)])
def test_suspect_latencies_are_replaced_dropped_or_kept(tmp_path: Path, suspect: str, source: str | None) -> None:
    rows, said = imported(tmp_path, PHONES, suspect=suspect)
    assert {row["latency_source"] for name, row in rows.items() if name != "B"} == {"measured"}
    if source is None:
        assert "B" not in rows
    else:
        assert rows["B"]["latency_source"] == source
        assert rows["B"]["inference_ms_per_sample"] == pytest.approx(40 if suspect == "trend" else 10)
    assert said["n_suspect_latencies"] == 1
    assert said["n_latencies_equal_to_the_rank_before"] == 4
    assert {"trend": "replaced by the trend", "keep": "kept and marked", "drop": "dropped"}[suspect] in said[
        "transforms"
    ][1]


def test_namesakes_are_all_kept(tmp_path: Path) -> None:
    import_propius(written(tmp_path, PHONES), tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    assert [row["cpu_score"] for row in found[HARDWARE].to_pylist() if row["model"] == "E"] == [1.0, 4.0]
    assert found.provenance["n_rows_with_a_name_seen_before"] == 1


def test_two_imports_are_equal_byte_by_byte_whatever_the_order_of_keys(tmp_path: Path) -> None:
    for name, phones in (("a", PHONES), ("b", dict(sorted(PHONES.items())))):
        (tmp_path / name).mkdir()
        import_propius(written(tmp_path / name, phones), tmp_path / name / "m")
    hardware = [(tmp_path / name / "m" / "hardware.parquet").read_bytes() for name in "ab"]
    assert hardware[0] == hardware[1]


def test_real_phones_come_back(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw/propius/client_spec_speed.pkl"
    import_propius(source, tmp_path / "kept", suspect="keep")
    rows = Measurements.load(tmp_path / "kept")[HARDWARE].to_pylist()
    original = pickle.loads(source.read_bytes())
    assert list(original) != sorted(original), "the file's order of iteration is not the order of its keys"
    fields = {"device": "model", "cpu_f": "cpu_score", "ram": "ram_gb", "speed": "inference_ms_per_sample"}
    expected = [{field: original[rank][field] for field in fields} for rank in range(952)]
    assert [{field: row[name] for field, name in fields.items()} for row in rows] == expected
    assert [row["os_version"] for row in rows] == pytest.approx([original[rank]["android_os"] for rank in range(952)])
    import_propius(source, tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    assert found[HARDWARE].num_rows == 952
    assert found.provenance["n_latencies_equal_to_the_rank_before"] == 54
    assert found.provenance["n_rows_with_a_name_seen_before"] == 43
    repaired = {row["model"]: row for row in found[HARDWARE].to_pylist() if row["latency_source"] == "trend"}
    assert set(repaired) == {"Samsung Galaxy S7", "Infinix Zero Ultra"}
    assert 80 < repaired["Samsung Galaxy S7"]["inference_ms_per_sample"] < 100  # 26 ms in the file, as rank 433
    latency_ms = found[HARDWARE].column("inference_ms_per_sample").to_numpy()
    assert np.quantile(latency_ms, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx([19, 29, 63, 109, 190], rel=0.01)


class Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("phones", "says"),
    [
        ({0: Shell()}, r"global that is not allowed: '(posix|nt)\.system'"),
        ({0: phone("A", np.float64(1), 1)}, "global that is not allowed: 'numpy"),
        (pickle.dumps(PHONES)[:-5], "pickle cannot be read"),
        ([], "must hold a dict of phones"),
        ({}, "must hold a dict of phones"),
        ({"0": phone("A", 1, 1)}, "a rank must be a whole number: '0'"),
        ({0: 5}, "field 'device' must be a text in rank 0 of"),
        ({0: phone("A", 1, 1), 1: phone("B", 1, 0)}, "field 'speed' must be a number above zero: 0 in rank 1"),
        ({0: phone("A", float("nan"), 1)}, "field 'cpu_f' must be a number above zero: nan"),
        ({0: {k: v for k, v in phone("A", 1, 1).items() if k != "ram"}}, "field 'ram' must be a number .* in rank 0"),
    ],
)
def test_bad_phones_are_named_and_nothing_is_written(tmp_path: Path, phones: Any, says: str) -> None:
    source = written(tmp_path, phones)
    with pytest.raises(InputError, match=says):
        import_propius(source, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_bad_choice_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"suspect latencies: 'mend' \(allowed: trend, drop, keep\)"):
        import_propius(written(tmp_path, PHONES), tmp_path / "m", suspect="mend")  # type: ignore[arg-type]
