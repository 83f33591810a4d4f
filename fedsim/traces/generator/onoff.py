"""A generator for sets of which only the channel ``available`` is known, as app logs and online sessions have it.

Each phone is an alternating renewal process. Its mean stays follow from two traits, the share of time available and
the sessions a day; how stays spread around the mean, and how their ends go with the hour, is alike for all. A stay is
drawn in operational time, which runs at the hour's factor, as in the generator of whole phones
(:mod:`fedsim.traces.generator.walk`). Simplifications: days are alike, phones are independent given the hour, and all
begin with a whole stay 14 days before: the share of phones that come once in weeks is a few percent of itself too high.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.traces.canonical import TraceSet
from fedsim.traces.clock import HOURS_OF_DAY
from fedsim.traces.generator.parameters import DURATION_PROBABILITIES, TRAIT_PROBABILITIES, TRAIT_Z
from fedsim.traces.generator.walk import mean_off_on_s
from fedsim.traces.spans import Window, traces_of_spans
from fedsim.units import DAY_S, HOUR_S, FloatArray, IntArray

CHANNEL = "available"
_BURN_IN_S = 14.0 * DAY_S  # walked and thrown away: by then most first stays are forgotten
_HOUR_EDGES_S = np.arange(HOURS_OF_DAY + 1) * float(HOUR_S)


@dataclass(frozen=True)
class OnOffParameters:
    """A population of phones that come and go; the index of a pair is the state, 0 away and 1 available."""

    fraction_quantiles: tuple[float, ...]  # share of time available, over phones at TRAIT_PROBABILITIES
    sessions_per_day_quantiles: tuple[float, ...]
    trait_correlation: float  # of the two traits' normal scores
    relative_duration_quantiles: tuple[tuple[float, ...], tuple[float, ...]]  # at DURATION_PROBABILITIES
    hour_factors: tuple[tuple[float, ...], tuple[float, ...]]  # by hour of local day
    is_local: bool  # False: the hour of day of the set is unknown
    source: str
    channel: str = CHANNEL

    def __post_init__(self) -> None:
        self._check("fraction_quantiles", self.fraction_quantiles, len(TRAIT_PROBABILITIES), 0.0, 1.0)
        self._check("sessions_per_day_quantiles", self.sessions_per_day_quantiles, len(TRAIT_PROBABILITIES), 0.0, 1e4)
        for state in (0, 1):
            durations = self.relative_duration_quantiles[state]
            self._check("relative_duration_quantiles", durations, len(DURATION_PROBABILITIES), 1e-9, 1e9)
            self._check("hour_factors", self.hour_factors[state], HOURS_OF_DAY, 1e-3, 1e9)
        self._check("trait_correlation", (self.trait_correlation,), 1, -1.0, 1.0)

    @staticmethod
    def _check(name: str, values: tuple[float, ...], n: int, lowest: float, highest: float) -> None:
        if len(values) != n:
            raise InputError(f"{name} has {len(values)} values", allowed=n)
        for value in values:
            if not lowest <= value <= highest:
                raise InputError(name, value=value, allowed=f"{lowest:g} … {highest:g}")

    @classmethod
    def load(cls, path: Path | str) -> OnOffParameters:
        """Read a file that `save` wrote; errors name the file and the field."""
        value = read_json(path, "synthesis parameters")
        pairs = ("relative_duration_quantiles", "hour_factors")
        try:
            lists = {name: tuple(value[name]) for name in ("fraction_quantiles", "sessions_per_day_quantiles")}
            lists |= {name: tuple(tuple(row) for row in value[name]) for name in pairs}
            return cls(**(value | lists))
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"synthesis parameters are malformed ({error})", where=path) from error
        except InputError as error:
            raise InputError(str(error), where=path) from error

    def save(self, path: Path | str) -> None:
        """Write the parameters as JSON with sorted keys."""
        write_json(Path(path), self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return asdict(self)


def synthesize_on_off(parameters: OnOffParameters, *, n_devices: int, n_days: int, seed: int) -> TraceSet:
    """A trace set of ``n_devices`` phones over ``n_days`` days; phone i is the same whatever ``n_devices`` is."""
    for name, value in (("n_devices", n_devices), ("n_days", n_days)):
        if value < 1:
            raise InputError(name, value=value, allowed="at least 1")
    ids = np.arange(n_devices)
    phone, at_s, state = _walk(parameters, ids, float(n_days * DAY_S), seed)
    order = np.lexsort((at_s, phone))
    phone, at_s, state = phone[order], at_s[order], state[order]
    begins = np.flatnonzero(state == 1)  # each is followed by the same phone's end
    start_ms, end_ms = (np.clip(np.floor(at_s[rows]), 0, n_days * DAY_S) * 1000 for rows in (begins, begins + 1))
    kept = np.flatnonzero(end_ms > start_ms)
    traces = traces_of_spans(
        np.array([f"synthetic-{i}" for i in ids], dtype=object),
        phone[begins][kept],
        start_ms[kept].astype(np.int64),
        end_ms[kept].astype(np.int64),
        window=Window(np.arange(n_days), parameters.is_local),
        counts={},
    )
    source = f"synthetic: fedsim traces synthesize, fitted to {parameters.source}"
    said = {"n_devices": n_devices, "n_days": n_days, "seed": seed, "licence": "the user's own", "transforms": []}
    return replace(traces, provenance={"source": source, **said})


def _walk(p: OnOffParameters, ids: IntArray, end_s: float, seed: int) -> tuple[IntArray, FloatArray, IntArray]:
    """Changes of all phones: phone, instant, state from then on; all take their k-th change together.

    The last change of a phone is at or after the end and to state 0, so that every session has an end.
    """
    z = rng.normal(seed, "on-off/fraction", ids)
    other = p.trait_correlation * z + np.sqrt(1.0 - p.trait_correlation**2) * rng.normal(seed, "on-off/sessions", ids)
    fraction = np.interp(z, TRAIT_Z, p.fraction_quantiles)
    mean_s = mean_off_on_s(fraction, np.interp(other, TRAIT_Z, p.sessions_per_day_quantiles))
    log_stay = rng.portable(np.log(np.array(p.relative_duration_quantiles)))
    clocks = [np.append(0.0, np.cumsum(factors)) * HOUR_S for factors in p.hour_factors]
    row, state = np.arange(len(ids)), (rng.uniform(seed, "on-off/start", ids) < fraction).astype(np.int64)
    at_s = np.full(len(ids), -_BURN_IN_S)
    changes = [(row, at_s, state)]
    k = 0
    while row.size:
        u = rng.uniform(seed, "on-off/stay", ids[row], np.full(row.size, k))
        stays = np.stack([np.interp(u, DURATION_PROBABILITIES, log_stay[s]) for s in (0, 1)])
        stay_s = rng.portable(np.exp(stays[state, np.arange(row.size)])) * mean_s[row, state]
        at_s = np.where(state == 0, _later(at_s, stay_s, clocks[0]), _later(at_s, stay_s, clocks[1]))
        at_s, state = np.minimum(at_s, end_s), 1 - state
        is_on = at_s < end_s
        changes.append((row, at_s, np.where(is_on, state, 0)))
        row, at_s, state = row[is_on], at_s[is_on], state[is_on]
        k += 1
    phone, instant, value = (np.concatenate(column) for column in zip(*changes, strict=True))
    return phone, instant, value


def _later(at_s: FloatArray, stay_s: FloatArray, clock_s: FloatArray) -> FloatArray:
    """Instants at which stays of operational seconds end; ``clock_s[25]`` is operational time at each full hour."""
    day = np.floor(at_s / DAY_S)
    goal = day * clock_s[-1] + np.interp(at_s - day * DAY_S, _HOUR_EDGES_S, clock_s) + stay_s
    goal_day = np.floor(goal / clock_s[-1])
    is_finite = np.isfinite(goal_day)
    rest = np.where(is_finite, goal - np.where(is_finite, goal_day, 0.0) * clock_s[-1], 0.0)
    later: FloatArray = goal_day * DAY_S + np.interp(rest, clock_s, _HOUR_EDGES_S)
    return later
