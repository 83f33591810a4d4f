"""The public face: few names that load lazily, a run in this process that is the run of the command."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sklearn
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase

import fedsim
from fedsim.cli.main import main
from fedsim.config import play as play_module
from fedsim.config.compose import as_yaml
from fedsim.config.simulation import build_simulation
from fedsim.results.run import Run
from tests.smoke import composed

pytestmark = pytest.mark.slow

SMALL = (
    "training=none",
    "fleet.n_devices=2000",
    "server.report_goal=5",
    "stop.max_steps=2",
    "stop.max_s=86400",
    "experiment=smoke",
)
HEAVY = {"numpy", "pandas", "pyarrow", "torch", "hydra", "omegaconf", "yaml", "simpy", "rich", "scipy", "matplotlib"}


def shell(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    ).stdout.strip()


# ------------------------------------------------------------------------------------- names


def test_importing_fedsim_imports_nothing_heavy() -> None:
    loaded = {name.partition(".")[0] for name in shell("import sys, fedsim; print(*sys.modules)").split()}
    assert not HEAVY & loaded


def test_every_public_name_is_there() -> None:
    assert dir(fedsim) == sorted(fedsim.__all__)
    for name in fedsim.__all__:
        assert getattr(fedsim, name) is not None
    assert fedsim.Run is Run
    names: dict[str, Any] = {}
    exec("from fedsim import *", names)
    assert set(fedsim.__all__) <= set(names)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'fedsim' has no attribute 'simulat'"):
        getattr(fedsim, "simulat")  # noqa: B009  (a type checker would refuse it, too)


def test_the_version_is_that_of_the_distribution() -> None:
    assert fedsim.__version__ == version("fedsim-fleet")


def test_a_source_tree_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.delitem(vars(fedsim), "__version__", raising=False)
    monkeypatch.setattr("importlib.metadata.version", unknown)
    assert fedsim.__version__ == "0+not.installed"
    monkeypatch.delitem(vars(fedsim), "__version__")


# ------------------------------------------------------------------------------------- simulate


def told(folder: Path) -> dict[str, Any]:
    """Digests of a run's tables and what its other files say, wall time and report left out."""
    files = sorted(path for path in folder.rglob("*.parquet"))
    provenance = json.loads((folder / "provenance.json").read_text())
    del provenance["wall_s"]
    return {
        "tables": {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
        "summary": json.loads((folder / "summary.json").read_text()),
        "config": (folder / "config.yaml").read_text(),
        "provenance": provenance,
    }


@pytest.mark.slow
def test_it_is_the_run_of_the_command(tmp_path: Path) -> None:
    trained = (
        "experiment=smoke",
        "server.report_goal=5",
        "stop.max_steps=3",
        "training.central.epochs=1",
        "report=false",
    )
    run = fedsim.simulate(*trained, folder=tmp_path / "here")
    assert main(["run", *trained, f"hydra.run.dir={tmp_path / 'there'}"]) == 0
    assert told(run.folder) == told(tmp_path / "there")
    assert run.summary["central_metrics"]
    assert run.provenance["overrides"] == list(trained)


def test_it_gives_frames(tmp_path: Path) -> None:
    run = fedsim.simulate(*SMALL, folder=str(tmp_path))
    assert isinstance(run, fedsim.Run)
    assert len(run.steps) == run.summary["n_steps"] == 2
    assert len(run.gauges) > 0 and len(run.eligibility) == 7 * 24 * 6 and run.evals.empty
    outcomes = run.sessions(["outcome"])["outcome"]
    assert isinstance(outcomes.dtype, pd.CategoricalDtype)
    assert outcomes.value_counts().to_dict() == run.summary["outcomes"]


@pytest.mark.slow
def test_a_report_is_written_when_asked_for(tmp_path: Path) -> None:
    quiet = fedsim.simulate(*SMALL, folder=tmp_path / "quiet")
    told = fedsim.simulate(*SMALL, "report=true", folder=tmp_path / "told")
    assert not (quiet.folder / "report.html").exists()
    assert (told.folder / "report.html").exists()
    assert (quiet.config["report"], told.config["report"]) == (False, True)


@pytest.mark.slow
def test_runs_that_start_in_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Frozen(play_module.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Frozen:
            return cls(2026, 1, 31, 12, 0, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(play_module, "datetime", Frozen)
    folders = [fedsim.simulate(*SMALL).folder for _ in range(2)]
    assert folders == [tmp_path / "runs/2026-01-31/12-00-00", tmp_path / "runs/2026-01-31/12-00-00-2"]
    assert told(folders[0]) == told(folders[1])


def test_a_folder_that_holds_something_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(fedsim.InputError, match="folder for the run is not empty"):
        fedsim.simulate(*SMALL, folder=tmp_path)
    with pytest.raises(fedsim.InputError, match="folder for the run cannot be made"):
        fedsim.simulate(*SMALL, folder=tmp_path / "notes.txt" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fleet.n_device=3", "n_device"),
        ("fleet.n_devices=-3", "fleet.n_devices"),
        ("server=syn", "syn"),
        ("fleet.rule=charging & screen", "quotes of their own"),
        ("seed=0,1", "seed=0,1"),
        ("-m", "override cannot be read: '-m'"),
        ("hydra.run.dir=out", "folder=FOLDER"),
        ("hydra/launcher=joblib", "folder=FOLDER"),
        ("report=maybe", "report has the wrong type: 'maybe'"),
        (["seed=1"], "an override must be a string"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    override: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fedsim.InputError) as refused:
        fedsim.simulate(*SMALL, override)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("*.*"))


def test_a_world_that_cannot_go_on_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(fedsim.SimulationError, match="ever eligible"):
        fedsim.simulate(
            "experiment=smoke", "training=none", "fleet.rule='battery <= 0 & battery >= 100'", folder=tmp_path / "run"
        )
    with pytest.raises(fedsim.InputError, match="no run is here"):
        fedsim.open_run(tmp_path / "run")


def state() -> tuple[Any, ...]:
    root = logging.getLogger()
    loggers = sorted(logging.root.manager.loggerDict)
    handlers = (root.level, list(root.handlers), logging.root.manager.disable)
    return list(sys.argv), dict(os.environ), os.getcwd(), loggers, handlers, torch.get_rng_state().tolist()


@pytest.mark.slow
def test_nothing_else_in_the_process_changes(tmp_path: Path) -> None:
    assert sklearn.__version__  # it sets two variables of its own when it is first imported
    fedsim.simulate(*SMALL, folder=tmp_path / "first")  # scikit-learn sets variables of its own when it is imported
    before = state()
    fedsim.simulate(*SMALL[1:], folder=tmp_path / "second")
    assert state() == before


@pytest.mark.slow
def test_hydra_of_a_notebook_or_an_application_comes_back(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(version_base="1.2", config_dir=str(tmp_path)):
        theirs = GlobalHydra.instance().hydra
        fedsim.simulate(*SMALL, folder=tmp_path / "run")
        with pytest.raises(fedsim.InputError):
            fedsim.simulate("nothing=1")
        assert GlobalHydra.instance().hydra is theirs
        assert str(getbase()) == "1.2"
        assert compose("own").a == 1
    assert not GlobalHydra.instance().is_initialized()


# ------------------------------------------------------------------------------------- what playing rests on


def test_building_leaves_the_values_as_they_are() -> None:
    values = composed(["training=none", "fleet=america"])
    before = as_yaml(values)
    build_simulation(values)
    assert as_yaml(values) == before
    build_simulation(values)


def test_yaml_of_values_is_read_back_as_they_are(tmp_path: Path) -> None:
    values = {"text": "1e3", "number": 1e-3, "none": None, "rule": "charging & battery >= 80", "list": [1, "off"]}
    (tmp_path / "values.yaml").write_text(as_yaml(values))
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        assert compose("values") == values


# ------------------------------------------------------------------------------------- folders of the user's own


def server(folder: Path, name: str, report_goal: int) -> Path:
    """A folder of configurations with one server of another report goal."""
    text = f"defaults: [sync]\nreport_goal: {report_goal}\n"
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``small`` asks for 7, ``both`` for 8; the shipped ``sync`` stands there once more and asks for 9."""
    folder = server(server(server(tmp_path / "mine", "small", 7), "both", 8), "sync", 9)
    monkeypatch.setenv("FEDSIM_CONFIGS", str(folder))
    return folder


def goal(*overrides: str) -> int:
    return int(composed(overrides)["server"]["report_goal"])


def test_files_of_the_users_own_are_found(mine: Path) -> None:
    assert goal("server=small") == 7


def test_a_shipped_file_is_not_replaced_by_one_of_the_same_name(mine: Path) -> None:
    assert goal("server=sync") == goal() == 100


def test_a_search_path_may_be_given_besides_and_comes_last(mine: Path, tmp_path: Path) -> None:
    more = server(server(tmp_path / "more", "other", 11), "both", 12)
    given = f"hydra.searchpath=[file://{more}]"
    assert [goal(given, f"server={name}") for name in ("small", "other", "both", "sync")] == [7, 11, 8, 100]


def test_several_folders_are_looked_at_in_their_order(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = server(server(tmp_path / "more", "other", 11), "both", 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_CONFIGS", os.pathsep.join(["more", "", str(mine)]))
    assert [goal(f"server={name}") for name in ("small", "other", "both")] == [7, 11, 12]
    monkeypatch.setenv("FEDSIM_CONFIGS", "")
    with pytest.raises(fedsim.InputError, match="server/other"):
        goal("server=other")
    assert more.exists()


@pytest.mark.slow
def test_run_cost_simulate_and_sweeps_find_them(mine: Path, tmp_path: Path) -> None:
    words = [*SMALL[:2], *SMALL[3:], "report=false"]  # and the experiment
    assert main(["run", "server=small", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert main(["run", "-m", "server=small,both", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}"]) == 0
    fedsim.simulate("server=small", *words, folder=tmp_path / "here")
    runs = [tmp_path / "run", tmp_path / "sweep" / "0", tmp_path / "sweep" / "1", tmp_path / "here"]
    assert [fedsim.open_run(run).config["server"]["report_goal"] for run in runs] == [7, 7, 8, 7]
    assert main(["cost", "server=small", "--json", str(tmp_path / "cost.json")]) == 0


@pytest.mark.slow
def test_a_search_path_is_told_as_what_a_run_rests_on(mine: Path, tmp_path: Path) -> None:
    given = f"hydra.searchpath=[file://{mine}]"
    assert main(["run", given, *SMALL, "report=false", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    run = fedsim.simulate(given, *SMALL, "report=false", folder=tmp_path / "here")
    assert run.provenance["overrides"] == [given, *SMALL, "report=false"]
    assert told(run.folder) == told(tmp_path / "run")


@pytest.mark.parametrize("words", [["run"], ["run", "-m", "seed=0,1"], ["run", "--cfg", "job"], ["cost"]])
def test_a_folder_that_is_not_there_is_one_line(
    words: list[str], mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDSIM_CONFIGS", os.pathsep.join([str(mine), "nowhere"]))
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("fedsim: FEDSIM_CONFIGS names a folder that does not exist: 'nowhere'")
    assert said.err.count("\n") == 1
    with pytest.raises(fedsim.InputError, match="FEDSIM_CONFIGS"):
        fedsim.simulate()
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [1", "while parsing a flow sequence"),
        (b"\xff\xfe", "can't decode byte 0xff"),
        (b"a: ${nothing}", "Interpolation key 'nothing' not found"),
        (b"a: ${nothing:1}", "Unsupported interpolation type nothing"),
        (b"a: ${x", "no viable alternative at input '${x'"),
        (b"defaults: [nothing]", "Could not load 'server/nothing'"),
    ],
)
def test_a_broken_file_of_the_users_own_is_one_line(
    content: bytes, expected: str, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine / "server" / "broken.yaml").write_bytes(content)
    for words in (["run", f"hydra.run.dir={tmp_path / 'run'}"], ["cost"]):
        assert main([*words, "server=broken"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and expected in said


def test_other_applications_of_hydra_are_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CONFIGS", "nowhere")
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        assert compose("own").a == 1
