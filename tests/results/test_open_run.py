"""A run in a notebook: frames of its tables, and one line for a folder that is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.errors import InputError
from fedsim.results.run import Run, open_run
from fedsim.schema import GAUGES, NETWORKS, OUTCOMES, SESSIONS, STEPS
from tests.report.fake_run import hand_made, table, without_sessions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = hand_made(tmp_path / "run", n_files=2)
    gauge = {column.name: 3 for column in GAUGES.columns}
    pq.write_table(table(GAUGES, [gauge]), made / "gauges.parquet")
    return made


@pytest.fixture
def run(folder: Path) -> Run:
    return open_run(folder)


def test_what_the_files_say(run: Run, folder: Path) -> None:
    assert open_run(str(folder)).folder == folder
    assert (run.summary["n_sessions"], run.config["seed"], run.provenance["seed"]) == (5, 3, 3)
    assert repr(run) == f"Run({str(folder)!r})"  # not all that it holds


def test_small_tables_are_frames(run: Run) -> None:
    assert list(run.steps.columns) == [column.name for column in STEPS.columns]
    assert run.steps["n_aggregated"].dtype == np.int64
    assert run.steps["is_committed"].dtype == bool
    assert run.evals["at"].is_monotonic_increasing
    assert set(run.evals["metric"]) == set(run.summary["metrics"])
    assert run.gauges["in_flight_max"].tolist() == [3]
    assert run.eligibility["at"].is_monotonic_increasing
    assert run.steps is run.steps  # a column that a notebook adds stays


def test_sessions_are_told_in_words(run: Run) -> None:
    rows = run.sessions()
    assert list(rows.columns) == [column.name for column in SESSIONS.columns]
    assert rows["outcome"].value_counts()[["AGGREGATED", "STALE", "INTERRUPTED", "LATE"]].tolist() == [2, 1, 2, 0]
    assert rows["network"].value_counts()[["wifi", "4g"]].tolist() == [3, 2]
    assert tuple(rows["outcome"].cat.categories) == OUTCOMES
    assert tuple(rows["network"].cat.categories) == NETWORKS
    assert rows["upload_end_at"].isna().sum() == 2


def test_few_columns_are_read_in_the_order_asked_for(run: Run, folder: Path) -> None:
    for part in (folder / "sessions").iterdir():  # what is not asked for need not even be there
        pq.write_table(pq.read_table(part).drop_columns(["upload_j"]), part)
    rows = run.sessions(columns=["outcome", "device_id"])
    assert list(rows.columns) == ["outcome", "device_id"]
    assert isinstance(rows["outcome"].dtype, pd.CategoricalDtype)
    with pytest.raises(InputError, match="'upload_j' is missing"):
        run.sessions()


@pytest.mark.parametrize("columns", [["outcome", "colour"], []])
def test_columns_that_are_none_are_refused(run: Run, columns: list[str]) -> None:
    with pytest.raises(InputError, match=r"columns of sessions: .* \(allowed: session_id, device_id"):
        run.sessions(columns=columns)


def test_a_run_without_sessions_has_an_empty_frame(tmp_path: Path) -> None:
    rows = open_run(without_sessions(tmp_path / "run")).sessions(["network", "end_at"])
    assert rows.empty
    assert tuple(rows["network"].cat.categories) == NETWORKS


def test_lost_sessions_are_seen(run: Run, folder: Path) -> None:
    (folder / "sessions" / "part-00001.parquet").unlink()
    with pytest.raises(InputError, match=r"disagree: \d"):
        run.sessions(["outcome"])


def test_an_outcome_without_a_word_is_one_line(run: Run, folder: Path) -> None:
    part = folder / "sessions" / "part-00000.parquet"
    rows = pq.read_table(part)
    at = rows.column_names.index("outcome")
    pq.write_table(rows.set_column(at, "outcome", pa.array([99] * rows.num_rows, pa.int8())), part)
    with pytest.raises(InputError, match="table 'sessions' cannot be read"):
        run.sessions()


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def is_a_folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def holds(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (shutil.rmtree, "run directory not found"),
        (emptied, "no run is here, config.yaml and summary.json are missing"),
        (is_a_folder("summary.json"), "summary cannot be read"),
        (is_a_folder("config.yaml"), "config of the run cannot be read"),
        (holds("summary.json", b"{"), "summary is not valid JSON"),
        (holds("summary.json", b"[]"), "summary is not a mapping"),
        (holds("summary.json", b"{}"), "summary lacks documented keys"),
        (holds("provenance.json", b"\xff"), "provenance is not valid JSON"),
        (holds("config.yaml", b"\xff"), "config of the run cannot be read"),
        (holds("config.yaml", b"a: [1"), "config of the run is not valid YAML"),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(folder: Path, break_it: Callable[[Path], None], expected: str) -> None:
    break_it(folder)
    with pytest.raises(InputError) as refused:
        open_run(folder)
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)
    assert folder.name in str(refused.value)


def test_pandas_is_imported_when_a_frame_is_asked_for(folder: Path) -> None:
    code = (
        f"import sys; from fedsim.results.run import open_run; run = open_run({str(folder)!r}); "
        "print('pandas' in sys.modules); run.steps; print('pandas' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]


# ------------------------------------------------------------------------------ filters, datasets, notebooks


def test_filters_are_of_the_stored_columns_and_take_words(run: Run) -> None:
    found = run.sessions(["session_id", "network"], filters=[("outcome", "in", ["STALE", "INTERRUPTED"])])
    assert found["session_id"].tolist() == [2, 3, 4]
    assert found["network"].tolist() == ["4g", "4g", "wifi"]
    assert run.sessions(["session_id"], filters=[("device_id", "=", 7), ("end_at", ">", 7200)])[
        "session_id"
    ].tolist() == [4]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("outcome", "==", "LOST")], "outcome of sessions: 'LOST'"),
        ([("colour", "==", 1)], "filter on sessions: ('colour', '==', 1)"),
        ([("end_at", "about", 1)], "filter on sessions"),
        ([("end_at", 1)], "filter on sessions: ('end_at', 1)"),
    ],
)
def test_a_filter_that_cannot_be_is_one_line(run: Run, filters: list[Any], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        run.sessions(["end_at"], filters=filters)
    assert str(refused.value).startswith(expected)


def test_a_dataset_reads_what_a_query_asks_for(run: Run) -> None:
    sessions = run.dataset("sessions")
    assert sessions.schema.names == [column.name for column in SESSIONS.columns]
    assert sessions.count_rows() == 5
    assert run.dataset("steps").to_table(columns=["version"]).column("version").to_pylist() == [1, 1, 2]
    with pytest.raises(InputError, match=r"table of a run: 'session' \(allowed: sessions, steps"):
        run.dataset("session")


def test_it_shows_itself_in_a_notebook(run: Run) -> None:
    shown = run._repr_html_()
    for expected in ("4 h", "40.0% aggregated", "accuracy</th><td>0.9"):
        assert expected in shown


# ------------------------------------------------------------------------------ runs that are not complete


def test_a_run_that_is_not_complete_tells_what_it_came_to(folder: Path) -> None:
    (folder / "summary.json").unlink()
    with pytest.warns(UserWarning, match="run is not complete, it came to 4 h of simulated time"):
        run = open_run(folder)
    assert not run.is_complete
    assert (run.summary["n_sessions"], run.summary["n_steps"], run.summary["seed"]) == (5, 2, 3)
    assert run.summary["outcomes"]["INTERRUPTED"] == 2
    assert run.summary["metrics"] == {"accuracy": 0.9, "log_loss": 0.4}
    assert len(run.sessions(["end_at"])) == 5
    assert "not complete" in repr(run)
    assert "not complete" in run._repr_html_()
    with pytest.raises(InputError, match="run is not complete"):
        Run.load(folder)


def test_a_run_that_was_killed_has_what_it_had_written(folder: Path) -> None:
    for name in ("summary.json", "provenance.json", "steps.parquet", "evals.parquet", "gauges.parquet"):
        (folder / name).unlink()
    parts = sorted((folder / "sessions").glob("*.parquet"))
    parts[-1].rename(folder / "sessions" / ".part.tmp")
    with pytest.warns(UserWarning, match="run is not complete"):
        run = open_run(folder)
    assert run.summary["n_sessions"] == len(run.sessions(["end_at"])) == 2
    assert (len(run.steps), len(run.evals), run.summary["metrics"]) == (0, 0, {})
    assert run.summary["simulated_s"] == 5400.0
    assert run.dataset("steps").count_rows() == 0
