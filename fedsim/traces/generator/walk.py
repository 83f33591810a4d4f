"""Phones of a synthetic trace set walk through their days: charger, wifi, cellular, screen and battery together.

Of a phone's four on/off processes the one whose stay runs out first changes; until then each stay is used up
faster or slower according to the hour, the other processes and the battery level (the modified next reaction
method, Anderson 2007, with stays of any law). The battery follows charger and screen, and through the laws
pulls them in turn. All phones take their k-th step together, as numpy columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fedsim import rng
from fedsim.traces.generator.parameters import (
    DURATION_PROBABILITIES,
    LAWS,
    LEVEL_EDGES,
    PROCESSES,
    TRAIT_Z,
    TRAITS,
    Law,
    SynthesisParameters,
)
from fedsim.units import DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

CHARGING, WIFI, CELLULAR, SCREEN = (1 << i for i in range(len(PROCESSES)))  # bits of a state
_N_STATES = 1 << len(PROCESSES)
_EDGES = np.array(LEVEL_EDGES)
_FULL_PERCENT = 100.0
_BURN_IN_S = 2 * DAY_S  # walked and thrown away: the first midnight kept finds levels and processes in step


@dataclass(frozen=True)
class SyntheticPhones:
    """What is fixed for each phone, columns of length n."""

    ids: IntArray
    mean_stay_s: FloatArray  # [n, 8] operational, in the order of LAWS; inf = this state is never left
    slope_percent_per_s: FloatArray  # [n, 4]: charging, charging in the top band, screen off, screen on
    lock_fraction: FloatArray
    unlock_fraction: FloatArray

    @classmethod
    def draw(cls, parameters: SynthesisParameters, ids: IntArray, seed: int) -> SyntheticPhones:
        """The phones with these ids; a phone's traits depend on seed and id alone."""
        trait = _traits(parameters, ids, seed)
        charge, idle, active = (
            trait[f"{what}_percent_per_h"] / HOUR_S for what in ("charge", "idle_discharge", "active_discharge")
        )
        gain = trait["charge_margin"] * (idle + trait["screen_fraction"] * (active - idle))
        trait["charging_fraction"] = gain / (gain + charge)
        # one visit to the charger cannot give more than a full battery
        least_per_day = trait["charging_fraction"] * charge * DAY_S / _FULL_PERCENT
        trait["charging_sessions_per_day"] = np.maximum(trait["charging_sessions_per_day"], least_per_day)
        stays = [mean_off_on_s(trait[f"{p}_fraction"], trait[f"{p}_sessions_per_day"]) for p in PROCESSES]
        return cls(
            ids=ids,
            mean_stay_s=np.concatenate(stays, axis=1),
            slope_percent_per_s=np.stack([charge, charge * parameters.top_charge_factor, -idle, -active], axis=1),
            lock_fraction=trait["lock_fraction"],
            unlock_fraction=trait["unlock_fraction"],
        )


def _traits(parameters: SynthesisParameters, ids: IntArray, seed: int) -> dict[str, FloatArray]:
    """Correlated traits: normal scores by Cholesky's factor, then each trait's own quantiles."""
    factor = rng.portable(np.linalg.cholesky(np.array(parameters.trait_correlation)))
    normal = [rng.normal(seed, f"trait/{name}", ids) for name in TRAITS]
    traits = {}
    for row, name in zip(factor, TRAITS, strict=True):
        score = np.zeros(len(ids))
        for weight, column in zip(row, normal, strict=True):
            score += weight * column  # a matrix product may round differently with the number of phones
        traits[name] = np.interp(score, TRAIT_Z, parameters.traits[name].quantiles)
    return traits


def mean_off_on_s(fraction: FloatArray, per_day: FloatArray) -> FloatArray:
    """Mean stay off and on, [n, 2], of a process that is on for ``fraction`` of the time."""
    cycle_s = DAY_S / np.maximum(per_day, 1e-9)
    off_s = np.where(fraction > 0, (1 - fraction) * cycle_s, np.inf)
    on_s = np.where(fraction < 1, fraction * cycle_s, np.inf)
    return np.stack([off_s, on_s], axis=1)


