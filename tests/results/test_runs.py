"""Whole sweeps opened at once: which folders, in which order, what is left out, and frames of all runs together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fedsim
from fedsim.errors import InputError
from fedsim.results.runs import found_runs, open_runs, run_folders
from tests.results.many_runs import accuracy, written


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two arms of different numbers of seeds, in the order of a sweep's numbers, the tenth after the second."""
    arms = [(2, 0, 1.3), (10, 1, 1.3), (1, 0, 1.0)]
    for number, seed, share in arms:
        written(tmp_path / "sweep" / str(number), seed=seed, asked={"server.over_selection": share})
    (tmp_path / "sweep" / ".failed").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").write_text("hydra: {}\n")
    (tmp_path / "sweep" / "2" / "kept").mkdir()  # what lies in a run is the run's
    (tmp_path / "sweep" / "2" / "kept" / "config.yaml").write_text("seed: 1\n")
    return tmp_path / "sweep"


def test_a_sweep_is_read_in_the_order_of_its_jobs(sweep: Path) -> None:
    assert [folder.name for folder in run_folders(sweep)] == ["1", "2", "10"]
    assert [run.folder.name for run in open_runs(sweep)] == ["1", "2", "10"]
    assert [folder.name for folder in run_folders(sweep.parent)] == ["1", "2", "10"]
    assert run_folders(sweep / "10") == [sweep / "10"]


def test_frames_of_all_runs_tell_them_apart(sweep: Path) -> None:
    runs = fedsim.open_runs(sweep)
    assert list(runs.steps.columns[:3]) == ["run", "seed", "over_selection"]
    assert runs.steps.groupby("run").size().tolist() == [3, 3, 3]
    assert runs.evals.groupby("over_selection")["seed"].unique().map(list).to_dict() == {1.0: [0], 1.3: [0, 1]}
    assert runs.summary[["run", "seed", "over_selection", "n_sessions", "metrics.accuracy"]].iloc[2].tolist() == [
        2, 1, 1.3, 5, 0.9
    ]  # fmt: skip
    late = runs.sessions(["outcome", "end_at"], filters=[("outcome", "==", "INTERRUPTED"), ("end_at", "<", 8000)])
    assert late[["run", "seed", "end_at"]].values.tolist() == [[0, 0, 7200.0], [1, 0, 7200.0], [2, 1, 7200.0]]
    assert runs.gauges["run"].tolist() == [0, 1, 2]
    assert runs.dataset("sessions").count_rows() == 15


def test_it_shows_itself_in_a_notebook(sweep: Path) -> None:
    shown = open_runs(sweep)._repr_html_()
    assert "over_selection=1.3</td><td>2</td><td>0, 1" in shown
    assert repr(open_runs(sweep)) == "Runs(3 of 2 arms)"


def test_what_cannot_be_used_is_said_and_the_rest_is_read(sweep: Path, tmp_path: Path) -> None:
    nothing, other = tmp_path / "nothing", tmp_path / "other"
    nothing.mkdir()
    written(other, seed=5, asked={"server.over_selection": 1.3})
    said = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(said | {"schema": 1}))
    written(tmp_path / "again", seed=1, asked={"server.over_selection": 1.3})
    with pytest.warns(UserWarning) as warned:
        runs = open_runs(sweep, nothing, other, sweep / "10", tmp_path / "again")
    assert len(runs) == 4
    assert [arm.seeds for arm in runs.arms] == [[0], [0, 1]]
    lines = [str(each.message) for each in warned]
    for expected in ("no run is in", "another schema", "named twice", "the same configuration and seed as"):
        assert sum(expected in line for line in lines) == 1, expected
    assert not any("\n" in line for line in lines)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to read: no run is in"):
        open_runs(tmp_path)
    with pytest.raises(InputError, match="run directory not found"):
        open_runs(tmp_path / "missing")


def test_a_run_that_is_not_complete_is_opened_with_a_warning_or_left_out(sweep: Path) -> None:
    (sweep / "1" / "summary.json").unlink()
    with pytest.warns(UserWarning, match="run is not complete"):
        runs = open_runs(sweep)
    assert runs.summary["is_complete"].tolist() == [False, True, True]
    left = found_runs([sweep], may_be_incomplete=False)
    assert len(left) == 2
    assert left.left_out[0].startswith("run is not complete")


def test_evaluations_are_those_of_each_run(sweep: Path) -> None:
    written(sweep / "11", seed=2, asked={"server.over_selection": 1.3}, learned=accuracy(0.1, 0.7))
    evals = open_runs(sweep).evals
    assert evals[evals["seed"] == 2]["value"].tolist() == [0.1, 0.7]


def test_a_value_that_is_named_as_a_column_does_not_take_its_place(tmp_path: Path) -> None:
    for number, version in enumerate((5, 6)):
        written(tmp_path / str(number), seed=0, asked={"app.version": version})
    steps = open_runs(tmp_path).steps
    assert steps[steps["run"] == 1][["arm.version", "version"]].values.tolist() == [[6, 1], [6, 1], [6, 2]]
