"""Every recipe of CONTRIBUTING.md runs as it stands, in a package outside the repository; so does README's Python.

A block goes to the file that its first lines name, a line that begins with a command is run: with few devices and few
steps, and with the input that the recipe speaks of.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fedsim
from fedsim.cli.main import main
from fedsim.fleet.phones import LognormalPhones

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```\w+\n((?:# @package [^\n]*\n)?# (\S+\.\w+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^`fedsim .*$", re.MULTILINE)
SMALL = (
    "experiment=smoke", "fleet.n_devices=20_000", "stop.max_steps=2", "stop.max_s=86400", "report=false",
    "device.setup_s=0",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Files by their names, and the commands to be run in the folder above them."""

    name: str
    files: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]


def recipes() -> list[Recipe]:
    chapter = CONTRIBUTING.read_text(encoding="utf-8").split("\n## How to add a policy\n")[1].split("\n## ")[0]
    return [_recipe(*section.split("\n", 1)) for section in chapter.split("\n### ")[1:]]


def _recipe(name: str, text: str) -> Recipe:
    files = {file: block for block, file in BLOCK.findall(text)}
    commands = re.findall(r"`fedsim ([^`]+)`", "\n".join(COMMANDS.findall(text)))
    return Recipe(name, files, tuple(tuple(shlex.split(command)) for command in commands))


RECIPES = recipes()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All recipes in one package that Python and fedsim find, as one that is installed; and what they read."""
    folder = tmp_path_factory.mktemp("recipes")
    for recipe in RECIPES:
        for name, text in recipe.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    _install(folder)
    draw = np.random.default_rng(0)
    x, y, user = draw.normal(size=(2000, 64)), draw.integers(0, 10, 2000), draw.integers(0, 100, 2000)
    np.savez(folder / "own.npz", x=x, y=y, user=user)
    (folder / "log.txt").write_text("ann 0 30000\nbob 1000 5000\nann 70000 86400\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("FEDSIM_CONFIGS", str(folder / "configs"))
        patch.setenv("FEDSIM_DATASETS", str(folder))
        patch.chdir(folder)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def _install(folder: Path) -> None:
    """What `pip install` would tell Python of the package."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = folder / f"{project['name']}-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {door}\n" for name, door in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (told / "entry_points.txt").write_text("\n".join(groups))


def test_every_recipe_has_a_file_and_a_command() -> None:
    assert len(RECIPES) >= 15
    assert [recipe.name for recipe in RECIPES if not (recipe.files and recipe.commands)] == []
    named = [name for recipe in RECIPES for name in recipe.files]
    assert len(set(named)) == len(named)
    assert set(SEEN) <= {recipe.name for recipe in RECIPES}


def worked(run: fedsim.Run) -> tuple[pd.DataFrame, np.ndarray]:
    """Sessions that were aggregated, and the latencies of their phones in ms."""
    phones = LognormalPhones(seed=0, median_inference_ms=63, sigma=run.config["fleet"]["hardware"]["sigma"])
    rows = run.sessions().query("outcome == 'AGGREGATED'")
    return rows, phones.inference_ms(rows["device_id"].to_numpy())


def window(run: fedsim.Run) -> None:
    assert run.summary["protocol"] == "window"
    assert (run.steps["closed_at"] % 600 == 0).all()


def batch(run: fedsim.Run) -> None:
    assert (run.steps["closed_at"] % 60 == 0).all()


def fast(run: fedsim.Run) -> None:
    assert worked(run)[1].max() <= run.config["fleet"]["gates"]["fast"]["max_ms"]
    assert run.summary["admitted_fraction_mean"] < 0.9 * run.summary["eligible_fraction_mean"]


def by_trace(run: fedsim.Run) -> None:
    held = run.sessions(["base_trace", "client_id"])
    assert (held["base_trace"] == held["client_id"]).all()
    assert held["client_id"].max() < 100 < run.summary["n_base_traces"]


def linear(run: fedsim.Run) -> None:
    rows, latency_ms = worked(run)
    step_s = rows["compute_s"] / np.ceil(rows["n_examples"] / 10)
    assert (step_s / latency_ms).median() == pytest.approx(0.4 / 63, rel=0.1)


def capped(run: fedsim.Run) -> None:
    rows, _ = worked(run)
    down_s = rows["download_end_at"] - rows["assigned_at"] - 0.5
    assert (rows["download_bytes"] / down_s).max() == pytest.approx(1_000_000, rel=0.01)


def by_speed(run: fedsim.Run) -> None:
    rows, latency_ms = worked(run)
    watts = (rows["compute_j"] / rows["compute_s"]).to_numpy()
    assert watts * latency_ms == pytest.approx(3.0 * 63)
    assert (rows["battery_used_percent"] > 0).all()


def curve(run: fedsim.Run) -> None:
    n = 2 * run.config["server"]["report_goal"]
    assert run.summary["metrics"] == {"accuracy": pytest.approx(0.9 - 0.8 * np.exp(-n / 2000))}


def clipped(run: fedsim.Run) -> None:
    assert 0 < run.steps["update_norm"].max() <= 0.1


def chargers(run: fedsim.Run) -> None:
    assert run.summary["n_base_traces"] == 2


SEEN: Mapping[str, Callable[[fedsim.Run], None]] = {
    "Coordinator (protocol)": window,
    "Aggregator": batch,
    "Gate": fast,
    "Holders": by_trace,
    "Compute law": linear,
    "Network": capped,
    "Energy": by_speed,
    "Trainer": curve,
    "Backend": clipped,
    "Trace importer": chargers,
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_it_runs_as_it_stands(recipe: Recipe, package: Path, tmp_path: Path) -> None:
    for i, words in enumerate(recipe.commands):
        if words[0] != "run":
            assert main(list(words)) == 0
            continue
        folder = tmp_path / str(i)
        assert main([*words, *SMALL, f"hydra.run.dir={folder}"]) == 0
        run = fedsim.open_run(folder)
        assert run.summary["n_steps"] == 2
        if recipe.name in SEEN:
            SEEN[recipe.name](run)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["run"].folder == tmp_path / "runs/small"
