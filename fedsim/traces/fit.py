"""Estimate the trace generator's parameters from any trace set with network, charging, screen, locked, battery.

Rates of change are a product of a phone's own rate and factors of the hour, of the other processes and of
the battery level (a Poisson regression, solved by iterative proportional fitting). With these factors every
stay is measured in operational time; what is left is the law of stays relative to the phone's mean (Kaplan
and Meier 1958, for stays cut by the log's end) and, per phone, fractions and sessions per day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedsim.traces.canonical import NETWORK_CODE, TraceSet
from fedsim.traces.criteria import Levels, compile_channel
from fedsim.traces.parameters import (
    CELLULAR,
    DURATION_PROBABILITIES,
    LAWS,
    LEVEL_EDGES,
    PROCESSES,
    TRAIT_PROBABILITIES,
    TRAIT_Z,
    TRAITS,
    HardwareClass,
    Law,
    SynthesisParameters,
    Trait,
)
from fedsim.units import DAY_MS, DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

_HOUR_MS = HOUR_S * 1000
_UNKNOWN = 2  # third value of a process, third factor, ignored
_PSEUDO_EVENTS = 5.0  # of factor 1, added to each factor: rarely seen contexts stay near 1
_PSEUDO_STAYS = 0.5  # of the population's mean, added to each phone's mean stay
_N_BANDS = len(LEVEL_EDGES) - 1


@dataclass(frozen=True)
class Segments:
    """Spans in which no channel changes and no hour ends, sorted by phone and time; columns of length m."""

    n: int  # phones
    phone: IntArray
    seconds: FloatArray
    hour: IntArray
    process: IntArray  # [m, 4]: 0 off, 1 on, 2 unknown
    network: FloatArray  # NaN unknown
    locked: FloatArray
    band: IntArray  # of the battery level, 5 unknown
    continues: BoolArray  # the next segment is the same phone's

    @classmethod
    def of(cls, traces: TraceSet) -> Segments:
        names = ("network", "charging", "screen", "locked", "battery")
        levels = {name: compile_channel(traces, name) for name in names}
        phone, at_ms = _breakpoints(traces, list(levels.values()))
        value = {name: _at(level, phone, at_ms) for name, level in levels.items()}
        same = np.append(phone[1:] == phone[:-1], False)
        end_ms = np.where(same, np.append(at_ms[1:], 0), traces.period_ms[phone])
        network = value["network"]
        is_cellular = network >= NETWORK_CODE["2g"]
        wifi = _on_off(network == NETWORK_CODE["wifi"], np.isnan(network))
        # whether cellular data would be used is not seen while wifi is
        cellular = _on_off(is_cellular, np.isnan(network) | (wifi == 1))
        charging, screen = (_on_off(value[name] == 1, np.isnan(value[name])) for name in ("charging", "screen"))
        band = np.clip(np.searchsorted(LEVEL_EDGES, value["battery"], side="left") - 1, 0, _N_BANDS - 1)
        return cls(
            n=traces.n,
            phone=phone,
            seconds=(end_ms - at_ms) / 1000,
            hour=(traces.start_ms[phone] + at_ms) // _HOUR_MS % 24,
            process=np.stack([charging, wifi, cellular, screen], axis=1),
            network=network,
            locked=value["locked"],
            band=np.where(np.isnan(value["battery"]), _N_BANDS, band),
            continues=same,
        )


def _on_off(is_on: BoolArray, is_unknown: BoolArray) -> IntArray:
    return np.where(is_unknown, _UNKNOWN, is_on.astype(np.int64))


def _breakpoints(traces: TraceSet, levels: list[Levels]) -> tuple[IntArray, IntArray]:
    """Phone and instant of every change of any channel and of every full hour, sorted, without repeats."""
    n_hours = traces.period_ms // _HOUR_MS
    hour_phone = np.repeat(np.arange(traces.n), n_hours)
    index = np.arange(len(hour_phone)) - np.repeat(np.cumsum(n_hours) - n_hours, n_hours)
    hour_ms = index * _HOUR_MS + (-traces.start_ms % _HOUR_MS)[hour_phone]
    phone = np.concatenate([hour_phone, *(_phone_of(level) for level in levels)])
    at_ms = np.concatenate([hour_ms, *(level.at_ms for level in levels)])
    key = np.unique(phone * _span(traces.period_ms) + at_ms)
    return key // _span(traces.period_ms), key % _span(traces.period_ms)


def _span(period_ms: IntArray) -> int:
    return int(period_ms.max()) + 1


def _phone_of(level: Levels) -> IntArray:
    return np.repeat(np.arange(len(level.period_ms)), np.diff(level.offsets))


def _at(level: Levels, phone: IntArray, at_ms: IntArray) -> FloatArray:
    """The channel's value at each phone and instant."""
    span = _span(level.period_ms)
    key = _phone_of(level) * span + level.at_ms
    return level.value[np.searchsorted(key, phone * span + at_ms, side="right") - 1].astype(np.float64)


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
    columns |= _slopes(traces)
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
    next_state = np.append(segments.process[1:, process], _UNKNOWN)
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
        level_factors=_rounded(factors["level"][:_N_BANDS]),
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
    size |= {name: _UNKNOWN + 1 for name in groups if name in PROCESSES} | {"level": _N_BANDS + 1, "hour": 24}
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
                new[_UNKNOWN] = 1.0
            if name == "level":
                new[_N_BANDS] = 1.0
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
    return _rounded(quantiles / _mean_of(quantiles))


