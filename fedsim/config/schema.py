"""The whole configuration: every group, the keys it takes and what they may be, checked before anything is built.

A key that belongs to a class is described where the class is: by its signature, whose annotations tell types and
ranges. What belongs to no class is described here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from fedsim.config import roles
from fedsim.config.build import Key, check_group, check_keys, keys_of, takes_any, target_of
from fedsim.config.lines import check_lines, dotted, shown
from fedsim.config.roles import Role, check_foreign, targets
from fedsim.device.battery import BatteryLimits
from fedsim.device.session import Device
from fedsim.device.world import Unknown, WindowEnd
from fedsim.errors import InputError
from fedsim.fleet.admission import Rollout
from fedsim.fleet.fleet import Fleet, Region
from fedsim.ranges import (
    BatchSize,
    Bytes,
    IntervalS,
    LearningRate,
    NotNegative,
    Percent,
    Positive,
    Range,
    Seed,
    SomeTimeS,
    Threads,
    WattHours,
)  # fmt: skip
from fedsim.server.task import Evaluation, Stop
from fedsim.training.model_work import CostsAs
from fedsim.units import DAY_S

WEEK_S = 7 * DAY_S
_MOST_SAMPLES = 2_000_000  # of the gauges, which are kept in memory until a run ends
NetworkType = Literal["wifi", "2g", "3g", "4g", "5g"]
Size = Annotated[int, Range(1, 10_000_000)]


class Whole(TypedDict):
    """Keys at the top that are no groups."""

    seed: Seed
    gauge_interval_s: IntervalS
    report: bool
    force: bool
    estimate: bool
    objective: str | Sequence[str] | None
    paths: NotRequired[Mapping[str, str]]


class TracesKeys(TypedDict):
    """Of ``traces``: a folder, or shares of several."""

    folder: str | None
    mixture: Mapping[str, NotNegative] | None


class FleetKeys(TypedDict):
    """Of ``fleet``, beside those of :class:`fedsim.fleet.fleet.Fleet`."""

    rule: str
    unknown: Unknown
    window_end: WindowEnd


class HardwareKeys(TypedDict):
    """Of ``fleet.hardware``, beside those of its class."""

    requires: NotRequired[str | None]


class ComputeKeys(TypedDict):
    """Of ``device.compute``, beside those of its class."""

    time_factor: NotRequired[Positive]


class NetworkKeys(TypedDict):
    """Of ``device.network``, beside those of its class."""

    rate_factor: NotRequired[Positive]
    metered: NotRequired[Sequence[NetworkType]]


class ModelKeys(TypedDict):
    """Of ``model``: what its bytes and its work are counted from."""

    init_from: NotRequired[str | None]
    n_parameters: Annotated[int, Range(0, 10_000_000_000)] | None
    forward_flops: Annotated[float, Range(0, 1e18)] | None
    example_shape: Sequence[Size] | None
    example_dtype: Literal["float32", "int64"] | None
    download_bytes_per_parameter: Annotated[float, Range(0, 64)]
    upload_bytes_per_parameter: Annotated[float, Range(0, 64)]
    plan_bytes: Bytes
    assets_bytes: Bytes
    assets_refresh_days: Annotated[float, Range(1e-3, 10_000)] | None
    caches_model: bool


class FeaturesKeys(TypedDict):
    """Of ``features``; the catalogue has names of its own (:class:`fedsim.data.features.Catalogue`)."""

    catalogue: Mapping[str, Any]
    bytes_per_entry: Annotated[float, Range(0, 1e6)] | None
    embedding_rows_as: str | None


class TrainingKeys(TypedDict):
    """Of ``training``: what all trainers share; each takes of it what its class asks for."""

    loss: str | Mapping[str, Any]
    metrics: NotRequired[Sequence[str | Mapping[str, Any]]]
    n_threads: NotRequired[Threads]
    seed: NotRequired[Seed]


class CentralKeys(TypedDict):
    """Of ``training.central``: the baseline, plain SGD on the pooled data."""

    epochs: Annotated[int, Range(0, 10_000)]
    learning_rate: LearningRate
    batch_size: BatchSize


class CostKeys(TypedDict):
    """Of ``cost``: what is assumed of a participation."""

    n_examples: Annotated[int, Range(1, 1_000_000_000)] | None
    network: NetworkType
    battery_capacity_wh: WattHours
    assumed_ram_gb: Positive | None
    optimizer_floats_per_parameter: Annotated[float, Range(0, 1000)]
    runtime_bytes: Bytes
    n_classes: Annotated[int, Range(1, 1_000_000)]


class LimitKeys(TypedDict):
    """Of ``cost.limits``."""

    max_ram_fraction: Positive
    max_session_s: SomeTimeS
    max_battery_percent: Positive


class MeasureKeys(TypedDict):
    """Of ``cost.measure``."""

    batch_sizes: Sequence[BatchSize]
    warm_up: Annotated[int, Range(0, 10_000)]
    repeats: Annotated[int, Range(1, 10_000)]
    n_threads: Threads


class ModuleKeys(TypedDict):
    """Of ``model.module``, beside those of any class of torch."""

    _target_: str


class UnmodelledBattery(TypedDict):
    """Of ``device.battery`` where batteries are not modelled: what else is said has no meaning."""

    capacity_wh: None
    floor_percent: NotRequired[Percent]
    charge_percent_per_h: NotRequired[float]
    assumed_percent: NotRequired[Percent]


@dataclass(frozen=True)
class Group:
    """A group of values: the keys it takes, and the groups within it.

    ``takes`` are typed dictionaries, classes and functions whose parameters are keys; with a ``role`` those of the
    class that ``_target_`` names are keys too. ``given`` are parameters that code supplies, ``built`` those that it
    makes of values which ``takes`` describe.
    """

    takes: tuple[Any, ...] = ()
    role: Role | None = None
    given: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    parts: Mapping[str, Group | Names] = field(default_factory=dict)
    is_open: bool = False  # other keys may stand here, which are checked where they are built
    if_null: tuple[str, Any] | None = None  # where this key is null, this is what the group takes
    is_optional: bool = False  # null, or not given
    shared_with: str | None = None  # a part whose keys may stand here too, for other groups to refer to
    hint: str | None = None  # where a key is missing


@dataclass(frozen=True)
class Names:
    """A group with names of the user's own, each a group."""

    each: Group
    example: str
    is_optional: bool = False


