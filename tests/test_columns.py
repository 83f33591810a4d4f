"""Columns that a forecast needs, in runs whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fedsim
from fedsim.files import write_table
from fedsim.schema import HARDWARE
from fedsim.traces.folder import save_traces
from tests.hand import events_of, traces_of
from tests.smoke import small

pytestmark = pytest.mark.slow


def run_of(folder: Path, *overrides: str) -> tuple[fedsim.Run, pd.DataFrame]:
    run = fedsim.simulate(*small(overrides), "training=none", folder=folder / "run")
    return run, run.sessions()


def test_regions_and_phones_are_told(tmp_path: Path) -> None:
    rows = [{"model": name, "weight": w, "inference_ms_per_sample": ms} for name, w, ms in (("A", 3, 20), ("B", 1, 90))]
    write_table(tmp_path / "phones.parquet", pa.Table.from_pylist(rows, HARDWARE.arrow()), HARDWARE)
    phones = ["fleet/hardware=table", f"fleet.hardware.table={tmp_path / 'phones.parquet'}"]
    run, sessions = run_of(tmp_path, "fleet=america", *phones, "stop.max_steps=8")
    assert run.summary["regions"] == ["eastern", "central", "mountain", "pacific"]
    shares = sessions["region"].value_counts(normalize=True).sort_index()
    assert shares.to_numpy() == pytest.approx([0.48, 0.29, 0.07, 0.16], abs=0.12)  # by night in the east
    assert sessions.groupby("phone_row")["inference_ms"].unique().map(list).to_dict() == {0: [20.0], 1: [90.0]}
    assert (sessions["phone_row"] == 0).mean() == pytest.approx(0.75, abs=0.05)


def test_bytes_are_told_by_kind_and_metered_ones_apart(tmp_path: Path) -> None:
    """Phones on 4g all day; plan, assets and features travel with the model, those of cut downloads in proportion."""
    on = traces_of([events_of([(0, "charging", 1), (0, "network", "4g")])], period_s=86_400)
    save_traces(on, tmp_path / "on")
    words = [
        f"traces.folder={tmp_path / 'on'}",
        "fleet.rule=charging",
        "device.crash_fraction=0.3",
        "model.plan_bytes=5000",
    ]
    run, sessions = run_of(tmp_path, *words, "model.assets_bytes=90000", "stop.max_steps=3")
    whole = sessions.dropna(subset="download_end_at")
    assert set(whole["plan_bytes"]) == {5000}
    assert set(whole["assets_bytes"]) == {90_000}
    assert set(whole["download_bytes"] - whole["plan_bytes"] - whole["assets_bytes"]) == {4 * 650}
    cut = sessions[sessions["download_end_at"].isna() & (sessions["download_bytes"] > 100)]
    assert len(cut)
    assert (cut["assets_bytes"] / cut["download_bytes"]).to_numpy() == pytest.approx(90_000 / 97_600, rel=0.01)
    assert run.summary["metered_bytes"] == sessions["download_bytes"].sum() + sessions["upload_bytes"].sum()
    reached = sessions.dropna(subset="train_end_at").query("outcome != 'ABORTED'")
    assert set(reached["upload_network"]) == {"4g"}


def test_a_version_is_downloaded_from_when_it_is_published(tmp_path: Path) -> None:
    for protocol in ("sync", "buffered"):
        words = [f"server={protocol}", "server.server_step_s=47", "stop.max_steps=9", "stop.max_s=null"]
        run, sessions = run_of(tmp_path / protocol, *words)
        steps = run.steps
        assert (steps["published_at"] >= steps["closed_at"] + 47 - 1e-6).all()
        assert (steps["published_at"].diff().dropna() >= 47 - 1e-6).all()  # one after the other
        newest = np.searchsorted(steps["published_at"].to_numpy(), sessions["assigned_at"].to_numpy(), side="right")
        assert (sessions["version"].to_numpy() == newest).all()
        assert (steps["opened_at"] <= steps["started_at"]).all()


def test_levers_stretch_time_and_links(tmp_path: Path) -> None:
    quiet = ["device.compute.session_sigma=0", "device.setup_s=0", "device.network.connect_s=0", "stop.max_steps=1"]
    plain = run_of(tmp_path / "a", *quiet)[1].set_index("session_id")
    levers = ["device.compute.time_factor=1.5", "device.network.rate_factor=0.25"]
    slow = run_of(tmp_path / "b", *quiet, *levers)[1].set_index("session_id")
    both = plain.join(slow.add_suffix("_slow")).dropna(subset=["train_end_at", "train_end_at_slow"])
    took = both["train_end_at"] - both["download_end_at"], both["train_end_at_slow"] - both["download_end_at_slow"]
    assert (took[1] / took[0]).to_numpy() == pytest.approx(1.5, rel=1e-3)
    loaded = both["download_end_at"] - both["assigned_at"], both["download_end_at_slow"] - both["assigned_at"]
    assert (loaded[1] / loaded[0]).median() == pytest.approx(4.0, rel=1e-3)