def _product_limit(stay: FloatArray, is_whole: BoolArray) -> FloatArray:
    order = np.argsort(stay, kind="stable")
    stay, is_whole = stay[order], is_whole[order]
    at_risk = np.arange(len(stay), 0, -1)
    done = 1.0 - np.cumprod(1.0 - is_whole / at_risk)
    return np.maximum(np.interp(DURATION_PROBABILITIES, done, stay), 1e-6)


def _mean_of(quantiles: FloatArray) -> float:
    """Mean of the law that interpolates the logarithm of the quantiles linearly."""
    low, high = quantiles[:-1], quantiles[1:]
    ratio = np.log(high / low)
    mean = np.divide(high - low, ratio, out=low.copy(), where=ratio > 1e-12)
    return float(np.sum(mean * np.diff(DURATION_PROBABILITIES)))


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


def _slopes(traces: TraceSet) -> dict[str, FloatArray]:
    """Per phone, % per h between successive battery readings: screen off, screen on, charging."""
    battery = compile_channel(traces, "battery")
    phone = _phone_of(battery)
    value = battery.value.astype(np.float64)
    same = (phone[1:] == phone[:-1]) & ~np.isnan(value[:-1])
    hours = np.diff(battery.at_ms) / 1000 / HOUR_S
    change = np.diff(value)
    on, charging = (_mean_between(traces, battery, name) for name in ("screen", "charging"))
    falls = same & (charging == 0.0) & (change <= 0) & (value[:-1] > 0)
    rises = same & (charging == 1.0) & (change >= 0) & (value[:-1] < 100)

    def rate(use: BoolArray) -> FloatArray:
        total = np.bincount(phone[:-1][use], np.abs(change[use]), traces.n)
        time = np.bincount(phone[:-1][use], hours[use], traces.n)
        return (total + total.sum() / time.sum()) / (time + 1.0)

    return {
        "idle_discharge_percent_per_h": rate(falls & (on < 0.05)),
        "active_discharge_percent_per_h": rate(falls & (on > 0.5)),
        "charge_percent_per_h": rate(rises),
    }


def _charge_margin(segments: Segments, columns: Mapping[str, FloatArray]) -> FloatArray:
    """Per phone: what its charger could give in the time it is plugged in / what the phone uses meanwhile."""
    charging, screen = segments.process[:, 0], segments.process[:, 3]
    plugged = _time_share(segments, charging == 1, charging != _UNKNOWN)
    on = _time_share(segments, screen == 1, screen != _UNKNOWN)
    idle, active = columns["idle_discharge_percent_per_h"], columns["active_discharge_percent_per_h"]
    used = (1 - plugged) * (idle + on * (active - idle))
    return plugged * columns["charge_percent_per_h"] / used


def _time_share(segments: Segments, is_true: BoolArray, among: BoolArray) -> FloatArray:
    """Share of each phone's time, shrunk by an hour of the population's."""
    true = np.bincount(segments.phone, segments.seconds * (is_true & among), segments.n)
    total = np.bincount(segments.phone, segments.seconds * among, segments.n)
    return (true + HOUR_S * true.sum() / total.sum()) / (total + HOUR_S)


def _mean_between(traces: TraceSet, grid: Levels, channel: str) -> FloatArray:
    """Mean of an on/off channel between successive entries of ``grid``; NaN where it is unknown."""
    level = compile_channel(traces, channel)
    span = _span(level.period_ms)
    key = _phone_of(level) * span + level.at_ms
    length = np.append(np.diff(key), 0).astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(_phone_of(level))), len(key) - 1)
    length[last] = level.period_ms - level.at_ms[last]
    unknown = np.isnan(level.value)
    integral = np.append(0.0, np.cumsum(np.where(unknown, 0.0, level.value) * length))
    at = _phone_of(grid) * span + grid.at_ms
    index = np.searchsorted(key, at, side="right") - 1
    total = integral[index] + np.where(unknown, 0.0, level.value)[index] * (at - key[index])
    mean = np.diff(total) / np.maximum(np.diff(at), 1)
    return np.where(unknown[index[:-1]], np.nan, mean)


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
