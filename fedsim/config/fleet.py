"""The groups ``traces`` and ``fleet``: the fleet, its phones, and who is asked."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np

from fedsim.config import roles
from fedsim.config.build import build, part
from fedsim.errors import InputError
from fedsim.fleet.admission import Gate, Requirement, Rollout
from fedsim.fleet.fleet import Fleet, Region
from fedsim.fleet.hardware import Hardware
from fedsim.fleet.phones import Phones
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.merge import merge
from fedsim.traces.folder import load_traces
from fedsim.traces.rule import Rule
from fedsim.units import FloatArray


def build_traces(values: dict[str, Any], rule: Rule | None = None) -> tuple[TraceSet, FloatArray | None]:
    """The trace set, or a mixture of sets given as folder → share, and the weights of its traces.

    Every set of a mixture must know what the rule asks: else its devices would never be eligible.
    """
    mixture = values["mixture"]
    if not mixture:
        if values["folder"] is None:
            raise InputError("traces.folder or traces.mixture must be given", where="the configuration")
        return load_traces(values["folder"]), None
    sets = [load_traces(folder) for folder in mixture]
    for folder, traces in zip(mixture, sets, strict=True):
        unknown = sorted(rule.channels - set(traces.channels())) if rule is not None else []
        if unknown:
            raise InputError(f"traces.mixture: a set has no {unknown[0]}, which fleet.rule asks for", value=folder)
    weights = [np.full(s.n, share / s.n) for s, share in zip(sets, mixture.values(), strict=True)]
    return merge(sets), np.concatenate(weights)


def build_fleet(values: dict[str, Any], traces: TraceSet, weight: FloatArray | None, seed: int) -> Fleet:
    """The fleet over a trace set; regions without a share are left out."""
    regions = {
        name: build(region, f"fleet.regions.{name}", target=Region) for name, region in part(values, "regions").items()
    }
    regions = {name: region for name, region in regions.items() if region.share != 0}
    return typing.cast(
        Fleet, build(values, "fleet", target=Fleet, traces=traces, seed=seed, regions=regions, trace_weight=weight)
    )


def build_phones(values: dict[str, Any], rule: Rule | None = None) -> tuple[Fleet, Phones, str | None]:
    """The fleet, its phones and what is required of them, from the groups ``traces`` and ``fleet``."""
    traces, weight = build_traces(values["traces"], rule)
    fleet_values = {key: value for key, value in values["fleet"].items() if key not in _NOT_FOR_FLEET}
    hardware = dict(part(dict(values["fleet"]), "hardware"))
    requires = hardware.pop("requires", None)
    fleet = build_fleet(fleet_values, traces, weight, values["seed"])
    return fleet, build(hardware, "fleet.hardware", role=roles.PHONES, fleet=fleet, seed=values["seed"]), requires


_NOT_FOR_FLEET = ("rule", "unknown", "window_end", "hardware", "rollout", "gates")


def build_gates(values: dict[str, Any], requires: str | None, phones: Phones, **given: Any) -> list[Gate]:
    """What devices must be besides eligible, from the group ``fleet``.

    A gate of the user's own is ``given`` what its signature asks for of phones, fleet, clients and seed.
    """
    gates: list[Gate] = []
    if requires is not None:
        if not isinstance(phones, Hardware):
            raise InputError("fleet.hardware.requires needs a hardware table", value=requires)
        gates.append(Requirement(phones, Rule.parse(requires)))
    if values.get("rollout") is not None:
        gates.append(build(values["rollout"], "fleet.rollout", target=Rollout, **given))
    for name, gate in (values.get("gates") or {}).items():
        gates.append(build(gate, f"fleet.gates.{name}", role=roles.GATE, phones=phones, **given))
    return gates
