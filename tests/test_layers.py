"""The house stands as designed: who may import whom, and one door for each foreign library."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import fedsim

ROOT = Path(fedsim.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {
    ".".join(("fedsim", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for file in FILES
}

WORDS = {"errors", "moved", "units", "schema", "rng", "targets", "folders", "files", "ranges"}
FLOOR = {f"traces.{name.stem}" for name in (ROOT / "traces").glob("*.py")}  # what a run needs of traces
ENGINE = WORDS | FLOOR | {"data", "fleet", "device", "server", "log"}
TRAINING = {"training.trainer", "training.local", "training.model_work"}  # what the engine knows of it: no torch
MAY_IMPORT = {  # by file or folder; the longest name counts
    **dict.fromkeys(WORDS, WORDS),
    "": WORDS | {"config.play", "results.run", "results.runs"},  # public names, behind a lazy door
    "__main__": {"cli.main"},
    "traces": WORDS | FLOOR,
    "traces.edit": WORDS | FLOOR | {"traces.edit"},
    "traces.statistics": WORDS | FLOOR | {"traces.statistics"},
    "traces.generator": WORDS | FLOOR | {"traces.edit", "traces.statistics", "traces.generator"},
    "traces.importers": WORDS | FLOOR | {"traces.importers"},
    "data": WORDS | {"data"},
    "fleet": WORDS | FLOOR | {"fleet"},
    "device": WORDS | FLOOR | {"data", "fleet", "device", "training.model_work"},
    "log": WORDS | {"device"},
    "server": ENGINE | TRAINING,
    "training": WORDS | {"data", "training"},
    "simulation": ENGINE | TRAINING,
    "cost": WORDS | FLOOR | {"data", "fleet", "device", "training", "cost"},
    "results": WORDS | {"results"},
    "report": WORDS | {"results", "report"},
    "forecast": WORDS | {"results", "forecast"},
    "report.data_page": WORDS | {"data", "report"},
    "report.forecast_page": WORDS | {"results", "report", "forecast"},
    "report.forecast_text": WORDS | {"results", "report", "forecast"},
    "provenance": WORDS,
    "config": ENGINE | TRAINING | {"traces.edit", "simulation", "config"},
    "config.play": ENGINE | {"results", "simulation", "provenance", "config"},
    "config.cost": ENGINE | TRAINING | {"training.flat", "cost", "config"},
    "plan": WORDS | {"config", "forecast", "plan", "report", "results"},
    "decide": WORDS
    | FLOOR
    | {"config", "data", "decide", "forecast", "plan", "provenance", "report", "simulation", "traces.statistics"},
    "cli.plan": WORDS | {"config", "plan", "report", "results"},
    "cli.decide": WORDS | {"decide", "plan"},
    "cli.decisions": {"cli.commands"},
    "cli": WORDS | FLOOR | {"traces.importers", "cli"} | {"fleet", "device", "data", "server", "config", "simulation"},
    "cli.cost": WORDS | FLOOR | {"cost", "config", "device", "fleet", "provenance", "training"},
    "cli.bench": ENGINE | TRAINING | {"config", "provenance", "simulation", "traces.statistics"},
    "config.recheck": WORDS | {"results", "config"},
    "cli.check": WORDS | {"config", "results", "report"},
    "cli.fixture": {"errors"},
    "cli.query": WORDS | {"results"},
    "cli.data": WORDS | {"data", "report"},
    "cli.data_folders": {"cli.commands"},
    "cli.forecast": WORDS | {"forecast", "report", "results"},
    "cli.compare": WORDS | {"report", "results"},
    "cli.run": WORDS | {"cli", "config"},
    "cli.sweep": WORDS | {"cli.outcome"},
    "cli.outcome": {"errors"},
    "cli.main": {
        "",
        "cli.commands",
        "cli.data_folders",
        "cli.decisions",
        "cli.of_runs",
        "cli.outcome",
        "cli.plans",
        "cli.traces",
    },
    "cli.of_runs": {"cli.commands"},
    "cli.plans": {"cli.commands"},
    "cli.traces": {"errors", "cli.commands", "cli.trace_folders", "cli.traces_import"},
    "cli.traces_import": {"errors", "cli.commands", "cli.trace_folders", "traces.importers"},
}
DOORS = {
    "simpy": {"server", "simulation", "cli.bench"},
    "torch": {"training"},
    "hydra": {"config", "cli.run", "cli.sweep"},
    "omegaconf": {"config", "cli.run"},
    "matplotlib": {"report"},
    "sklearn": {"training", "data"},
    "scipy": {"cost", "data", "device", "plan.arms", "plan.judge", "results"},
    "pandas": {"data", "results", "traces.importers"},
    "fsspec": {"data.table.reading"},
    "safetensors": {"training.checkpoint"},
    "PIL": {"data.table.shaped"},
    "jinja2": {"report"},
    "rich": {"cli", "cost", "traces.generator", "traces.statistics"},
    "duckdb": {"results.query"},
    "pytest": {"cli.fixture"},
    "optuna": {"plan.tune"},
    "yaml": {"config", "decide.spec", "forecast", "plan.spec", "report", "results", "traces.importers"},
}
EVERYWHERE = {"numpy", "pyarrow"} | sys.stdlib_module_names
MATPLOTLIB_FILES = {
    f"report/{name}.py"
    for name in (
        "plots",
        "figures",
        "svg",
        "trace_plots",
        "compare_plots",
        "gate_plots",
        "forecast_plots",
        "data_plots",
        "decision_plots",
        "plan_plots",
    )
}
AT_THE_ROOT = WORDS | {"__init__", "__main__", "log", "provenance", "simulation"}


def named(file: Path) -> str:
    """``traces.edit.merge`` for ``traces/edit/merge.py``, ``traces`` for ``traces/__init__.py``."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def is_in(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def allowed(name: str) -> set[str]:
    parts = name.split(".")
    prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((MAY_IMPORT[prefix] for prefix in prefixes if prefix in MAY_IMPORT), set())


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of imported modules and where; what a package of fedsim hands out is its module, if it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            yield from ((name, node.lineno) for name in inner or {str(node.module)})


@pytest.mark.parametrize("file", FILES, ids=named)
def test_imports_follow_the_layers(file: Path) -> None:
    importer = named(file)
    for name, line in imported(ast.parse(file.read_text())):
        first, _, rest = name.partition(".")
        if first == "fedsim" and rest:
            assert is_in(rest, allowed(importer)), f"{importer}:{line} imports {name}"
        elif first != "fedsim" and first not in EVERYWHERE:
            assert is_in(importer, DOORS.get(first, ())), f"{importer}:{line} opens a door to {first} that is not its"


@pytest.mark.parametrize("file", FILES, ids=named)
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
    for name in TRAINING | {"training"}:
        file = ROOT / name.replace(".", "/")
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        for module, _ in imported(ast.parse(file.read_text())):
            assert module.split(".")[0] != "torch"
            assert not module.startswith("fedsim.training") or is_in(module.removeprefix("fedsim."), TRAINING)


def test_no_circle() -> None:
    """Each file imports only files that do not, by any way, import it; imports for annotations count too."""
    after = {named(file): targets(file) for file in FILES}
    while free := [name for name, targets in after.items() if not targets & after.keys()]:
        for name in free:
            del after[name]
    assert not after


def targets(file: Path) -> set[str]:
    return {name.removeprefix("fedsim.") for name, _ in imported(ast.parse(file.read_text()))}


def test_few_files_at_the_root() -> None:
    assert {file.stem for file in ROOT.glob("*.py")} == AT_THE_ROOT
