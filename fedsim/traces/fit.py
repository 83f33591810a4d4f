"""Estimate the trace generator's parameters from a trace set with network, charging, screen, locked and battery.

Rates of change are a product of a phone's own rate and factors of the hour, of the other processes and of
the battery level (a Poisson regression, solved by iterative proportional fitting). With these factors every
stay is measured in operational time; what is left is the law of stays relative to the phone's mean (Kaplan
and Meier 1958, for stays cut by the log's end) and, per phone, fractions and sessions per day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedsim.traces.canonical import TraceSet
from fedsim.traces.parameters import (
    DURATION_PROBABILITIES,
    PROCESSES,
    TRAIT_PROBABILITIES,
    TRAIT_Z,
    TRAITS,
    Law,
    SynthesisParameters,
    Trait,
)
from fedsim.traces.segments import N_BANDS, UNKNOWN, Segments
from fedsim.traces.slopes import Slopes
from fedsim.traces.walk import segment_means
from fedsim.units import DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

_PSEUDO_EVENTS = 5.0  # of factor 1, added to each factor: rarely seen contexts stay near 1
_PSEUDO_STAYS = 0.5  # of the population's mean, added to each phone's mean stay


def fit(traces: TraceSet, *, template: SynthesisParameters, source: str) -> SynthesisParameters:
    """The generator's parameters, estimated from a trace set.

    What the set cannot tell (delays, hardware, battery step) is taken from ``template``. ``source`` names
    the set and is noted with every value.
    """
    segments = Segments.of(traces)
    laws: dict[str, Law] = {}
    columns: dict[str, FloatArray] = {}
    for i, process in enumerate(PROCESSES):
        (off, off_s), (on, on_s) = (_fit_law(segments, i, state, source) for state in (0, 1))
        laws[f"{process} off"], laws[f"{process} on"] = off, on
        if f"{process}_fraction" in TRAITS:
            columns[f"{process}_fraction"] = _fraction(off_s, on_s)
        columns[f"{process}_sessions_per_day"] = DAY_S / (off_s + on_s)
    columns["lock_fraction"], columns["unlock_fraction"] = _keyguard(segments, template.unlock_delay_s)
    columns |= _battery(traces)
    columns["charge_margin"] = _charge_margin(segments, columns)
    return replace(
        template,
        traits={name: Trait(_quantiles(columns[name]), source) for name in TRAITS},
        trait_correlation=_correlation(np.stack([columns[name] for name in TRAITS])),
        laws=laws,
    )


def _fraction(off_s: FloatArray, on_s: FloatArray) -> FloatArray:
    return np.where(np.isinf(off_s), 0.0, np.where(np.isinf(on_s), 1.0, on_s / (off_s + on_s)))


def _fit_law(segments: Segments, process: int, state: int, source: str) -> tuple[Law, FloatArray]:
    """The law of one state, and each phone's mean stay in it (operational seconds)."""
    is_in = segments.process[:, process] == state
    next_state = np.append(segments.process[1:, process], UNKNOWN)
    ends = is_in & segments.continues & (next_state == 1 - state)
    groups = _groups(segments, process)
    factors = _factors(segments, groups, is_in, ends)
    speed = np.prod([factors[name][index] for name, index in groups.items()], axis=0)
    seconds = np.where(is_in, speed * segments.seconds, 0.0)
    mean_s = _mean_stays(segments, process, state, seconds, ends)
    duration = _relative_durations(segments, process, state, seconds, ends, mean_s)
    law = Law(
        relative_duration_quantiles=duration,
        hour_factors=_rounded(factors["hour"]),
        context_factors={p: _rounded(factors[p][:2]) for p in PROCESSES if p in factors},
        level_factors=_rounded(factors["level"][:N_BANDS]),
        source=source,
    )
    return law, mean_s


def _groups(segments: Segments, process: int) -> dict[str, IntArray]:
    """The factor that holds in each segment, by group of factors."""
    groups = {"hour": segments.hour, "level": segments.band}
    return groups | {p: segments.process[:, i] for i, p in enumerate(PROCESSES) if i != process}


