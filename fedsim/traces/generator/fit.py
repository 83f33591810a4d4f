"""Estimate the trace generator's parameters from a trace set with network, charging, screen, locked and battery.

Rates of change are a product of a phone's own rate and factors of the hour, of the other processes and of
the battery level (a Poisson regression, solved by iterative proportional fitting). With these factors every
stay is measured in operational time; what is left is the law of stays relative to the phone's mean (Kaplan
and Meier 1958, for stays cut by the log's end) and, per phone, fractions and sessions per day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.clock import HOURS_OF_DAY
from fedsim.traces.generator.parameters import (
    DURATION_PROBABILITIES,
    PROCESSES,
    TRAIT_PROBABILITIES,
    TRAIT_Z,
    TRAITS,
    Law,
    SynthesisParameters,
    Trait,
)
from fedsim.traces.generator.segments import N_BANDS, UNKNOWN, Segments
from fedsim.traces.generator.walk import segment_means
from fedsim.traces.statistics.slopes import Slopes
from fedsim.units import DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

_CHARGING, _SCREEN = PROCESSES.index("charging"), PROCESSES.index("screen")
_N_ROUNDS = 30
_SHORTEST = 1e-6  # relative stay; a law's logarithm needs more than 0
_PSEUDO_EVENTS = 5.0  # of factor 1, added to each factor: rarely seen contexts stay near 1
_PSEUDO_STAYS = 0.5  # of the population's mean, added to each phone's mean stay


def fit(traces: TraceSet, *, template: SynthesisParameters, source: str) -> SynthesisParameters:
    """The generator's parameters, estimated from a trace set.

    What the set cannot tell (delays, hardware, battery step) is taken from ``template``. ``source`` names
    the set and is noted with every value.

    Raises:
        InputError: a channel is missing, the clock is relative, one of the processes never changes, or
            nothing tells one of the traits.
    """
    segments = Segments.of(traces)
    laws: dict[str, Law] = {}
    columns: dict[str, FloatArray] = {}
    for i, process in enumerate(PROCESSES):
        (laws[f"{process} off"], off_s), (laws[f"{process} on"], on_s) = (
            _fit_law(State.of(segments, i, state), source) for state in (0, 1)
        )
        columns[f"{process}_fraction"] = fraction(off_s, on_s)
        columns[f"{process}_sessions_per_day"] = DAY_S / (off_s + on_s)
    columns["lock_fraction"], columns["unlock_fraction"] = _keyguard(segments, template.unlock_delay_s)
    columns |= _battery(traces)
    columns["charge_margin"] = _charge_margin(segments, columns)
    return replace(
        template,
        traits={name: Trait(rounded(np.quantile(columns[name], TRAIT_PROBABILITIES)), source) for name in TRAITS},
        trait_correlation=correlation(np.stack([columns[name] for name in TRAITS])),
        laws=laws,
        sources={**template.sources, "trait_correlation": source},
    )


def fraction(off_s: FloatArray, on_s: FloatArray) -> FloatArray:
    """Share of time on, from the mean stays; a state that is never left is all there is."""
    never_on, always_on = np.isinf(off_s), np.isinf(on_s)
    return np.divide(on_s, off_s + on_s, out=always_on.astype(np.float64), where=~(never_on | always_on))


@dataclass(frozen=True)
class State:
    """One state of one process: the segments in which phones are in it, and those at whose end they leave it."""

    segments: Segments
    process: int
    state: int
    is_in: BoolArray
    leaves: BoolArray

    @classmethod
    def of(cls, segments: Segments, process: int, state: int) -> State:
        """The state of a process (0 off, 1 on); an :class:`InputError` if no phone ever leaves it."""
        value = segments.process[:, process]
        is_in = value == state
        leaves = is_in & segments.continues & (np.append(value[1:], UNKNOWN) == 1 - state)
        if not leaves.any():
            name = f"{segments.names[process]} {('off', 'on')[state]}"
            raise InputError("no phone of the trace set ever leaves the state", value=name)
        return cls(segments, process, state, is_in, leaves)

    @property
    def n_leaves(self) -> IntArray:
        """How often each phone leaves the state."""
        return np.bincount(self.segments.phone[self.leaves], minlength=self.segments.n)

    def per_phone(self, seconds: FloatArray) -> FloatArray:
        """Sum of a time in the state over each phone's segments."""
        total_s = np.bincount(self.segments.phone, np.where(self.is_in, seconds, 0.0), self.segments.n)
        return np.asarray(total_s, dtype=np.float64)


