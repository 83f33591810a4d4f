"""FLASH's tables: units, joins by name, latencies of models that no benchmark lists, layer timings."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.errors import InputError
from fedsim.schema import HARDWARE, LEVELS, PROFILES
from fedsim.traces.importers.flash_tables import import_flash_tables
from fedsim.traces.measurements import QUANTILES, Measurements, weighted_quantiles

HEAD = "model,n_of_1000,brand,marketing_name,propius_device,propius_speed_ms,ai2020_name_match,flash_benchmark_name\n"
CATALOGUE = (
    HEAD
    + """\
slow,20,,Slow One,P Slow,200,B Slow,
fast,10,,Fast One,P Fast,50,,
scored,30,,"Scored, two",,,,B Mid
strange,15,,,,,,B Nowhere
odd,25,,,,,,
"""
)
SPEEDS = {
    "p": {"down_u": 1000.0, "down_sigma": 10.0, "up_u": 500.0, "up_sigma": 5.0},
    "q": {"down_u": 2000, "down_sigma": 0, "up_u": 0, "up_sigma": 1},
}


def ranked(name: str, score: int, ram: str = "2GB") -> dict[str, str]:
    return {"Model": name, "CPU": "Chip X", "RAM": ram, "Year": "2018", "Android": "8.1", "CPU_F_AI_Score": str(score)}


RANKING = [ranked("B Slow", 400), ranked("B Mid", 800, "3GB"), ranked("B Mid", 800), ranked("P Fast", 1600, "4GB")]


def phone(device: str, cpu_f: float, speed: float, ram: float) -> dict[str, Any]:
    return {"device": device, "cpu_f": cpu_f, "ram": ram, "fp16_mem": 1.0, "android_os": 11.0, "speed": speed}


def folder_of(path: Path, **files: Any) -> Path:
    path.mkdir()
    names = {"catalogue": "model_catalogue_1000.csv", "speeds": "speed_distri.json", "names": "real2benchmark.json"}
    names["ranking"] = "raw_ai_benchmark_list.json"
    for name, content in files.items():
        (path / names[name]).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def imported(path: Path, propius: Path | None = None, **files: Any) -> Measurements:
    import_flash_tables(folder_of(path / "source", **files), path / "m", propius)
    return Measurements.load(path / "m")


def by_model(found: Measurements) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found[HARDWARE].to_pylist():
        rows.setdefault(row["model"], []).append(row)
    return rows


def test_matched_models_keep_their_latency_and_weight(tmp_path: Path) -> None:
    rows = by_model(imported(tmp_path, catalogue=CATALOGUE, ranking=RANKING))
    (slow,), (fast,) = rows["slow"], rows["fast"]
    assert (slow["weight"], slow["inference_ms_per_sample"], slow["latency_source"]) == (20, 200, "measured")
    assert (slow["ram_gb"], slow["soc"], slow["year"], slow["market_name"]) == (2, "Chip X", 2018, "Slow One")
    assert slow["os_version"] == pytest.approx(8.1)
    assert (fast["ram_gb"], fast["soc"]) == (None, None)


def test_a_score_gives_a_latency_by_the_trend_of_phones_that_have_both(tmp_path: Path) -> None:
    propius = tmp_path / "phones.pkl"
    phones = {0: phone("B Slow", 1, 100, 2), 1: phone("P Fast", 4, 50, 4), 2: phone("P Slow", 2, 80, 1)}
    propius.write_bytes(pickle.dumps(phones))
    found = imported(tmp_path, propius, catalogue=CATALOGUE, ranking=RANKING)
    (row,), (slow,) = by_model(found)["scored"], by_model(found)["slow"]
    assert (slow["inference_ms_per_sample"], slow["ram_gb"], slow["soc"]) == (80, 1, "Chip X"), "Propius, then 2020"
    # B Slow 400 → 100 ms and P Fast 1600 → 50 ms: exponent -1/2
    assert row["inference_ms_per_sample"] == pytest.approx(100 / np.sqrt(2))
    assert (row["latency_source"], row["ram_gb"], row["market_name"]) == ("score", 3, "Scored, two")
    assert found.provenance["hardware"]["n_phones_by_latency_source"] == {"measured": 30, "score": 30, "drawn": 40}


def test_versions_of_a_phone_share_the_weight_of_its_model(tmp_path: Path) -> None:
    propius = tmp_path / "phones.pkl"
    phones = {0: phone("P Slow", 2, 200, 3), 1: phone("P Slow", 1, 200, 2), 2: phone("P Fast", 8, 50, 6)}
    propius.write_bytes(pickle.dumps(phones))
    found = imported(tmp_path, propius, catalogue=CATALOGUE)
    assert [(row["weight"], row["ram_gb"], row["cpu_score"]) for row in by_model(found)["slow"]] == [
        (10, 3, 2),
        (10, 2, 1),
    ]
    assert sum(found[HARDWARE].column("weight").to_pylist()) == 100
    assert "suspect ones replaced" in " ".join(found.provenance["transforms"])


def test_models_that_match_nowhere_draw_from_the_slow_half(tmp_path: Path) -> None:
    models = [f"m{i},1,,,P {i},{100 + i},," for i in range(20)] + [f"u{i},1,,,,,," for i in range(400)]
    rows = by_model(imported(tmp_path, catalogue=HEAD + "\n".join(models) + "\n"))
    drawn_ms = np.array([rows[f"u{i}"][0]["inference_ms_per_sample"] for i in range(400)])
    assert set(drawn_ms) == set(np.arange(109.0, 120.0))  # 109 is the least that half of the matched do not exceed
    assert {rows[f"u{i}"][0]["latency_source"] for i in range(400)} == {"drawn"}
    assert np.bincount(drawn_ms.astype(int))[109:].min() > 15, "by weight, so about 36 each"


def test_draws_follow_the_seed_alone(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "source", catalogue=CATALOGUE)
    for name, seed in (("a", 1), ("b", 1)):
        import_flash_tables(source, tmp_path / name, seed=seed)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert Measurements.load(tmp_path / "a").provenance["hardware"]["seed"] == 1


def test_flash_names_win_over_those_of_the_catalogue(tmp_path: Path) -> None:
    names = {"slow": "unknown", "scored": "unknown", "odd": "B Mid"}
    rows = by_model(imported(tmp_path, catalogue=CATALOGUE, ranking=[*RANKING, ranked("P Fast", 9)], names=names))
    assert {name: row[0]["latency_source"] for name, row in rows.items()} == {
        "slow": "measured", "fast": "measured", "scored": "drawn", "strange": "drawn", "odd": "drawn",
    }  # fmt: skip
    # odd is B Mid now, but only one phone has both figures: no trend, so no latency from a score


def test_speeds_are_kb_of_1024_bytes(tmp_path: Path) -> None:
    levels = imported(tmp_path, speeds=SPEEDS)[LEVELS].to_pylist()
    assert levels[0] == {
        "network": 1,
        "device_id": "p",
        "down_bytes_per_s": 1_024_000.0,
        "down_sd_bytes_per_s": 10_240.0,
        "up_bytes_per_s": 512_000.0,
        "up_sd_bytes_per_s": 5120.0,
    }
    assert levels[1]["up_bytes_per_s"] == 0


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    folder = tmp_path_factory.mktemp("flash") / "m"
    import_flash_tables(shared_data / "raw/flash", folder, shared_data / "raw/propius/client_spec_speed.pkl")
    return Measurements.load(folder)


def test_real_shares_and_latencies(real: Measurements) -> None:
    hardware = real[HARDWARE].to_pandas()
    assert hardware.model.nunique() == 348
    assert hardware.weight.sum() == pytest.approx(1000)
    said = real.provenance["hardware"]["n_phones_by_latency_source"]
    assert said["measured"] + said["trend"] + said["score"] == 442, "44 % of the phones are matched"
    assert said["drawn"] == 558
    assert hardware.ram_gb.notna().all()
    matched = hardware[hardware.latency_source != "drawn"]
    median_ms = weighted_quantiles(matched.inference_ms_per_sample, matched.weight, q=[0.5])[0]
    assert (hardware[hardware.latency_source == "drawn"].inference_ms_per_sample >= median_ms).all()
    names = json.dumps(real.provenance)
    assert all(name in names for name in ("model_catalogue_1000.csv", "client_spec_speed.pkl", "MIT", "BSD-2"))


def test_real_speeds_are_those_of_the_notes(real: Measurements) -> None:
    def mbit_per_s(name: str) -> Any:  # the notes count a KB as 1000 bytes
        return np.quantile(real[LEVELS].column(name).to_numpy() / 1024 * 8 / 1000, QUANTILES)

    assert real[LEVELS].num_rows == 19
    assert mbit_per_s("down_bytes_per_s") == pytest.approx([24.8, 29.7, 34.5, 57.9, 85.2], abs=0.06)
    assert mbit_per_s("up_bytes_per_s") == pytest.approx([5.1, 21.6, 26.3, 40.3, 50.5], abs=0.06)
    spread = real[LEVELS].column("down_sd_bytes_per_s").to_numpy() / real[LEVELS].column("down_bytes_per_s").to_numpy()
    assert np.median(spread) == pytest.approx(0.37, abs=0.02)


def test_real_layer_timings(real: Measurements) -> None:
    profiles = real[PROFILES].to_pandas()
    assert len(profiles) == 180_000
    lstm = profiles[profiles.op == "lstm"].groupby("device").step_s.median().round(2).to_dict()
    assert lstm == {"nexus6": 1.05, "redmi_note8": 0.67, "samsung_note10": 0.42}
    assert (profiles.kind == "train_step").all()


def timings(**changes: Any) -> pa.Table:
    columns = {"device": ["d"], "layer": ["lstm"], "in_size": [1], "out_size": [1], "batch_size": [1], "seq_len": [1]}
    return pa.table({**columns, "train_time_s": [0.5], **changes})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "none of FLASH's tables found in .*model_catalogue_1000.csv"),
        ({"catalogue": HEAD.replace("n_of_1000", "n") + "a,1,,,P,5,,\n"}, "column 'n_of_1000' is missing"),
        ({"catalogue": HEAD + "a,x,,,P,5,,\n"}, "column 'n_of_1000' has type .* 'x' in"),
        ({"catalogue": HEAD + "a,0,,,P,5,,\n"}, r"a model without phones: n_of_1000: \['a'\]"),
        ({"catalogue": HEAD + "a,1,,,,,,\n"}, "no model of the catalogue matches a benchmark: 'a'"),
        ({"catalogue": HEAD}, "a model without phones|cannot be read"),
        ({"catalogue": CATALOGUE, "ranking": {}}, "the ranking must be a list of phones"),
        ({"catalogue": CATALOGUE, "ranking": [ranked("a", 1, "big")]}, "bad phone .*ValueError.* in entry 0 of"),
        ({"catalogue": CATALOGUE, "ranking": [{"Model": "a"}]}, "bad phone .*KeyError.* in entry 0 of"),
        ({"catalogue": CATALOGUE, "names": []}, "model names must be an object of texts"),
        ({"speeds": []}, "phone speeds must be an object"),
        (
            {"speeds": {"p": {**SPEEDS["p"], "up_u": -1}}},
            "field 'up_u' must be a number, zero or above: -1 in phone 'p'",
        ),
        ({"speeds": {"p": {}}}, "field 'down_u' must be a number.* in phone 'p'"),
    ],
)
def test_bad_tables_are_named_and_nothing_is_written(tmp_path: Path, files: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, **files)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (timings(train_time_s=[0.0]), "train_time_s must be above zero at row 0: 0.0 in"),
        (timings().drop_columns(["layer"]), "column 'layer' is missing"),
        (None, "layer timings cannot be read"),
    ],
)
def test_bad_timings_are_named(tmp_path: Path, table: pa.Table | None, says: str) -> None:
    source = folder_of(tmp_path / "source")
    path = source / "on_device_layer_train_time.parquet"
    path.write_bytes(b"PAR1") if table is None else pq.write_table(table, path)
    with pytest.raises(InputError, match=says):
        import_flash_tables(source, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
