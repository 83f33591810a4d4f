"""What is asked of a planner: a question as a file or as flags, checked before anything is played."""

from __future__ import annotations

import datetime
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from fedsim.config.build import build, check_group
from fedsim.config.compose import composed
from fedsim.config.lines import shown
from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.plan.judge import LOOKS
from fedsim.plan.quantities import DAYS_TO, MIN_GROUP, is_lower_better, quantity
from fedsim.plan.requirement import CENTRAL, Requirement, requirements_of
from fedsim.ranges import Count, Range, Steps

Find = Literal["smallest", "largest", "front", "launch", "criteria", "what_if"]
Method = Literal["grid", "optuna"]
MOST_VALUES, MOST_CANDIDATES = 100_000, 400
_ANY = Annotated[float, Range(-1e15, 1e15)]


@dataclass(frozen=True)
class Variable:
    """A key of the configuration and the values it may take, in the order told."""

    key: str
    values: Sequence[Any]


@dataclass(frozen=True)
class Objective:
    """A quantity of which less (or more) is better."""

    name: str
    unit: str
    is_lower_better: bool


@dataclass(frozen=True)
class Work:
    """When a campaign is done: after so many updates in the model, or so many server steps; None: the run says."""

    updates: Count | None = None
    steps: Steps | None = None

    def __post_init__(self) -> None:
        """Refuse both."""
        if self.updates is not None and self.steps is not None:
            raise InputError("work", value="updates and steps", allowed="one of them")


@dataclass(frozen=True)
class Replications:
    """Seeds of a candidate: at first, at most; enough when 95 % intervals are within ``narrow`` of the mean."""

    first: Annotated[int, Range(3, 100)] = 3
    at_most: Annotated[int, Range(3, 100)] = 10
    narrow: Annotated[float, Range(0, 1)] = 0.02

    def __post_init__(self) -> None:
        """Refuse fewer at most than at first."""
        if self.at_most < self.first:
            raise InputError("replications.at_most", value=self.at_most, allowed=f"{self.first} (first) and more")

    @property
    def looks(self) -> tuple[int, ...]:
        """How many seeds there are at each look."""
        between = {each for each in LOOKS if self.first < each < self.at_most}
        return tuple(sorted({self.first, self.at_most} | between))


@dataclass(frozen=True)
class Budget:
    """What a plan may use: processes at once, minutes of the clock, new runs; None: as much as it takes."""

    cores: Annotated[int, Range(1, 1024)] = 2
    minutes: Annotated[float, Range(0, 1e6, is_low_open=True)] | None = None
    runs: Annotated[int, Range(1, 1_000_000)] | None = None


@dataclass(frozen=True)
class _Head:
    """The group ``plan`` of a file; ``within`` and ``verify`` bound the search, ``fresh`` is the last check's seeds."""

    question: str = ""
    find: Find | None = None
    method: Method = "grid"
    train: bool = False
    within: Annotated[float, Range(0, 0.5)] = 0.0
    verify: Annotated[int, Range(1, MOST_CANDIDATES)] = 24
    train_at_most: Annotated[int, Range(1, 100)] = 4
    trials: Annotated[int, Range(2, 10_000)] = 30
    fresh: Annotated[int, Range(1, 100)] = 3
    alpha: Annotated[float, Range(1e-6, 0.5)] = 0.05


@dataclass(frozen=True)
class Spec:
    """A question, checked. ``metrics``: what runs of the base would evaluate, where they train."""

    question: str
    find: Find
    method: Method
    base: tuple[str, ...]
    variables: tuple[Variable, ...]
    requirements: tuple[Requirement, ...]
    objectives: tuple[Objective, ...]
    work: Work
    replications: Replications
    budget: Budget
    launch: datetime.date | None
    criteria: tuple[str, ...]
    changes: tuple[str, ...]
    metrics: tuple[str, ...]
    within: float
    verify: int
    train_at_most: int
    trials: int
    fresh: int
    alpha: float
    is_training: bool  # whether some run has to train

    @property
    def n_candidates(self) -> int:
        """Points of the grid over all variables."""
        return math.prod(len(each.values) for each in self.variables)


_GROUPS = (
    "plan", "base", "work", "search", "requirements", "minimise", "replications", "budget", "launch", "criteria",
    "what_if",
)  # fmt: skip


