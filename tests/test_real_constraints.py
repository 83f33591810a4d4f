"""A run with all that was measured: real behaviour, hardware, step times and links; its columns add up."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.config.simulation import build_simulation
from fedsim.fleet.hardware import Hardware
from fedsim.schema import NETWORKS, OUTCOMES
from fedsim.simulation import Simulation
from fedsim.traces.importers import IMPORTERS
from tests.smoke import composed

CAPACITY_WH, FLOOR = 15.4, 15

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    folder, raw = tmp_path_factory.mktemp("real"), shared_data / "raw"
    IMPORTERS["flash"](raw / "flash" / "state_traces.first100.json", folder / "flash100")
    tables = folder / "flash_tables"
    IMPORTERS["flash_tables"](raw / "flash", tables, propius=raw / "propius" / "client_spec_speed.pkl")
    IMPORTERS["sabre"](raw / "sabre_cellular", folder / "sabre")
    return build_simulation(
        composed([
            "training=none", "traces=flash", f"paths.local_traces={folder}", f"paths.datasets={shared_data}/datasets",
            "fleet.rule='network in {wifi, 3g, 4g} & battery >= 20'", "fleet/hardware=table",
            f"fleet.hardware.table={tables}/hardware.parquet", "fleet.hardware.match=trace_model",
            "fleet.hardware.requires='ram_gb >= 2'", "device/compute=measured", "device/network=measured",
            f"device.network.folders=[{tables},{folder}/sabre]",
            "device/energy=by_class",
            "device/battery=phone", "data=mnist_by_writer", "model=cnn_digits", "model.assets_bytes=50000",
            "server=buffered", "server.concurrency=200", "server.buffer_size=50", "stop.max_steps=100",
        ])
    )  # fmt: skip


@pytest.fixture(scope="module")
def sessions(made: Simulation, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("run")
    result = made.run(folder)
    assert result.summary["n_steps"] == 100
    return pq.read_table(folder / "sessions").sort_by("session_id")


def column(sessions: pa.Table, name: str) -> np.ndarray:
    return np.asarray(sessions.column(name).to_numpy())


def test_joules_are_powers_times_seconds_and_battery_is_joules(made: Simulation, sessions: pa.Table) -> None:
    ids, compute_s = column(sessions, "device_id"), column(sessions, "compute_s")
    phones = made.world.device.compute.phones  # type: ignore[attr-defined]
    factor = np.select([phones.inference_ms(ids) < 42, phones.inference_ms(ids) < 109], [1.5, 1.0], 0.7)
    assert column(sessions, "compute_j") == pytest.approx(3.0 * factor * compute_s)
    joules = sum(column(sessions, f"{phase}_j") for phase in ("download", "compute", "upload"))
    used = column(sessions, "battery_used_percent")
    assert used == pytest.approx(100 * joules / (CAPACITY_WH * 3600), rel=1e-5)
    assert (used > 0).all()


def test_phones_start_above_the_floor_and_meet_the_requirement(made: Simulation, sessions: pa.Table) -> None:
    assert column(sessions, "battery_start_percent").min() > FLOOR
    phones = made.world.device.compute.phones  # type: ignore[attr-defined]
    assert isinstance(phones, Hardware)
    ram_gb = phones.column("ram_gb")[phones.row_of(column(sessions, "device_id"))]
    assert ram_gb.min() >= 2
    assert len(np.unique(ram_gb)) > 3


def test_sessions_run_on_several_networks_at_their_speeds(sessions: pa.Table) -> None:
    kinds, outcome = column(sessions, "network"), column(sessions, "outcome")
    assert {NETWORKS[code] for code in np.unique(kinds)} >= {"wifi", "3g", "4g"}
    is_whole = outcome == OUTCOMES.index("AGGREGATED")
    upload_s = column(sessions, "upload_end_at") - column(sessions, "train_end_at")
    median = {kind: np.median(upload_s[is_whole & (kinds == NETWORKS.index(kind))]) for kind in ("wifi", "3g", "4g")}
    assert median["3g"] > 5 * median["wifi"]
    assert median["3g"] > 5 * median["4g"]


def test_assets_are_downloaded_once_by_each_phone(sessions: pa.Table) -> None:
    """Of a phone's whole downloads the first has the assets, the later ones have not."""
    model = 54698 * 4
    is_done = ~np.isnan(column(sessions, "download_end_at"))
    size = column(sessions, "download_bytes")
    assert set(size[is_done].tolist()) <= {model, model + 50_000}
    first: dict[int, int] = {}
    for device, n_bytes in zip(column(sessions, "device_id")[is_done], size[is_done], strict=True):
        assert n_bytes == (model if device in first else model + 50_000)
        first.setdefault(int(device), int(n_bytes))


def test_every_session_has_one_outcome_and_phases_in_order(sessions: pa.Table) -> None:
    stamps = [column(sessions, n) for n in ("assigned_at", "download_end_at", "train_end_at", "upload_end_at")]
    for before, after in pairwise(stamps):
        assert (after[~np.isnan(after)] > before[~np.isnan(after)]).all()
    assert set(column(sessions, "outcome").tolist()) <= set(range(len(OUTCOMES)))
    reached = column(sessions, "outcome") == OUTCOMES.index("AGGREGATED")
    assert not np.isnan(stamps[3][reached]).any()
