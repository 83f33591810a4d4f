"""The stages that need no run: who is left under each criterion, which phones can train which model, what they hold."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from fedsim.config import roles
from fedsim.config.build import build
from fedsim.config.compose import composed
from fedsim.config.simulation import build_simulation
from fedsim.data.clients import ClientData
from fedsim.data.proxy.measures import icc, one_hot
from fedsim.decide.spec import Spec
from fedsim.errors import InputError, SimulationError
from fedsim.simulation import Simulation
from fedsim.traces.rule import Rule
from fedsim.traces.statistics.stats import criteria_table
from fedsim.units import DAY_S, HOUR_S, FloatArray, IntArray

_SAMPLED = 20_000  # phones by which those who can never be asked are counted
_LONG_S = 28 * DAY_S
_LOOKED_AT = 4000  # clients whose labels are read
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def constraints(spec: Spec) -> dict[str, Any]:
    """Each criterion's shares by hour of the day, and what they leave of the trace set, one after the other."""
    arm = next(iter(spec.training.arms))
    found, traces = [], None
    for rule in spec.constraints.criteria:
        words = spec.words(rule=rule, model=spec.model_words[0], arm=arm)
        simulation = build_simulation(composed([*without_training(words), "evaluation.groups=[]"]))
        found.append({"rule": rule, **_shares(simulation)})
        traces = simulation.world.fleet.traces
    if traces is None:
        raise InputError("constraints.criteria are none")
    ladder = criteria_table(traces, [Rule.parse(rule) for rule in spec.constraints.criteria], unknown="ineligible")
    return {"criteria": found, "ladder": [_rung(row) for row in ladder["rules"]], "n_traces": traces.n}


def without_training(words: Sequence[str]) -> list[str]:
    """The words of a run that trains nothing: those of a trainer's parts are left out."""
    kept = [word for word in words if not word.lstrip("+").startswith(_OF_TRAINING)]
    return [*kept, "training=none", "training.metrics=[]"]


_OF_TRAINING = (
    "training.central", "training.metrics", "training/server_optimizer", "training.server_optimizer",
    "training.backend", "evaluation.groups", "training=",
)  # fmt: skip


def _shares(simulation: Simulation) -> dict[str, Any]:
    availability, gates = simulation.world.availability, simulation.policy.gates
    at = np.arange(0.0, 7 * DAY_S, 600.0)
    eligible, admitted = availability.eligible_fraction(at), availability.admitted_fraction(at, gates)
    hour = (at % DAY_S // HOUR_S).astype(np.int64)
    by_hour = np.bincount(hour, weights=admitted, minlength=24) / np.bincount(hour, minlength=24)
    values = {
        "admitted_fraction.mean": float(admitted.mean()),
        "admitted_fraction.min_hour": float(by_hour.min()),
        "never_participating_fraction": _never(simulation),
    }
    return {"values": values, "eligible_mean": float(eligible.mean()), "by_hour": by_hour.tolist()}


def _never(simulation: Simulation) -> float:
    """Share of phones that are not eligible in four weeks, or not admitted at their end; of a sample of the fleet."""
    world = simulation.world
    ids = np.unique(np.linspace(0, world.fleet.n_devices - 1, _SAMPLED).astype(np.int64))
    cells = world.fleet.cell_of(ids)
    can = world.availability.open_s(cells, np.zeros(len(ids)), np.full(len(ids), _LONG_S)) > 0
    for gate in simulation.policy.gates:
        can &= gate.admits(ids, cells, _LONG_S)
    return float(1 - can.mean())


def _rung(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"rule": row["rule"], "left": row["left"], "sessions_per_device_day": row["sessions_per_device_day"]}


def models(spec: Spec, rule: str) -> list[dict[str, Any]]:
    """For each model what a session takes of the phones, and the share of phones that are within the limits."""
    arm = next(iter(spec.training.arms))
    hardware = None if spec.models.hardware is None else Path(spec.models.hardware)
    found = []
    for model in spec.model_words:
        words = [word for word in spec.words(rule=rule, model=model, arm=arm) if not word.startswith("evaluation")]
        told = costs(words, hardware)
        summary = told["summary"]
        found.append(
            {
                "model": model,
                "values": {"models.feasible_share": summary["feasible"]["yes"]},
                "unknown": summary["feasible"]["unknown"],
                "exceeds": summary["exceeds"],
                "quantiles": summary["quantiles"],
                "limits": told["limits"],
                "phones": told["phones"],
                "task": {name: told["task"][name] for name in told["task"] if _is_plain(told["task"][name])},
            }
        )
    return found


def costs(words: Sequence[str], hardware: Path | None) -> dict[str, Any]:
    """What the configuration of these words takes of the phones, as :func:`fedsim.config.cost.costs_of` tells it."""
    of_config = importlib.import_module("fedsim.config.cost")  # a lazy door: it loads torch
    told: dict[str, Any] = of_config.costs_of(of_config.composed_task(words), hardware)[1]
    return told


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def data(spec: Spec) -> dict[str, Any]:
    """How much clients hold, and how unlike they are in their labels."""
    clients = cast(ClientData, build(composed(spec.data_words)["data"], "data", role=roles.DATA))
    ids = np.unique(np.linspace(0, clients.n_clients - 1, _LOOKED_AT).astype(np.int64))
    sizes = clients.n_examples(ids)
    return {
        "n_clients": int(clients.n_clients),
        "n_looked_at": len(ids),
        "size_mean": float(sizes.mean()),
        "sizes": {f"p{100 * q:g}": float(np.quantile(sizes, q, method="inverted_cdf")) for q in _QUANTILES},
        "size_most": int(sizes.max()),
        "kind": spec.data.kind,
        **_labels(clients, ids, sizes),
    }


def _labels(clients: ClientData, ids: IntArray, sizes: IntArray) -> dict[str, Any]:
    """Shares of the labels and their intraclass correlation; None where labels are no classes."""
    y = np.asarray(clients.fetch(ids).y)
    classes = np.unique(y) if y.ndim == 1 else np.zeros(0)
    if not 1 < len(classes) <= 100 or len(y) != sizes.sum():
        return {"labels": None, "label_icc": None}
    label: IntArray = np.searchsorted(classes, y)
    shares: FloatArray = np.bincount(label) / len(label)
    correlation = float(icc(np.repeat(np.arange(len(ids)), sizes), one_hot(label)))
    return {
        "labels": {f"{name:g}": float(share) for name, share in zip(classes.tolist(), shares.tolist(), strict=True)},
        "label_icc": None if np.isnan(correlation) else correlation,
    }


def checked(spec: Spec) -> None:
    """Build each arm once without training, so that what a run would refuse is refused before anything is played.

    Raises :class:`InputError` that names the arm; that nobody is ever eligible is for the stages to find.
    """
    for arm in spec.training.arms:
        words = spec.words(rule=spec.constraints.criteria[-1], model=spec.model_words[0], arm=arm)
        try:
            build_simulation(composed(words))
        except InputError as error:
            raise InputError(f"training.arms.{arm}: {error}", where=spec.path.name) from error
        except SimulationError:
            continue
