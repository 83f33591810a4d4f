"""SPEC.yaml: the question, what is asked for, where numbers come from; every key is checked before anything runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from fedsim.config.build import build, check_group
from fedsim.config.lines import shown
from fedsim.decide.regions import region_overrides
from fedsim.errors import InputError
from fedsim.files import existing, sha256
from fedsim.plan.judge import LOOKS
from fedsim.ranges import BatchSize, Count, DeviceCount, LearningRate, NotNegative, Positive, Range, Share01
from fedsim.traces.rule import Rule

SECTIONS = (
    "decision", "reasons", "constraints", "models", "data", "training", "forecast", "privacy", "fairness",
    "requirements", "confidence", "sensitivity", "levers", "budget",
)  # fmt: skip
GROUPINGS = {"device_tier": "tier", **{name: name for name in ("tier", "region", "activity", "size", "participation")}}
_DURATIONS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "weeks": 604800.0, "w": 604800.0}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True)
class Question:
    """``decision``: what is asked, by whom, until when the answer holds."""

    id: str
    question: str
    owner: str
    decide_by: date | str | None = None
    valid_days: Annotated[int, Range(1, 36_500)] = 180
    alternatives: Sequence[str] = ()


@dataclass(frozen=True)
class Reason:
    """Why FL at all, with its evidence."""

    kind: str
    text: str
    evidence: str


@dataclass(frozen=True)
class Constraints:
    """``constraints``: the fleet, and criteria from strict to loose."""

    criteria: Sequence[str]
    traces: Mapping[str, Any] = field(default_factory=dict)
    population: Mapping[str, Any] = field(default_factory=dict)
    rollout: Mapping[str, NotNegative] | None = None
    requires: str | None = None
    at_most_every: str | None = None


@dataclass(frozen=True)
class Traces:
    """Which trace set: a folder, shares of several, or a choice of the configuration."""

    folder: str | None = None
    mixture: Mapping[str, NotNegative] | None = None
    config: str | None = None


@dataclass(frozen=True)
class Population:
    """How many phones, and where they are."""

    n_devices: DeviceCount | None = None
    region_shares: Mapping[str, Share01] | None = None


@dataclass(frozen=True)
class Models:
    """``models``: candidates, cheapest first, the phones that train them and the law of their time."""

    candidates: Sequence[Mapping[str, str]]
    hardware: str | None = None
    law: str | None = None
    limits: Mapping[str, Positive] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """``data``: what phones hold, and how the central model beside is trained."""

    config: str
    kind: Literal["natural", "proxy", "synthetic"]
    central: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Central:
    """Of the central model, one for each seed."""

    epochs: Annotated[int, Range(0, 10_000)] = 0
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    replications: Annotated[int, Range(1, 100)] | None = None


@dataclass(frozen=True)
class Training:
    """``training``: ways to train beside each other, and over how many seeds."""

    arms: Mapping[str, str]
    common: str = ""
    replications: Mapping[str, Any] = field(default_factory=dict)
    common_random_numbers: bool = True


@dataclass(frozen=True)
class Replications:
    """How many seeds at first and at most; more are played until every must is decided."""

    first: Annotated[int, Range(1, 100)] = 3
    at_most: Annotated[int, Range(1, 100)] = 10
    until: Literal["decided"] = "decided"


@dataclass(frozen=True)
class Aggregator:
    """Of the server's workers."""

    service_s: NotNegative | None = None
    bytes_per_s: Positive | None = None
    wait_p99_s: Positive | None = None
    max_workers: Count | None = None
    tee_memory_bytes: Positive | None = None


@dataclass(frozen=True)
class ForecastKeys:
    """``forecast``: what the load is weighed with."""

    aggregator: Mapping[str, NotNegative] = field(default_factory=dict)
    retrain: str = "every 30d"
    prices: str | None = None
    constants: str | None = None
    grid: str | None = None
    energy: Mapping[str, NotNegative] = field(default_factory=dict)


@dataclass(frozen=True)
class Fairness:
    """``fairness``: groups of phones, and the least share of the phones at which one is judged."""

    groups: Sequence[str] = ()
    min_group_share: Share01 = 0.05


