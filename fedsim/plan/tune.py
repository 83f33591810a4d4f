"""Searching large spaces with Optuna, which the extra ``plan`` brings: the one, lazy door to it."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from fedsim.errors import InputError
from fedsim.plan.spec import Spec
from fedsim.plan.trials import Candidate, Row, Trials


def tune(trials: Trials) -> None:
    """Try ``plan.trials`` candidates that Optuna's TPE proposes, with the objectives and the requirements by name.

    A requirement is a constraint: how far its estimate is on the bad side, as a share of its limit. The proposals
    follow from the seed 0 alone, so a plan that is started again asks for the same runs.

    Raises :class:`InputError` where Optuna is not installed.
    """
    optuna = _optuna()
    spec = trials.spec
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(optuna, spec)
    for _ in range(spec.trials):
        trial = study.ask()
        row = _tried(trials, Candidate(tuple((each.key, _value(trial, each)) for each in spec.variables)))
        found = [row.mean(each.name) for each in spec.objectives]
        trial.set_user_attr("constraints", violations(row))
        is_known = all(value == value for value in found) and not row.failures
        study.tell(trial, found if is_known else None, state=None if is_known else optuna.trial.TrialState.FAIL)


def _study(optuna: Any, spec: Spec) -> Any:
    directions = ["minimize" if each.is_lower_better else "maximize" for each in spec.objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that names and constraints are experimental, or have a newer spelling
        sampler = optuna.samplers.TPESampler(seed=0, constraints_func=lambda trial: trial.user_attrs["constraints"])
        study = optuna.create_study(directions=directions, sampler=sampler)
        study.set_metric_names([each.name for each in spec.objectives])
    return study


def _tried(trials: Trials, candidate: Candidate) -> Row:
    return trials.rows.get(candidate) or trials.decided(candidate)


def _value(trial: Any, variable: Any) -> Any:
    """What Optuna proposes for a variable: a place on its scale, so that steps and lists are kept exactly."""
    is_scale = all(isinstance(value, int | float) for value in variable.values[:2])
    if is_scale:
        return variable.values[trial.suggest_int(variable.key, 0, len(variable.values) - 1)]
    return trial.suggest_categorical(variable.key, list(variable.values))


def violations(row: Row) -> list[float]:
    """How far each must is on the bad side (positive), as a share of its limit; an unfinished run counts besides."""
    shares = [
        (each.requirement.limit - each.estimate) * (1 if each.requirement.is_floor else -1)
        / max(abs(each.requirement.limit), 1e-12)
        for each in row.judged
        if each.requirement.level == "must"
    ]  # fmt: skip
    return [*(share if share == share else 1.0 for share in shares), float(row.n_unfinished)]


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        allowed = "grid, or install it: pip install 'fedsim-fleet[plan]'"
        raise InputError("plan.method needs Optuna, which is not installed", value="optuna", allowed=allowed) from error
