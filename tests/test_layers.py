"""The house stands as designed: who may import whom, and one door for each foreign library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedsim

ROOT = Path(fedsim.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

WORDS = {"errors", "units", "rng", "schema", "files"}
ENGINE = WORDS | {"traces", "data", "fleet", "device", "server", "log"}
MAY_IMPORT = {
    **dict.fromkeys(WORDS, WORDS),
    "traces": WORDS | {"traces"},
    "data": WORDS | {"data"},
    "fleet": WORDS | {"traces", "fleet"},
    "device": WORDS | {"traces", "data", "fleet", "device"},
    "log": WORDS | {"device"},
    "server": ENGINE | {"training.trainer"},
    "training": WORDS | {"data", "training"},
    "simulation": ENGINE | {"training.trainer"},
    "results": WORDS | {"results"},
    "report": WORDS | {"results", "report"},
    "provenance": WORDS,
    "progress": WORDS | {"simulation"},
    "build": WORDS,
    "model_config": WORDS | {"build", "data", "device", "training.local"},
    "config": ENGINE | {"build", "model_config", "simulation", "training.trainer", "training.local"},
    "model_count": {"device", "training"},
    "bench": ENGINE | {"simulation", "config", "provenance", "training.trainer"},
    "cost": ENGINE | {"build", "config", "cost_task", "provenance", "report", "training"},
    "cost_task": ENGINE | {"build", "config", "model_config", "model_count", "training"},
    "run": WORDS | {"config", "progress", "provenance", "report"},
    "commands": set(),
    "cli_traces": {"errors", "commands", "traces.importers"},
    "cli": {"errors", "commands", "cli_traces"},
}
DOORS = {
    "simpy": {"server", "simulation", "bench"},
    "torch": {"training", "cost_task"},
    "hydra": {"config", "run"},
    "omegaconf": {"config", "run"},
    "matplotlib": {"report"},
    "sklearn": {"training", "data"},
}
MATPLOTLIB_FILES = {"report/plots.py", "report/figures.py", "report/svg.py", "report/trace_plots.py"}


def layer(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            yield (str(node.module), node.lineno)
            if node.module == "fedsim":
                yield from ((f"fedsim.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_follow_the_layers(file: Path) -> None:
    tree = ast.parse(file.read_text())
    for name, line in imported(tree):
        first, *rest = name.split(".")
        if first == "fedsim" and rest:
            allowed = MAY_IMPORT.get(layer(file), set())
            assert rest[0] in allowed or ".".join(rest[:2]) in allowed, f"{file.name}:{line} imports {name}"
        elif first in DOORS:
            assert layer(file) in DOORS[first], f"{file.name}:{line} opens a second door to {first}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_is_imported_inside_functions(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n.lineno for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{file.name}:{inner} imports inside {node.name}"


def test_matplotlib_has_one_door() -> None:
    users = {
        str(file.relative_to(ROOT))
        for file in FILES
        for name, _ in imported(ast.parse(file.read_text()))
        if name.split(".")[0] == "matplotlib"
    }
    assert users <= MATPLOTLIB_FILES


def test_the_engine_knows_no_torch_behind_any_import() -> None:
    torch_free = {"training/trainer.py", "training/local.py", "training/__init__.py"}
    for name in torch_free:
        for module, _ in imported(ast.parse((ROOT / name).read_text())):
            assert module.split(".")[0] != "torch"
            assert not module.startswith("fedsim.training.") or module.split(".")[2] in ("trainer", "local")