@dataclass(frozen=True)
class Knots:
    """Knots of all walks, sorted by phone and time: a state holds, and the level is linear, to the next knot.

    A phone's first knot is at 0, its last at or just after the end.
    """

    phone: IntArray
    at_s: FloatArray
    state: IntArray  # bit i = process i is on
    level: FloatArray  # battery, %

    @property
    def is_first(self) -> BoolArray:
        """Whether the knot is its phone's first."""
        return np.append(True, self.phone[1:] != self.phone[:-1])

    def has(self, bit: int) -> BoolArray:
        """Whether the process is on from the knot on."""
        return (self.state & bit) > 0


class _Laws:
    """The laws of stays, laid out so that a whole column of phones is served at once."""

    def __init__(self, parameters: SynthesisParameters, seed: int) -> None:
        self._seed = seed
        self.speed = _speed_table(parameters)
        laws = [parameters.laws[name] for name in LAWS]
        # one table for all laws: law i stands at probabilities i … i + 1
        self._position = np.concatenate([i + np.array(DURATION_PROBABILITIES) for i in range(len(LAWS))])
        self._log_stay = rng.portable(np.log(np.concatenate([law.relative_duration_quantiles for law in laws])))
        self._time_position = np.concatenate([i + _time_below(law) for i, law in enumerate(laws)])
        self._stay = rng.portable(np.exp(self._log_stay))

    def stays_s(self, ids: IntArray, law: IntArray, mean_s: FloatArray, k: int) -> FloatArray:
        """Whole stays, operational seconds; k numbers the draws of one phone."""
        u = rng.uniform(self._seed, "stay", ids, np.full(len(ids), k))
        return np.asarray(mean_s * rng.portable(np.exp(np.interp(law + u, self._position, self._log_stay))))

    def rests_s(self, ids: IntArray, law: IntArray, mean_s: FloatArray, process: str) -> FloatArray:
        """What is left of the stay that a phone is in at a moment of no importance: long stays are met more often."""
        u = rng.uniform(self._seed, f"start/stay/{process}", ids)
        passed = rng.uniform(self._seed, f"start/rest/{process}", ids)
        return np.asarray(mean_s * np.interp(law + u, self._time_position, self._stay) * passed)


def _time_below(law: Law) -> FloatArray:
    """Share of time spent in stays up to each quantile, for a law linear in the logarithm between them.

    Between two quantiles the stay is then linear in this share.
    """
    stay = np.array(law.relative_duration_quantiles)
    total = np.append(0.0, np.cumsum(segment_means(stay) * np.diff(DURATION_PROBABILITIES)))
    return np.asarray(total / total[-1])


def segment_means(quantiles: FloatArray) -> FloatArray:
    """Mean of the law between neighbouring quantiles, its logarithm linear in between."""
    low, high = quantiles[:-1], quantiles[1:]
    ratio = rng.portable(np.log(high / low))
    return np.divide(high - low, ratio, out=low.astype(np.float64), where=ratio > 1e-9)


def _speed_table(parameters: SynthesisParameters) -> FloatArray:
    """Operational seconds per second, [state, level band, hour, process]."""
    table = np.ones((_N_STATES, len(LEVEL_EDGES) - 1, 24, len(PROCESSES)))
    for state in range(_N_STATES):
        is_on = [state >> i & 1 for i in range(len(PROCESSES))]
        for i, process in enumerate(PROCESSES):
            law = parameters.laws[f"{process} {('off', 'on')[is_on[i]]}"]
            context = [law.context_factors[p][on] for p, on in zip(PROCESSES, is_on, strict=True) if p != process]
            table[state, :, :, i] = np.prod(context) * np.outer(law.level_factors, law.hour_factors)
    return table


@dataclass
class _Walk:
    """Where each phone stands, columns of length m (the phones that have not finished)."""

    row: IntArray  # of the phone
    at_s: FloatArray
    hour: IntArray  # whole hours since the first kept midnight
    state: IntArray
    level: FloatArray
    band: IntArray  # between which LEVEL_EDGES the level is
    rest_s: FloatArray  # [m, 4] operational seconds left of each process's stay

    def keep(self, is_kept: BoolArray) -> _Walk:
        return _Walk(*(getattr(self, field.name)[is_kept] for field in fields(self)))


def walk(parameters: SynthesisParameters, phones: SyntheticPhones, *, end_s: float, seed: int) -> Knots:
    """The knots of all phones from 0 to ``end_s``."""
    laws = _Laws(parameters, seed)
    now = _start(laws, phones, seed)
    knots: list[tuple[IntArray, FloatArray, IntArray, FloatArray]] = []
    k = 0
    while len(now.row):
        _step(laws, phones, now, k)
        knots.append((now.row, now.at_s.copy(), now.state.copy(), now.level.copy()))
        is_done = now.at_s >= end_s
        if is_done.any():
            now = now.keep(~is_done)
        k += 1
    row, at_s, state, level = (np.concatenate(column) for column in zip(*knots, strict=True))
    order = np.argsort(row, kind="stable")
    order = order[at_s[order] >= 0]
    return Knots(row[order], at_s[order], state[order], level[order])


