"""The command as a user meets it: exit codes, one-line errors, help, files whole or absent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fedsim
from fedsim.cli.main import main
from tests.smoke import small

SMALL = ["stop.max_steps=3", "fleet.n_devices=2000", "server.report_goal=5"]


def run(*words: str) -> int:
    return main(["run", *small(words)])


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["traces", "--help"], ["bench", "--help"]])
def test_help_teaches(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "usage: fedsim" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fedsim {fedsim.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--version"], ["run", "seed=-1"], ["nothing"]])
def test_the_package_is_the_command(words: list[str]) -> None:
    def ended(*command: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, *command, *words], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    command = ended("-c", "import sys; from fedsim.cli.main import main; sys.exit(main())")
    assert ended("-m", "fedsim") == command
    assert command[0] == (0 if words == ["--version"] else 2)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from fedsim.cli.main import parser; parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "matplotlib", "scipy.stats", "numpy", "hydra", "sklearn"} & set(loaded)


def test_the_engine_imports_neither_torch_nor_scipy() -> None:
    code = "import sys; import fedsim.simulation; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "matplotlib", "scipy", "hydra", "sklearn"} & set(loaded)


@pytest.mark.slow
def test_the_engine_runs_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from fedsim.cli.main import main; "
        f"code = main(['run', 'training=none', 'report=false', 'hydra.run.dir={tmp_path}', *{SMALL!r}]); "
        "assert code == 0; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False False"


@pytest.mark.slow
def test_a_run_leaves_all_its_files(tmp_path: Path) -> None:
    assert run(f"hydra.run.dir={tmp_path}", *SMALL) == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert {
        "config.yaml", "provenance.json", "summary.json", "sessions", "steps.parquet", "evals.parquet",
        "gauges.parquet", "report.html",
    } <= names  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["n_steps"] == 3
    assert sum(summary["outcomes"].values()) == summary["n_sessions"]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_sweep_runs_every_job(tmp_path: Path) -> None:
    assert run("-m", "seed=0,1", "training=none", "report=false", f"hydra.sweep.dir={tmp_path}", *SMALL) == 0
    seeds = [json.loads((tmp_path / str(i) / "summary.json").read_text())["seed"] for i in range(2)]
    assert seeds == [0, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "fleet.n_device=3"], "n_device"),
        (["run", "fleet.rule=charging & screen"], "quotes of their own"),
        (["cost", "fleet.rule=charging & screen"], "quotes of their own"),
        (["run", "server=syn"], "syn"),
        (["run", "fleet.n_devices=-3"], "fleet.n_devices"),
        (["run", "traces.folder=nowhere"], "nowhere"),
        (["traces", "show", "nowhere"], "nowhere"),
        (["traces", "criteria", "nowhere", "charging"], "nowhere"),
        (["traces", "import", "flash", "nowhere.json", "out"], "nowhere.json"),
        (["report", "nowhere"], "nowhere"),
        (["bench", "nothing"], "nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("fedsim: ")
    assert expected in captured.err


@pytest.mark.slow
def test_nobody_eligible_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["training=none", "fleet.rule='battery <= 0 & battery >= 100'", f"hydra.run.dir={tmp_path}"]
    assert run(*words) == 3
    assert "ever eligible" in capsys.readouterr().err
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_names_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "criteria" in capsys.readouterr().out