def read_spec(path: Path) -> Mapping[str, Any]:
    """The groups of a file.

    Raises :class:`InputError` if it is missing or no YAML mapping.
    """
    try:
        told = yaml.safe_load(existing(path, "plan").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"plan cannot be read ({error})", where=path) from error
    if not isinstance(told, Mapping):
        raise InputError("plan is not a mapping of keys to values", where=path, allowed=", ".join(_GROUPS))
    return told


def spec_of(told: Mapping[str, Any]) -> Spec:
    """A question from the groups of a file, each held against what it may hold."""
    unknown = [name for name in told if name not in _GROUPS]
    if unknown:
        raise InputError("unknown key", value=shown(unknown[0]), where="the plan", allowed=", ".join(_GROUPS))
    head: _Head = build(told.get("plan") or {}, "plan", target=_Head)
    base = words_of(told.get("base", ()), "base")
    metrics, has_central = _measured(base)
    asked = told.get("requirements") or {}
    check_group(asked, "requirements")
    requirements = requirements_of(asked, metrics, has_central=has_central) if asked else ()
    objectives = _objectives(told.get("minimise", ()), metrics)
    variables = _variables(told.get("search") or {})
    spec = Spec(
        question=head.question,
        find=head.find or _guessed(told, variables),
        method=head.method,
        base=base,
        variables=variables,
        requirements=requirements,
        objectives=objectives,
        work=build(told.get("work") or {}, "work", target=Work),
        replications=build(told.get("replications") or {}, "replications", target=Replications),
        budget=build(told.get("budget") or {}, "budget", target=Budget),
        launch=_date(told.get("launch")),
        criteria=_texts(told.get("criteria"), "criteria"),
        changes=_texts(told.get("what_if"), "what_if"),
        metrics=metrics,
        within=head.within,
        verify=head.verify,
        train_at_most=head.train_at_most,
        trials=head.trials,
        fresh=head.fresh,
        alpha=head.alpha,
        is_training=head.train or _has_learned(requirements, objectives, metrics),
    )
    _check(spec)
    return spec


def words_of(told: Any, where: str) -> tuple[str, ...]:
    """Overrides from a text, split as a shell does, or from a list of texts."""
    if isinstance(told, str):
        try:
            return tuple(shlex.split(told))
        except ValueError as error:
            raise InputError(f"{where} cannot be split ({error})", value=shown(told)) from error
    return _texts(told, where)


def _texts(told: Any, where: str) -> tuple[str, ...]:
    told = () if told is None else told
    if isinstance(told, str) or not isinstance(told, Sequence) or not all(isinstance(each, str) for each in told):
        raise InputError(where, value=shown(told), allowed="a list of texts")
    return tuple(told)


def _date(told: Any) -> datetime.date | None:
    if told is None or (isinstance(told, datetime.date) and not isinstance(told, datetime.datetime)):
        return told
    try:
        return datetime.date.fromisoformat(str(told))
    except ValueError as error:
        raise InputError("launch", value=shown(told), allowed="a date, as 2026-03-01") from error