def _factors(
    segments: Segments, groups: dict[str, IntArray], is_in: BoolArray, ends: BoolArray, n_rounds: int = 30
) -> dict[str, FloatArray]:
    """Iterative proportional fitting: in each group observed changes / expected changes, mean 1 by exposure."""
    size = {name: int(index.max()) + 1 for name, index in groups.items()}
    size |= {name: UNKNOWN + 1 for name in groups if name in PROCESSES} | {"level": N_BANDS + 1, "hour": 24}
    factor = {name: np.ones(size[name]) for name in groups}
    exposure = np.where(is_in, segments.seconds, 0.0)
    for _ in range(n_rounds):
        for name, index in groups.items():
            others = np.prod([factor[g][groups[g]] for g in groups if g != name], axis=0) * exposure
            expected = _per_phone_rate(segments, others * factor[name][index], ends) * others
            observed = np.bincount(index[ends], minlength=size[name])
            expected_sum = np.bincount(index, expected, size[name])
            new = (observed + _PSEUDO_EVENTS) / (expected_sum + _PSEUDO_EVENTS)
            if name in PROCESSES:
                new[UNKNOWN] = 1.0
            if name == "level":
                new[N_BANDS] = 1.0
            weight = np.bincount(index, exposure, size[name])
            factor[name] = new / np.average(new, weights=weight) if weight.sum() > 0 else new
    return factor


def _per_phone_rate(segments: Segments, operational_s: FloatArray, ends: BoolArray) -> FloatArray:
    """Changes per operational second of the segment's phone."""
    n = np.bincount(segments.phone[ends], minlength=segments.n)
    total = np.bincount(segments.phone, operational_s, segments.n)
    return np.divide(n, total, out=np.zeros(segments.n), where=total > 0)[segments.phone]


def _mean_stays(segments: Segments, process: int, state: int, seconds: FloatArray, ends: BoolArray) -> FloatArray:
    """Mean stay per phone, shrunk towards the population's; inf if the phone was never seen to leave,
    and never in the other state.
    """
    total = np.bincount(segments.phone, seconds, segments.n)
    n = np.bincount(segments.phone[ends], minlength=segments.n)
    mean_s = (total + _PSEUDO_STAYS * total.sum() / n.sum()) / (n + _PSEUDO_STAYS)
    other = np.bincount(segments.phone[segments.process[:, process] == 1 - state], minlength=segments.n)
    return np.where((n == 0) & (other == 0), np.inf, mean_s)


def _relative_durations(
    segments: Segments, process: int, state: int, seconds: FloatArray, ends: BoolArray, mean_s: FloatArray
) -> tuple[float, ...]:
    """Quantiles of stays relative to the phone's mean, the product-limit estimate; rescaled to mean 1."""
    value = segments.process[:, process]
    starts = np.append(True, ~segments.continues[:-1] | (value[1:] != value[:-1]))
    run = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    stay = np.bincount(run, seconds)
    phone = segments.phone[first]
    is_whole = np.bincount(run, ends) > 0
    begins = np.append(False, segments.continues[:-1] & (value[:-1] == 1 - value[1:]))[first]
    use = (value[first] == state) & begins & np.isfinite(mean_s[phone])
    quantiles = _product_limit(stay[use] / mean_s[phone[use]], is_whole[use])
    return _rounded(quantiles / np.sum(segment_means(quantiles) * np.diff(DURATION_PROBABILITIES)))


def _product_limit(stay: FloatArray, is_whole: BoolArray) -> FloatArray:
    order = np.argsort(stay, kind="stable")
    stay, is_whole = stay[order], is_whole[order]
    at_risk = np.arange(len(stay), 0, -1)
    done = 1.0 - np.cumprod(1.0 - is_whole / at_risk)
    return np.maximum(np.interp(DURATION_PROBABILITIES, done, stay), 1e-6)


