"""Old names and where they are now: a ``_target_`` or an import of one is answered with the new name, in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

_GENERATOR = ("parameters", "walk", "synthesis", "onoff", "fit", "segments", "calibrate", "generators", "goodness")
_STATISTICS = ("stats", "left", "sweep", "criteria_text", "overview", "portrait", "published", "slopes")
MODULES = {
    "fedsim.report.run": "fedsim.results.run",
    "fedsim.report.sessions": "fedsim.results.sessions",
    "fedsim.report.binning": "fedsim.results.binning",
    "fedsim.report.tables": "fedsim.results.numbers",
    "fedsim.report.costs": "fedsim.cost.text",
    **{f"fedsim.traces.{name}": f"fedsim.traces.generator.{name}" for name in (*_GENERATOR, "compare")},
    **{f"fedsim.traces.{name}": f"fedsim.traces.statistics.{name}" for name in _STATISTICS},
    **{f"fedsim.traces.{name}": f"fedsim.traces.edit.{name}" for name in ("debounce", "merge", "resample", "assemble")},
    "fedsim.traces.importers.spans": "fedsim.traces.spans",
    "fedsim.device.cost": "fedsim.cost.table",
    "fedsim.device.cost_summary": "fedsim.cost.summary",
    "fedsim.device.model_work": "fedsim.training.model_work",
    "fedsim.cost_task": "fedsim.cost.task",
    "fedsim.model_count": "fedsim.training.count",
    "fedsim.training.loop": "fedsim.training.backend.loop",
    "fedsim.training.cohort": "fedsim.training.backend.cohort",
    "fedsim.model_config": "fedsim.config.task",
    "fedsim.build": "fedsim.config.build",
    "fedsim.run": "fedsim.cli.run",
    "fedsim.bench": "fedsim.cli.bench",
    "fedsim.progress": "fedsim.cli.progress",
    "fedsim.commands": "fedsim.cli.commands",
    "fedsim.cli_traces": "fedsim.cli.traces",
    "fedsim.server.sync": "fedsim.server.protocol.sync",
    "fedsim.server.buffered": "fedsim.server.protocol.buffered",
    "fedsim.server.coordinator": "fedsim.server.protocol.coordinator",
}
_COMPOSE, _FLEET, _TRAINER = ("composed", "explained", "plain"), ("build_fleet", "build_phones", "build_gates"), (
    "build_module", "central_metrics")  # fmt: skip
NAMES = {  # of files that became folders, and what left a file that stays
    **{f"fedsim.config.{name}": f"fedsim.config.compose.{name}" for name in _COMPOSE},
    **{f"fedsim.config.{name}": f"fedsim.config.fleet.{name}" for name in _FLEET},
    **{f"fedsim.config.{name}": f"fedsim.config.trainer.{name}" for name in _TRAINER},
    "fedsim.config.load_traces": "fedsim.config.fleet.build_traces",
    "fedsim.config.build_device": "fedsim.config.simulation.build_device",
    "fedsim.config.build_simulation": "fedsim.config.simulation.build_simulation",
    "fedsim.training.local.LocalSgd": "fedsim.training.algorithm.sgd.LocalSgd",
    "fedsim.config.trainer_of": "fedsim.config.trainer.trainer_of",
    "fedsim.device.session.Spent": "fedsim.device.spent.Spent",
    "fedsim.device.session.spent": "fedsim.device.spent.spent",
    "fedsim.server.inbox.NO_SESSIONS": "fedsim.device.session.NO_SESSIONS",
    "fedsim.server.job.Stop": "fedsim.server.task.Stop",
    "fedsim.server.job.Evaluation": "fedsim.server.task.Evaluation",
    "fedsim.simulation.reachable": "fedsim.device.world.reachable",
    "fedsim.traces.canonical.TraceWriter": "fedsim.traces.folder.TraceWriter",
    "fedsim.traces.canonical.validate": "fedsim.traces.validation.validate",
    "fedsim.training.flops.Layer": "fedsim.training.model_work.LayerWork",
    "fedsim.cost_task.Task": "fedsim.cost.task.CostTask",
    "fedsim.traces.compare.Comparison": "fedsim.traces.generator.compare.SetComparison",
    "fedsim.traces.published.Comparison": "fedsim.traces.statistics.published.PublishedStatistic",
    "fedsim.training.loop.LoopTrainer": "fedsim.training.server.FederatedTrainer",
    "fedsim.training.cohort.CohortTrainer": "fedsim.training.server.FederatedTrainer",
    "fedsim.server.selector.UniformSelector": "fedsim.server.selector.uniform.UniformSelector",
    **{f"fedsim.server.selector.{name}": f"fedsim.server.selector.selection.{name}" for name in
       ("Selection", "Selector")},
    "fedsim.log.JobLog": "fedsim.server.books.JobLog",
}  # fmt: skip


def moved_to(name: str) -> str | None:
    """The present name of what had this dotted name; None if it has not moved."""
    if name in NAMES:
        return NAMES[name]
    module, dot, rest = name, "", ""
    while module not in MODULES:
        module, _, last = module.rpartition(".")
        if not module:
            return None
        dot, rest = ".", last + dot + rest
    return MODULES[module] + dot + rest


class _Finder:
    """The last in line of those who look for a module: whoever asks for one that has moved is told where it is."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in MODULES:
            # without its name, or `from PACKAGE import` would take it for a name that the package lacks
            raise ModuleNotFoundError(f"{name} is now {MODULES[name]}")


def answer_imports() -> None:
    """From now on imports of modules that have moved are answered."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)


def names_of(package: str) -> Callable[[str], NoReturn]:
    """The ``__getattr__`` of a package that was a file: names that it had are answered with their present place."""

    def answer(name: str) -> NoReturn:
        full = f"{package}.{name}"
        if full in NAMES:
            raise ImportError(f"{full} is now {NAMES[full]}", name=package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return answer
