"""The report's numbers are those of the engine that wrote the run."""

import json
from pathlib import Path

import pytest

from fedsim.data.passes import Passes
from fedsim.device.work import Work
from fedsim.results.numbers import headline, metric_curve, outcome_rows
from fedsim.results.run import Run
from fedsim.schema import RUN_SCHEMA
from fedsim.server.task import Evaluation
from fedsim.units import HOUR_S
from tests.build import RecordingTrainer, always, by_device, device, network, played, simulation, sync

WORK = Work(download_bytes=100, upload_bytes=50, passes=Passes(1, 10))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Five rounds of four devices of which the fastest three count: 10 s down, 5 s up, training 100 to 1,600 s."""
    phone = device(by_device(100.0, 200.0, 400.0, 1600.0), link=network(down=10.0, up=10.0))
    parts = simulation(
        sync(3, over_selection=4 / 3),
        fleet=always(4),
        phone=phone,
        work=WORK,
        max_steps=5,
        trainer=RecordingTrainer(),
        evaluation=Evaluation(every_steps=1, every_s=None),
    )
    tables = played(parts, tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps(dict(tables.summary)))
    (tmp_path / "provenance.json").write_text(json.dumps({"schema": RUN_SCHEMA}))
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    return Run.load(tmp_path)


def test_totals_agree_with_the_summary(run: Run) -> None:
    numbers, summary = headline(run), run.summary
    assert numbers["n_distinct_devices"] == summary["n_devices_touched"] == 4
    assert (numbers["download_bytes"], numbers["upload_bytes"]) == (summary["download_bytes"], summary["upload_bytes"])
    assert numbers["n_abandoned_rounds"] == summary["n_abandoned_rounds"]
    assert {row.outcome: row.n for row in outcome_rows(run)} == summary["outcomes"]


def test_times_by_hand(run: Run) -> None:
    numbers = headline(run)
    assert numbers["step_median_s"] == 415.0  # the third of four is done after 10 + 400 + 5 s
    curve = metric_curve(run, "version")
    assert curve.value.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert curve.device_h[1] * HOUR_S == pytest.approx(115.0 + 215.0 + 415.0)  # the fourth phone is still training
