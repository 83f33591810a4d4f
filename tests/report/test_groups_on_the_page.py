"""The table of groups on a run's page."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fedsim.files import write_table
from fedsim.report.html import write_report
from fedsim.schema import GROUPS
from tests.report.fake_run import hand_made


def test_groups_stand_with_the_central_model_in_brackets(tmp_path: Path) -> None:
    run = hand_made(tmp_path / "run")
    assert "Whom the model serves" not in write_report(run).read_text()
    row = {"at": 1.0, "version": 2, "grouping": "tier", "n_devices": 1200, "n_examples": 3400, "metric": "accuracy"}
    rows = [
        row | {"group": "fast phones", "value": 0.87, "central_value": 0.91234},
        row | {"group": "slow phones", "value": None, "central_value": None},
    ]
    write_table(run / "groups.parquet", pa.Table.from_pylist(rows, GROUPS.arrow()), GROUPS)
    page = write_report(run).read_text()
    assert "Whom the model serves" in page and "the central model in brackets" in page
    assert "0.8700 (0.9123)" in page and "1,200" in page and "3,400" in page