@dataclass(frozen=True)
class Change:
    """A value that may be another one: a key of the configuration or of ``forecast``, and values to try."""

    name: str
    key: str
    values: tuple[Any, ...]
    why: str
    is_of_forecast: bool = False

    def words(self, value: Any) -> tuple[str, ...]:
        """The override for one of the values."""
        return () if self.is_of_forecast else (f"{self.key}={text_of(value)}",)


@dataclass(frozen=True)
class _Change:
    values: Sequence[Any]
    override: str | None = None
    key: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Budget:
    """How many processes, and how long the whole may take."""

    cores: Annotated[int, Range(1, 1024)] = 2
    minutes: Annotated[float, Range(0.01, 100_000)] = 60.0


@dataclass(frozen=True)
class Spec:
    """A specification as read; ``told`` is what the file says, for what is cached by it."""

    path: Path
    sha256: str
    told: Mapping[str, Any]
    decision: Question
    reasons: tuple[Reason, ...]
    constraints: Constraints
    models: Models
    model_words: tuple[str, ...]
    data: Data
    central: Central
    training: Training
    replications: Replications
    forecast: ForecastKeys
    aggregator: Aggregator
    retrain_days: float
    privacy: Mapping[str, Any]
    fairness: Fairness
    confidence: float
    sensitivity: tuple[Change, ...] | None
    levers: tuple[Change, ...]
    budget: Budget

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many seeds it is looked at the runs."""
        first, most = self.replications.first, self.replications.at_most
        return tuple(sorted({first, *(n for n in LOOKS if first < n < most), most}))

    @property
    def fleet_words(self) -> tuple[str, ...]:
        """Overrides of the fleet, without its rule."""
        asked, words = self.constraints, []
        traces = build(asked.traces, "constraints.traces", target=Traces)
        population = build(asked.population, "constraints.population", target=Population)
        words += words_of(traces.config, "constraints.traces.config")
        words += [f"traces.folder={text_of(traces.folder)}"] if traces.folder else []
        words += [f"traces.mixture={text_of(dict(traces.mixture))}"] if traces.mixture else []
        words += [f"fleet.n_devices={population.n_devices}"] if population.n_devices else []
        words += region_overrides(population.region_shares) if population.region_shares else []
        words += [f"fleet.rollout={text_of(asked.rollout)}"] if asked.rollout else []
        words += [f"fleet.hardware.requires={text_of(asked.requires)}"] if asked.requires else []
        if asked.at_most_every is not None:
            seconds = seconds_of(asked.at_most_every, "constraints.at_most_every")
            words.append(f"server.selector.min_between_sessions_s={seconds:g}")
        return tuple(words)

    @property
    def hardware_words(self) -> tuple[str, ...]:
        """Overrides of the phones and of the law of their time."""
        words = words_of(self.models.law, "models.law")
        if self.models.hardware is not None:
            words = ["fleet/hardware=table", f"fleet.hardware.table={text_of(self.models.hardware)}", *words]
        return (*words, *(f"cost.limits.{name}={value:g}" for name, value in self.models.limits.items()))

    @property
    def data_words(self) -> tuple[str, ...]:
        """Overrides of the data, the central model beside and the groups."""
        given = {name: value for name, value in vars(self.central).items() if name != "replications"}
        central = [f"training.central.{name}={value}" for name, value in given.items() if value is not None]
        groups = ",".join(GROUPINGS[name] for name in self.fairness.groups)
        return (*words_of(self.data.config, "data.config"), *central, f"evaluation.groups=[{groups}]")

    @property
    def common_words(self) -> tuple[str, ...]:
        """Overrides of all arms."""
        return tuple(words_of(self.training.common, "training.common"))

    def words(self, *, rule: str, model: str, arm: str) -> tuple[str, ...]:
        """All overrides of a candidate; later ones win, and an arm has the last word."""
        return (
            *self.data_words, *words_of(model, "models.candidates"), *self.hardware_words,
            *words_of(self.training.arms[arm], f"training.arms.{arm}"), *self.common_words, *self.fleet_words,
            f"fleet.rule={text_of(rule)}",
        )  # fmt: skip


def read_spec(path: Path) -> Spec:
    """Read a specification.

    Raises :class:`InputError`, one line that names the section: an unknown key, a value of another kind, a duration
    without a unit, a section that is missing.
    """
    told = _told(path, set())
    return _spec(path, told)


def _told(path: Path, seen: set[Path]) -> dict[str, Any]:
    """What the file says on top of what it ``extends``; groups are merged key by key."""
    try:
        told = yaml.safe_load(existing(path, "specification").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise InputError(f"specification cannot be read ({error})", where=path) from error
    check_group(told, f"specification {path.name}")
    base = told.pop("extends", None)
    if base is None:
        return dict(told)
    origin = (path.parent / str(base)).resolve()
    if origin in seen or origin == path.resolve():
        raise InputError("extends leads round to itself", value=base, where=path)
    return _merged(_told(origin, seen | {path.resolve()}), told)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both; null takes a key away, ``requirements`` and the like are merged name by name, lists replaced."""
    found = dict(below)
    for name, value in above.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            found[name] = _merged(found[name], value)
        else:
            found[name] = value
    return found