def _fit_law(state: State, source: str) -> tuple[Law, FloatArray]:
    """The law of one state, and each phone's mean stay in it (operational seconds)."""
    groups = {"hour": state.segments.hour, "level": state.segments.band} | {
        p: state.segments.process[:, i] for i, p in enumerate(PROCESSES) if i != state.process
    }
    factors = hazard_factors(state, groups)
    speed = np.prod([factors[name][index] for name, index in groups.items()], axis=0)
    mean_s = mean_stays_s(state, speed * state.segments.seconds)
    law = Law(
        relative_duration_quantiles=relative_durations(state, speed * state.segments.seconds, mean_s),
        hour_factors=rounded(factors["hour"]),
        context_factors={p: (rounded(f)[0], rounded(f)[1]) for p, f in factors.items() if p in PROCESSES},
        level_factors=rounded(factors["level"][:N_BANDS]),
        source=source,
    )
    return law, mean_s


def hazard_factors(state: State, groups: Mapping[str, IntArray]) -> dict[str, FloatArray]:
    """Iterative proportional fitting: in each group observed / expected changes, mean 1 over the time in the state.

    The last entry of every group but the hours stands for unknown and stays 1.
    """
    rows = np.flatnonzero(state.is_in)
    phone, seconds, leaves = state.segments.phone[rows], state.segments.seconds[rows], state.leaves[rows]
    index = {name: column[rows] for name, column in groups.items()}
    size = dict.fromkeys(groups, UNKNOWN + 1) | {"hour": HOURS_OF_DAY, "level": N_BANDS + 1}
    factor = {name: np.ones(size[name]) for name in groups}
    operational_s = seconds.copy()
    for _ in range(_N_ROUNDS):
        for name, i in index.items():
            per_second = state.n_leaves / np.maximum(np.bincount(phone, operational_s, state.segments.n), 1.0)
            without_s = operational_s / factor[name][i]
            expected = np.bincount(i, per_second[phone] * without_s, size[name])
            new = (np.bincount(i[leaves], minlength=size[name]) + _PSEUDO_EVENTS) / (expected + _PSEUDO_EVENTS)
            if name != "hour":
                new[-1] = 1.0
            factor[name] = new / np.average(new, weights=np.bincount(i, seconds, size[name]))
            operational_s = without_s * factor[name][i]
    return factor


def mean_stays_s(state: State, seconds: FloatArray) -> FloatArray:
    """Mean stay per phone, shrunk towards the population's; inf if the phone was never seen outside the state."""
    total_s, n = state.per_phone(seconds), state.n_leaves
    mean_s = (total_s + _PSEUDO_STAYS * total_s.sum() / n.sum()) / (n + _PSEUDO_STAYS)
    is_other = state.segments.process[:, state.process] == 1 - state.state
    was_outside = np.bincount(state.segments.phone[is_other], minlength=state.segments.n) > 0
    return np.where((n > 0) | was_outside, mean_s, np.inf)


def relative_durations(state: State, seconds: FloatArray, mean_s: FloatArray) -> tuple[float, ...]:
    """Quantiles of stays seen from their beginning, relative to the phone's mean; rescaled to mean 1."""
    segments, value = state.segments, state.segments.process[:, state.process]
    starts = segments.starts(state.process)
    first = np.flatnonzero(starts)
    stay_s = np.add.reduceat(np.where(state.is_in, seconds, 0.0), first)
    is_whole = np.add.reduceat(state.leaves, first)
    is_seen_to_begin = np.append(False, segments.continues[:-1] & (value[:-1] == 1 - state.state))[first]
    mean_s = mean_s[segments.phone[first]]
    use = (value[first] == state.state) & is_seen_to_begin & np.isfinite(mean_s)
    quantiles = _product_limit(stay_s[use] / mean_s[use], is_whole[use])
    return rounded(quantiles / np.sum(segment_means(quantiles) * np.diff(DURATION_PROBABILITIES)))


def _product_limit(stay: FloatArray, is_whole: BoolArray) -> FloatArray:
    """Quantiles of stays of which some were cut short; beyond the last whole stay, that stay."""
    order = np.argsort(stay, kind="stable")
    at_risk = np.arange(len(stay), 0, -1)
    done = 1.0 - np.cumprod(1.0 - is_whole[order] / at_risk)
    return np.maximum(np.interp(DURATION_PROBABILITIES, done, stay[order]), _SHORTEST)