def _measured(base: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Metrics that runs of the base evaluate, and whether there is a central model beside them."""
    values = composed(base)
    training = values["training"]
    if str(training.get("_target_", "")).endswith("NullTrainer"):
        return (), False
    names = tuple(each if isinstance(each, str) else str(each.get("name", "")) for each in training.get("metrics", ()))
    return tuple(filter(None, names)), bool((training.get("central") or {}).get("epochs"))


def _needs_training(asked: Requirement | Objective, metrics: Sequence[str]) -> bool:
    name = asked.metric if isinstance(asked, Requirement) else asked.name
    is_compared = isinstance(asked, Requirement) and asked.compared_to == CENTRAL
    return name in metrics or name.startswith(DAYS_TO) or name.endswith(MIN_GROUP) or is_compared


def _has_learned(
    requirements: Sequence[Requirement], objectives: Sequence[Objective], metrics: tuple[str, ...]
) -> bool:
    asked: list[Requirement | Objective] = [*requirements, *objectives]
    return any(_needs_training(each, metrics) for each in asked)


def _objectives(told: Any, metrics: tuple[str, ...]) -> tuple[Objective, ...]:
    names = (told,) if isinstance(told, str) else _texts(told, "minimise")
    found = []
    for name in names:
        about = quantity(name, metrics)
        if about is None or name.startswith(DAYS_TO):
            known = f"days, device_hours, kg_co2e_per_model, …; METRIC of {', '.join(metrics) or 'none'}"
            raise InputError("minimise names no quantity of a plan", value=name, allowed=known)
        is_metric = name.removesuffix(MIN_GROUP) in metrics
        is_share = name.startswith("admitted_fraction")
        is_lower = is_lower_better(name.removesuffix(MIN_GROUP)) if is_metric else not is_share
        found.append(Objective(name, about.unit, is_lower))
    return tuple(found)


def _variables(told: Any) -> tuple[Variable, ...]:
    check_group(told, "search")
    return tuple(Variable(str(key), values_of(value, f"search.{key}")) for key, value in told.items())


@dataclass(frozen=True)
class _Span:
    """Numbers from one to another, both included."""

    start: _ANY
    end: _ANY
    step: Annotated[float, Range(0, 1e15, is_low_open=True)] = 1


def values_of(told: Any, where: str) -> Sequence[Any]:
    """The values of a variable: a list, or numbers ``{from: 20, to: 2000}`` with a ``step`` (none: 1)."""
    if isinstance(told, list) and told:
        if len(set(map(str, told))) < len(told):
            raise InputError(f"{where} has a value twice", value=shown(told), allowed="different values")
        return tuple(told)
    if not isinstance(told, Mapping):
        raise InputError(where, value=shown(told), allowed="a list of values, or {from: 20, to: 2000}")
    names = {"from": "start", "to": "end", "step": "step"}
    unknown = [name for name in told if name not in names]
    if unknown or not {"from", "to"} <= set(told):
        raise InputError(where, value=shown(dict(told)), allowed="from and to, and step where it is not 1")
    return _numbers(build({names[name]: value for name, value in told.items()}, where, target=_Span), where)


def _numbers(span: _Span, where: str) -> Sequence[Any]:
    if span.end < span.start:
        raise InputError(f"{where}.to", value=span.end, allowed=f"{span.start:g} (from) and more")
    n = math.floor((span.end - span.start) / span.step + 1e-9) + 1
    if n > MOST_VALUES:
        raise InputError(f"{where} has too many values", value=n, allowed=f"up to {MOST_VALUES:,}")
    if all(float(each).is_integer() for each in (span.start, span.step)):
        return range(int(span.start), int(span.start) + n * int(span.step), int(span.step))
    return tuple(round(span.start + place * span.step, 9) for place in range(n))


def _guessed(told: Mapping[str, Any], variables: Sequence[Variable]) -> Find:
    """What is asked, where the file does not say it: by what else it holds."""
    kinds: tuple[Find, ...] = ("launch", "criteria", "what_if")
    for name in kinds:
        if told.get(name):
            return name
    return "smallest" if len(variables) == 1 and told.get("requirements") else "front"


def _check(spec: Spec) -> None:
    """Refuse a question that lacks what its kind needs."""
    if spec.find in ("smallest", "largest"):
        _need(len(spec.variables) == 1, "search", len(spec.variables), f"one variable for find: {spec.find}")
        _need(bool(spec.requirements), "requirements", "none", "one and more: they say what is enough")
    if spec.find == "front":
        _need(bool(spec.variables), "search", "none", "KEY: values, one and more")
        _need(bool(spec.objectives), "minimise", "none", "one quantity and more, as [days, device_hours]")
        is_few = spec.method == "optuna" or spec.n_candidates <= MOST_VALUES
        _need(is_few, "search", spec.n_candidates, f"up to {MOST_VALUES:,} combinations, or plan.method: optuna")
    if spec.find == "launch":
        _need(spec.launch is not None, "launch", "none", "a date, as 2026-03-01")
    if spec.find == "criteria":
        _need(len(spec.criteria) > 1, "criteria", len(spec.criteria), "two rules and more: all hold together")
    if spec.find == "what_if":
        _need(bool(spec.changes), "what_if", "none", "overrides, as [server.over_selection=1.5]")


def _need(is_met: bool, what: str, value: object, allowed: str) -> None:
    if not is_met:
        raise InputError(what, value=value, allowed=allowed)