def _check_names(told: Mapping[Any, Any], where: str) -> None:
    """YAML takes numbers, dates and the like for names too; here all names are texts."""
    for name, value in told.items():
        if not isinstance(name, str):
            raise InputError("a name that is no text", value=name, where=where, allowed=f"'{name}' in quotes")
        if isinstance(value, Mapping):
            _check_names(value, f"{where}.{name}" if where else name)


def _spec(path: Path, told: dict[str, Any]) -> Spec:
    _check_names(told, path.name)
    unknown = [name for name in told if name not in SECTIONS]
    if unknown:
        raise InputError("unknown section", value=shown(unknown[0]), where=path, allowed=", ".join(SECTIONS))
    for name in ("decision", "constraints", "models", "data", "training", "requirements"):
        if name not in told:
            raise InputError(f"section {name} must be given", where=path)
    check_group(told["requirements"], "requirements")
    models, data = build(told["models"], "models", target=Models), build(told["data"], "data", target=Data)
    training = build(told["training"], "training", target=Training)
    keys = build(told.get("forecast", {}), "forecast", target=ForecastKeys)
    spec = Spec(
        path=path,
        sha256=sha256(path),
        told=told,
        decision=_question(told["decision"]),
        reasons=tuple(build(each, "reasons", target=Reason) for each in _list(told.get("reasons", []), "reasons")),
        constraints=build(told["constraints"], "constraints", target=Constraints),
        models=models,
        model_words=tuple(_config_of(each, f"models.candidates.{n}") for n, each in enumerate(models.candidates)),
        data=data,
        central=build(data.central, "data.central", target=Central),
        training=training,
        replications=_replications(training.replications),
        forecast=keys,
        aggregator=build(keys.aggregator, "forecast.aggregator", target=Aggregator),
        retrain_days=_every(keys.retrain),
        privacy=_group(told.get("privacy", {"mechanism": "none"}), "privacy"),
        fairness=_fairness(told.get("fairness", {})),
        confidence=_confidence(told.get("confidence", 0.95)),
        sensitivity=_changes(told, "sensitivity") if "sensitivity" in told else None,
        levers=_changes(told, "levers"),
        budget=build(told.get("budget", {}), "budget", target=Budget),
    )
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    """What the types do not tell; overrides are read once, so that a wrong one is refused here."""
    for name, given in (("criteria", spec.constraints.criteria), ("candidates", spec.model_words)):
        if not given:
            raise InputError(f"{name} are none", where=spec.path, allowed="one and more")
    for rule in spec.constraints.criteria:
        try:
            Rule.parse(rule)
        except InputError as error:
            raise InputError(f"constraints.criteria: {error}") from error
    if spec.constraints.requires is not None and spec.models.hardware is None:
        raise InputError("constraints.requires needs phones", value=spec.constraints.requires, allowed=_OF_PHONES)
    if not spec.training.arms:
        raise InputError("training.arms are none", where=spec.path, allowed="NAME: OVERRIDES")
    if not spec.training.common_random_numbers:
        raise InputError("training.common_random_numbers", value=False, allowed="true: arms share their draws")
    _ = spec.fleet_words, spec.hardware_words, spec.data_words, spec.common_words
    for arm in spec.training.arms:
        words_of(spec.training.arms[arm], f"training.arms.{arm}")