def _start(laws: _Laws, phones: SyntheticPhones, seed: int) -> _Walk:
    """Each process in equilibrium, the battery anywhere."""
    n = len(phones.ids)
    is_on = np.empty((n, len(PROCESSES)), dtype=bool)
    rest_s = np.empty((n, len(PROCESSES)))
    for i, process in enumerate(PROCESSES):
        off_s, on_s = phones.mean_stay_s[:, 2 * i], phones.mean_stay_s[:, 2 * i + 1]
        is_fixed = np.isinf(off_s) | np.isinf(on_s)
        on_fraction = np.divide(on_s, off_s + on_s, out=np.isinf(on_s).astype(np.float64), where=~is_fixed)
        is_on[:, i] = rng.uniform(seed, f"start/{process}", phones.ids) < on_fraction
        rest_s[:, i] = laws.rests_s(phones.ids, 2 * i + is_on[:, i], np.where(is_on[:, i], on_s, off_s), process)
    level = 100.0 * rng.uniform(seed, "start/level", phones.ids)
    return _Walk(
        row=np.arange(n),
        at_s=np.full(n, -float(_BURN_IN_S)),
        hour=np.full(n, -(_BURN_IN_S // HOUR_S)),
        state=is_on @ (1 << np.arange(len(PROCESSES))),
        level=level,
        band=np.searchsorted(_EDGES, level) - 1,
        rest_s=rest_s,
    )


def _step(laws: _Laws, phones: SyntheticPhones, now: _Walk, k: int) -> None:
    """Move every phone, in place, to its next event: a process changes, a level band or an hour ends."""
    speed = laws.speed[now.state, now.band, now.hour % 24]
    slope = _slope(phones, now)
    edge = _EDGES[now.band + (slope > 0)]
    wait_s = np.empty((len(now.row), len(PROCESSES) + 2))
    np.divide(now.rest_s, speed, out=wait_s[:, :-2])
    wait_s[:, -2] = np.inf
    np.divide(edge - now.level, slope, out=wait_s[:, -2], where=slope != 0)
    wait_s[:, -1] = (now.hour + 1) * HOUR_S - now.at_s
    event = wait_s.argmin(axis=1)
    dt_s = wait_s[np.arange(len(event)), event]

    now.rest_s -= speed * dt_s[:, None]
    now.at_s += dt_s
    now.level = np.clip(now.level + slope * dt_s, _EDGES[now.band], _EDGES[now.band + 1])
    _change(laws, phones, now, np.flatnonzero(event < len(PROCESSES)), event, k)
    at_edge = np.flatnonzero(event == len(PROCESSES))
    now.level[at_edge] = edge[at_edge]
    now.band[at_edge] = np.clip(now.band + np.where(slope > 0, 1, -1), 0, len(LEVEL_EDGES) - 2)[at_edge]
    at_hour = np.flatnonzero(event == len(PROCESSES) + 1)
    now.hour[at_hour] += 1
    now.at_s[at_hour] = now.hour[at_hour] * float(HOUR_S)


def _slope(phones: SyntheticPhones, now: _Walk) -> FloatArray:
    """Battery slope, % per s; 0 when it is full or empty."""
    is_charging = (now.state & CHARGING) > 0
    is_top = now.band == len(LEVEL_EDGES) - 2
    kind = np.where(is_charging, np.where(is_top, 1, 0), np.where(now.state & SCREEN, 3, 2))
    is_stuck = np.where(is_charging, now.level >= 100.0, now.level <= 0.0)
    return np.where(is_stuck, 0.0, phones.slope_percent_per_s[now.row, kind])


def _change(laws: _Laws, phones: SyntheticPhones, now: _Walk, who: IntArray, process: IntArray, k: int) -> None:
    """One process of each phone in ``who`` changes and draws its next stay."""
    which = process[who]
    now.state[who] ^= 1 << which
    law = 2 * which + (now.state[who] >> which & 1)
    row = now.row[who]
    now.rest_s[who, which] = laws.stays_s(phones.ids[row], law, phones.mean_stay_s[row, law], k)
