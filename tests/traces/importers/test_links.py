"""Bandwidth over time: SABRE's periods and UCC's seconds, and the numbers of the published summaries."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fedsim.errors import InputError
from fedsim.schema import LINKS, NETWORKS
from fedsim.traces.importers.sabre import import_sabre
from fedsim.traces.importers.ucc5g import import_ucc5g
from fedsim.traces.measurements import QUANTILES, Measurements, link_quantiles

NOTES_3G, NOTES_4G = [0, 0.152, 0.820, 1.465, 2.995], [4.992, 18.036, 28.793, 40.789, 58.819]
NOTES_UCC = {
    ("5g", "static"): [0.0, 11.3, 29.8, 99, 229],
    ("5g", "driving"): [0.0, 5.8, 15.9, 40, 218],
    ("4g", "driving"): [0.0, 2.5, 6.8, 11.4, 32.7],
}


def period(duration_ms: Any, bandwidth_kbps: Any, latency_ms: Any = 100) -> dict[str, Any]:
    return {"duration_ms": duration_ms, "bandwidth_kbps": bandwidth_kbps, "latency_ms": latency_ms}


def written(folder: Path, periods: Any, name: str = "report_bus_0001.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(periods if isinstance(periods, str) else json.dumps(periods))
    return path


def exported(links: pa.Table, trace: str, latency_ms: int) -> list[dict[str, int]]:
    """The SABRE periods of an imported recording."""
    rows = links.filter(pc.equal(links.column("trace"), trace)).to_pylist()
    at_ms = [row["at_ms"] for row in rows]
    assert at_ms == np.cumsum([0, *(row["duration_ms"] for row in rows)])[:-1].tolist(), "nothing between segments"
    return [period(row["duration_ms"], round(row["down_bytes_per_s"] / 125), latency_ms) for row in rows]


def mbit_per_s(links: pa.Table, network: str, scenario: str | None = None) -> Any:
    quantiles = link_quantiles(links, network, scenario=scenario)
    assert quantiles is not None
    return quantiles * 8 / 1e6


def test_periods_come_back(tmp_path: Path) -> None:
    first, second = [period(1000, 800), period(500, 0), period(994_887, 0)], [period(840, 16823, 20)]
    written(tmp_path / "s/3Glogs", first)
    written(tmp_path / "s/3Glogs", [period(1, 5)], "report.2010-09-13_1003CEST.json")
    written(tmp_path / "s/4Glogs", second, "report_tram_0007.json")
    import_sabre(tmp_path / "s", tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    assert exported(found[LINKS], "report_bus_0001", 100) == first
    assert exported(found[LINKS], "report_tram_0007", 20) == second
    rows = found[LINKS].to_pylist()
    assert [(NETWORKS[row["network"]], row["scenario"]) for row in rows] == [
        ("3g", None), ("3g", "bus"), ("3g", "bus"), ("3g", "bus"), ("4g", "tram"),
    ]  # fmt: skip
    assert {row["up_bytes_per_s"] for row in rows} == {None}
    assert found.provenance["networks"]["3g"] == {
        "n_traces": 2,
        "n_periods": 4,
        "n_periods_without_bandwidth": 2,
        "n_periods_without_bandwidth_over_20_s": 1,
        "longest_period_without_bandwidth_ms": 994_887,
        "constant_latency_ms": 100,
    }


def test_a_constant_latency_is_no_measurement(tmp_path: Path) -> None:
    written(tmp_path / "3G", [period(1, 1, 100), period(1, 1, 100)], "a.json")
    written(tmp_path / "4G", [period(1, 1, 30)], "b.json")
    written(tmp_path / "4G", [period(1, 1, 31)], "c.json")
    import_sabre(tmp_path, tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    assert found[LINKS].column("rtt_ms").to_pylist() == [None, None, 30, 31]
    said = found.provenance["networks"]
    assert (said["3g"]["constant_latency_ms"], said["4g"]["constant_latency_ms"]) == (100, None)


def test_the_network_may_be_told(tmp_path: Path) -> None:
    path = written(tmp_path, [period(10, 8)], "home.json")
    import_sabre(path, tmp_path / "m", network="wifi")
    assert Measurements.load(tmp_path / "m")[LINKS].column("network").to_pylist() == [1]
    with pytest.raises(InputError, match=r"network of a recording is not known: '.*home\.json'"):
        import_sabre(path, tmp_path / "n")
    with pytest.raises(InputError, match="unknown network: '6g'"):
        import_sabre(path, tmp_path / "n", network="6g")


@pytest.mark.slow
def test_real_periods(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw/sabre_cellular"
    import_sabre(source, tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    links = found[LINKS]
    assert links.num_rows == 111_140
    for path in (source / "4Glogs/report_foot_0001.json", source / "3Glogs/report.2010-09-13_1003CEST.json"):
        original = json.loads(path.read_text())
        assert exported(links, path.stem, original[0]["latency_ms"]) == original
    # exact quantiles over time; the notes counted whole steps of 100 and 200 ms, hence the tolerance
    assert mbit_per_s(links, "3g") == pytest.approx([0, 0.150, 0.814, 1.453, 2.978])
    assert mbit_per_s(links, "4g") == pytest.approx([4.989, 18.034, 28.776, 40.779, 58.818])
    assert mbit_per_s(links, "3g") == pytest.approx(NOTES_3G, rel=0.015)
    assert mbit_per_s(links, "4g") == pytest.approx(NOTES_4G, rel=0.001)
    said = found.provenance["networks"]
    assert (said["3g"]["n_traces"], said["4g"]["n_traces"]) == (86, 40)
    assert (said["3g"]["constant_latency_ms"], said["4g"]["constant_latency_ms"]) == (100, 20)
    assert said["3g"]["longest_period_without_bandwidth_ms"] == 994_887
    assert said["3g"]["n_periods_without_bandwidth_over_20_s"] == 58
    assert links.column("rtt_ms").null_count == 111_140
    zero_ms = pc.sum(links.filter(pc.equal(links.column("down_bytes_per_s"), 0)).column("duration_ms")).as_py()
    assert zero_ms > 0.05 * 31.2 * 3_600_000, "outages are kept"


@pytest.mark.parametrize(
    ("periods", "says"),
    [
        ([], "a recording must be a list of periods in .*report_bus_0001.json"),
        ("[{", "not valid JSON"),
        ([period(1, 1), 7], "field 'duration_ms' must be a whole number, zero or above in period 1 of"),
        ([period(1, 1), period(1, -1)], "field 'bandwidth_kbps' must be a whole number.*: -1 in period 1 of"),
        ([period(1, 1.5)], "field 'bandwidth_kbps' must be a whole number.*: 1.5 in period 0"),
        ([period(1, 10**30)], "field 'bandwidth_kbps' must be a whole number"),
        ([period(1, 1), period(0, 1)], "a period must last: 0 in period 1 of"),
    ],
)
def test_bad_periods_are_named_and_nothing_is_written(tmp_path: Path, periods: Any, says: str) -> None:
    written(tmp_path / "3G", periods)
    with pytest.raises(InputError, match=says):
        import_sabre(tmp_path, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["3G"]


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording found"):
        import_sabre(tmp_path, tmp_path / "m")
    with pytest.raises(InputError, match="not found"):
        import_sabre(tmp_path / "nothing", tmp_path / "m")
    for name in ("3Ga", "3Gb"):
        written(tmp_path / name, [period(1, 1)])
    with pytest.raises(InputError, match="two recordings have one name: 'report_bus_0001'"):
        import_sabre(tmp_path, tmp_path / "m")


UCC_HEAD = "Timestamp,Longitude,NetworkMode,DL_bitrate,UL_bitrate,State,PINGAVG\n"


def second(at: str, mode: str = "5G", down: object = 80, state: str = "D", ping: object = "-") -> str:
    return f"2019.12.16_13.40.{at},-8.39,{mode},{down},20,{state},{ping}\n"


def packed(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def imported(folder: Path, rows: str, name: str = "set/Download/Static/B_1.csv", **more: str) -> Measurements:
    import_ucc5g(packed(folder / "ucc.zip", {name: rows, **more}), folder / "m")
    return Measurements.load(folder / "m")


def test_seconds_last_until_the_next_and_are_shared(tmp_path: Path) -> None:
    rows = UCC_HEAD + second("04") + second("05", down=8) + second("05", "LTE", 16) + second("07", down=0, ping=66)
    rows += second("06", down=24) + second("30")  # the clock goes back, then stands still for long
    found = imported(tmp_path, rows)
    columns = ("network", "at_ms", "duration_ms", "down_bytes_per_s", "rtt_ms")
    assert [tuple(row[name] for name in columns) for row in found[LINKS].to_pylist()] == [
        (5, 0, 1000, 10_000, None),
        (5, 1000, 1000, 1000, None),
        (4, 2000, 1000, 2000, None),
        (5, 3000, 2500, 0, 66),
        (5, 5500, 2500, 3000, None),
        (5, 26_000, 1000, 10_000, None),
    ]
    assert set(found[LINKS].column("up_bytes_per_s").to_pylist()) == {None}, "ACK traffic is no capacity"
    assert set(found[LINKS].column("trace").to_pylist()) == {"B_1"}
    assert found.provenance["n_rows_that_share_a_second"] == 4
    assert found.provenance["n_rows_with_a_clock_that_went_back"] == 1


def test_only_downloads_measure_capacity(tmp_path: Path) -> None:
    rows = UCC_HEAD + "".join(second(f"{k:02d}", down=80 + k, state=s) for k, s in enumerate(("D", "I", "V", "-", "D")))
    rows += second("05", down="-") + second("06", mode="-") + second("07", mode="LTE")
    found = imported(
        tmp_path,
        rows,
        "set/Download/Driving/x/B_1.csv",
        **{
            "set/Netflix/Static/B_2.csv": UCC_HEAD + second("01", down=99_999),
            "__MACOSX/set/Download/Static/B_1.csv": "?",
        },
    )
    assert found[LINKS].column("down_bytes_per_s").to_pylist() == [10_000, 10_500, 10_000]
    assert found[LINKS].column("scenario").to_pylist() == ["driving"] * 3
    said = found.provenance
    assert (said["n_files"], said["n_files_of_other_apps"]) == (2, 1)
    assert (said["n_rows_not_downloading"], said["n_rows_without_bitrate"], said["n_rows_of_unknown_network"]) == (
        3,
        1,
        1,
    )


def test_radio_modes_are_generations(tmp_path: Path) -> None:
    modes = ("GPRS", "EDGE", "UMTS", "HSDPA", "HSUPA", "HSPA+", "LTE", "5G")
    rows = UCC_HEAD + "".join(second(f"{k:02d}", mode) for k, mode in enumerate(modes))
    codes = imported(tmp_path, rows)[LINKS].column("network").to_pylist()
    assert [NETWORKS[code] for code in codes] == ["2g", "2g", "3g", "3g", "3g", "3g", "4g", "5g"]


def test_an_unpacked_folder_is_the_same(tmp_path: Path) -> None:
    rows = UCC_HEAD + second("04") + second("05", "HSPA+")
    packed_links = imported(tmp_path, rows)[LINKS]
    folder = tmp_path / "folder/Download/Static"
    folder.mkdir(parents=True)
    (folder / "B_1.csv").write_text(rows)
    (folder / "._B_1.csv").write_bytes(b"\0")
    import_ucc5g(tmp_path / "folder", tmp_path / "n")
    assert Measurements.load(tmp_path / "n")[LINKS].equals(packed_links)


def test_real_seconds(shared_data: Path, tmp_path: Path) -> None:
    import_ucc5g(shared_data / "raw/ucc5g/5G-production-dataset.zip", tmp_path / "m")
    found = Measurements.load(tmp_path / "m")
    links = found[LINKS]
    assert found.provenance["n_files"] == 83
    assert links.num_rows == found.provenance["n_rows"] - found.provenance["n_rows_not_downloading"] == 42_303
    for (network, scenario), expected in NOTES_UCC.items():
        rows = links.filter(pc.equal(links.column("network"), NETWORKS.index(network)))
        rows = rows.filter(pc.equal(rows.column("scenario"), scenario))
        # the notes count rows; a second written twice counts twice there, and skipped ones not at all
        by_row = np.quantile(rows.column("down_bytes_per_s").to_numpy(), QUANTILES) * 8 / 1e6
        assert by_row == pytest.approx(expected, rel=0.01, abs=0.05)
    assert mbit_per_s(links, "5g", "static") == pytest.approx([0.003, 15.0, 36.5, 113.0, 230.8], rel=0.01)
    assert mbit_per_s(links, "5g", "driving") == pytest.approx([0.002, 7.6, 17.5, 52.9, 221.0], rel=0.01)
    rtt_ms = link_quantiles(links, "5g", column="rtt_ms")
    assert rtt_ms is not None
    assert 60 < rtt_ms[0] < rtt_ms[2] < 80 < rtt_ms[4] < 100
    assert pc.min(links.column("duration_ms")).as_py() > 0


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"Download/Static/a.csv": UCC_HEAD + second("04") + "yesterday,1,5G,1,1,D,1\n"},
            "recording cannot be read .*yesterday",
        ),
        (
            {"Download/Static/a.csv": UCC_HEAD + second("04", down="fast")},
            "recording cannot be read .*fast.* in Download",
        ),
        ({"Download/Static/a.csv": UCC_HEAD.replace("State", "S") + second("04")}, "recording cannot be read .*State"),
        ({"Download/Static/a.csv": UCC_HEAD}, "a row without Timestamp, or no row at all"),
        ({"Download/Static/a.csv": UCC_HEAD + "-,1,5G,1,1,D,1\n"}, "a row without Timestamp"),
        ({"a.csv": UCC_HEAD}, "app and mobility of a file are not known: 'a.csv'"),
        ({"Netflix/Static/a.csv": UCC_HEAD + second("04")}, "no measurement found"),
        ({}, "no recording found"),
    ],
)
def test_bad_archives_are_named_and_nothing_is_written(tmp_path: Path, files: dict[str, str], says: str) -> None:
    source = packed(tmp_path / "ucc.zip", files)
    with pytest.raises(InputError, match=says):
        import_ucc5g(source, tmp_path / "m")
    source.write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="zip cannot be read"):
        import_ucc5g(source, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["ucc.zip"]