def _question(told: Any) -> Question:
    found: Question = build(_dated(told), "decision", target=Question)
    if not _ID.fullmatch(found.id):
        raise InputError("decision.id", value=found.id, allowed="letters, digits, dots and dashes: it names a folder")
    if found.decide_by is not None:
        try:
            date.fromisoformat(str(found.decide_by))
        except ValueError as error:
            raise InputError("decision.decide_by", value=found.decide_by, allowed="a date, as 2027-03-01") from error
    return found


_OF_PHONES = "models.hardware: a hardware table"


def _dated(told: Any) -> Any:
    """YAML makes a date of 2026-03-01; it is kept as the text that it was."""
    if isinstance(told, Mapping) and isinstance(told.get("decide_by"), date):
        return {**told, "decide_by": told["decide_by"].isoformat()}
    return told


def _list(told: Any, where: str) -> list[Any]:
    if not isinstance(told, list):
        raise InputError(where, value=shown(told), allowed="a list")
    return told


def _group(told: Any, where: str) -> Mapping[str, Any]:
    check_group(told, where)
    return dict(told)


def _config_of(told: Mapping[str, str], where: str) -> str:
    if set(told) != {"config"}:
        raise InputError(where, value=shown(dict(told)), allowed="{config: OVERRIDES}")
    words_of(told["config"], where)
    return told["config"]


def _replications(told: Mapping[str, Any]) -> Replications:
    found: Replications = build(told, "training.replications", target=Replications)
    if found.at_most < found.first:
        raise InputError("training.replications.at_most", value=found.at_most, allowed=f"{found.first} and more")
    return found


def _fairness(told: Any) -> Fairness:
    found: Fairness = build(told, "fairness", target=Fairness)
    for name in found.groups:
        if name not in GROUPINGS:
            raise InputError("fairness.groups", value=name, allowed=", ".join(GROUPINGS))
    return found


def _confidence(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0.5 <= told < 1:
        raise InputError("confidence", value=shown(told), allowed="0.5 ≤ … < 1")
    return float(told)


def _changes(told: Mapping[str, Any], where: str) -> tuple[Change, ...]:
    asked = told.get(where, {})
    check_group(asked, where)
    return tuple(_change(name, value, f"{where}.{name}") for name, value in asked.items())


def _change(name: str, value: Any, where: str) -> Change:
    written: _Change = build(value, where, target=_Change)
    keys = [key for key in (written.override, written.key) if key is not None]
    if len(keys) != 1 or not written.values:
        allowed = "{override: KEY, values: […]}, or {key: forecast.…, values: […]}"
        raise InputError(where, value=shown(value), allowed=allowed)
    if written.key is not None and not written.key.startswith("forecast."):
        raise InputError(f"{where}.key", value=written.key, allowed="a key of forecast; else override: KEY")
    return Change(name, keys[0], tuple(written.values), written.why, is_of_forecast=written.key is not None)


def _every(told: str) -> float:
    return seconds_of(told.removeprefix("every").strip(), "forecast.retrain") / _DURATIONS_S["d"]


def seconds_of(text: Any, where: str) -> float:
    """``24h``, ``30 min``, ``7d`` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(text).strip())
    if found is None or found[2] not in _DURATIONS_S or not float(found[1]) > 0:
        raise InputError(f"{where}: a duration with its unit", value=text, allowed="as 90s, 30min, 24h, 30d")
    return float(found[1]) * _DURATIONS_S[found[2]]


def words_of(text: str | None, where: str) -> list[str]:
    """Overrides of one text, taken apart as a shell would."""
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise InputError(f"{where} cannot be read ({error})", value=shown(text)) from error


def text_of(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {text_of(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text_of(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return '"' + str(value).replace('"', '\\"') + '"'