def _keyguard(segments: Segments, delay_s: float) -> tuple[FloatArray, FloatArray]:
    """Per phone: share of screen-offs that lock, share of screen-ons longer than the delay that unlock."""
    first = np.flatnonzero(segments.starts(_SCREEN))
    screen, phone = segments.process[first, _SCREEN], segments.phone[first]
    length_s = np.add.reduceat(segments.seconds, first)
    was_locked, was_open = (np.logical_or.reduceat(segments.locked == value, first) for value in (1, 0))
    before = np.append(np.nan, segments.locked[:-1])[first]
    follows = np.append(False, segments.continues[:-1])[first]
    goes_off = follows & (screen == 0) & (before == 0)
    goes_on = follows & (screen == 1) & (before == 1) & (length_s > delay_s)
    return (
        _share("lock_fraction", phone, among=goes_off, is_true=was_locked, n=segments.n),
        _share("unlock_fraction", phone, among=goes_on, is_true=was_open, n=segments.n),
    )


def _share(trait: str, phone: IntArray, *, among: BoolArray, is_true: BoolArray, n: int) -> FloatArray:
    """Share of each phone's rows among which something is true, shrunk towards the population's."""
    _require(trait, among)
    true, total = np.bincount(phone[among & is_true], minlength=n), np.bincount(phone[among], minlength=n)
    return np.asarray((true + _PSEUDO_STAYS * true.sum() / total.sum()) / (total + _PSEUDO_STAYS))


def _battery(traces: TraceSet) -> dict[str, FloatArray]:
    """Per phone, % per h, shrunk by an hour of the population's."""
    slopes = Slopes.of(traces)

    def rate(trait: str, chosen: BoolArray) -> FloatArray:
        _require(trait, chosen)
        change, hours = slopes.totals(chosen)
        return (change + slopes.mean(chosen)) / (hours + 1.0)

    chosen = {
        "idle_discharge_percent_per_h": slopes.is_idle,
        "active_discharge_percent_per_h": slopes.is_active,
        "charge_percent_per_h": slopes.is_charging,
    }
    return {trait: rate(trait, pairs) for trait, pairs in chosen.items()}


def _require(trait: str, tells: BoolArray) -> None:
    if not tells.any():
        raise InputError("nothing in the trace set tells the trait", value=trait)


def _charge_margin(segments: Segments, columns: Mapping[str, FloatArray]) -> FloatArray:
    """Per phone: what its charger could give in the time it is plugged in / what the phone uses meanwhile."""
    charging, screen = segments.process[:, _CHARGING], segments.process[:, _SCREEN]
    plugged = _time_share(segments, charging == 1, charging != UNKNOWN)
    on = _time_share(segments, screen == 1, screen != UNKNOWN)
    idle, active = columns["idle_discharge_percent_per_h"], columns["active_discharge_percent_per_h"]
    used = (1 - plugged) * (idle + on * (active - idle))
    return plugged * columns["charge_percent_per_h"] / used


def _time_share(segments: Segments, is_true: BoolArray, among: BoolArray) -> FloatArray:
    """Share of each phone's time, shrunk by an hour of the population's."""
    true = np.bincount(segments.phone, segments.seconds * (is_true & among), segments.n)
    total = np.bincount(segments.phone, segments.seconds * among, segments.n)
    return np.asarray((true + HOUR_S * true.sum() / total.sum()) / (total + HOUR_S))


def correlation(columns: FloatArray) -> tuple[tuple[float, ...], ...]:
    """Correlation of the normal scores, the nearest positive definite matrix with 0.01 to spare."""
    rank = columns.argsort(axis=1, kind="stable").argsort(axis=1)
    probability = (rank + 0.5) / columns.shape[1]
    score = np.interp(probability, TRAIT_PROBABILITIES, TRAIT_Z)
    value, vector = np.linalg.eigh(np.corrcoef(score))
    matrix = vector @ np.diag(np.maximum(value, 0.01)) @ vector.T
    scale = np.sqrt(np.diag(matrix))
    matrix = np.round(matrix / np.outer(scale, scale), 3)
    return tuple(tuple(row) for row in matrix.tolist())


def rounded(values: FloatArray) -> tuple[float, ...]:
    """Four significant digits, as the file shows them."""
    return tuple(float(f"{value:.4g}") for value in values)