_POLICY = ("phones", "fleet", "clients", "seed")
_LATER = Group(is_open=True, is_optional=True)  # built with torch, and only by trainers that ask for it
CONFIGURATION = Group(
    takes=(Whole,),
    parts={
        "traces": Group(takes=(TracesKeys,)),
        "fleet": Group(
            takes=(FleetKeys, Fleet),
            given=("traces", "seed", "trace_weight", "regions"),
            parts={
                "hardware": Group(takes=(HardwareKeys,), role=roles.PHONES, given=("fleet", "seed")),
                "rollout": Group(takes=(Rollout,), given=_POLICY, is_optional=True),
                "gates": Names(Group(role=roles.GATE, given=_POLICY), "NAME: {_target_: my.Gate, …}", is_optional=True),
                "regions": Names(Group(takes=(Region,)), "NAME: {share: 1.0, utc_offset_hours: 0.0}"),
            },
        ),
        "device": Group(
            takes=(Device,),
            given=("seed", "compute", "network", "energy", "time_factor"),
            parts={
                "compute": Group(
                    takes=(ComputeKeys,), role=roles.COMPUTE, given=("seed", "phones", "forward_flops", "model")
                ),
                "network": Group(takes=(NetworkKeys,), role=roles.NETWORK, given=("seed", "phones")),
                "energy": Group(role=roles.ENERGY, given=("phones",)),
                "battery": Group(takes=(BatteryLimits,), if_null=("capacity_wh", UnmodelledBattery)),
            },
        ),
        "holders": Group(role=roles.HOLDERS, given=_POLICY),
        "server": Group(
            role=roles.COORDINATOR,
            given=(*_POLICY, "aggregator"),
            parts={
                "selector": Group(role=roles.SELECTOR, given=_POLICY),
                "aggregator": Group(role=roles.AGGREGATOR, given=_POLICY),
            },
        ),
        "data": Group(role=roles.DATA),
        "model": Group(
            takes=(ModelKeys,),
            parts={
                "module": Group(takes=(ModuleKeys,), is_open=True),
                "costs_as": Group(takes=(CostsAs,), is_optional=True),
            },
            shared_with="module",
            hint="see configs/model/",
        ),
        "features": Group(takes=(FeaturesKeys,)),
        "training": Group(
            takes=(TrainingKeys,),
            role=roles.TRAINER,
            given=("model", "n_parameters", "data", "max_staleness"),
            built=("loss", "metrics"),
            hint="defaults: [task, _self_]",
            parts={
                "local": Group(role=roles.LOCAL_WORK),
                "central": Group(takes=(CentralKeys,)),
                "server_optimizer": _LATER,
                "backend": _LATER,
            },
        ),
        "stop": Group(takes=(Stop,)),
        "evaluation": Group(takes=(Evaluation,)),
        "cost": Group(
            takes=(CostKeys,),
            parts={"limits": Group(takes=(LimitKeys,)), "measure": Group(takes=(MeasureKeys,))},
            is_optional=True,
        ),
    },
)