def _keyguard(segments: Segments, delay_s: float) -> tuple[FloatArray, FloatArray]:
    """Per phone: share of screen-offs that lock, share of screen-ons longer than the delay that unlock."""
    screen, locked = segments.process[:, 3], segments.locked
    starts = np.append(True, ~segments.continues[:-1] | (screen[1:] != screen[:-1]))
    run = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    length = np.bincount(run, segments.seconds)
    before = np.append(np.nan, locked[:-1])[first]
    known = np.append(False, segments.continues[:-1])[first] & ~np.isnan(locked[first])
    was_locked = np.bincount(run, np.nan_to_num(locked)) > 0
    was_open = np.bincount(run, locked == 0) > 0
    phone = segments.phone[first]
    off = known & (screen[first] == 0) & (before == 0)
    on = known & (screen[first] == 1) & (before == 1) & (length > delay_s)
    return _share(phone, off, was_locked, segments.n), _share(phone, on, was_open, segments.n)


def _share(phone: IntArray, among: BoolArray, is_true: BoolArray, n: int) -> FloatArray:
    true, total = np.bincount(phone[among & is_true], minlength=n), np.bincount(phone[among], minlength=n)
    return (true + _PSEUDO_STAYS * true.sum() / total.sum()) / (total + _PSEUDO_STAYS)


def _battery(traces: TraceSet) -> dict[str, FloatArray]:
    """Per phone, % per h, shrunk by an hour of the population's."""
    slopes = Slopes.of(traces)

    def rate(chosen: BoolArray) -> FloatArray:
        change, hours = slopes.totals(chosen)
        return (change + slopes.mean(chosen)) / (hours + 1.0)

    return {
        "idle_discharge_percent_per_h": rate(slopes.is_idle),
        "active_discharge_percent_per_h": rate(slopes.is_active),
        "charge_percent_per_h": rate(slopes.is_charging),
    }


def _charge_margin(segments: Segments, columns: Mapping[str, FloatArray]) -> FloatArray:
    """Per phone: what its charger could give in the time it is plugged in / what the phone uses meanwhile."""
    charging, screen = segments.process[:, 0], segments.process[:, 3]
    plugged = _time_share(segments, charging == 1, charging != UNKNOWN)
    on = _time_share(segments, screen == 1, screen != UNKNOWN)
    idle, active = columns["idle_discharge_percent_per_h"], columns["active_discharge_percent_per_h"]
    used = (1 - plugged) * (idle + on * (active - idle))
    return plugged * columns["charge_percent_per_h"] / used


def _time_share(segments: Segments, is_true: BoolArray, among: BoolArray) -> FloatArray:
    """Share of each phone's time, shrunk by an hour of the population's."""
    true = np.bincount(segments.phone, segments.seconds * (is_true & among), segments.n)
    total = np.bincount(segments.phone, segments.seconds * among, segments.n)
    return (true + HOUR_S * true.sum() / total.sum()) / (total + HOUR_S)


def _quantiles(values: FloatArray) -> tuple[float, ...]:
    return _rounded(np.quantile(values, TRAIT_PROBABILITIES))


def _correlation(columns: FloatArray) -> tuple[tuple[float, ...], ...]:
    """Correlation of the normal scores, the nearest positive definite matrix with 0.01 to spare."""
    rank = columns.argsort(axis=1, kind="stable").argsort(axis=1)
    probability = (rank + 0.5) / columns.shape[1]
    score = np.interp(probability, TRAIT_PROBABILITIES, TRAIT_Z)
    value, vector = np.linalg.eigh(np.corrcoef(score))
    matrix = vector @ np.diag(np.maximum(value, 0.01)) @ vector.T
    scale = np.sqrt(np.diag(matrix))
    matrix = np.round(matrix / np.outer(scale, scale), 3)
    return tuple(tuple(row) for row in matrix.tolist())


def _rounded(values: FloatArray) -> tuple[float, ...]:
    """Four significant digits, as the file shows them."""
    return tuple(float(f"{value:.4g}") for value in values)