def check_configuration(values: Mapping[str, Any]) -> None:
    """Hold a composed configuration against the schema.

    Raises:
        InputError: naming the first key that is unknown or missing, or whose value has a wrong type or range.
    """
    check_lines(values, "")
    _check(values, "", CONFIGURATION)
    for target in targets(values["model"]["module"]):  # whatever is trained
        check_foreign(str(target), "model.module")
    _check_samples(values["gauge_interval_s"], values["stop"]["max_s"])


def _check_samples(interval_s: float, max_s: float | None) -> None:
    """Refuse gauges that would fill the memory, or a run without end in time that samples all too often."""
    least_s = (WEEK_S if max_s is None else max_s) / _MOST_SAMPLES
    if interval_s < least_s:
        raise InputError("gauge_interval_s is short for stop.max_s", value=interval_s, allowed=f"{least_s:g} or more")


def _check(values: Any, key: str, group: Group | Names) -> None:
    if group.is_optional and values is None:
        return
    if isinstance(group, Names):
        _check_names(values, key, group)
        return
    check_group(values, key)
    missing = [name for name, part in group.parts.items() if name not in values and not part.is_optional]
    if missing:
        raise InputError(f"{dotted(key, missing[0])} must be given", where="the configuration", allowed=group.hint)
    keys, is_open = _keys(values, key, group)
    also = [*(["_target_"] if group.role else []), *group.parts, *_names(values.get(group.shared_with))]
    check_keys(values, key, keys, is_open=is_open, also=also, hint=group.hint)
    for name, part in group.parts.items():
        if name in values:
            _check(values[name], dotted(key, name), part)


def _keys(values: Mapping[str, Any], key: str, group: Group) -> tuple[dict[str, Key], bool]:
    """The keys that a group takes, and whether any other may stand beside."""
    takes, is_open = list(group.takes), group.is_open
    if group.if_null is not None and values.get(group.if_null[0], "") is None:
        takes = [group.if_null[1]]
    if group.role is not None:
        target = target_of(values, key, group.role)
        takes.insert(0, target)
        is_open = is_open or takes_any(target)
    supplied, keys = {*group.given, *group.parts}, dict[str, Key]()
    for each in takes:
        others = supplied if each in group.takes else supplied | {*group.built}
        keys |= {name: known for name, known in keys_of(each).items() if name not in others and name not in keys}
    return keys, is_open


def _names(values: Any) -> list[str]:
    return list(values) if isinstance(values, Mapping) else []


def _check_names(values: Any, key: str, names: Names) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"{key} must be a group of groups", value=shown(values), allowed=names.example)
    for name, part in values.items():
        _check(part, dotted(key, name), names.each)
