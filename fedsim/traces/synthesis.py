"""Synthetic trace sets: a seeded semi-Markov model of charger, network, screen, keyguard and battery together.

Every phone draws its traits, then walks through its days event by event. Of the four on/off processes the
one whose stay runs out first changes; while it waits, each stay is used up faster or slower according to the
hour, the other processes and the battery level (the modified next reaction method, Anderson 2007, with
stays of any law instead of exponential ones). The battery follows charger and screen, and pulls them in turn.
All phones take their k-th step together, as numpy columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.traces.canonical import CHANNEL_CODE, NETWORK_CODE, Events, TraceSet
from fedsim.traces.parameters import (
    CELLULAR,
    DURATION_PROBABILITIES,
    LAWS,
    LEVEL_EDGES,
    PROCESSES,
    TRAIT_Z,
    TRAITS,
    SynthesisParameters,
)
from fedsim.units import DAY_MS, DAY_S, HOUR_S, BoolArray, FloatArray, IntArray

_BURN_IN_S = 3 * DAY_S  # walked and thrown away, so that the first kept midnight is like any other
_CHARGING, _WIFI, _CELLULAR, _SCREEN = (1 << i for i in range(len(PROCESSES)))
_N_STATES = 1 << len(PROCESSES)
_EDGES = np.array(LEVEL_EDGES)


@dataclass(frozen=True)
class _Phones:
    """What is fixed for each phone, columns of length n."""

    ids: IntArray
    mean_stay_s: FloatArray  # [n, 8], in the order of LAWS; inf = this state is never left
    slope_percent_per_s: FloatArray  # [n, 3]: charging, screen off, screen on
    lock_fraction: FloatArray
    unlock_fraction: FloatArray


@dataclass(frozen=True)
class _Path:
    """Knots of all walks, sorted by phone and time: a state holds, and the level is linear, to the next knot."""

    phone: IntArray
    at_s: FloatArray
    state: IntArray  # bit i = process i is on
    level: FloatArray


def synthesize(parameters: SynthesisParameters, *, n_devices: int, n_days: int, seed: int) -> TraceSet:
    """A trace set of ``n_devices`` phones over ``n_days`` local days.

    Phone i is the same whatever ``n_devices`` is; the same arguments give the same bytes. The initial state
    of every channel is known, unlike in recorded logs. Simplifications: days of the week are alike, phones
    are independent of each other given the hour, hardware is independent of behaviour.
    """
    phones = _phones(parameters, np.arange(n_devices), seed)
    path = _walk(parameters, phones, end_s=float(n_days * DAY_S), seed=seed)
    columns = _sorted_events(parameters, phones, path, n_days=n_days, seed=seed)
    phone, at_ms, channel, value = columns
    return TraceSet(
        device_id=np.array([f"ref-{i}" for i in range(n_devices)], dtype=object),
        start_ms=np.zeros(n_devices, dtype=np.int64),
        period_ms=np.full(n_devices, n_days * DAY_MS),
        is_local=np.ones(n_devices, dtype=bool),
        facts=_facts(parameters, phones.ids, seed),
        offsets=np.searchsorted(phone, np.arange(n_devices + 1)).astype(np.int64),
        events=Events(at_ms, channel.astype(np.int8), value.astype(np.float32), np.zeros(len(phone), dtype=bool)),
        provenance={"source": "synthetic", "seed": seed, "n_devices": n_devices, "n_days": n_days},
    )


def _phones(parameters: SynthesisParameters, ids: IntArray, seed: int) -> _Phones:
    factor = np.linalg.cholesky(np.array(parameters.trait_correlation))
    z = np.stack([rng.normal(seed, f"trait/{name}", ids) for name in TRAITS], axis=1) @ factor.T
    trait = {name: np.interp(z[:, i], TRAIT_Z, parameters.traits[name].quantiles) for i, name in enumerate(TRAITS)}
    stays = [_mean_stays_s(trait[f"{p}_fraction"], trait[f"{p}_sessions_per_day"]) for p in PROCESSES]
    charge, idle, active = (
        trait[f"{what}_percent_per_h"] / HOUR_S for what in ("charge", "idle_discharge", "active_discharge")
    )
    return _Phones(
        ids=ids,
        mean_stay_s=np.concatenate(stays, axis=1),
        slope_percent_per_s=np.stack([charge, -idle, -active], axis=1),
        lock_fraction=trait["lock_fraction"],
        unlock_fraction=trait["unlock_fraction"],
    )


def _mean_stays_s(fraction: FloatArray, per_day: FloatArray) -> FloatArray:
    """Mean stay off and on, [n, 2], of a process that is on for ``fraction`` of the time."""
    cycle_s = DAY_S / np.maximum(per_day, 1e-9)
    off_s = np.where(fraction > 0, (1 - fraction) * cycle_s, np.inf)
    on_s = np.where(fraction < 1, fraction * cycle_s, np.inf)
    return np.stack([off_s, on_s], axis=1)


class _Clockwork:
    """The tables of the laws, laid out for a whole column of phones at once."""

    def __init__(self, parameters: SynthesisParameters, seed: int) -> None:
        self.seed = seed
        self.speed = _speed_table(parameters)
        laws = [parameters.laws[name] for name in LAWS]
        # one table for all laws: law i stands at probabilities i … i + 1
        self.position = np.concatenate([i + np.array(DURATION_PROBABILITIES) for i in range(len(LAWS))])
        self.log_stay = np.log(np.concatenate([law.relative_duration_quantiles for law in laws]))

    def stays_s(self, ids: IntArray, law: IntArray, mean_s: FloatArray, k: int | IntArray) -> FloatArray:
        """Stays in operational seconds, one for each id, law and mean."""
        u = rng.uniform(self.seed, "stay", ids, np.broadcast_to(k, ids.shape))
        return mean_s * np.exp(np.interp(law + u, self.position, self.log_stay))


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
    band: IntArray
    rest_s: FloatArray  # [m, 4] operational seconds left of each process's stay

    def keep(self, is_kept: BoolArray) -> _Walk:
        return _Walk(*(getattr(self, name)[is_kept] for name in self.__dataclass_fields__))


def _walk(parameters: SynthesisParameters, phones: _Phones, *, end_s: float, seed: int) -> _Path:
    """Walk all phones to ``end_s``; the knots from time 0 on."""
    clockwork = _Clockwork(parameters, seed)
    walk = _start(clockwork, phones)
    knots: list[tuple[npt.NDArray[np.generic], ...]] = []
    k = len(PROCESSES)  # draws 0 … 3 made the start
    while len(walk.row):
        _step(clockwork, phones, walk, k)
        k += 1
        knots.append((walk.row.copy(), walk.at_s.copy(), walk.state.copy(), walk.level.copy()))
        is_done = walk.at_s >= end_s
        if is_done.any():
            walk = walk.keep(~is_done)
    row, at_s, state, level = (np.concatenate(column) for column in zip(*knots, strict=True))
    order = np.argsort(row, kind="stable")
    order = order[at_s[order] >= 0]
    return _Path(row[order], at_s[order], state[order], level[order])


def _start(clockwork: _Clockwork, phones: _Phones) -> _Walk:
    """A burn-in before the first kept midnight: each process on with its fraction, half-way through a stay."""
    n = len(phones.ids)
    mean = phones.mean_stay_s.reshape(n, len(PROCESSES), 2)
    on_fraction = np.where(np.isinf(mean[:, :, 0]), 0.0, 1.0)
    is_mixed = np.isfinite(mean).all(axis=2)
    on_fraction[is_mixed] = mean[is_mixed][:, 1] / mean[is_mixed].sum(axis=1)
    u = np.stack([rng.uniform(clockwork.seed, f"start/{name}", phones.ids) for name in PROCESSES], axis=1)
    is_on = u < on_fraction
    rest_s = np.stack(
        [
            clockwork.stays_s(phones.ids, 2 * i + is_on[:, i], phones.mean_stay_s[np.arange(n), 2 * i + is_on[:, i]], i)
            for i in range(len(PROCESSES))
        ],
        axis=1,
    )
    level = 100.0 * rng.uniform(clockwork.seed, "start/level", phones.ids)
    return _Walk(
        row=np.arange(n),
        at_s=np.full(n, -float(_BURN_IN_S)),
        hour=np.full(n, -(_BURN_IN_S // HOUR_S)),
        state=is_on @ (1 << np.arange(len(PROCESSES))),
        level=level,
        band=np.searchsorted(_EDGES, level) - 1,
        rest_s=rest_s * rng.uniform(clockwork.seed, "start/rest", phones.ids)[:, None],
    )


def _slope(phones: _Phones, walk: _Walk) -> FloatArray:
    """Battery slope now, % per s; 0 when it is full or empty."""
    is_charging = (walk.state & _CHARGING) > 0
    kind = np.where(is_charging, 0, np.where(walk.state & _SCREEN, 2, 1))
    is_stuck = np.where(is_charging, walk.level >= 100.0, walk.level <= 0.0)
    return np.where(is_stuck, 0.0, phones.slope_percent_per_s[walk.row, kind])


def _step(clockwork: _Clockwork, phones: _Phones, walk: _Walk, k: int) -> None:
    """Move every phone, in place, to its next event: a process changes, a level band or an hour ends."""
    speed = clockwork.speed[walk.state, walk.band, walk.hour % 24]
    slope = _slope(phones, walk)
    edge = _EDGES[walk.band + (slope > 0)]
    wait = np.empty((len(walk.row), len(PROCESSES) + 2))
    wait[:, :-2] = walk.rest_s / speed
    wait[:, -2] = np.inf
    np.divide(edge - walk.level, slope, out=wait[:, -2], where=slope != 0)
    wait[:, -1] = (walk.hour + 1) * HOUR_S - walk.at_s
    first = wait.argmin(axis=1)
    dt = wait[np.arange(len(first)), first]

    walk.rest_s -= speed * dt[:, None]
    walk.at_s += dt
    walk.level = np.clip(walk.level + slope * dt, _EDGES[walk.band], _EDGES[walk.band + 1])
    _change(clockwork, phones, walk, np.flatnonzero(first < len(PROCESSES)), first, k)
    at_edge = np.flatnonzero(first == len(PROCESSES))
    walk.level[at_edge] = edge[at_edge]
    walk.band[at_edge] += np.where(slope[at_edge] > 0, 1, -1)
    np.clip(walk.band, 0, len(LEVEL_EDGES) - 2, out=walk.band)
    at_hour = np.flatnonzero(first == len(PROCESSES) + 1)
    walk.hour[at_hour] += 1
    walk.at_s[at_hour] = walk.hour[at_hour] * float(HOUR_S)


def _change(clockwork: _Clockwork, phones: _Phones, walk: _Walk, who: IntArray, process: IntArray, k: int) -> None:
    """The process of each phone in ``who`` changes and draws its next stay."""
    which = process[who]
    walk.state[who] ^= 1 << which
    law = 2 * which + (walk.state[who] >> which & 1)
    row = walk.row[who]
    walk.rest_s[who, which] = clockwork.stays_s(phones.ids[row], law, phones.mean_stay_s[row, law], k)


Columns = tuple[IntArray, IntArray, IntArray, FloatArray]  # phone, at_ms, channel, value


def _sorted_events(parameters: SynthesisParameters, phones: _Phones, path: _Path, *, n_days: int, seed: int) -> Columns:
    """All channels' events, sorted by phone, time and channel."""
    is_screen_on = (path.state & _SCREEN) > 0
    network = _network(parameters, phones, path, seed)
    parts = [
        _changes(path, "network", network),
        _changes(path, "charging", (path.state & _CHARGING) > 0),
        _changes(path, "screen", is_screen_on),
        _lock_events(parameters, phones, path, seed),
        _battery_events(parameters, path),
    ]
    phone, at_s, channel, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    at_ms = np.rint(at_s).astype(np.int64) * 1000
    keep = at_ms < n_days * DAY_MS
    order = np.flatnonzero(keep)[np.lexsort((channel[keep], at_ms[keep], phone[keep]))]
    return phone[order], at_ms[order], channel[order], value[order]


def _is_first(path: _Path) -> BoolArray:
    return np.append(True, path.phone[1:] != path.phone[:-1])


def _changes(path: _Path, channel: str, value: npt.ArrayLike) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """The channel's value at midnight and wherever it changes."""
    value = np.asarray(value, dtype=np.float64)
    at = np.flatnonzero(_is_first(path) | np.append(True, value[1:] != value[:-1]))
    return path.phone[at], path.at_s[at], np.full(len(at), CHANNEL_CODE[channel]), value[at]


def _network(parameters: SynthesisParameters, phones: _Phones, path: _Path, seed: int) -> IntArray:
    """Network code at each knot; the radio type is drawn anew for each cellular session."""
    is_on = (path.state & _CELLULAR) > 0
    begins = is_on & (_is_first(path) | np.append(True, ~is_on[:-1]))
    session = np.cumsum(begins)
    u = rng.uniform(seed, "radio", phones.ids[path.phone], session - session[_is_first(path)][path.phone])
    limits = np.cumsum([parameters.cellular_fractions[name] for name in CELLULAR])[:-1]
    radio = np.array([NETWORK_CODE[name] for name in CELLULAR])[np.searchsorted(limits, u)]
    cellular = np.where(is_on, radio, NETWORK_CODE["none"])
    return np.where(path.state & _WIFI, NETWORK_CODE["wifi"], cellular)


def _lock_events(
    parameters: SynthesisParameters, phones: _Phones, path: _Path, seed: int
) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """The keyguard closes when the screen goes off, or is found closed when it comes back, and opens a little later.

    Each of the three happens by chance; what finds the keyguard in its new state already changes nothing.
    """
    phone, at_s, _, is_on = _changes(path, "screen", (path.state & _SCREEN) > 0)
    is_first = np.append(True, phone[1:] != phone[:-1])
    k = np.arange(len(phone)) - np.flatnonzero(is_first)[phone]
    u = rng.uniform(seed, "keyguard", phones.ids[phone], k)
    found = rng.uniform(seed, "keyguard/found", phones.ids[phone], k) < parameters.wake_lock_fraction
    length_s = np.where(np.append(is_first[1:], True), np.inf, np.append(at_s[1:], 0.0) - at_s)
    was_off_s = np.where(is_first, 0.0, np.append(0.0, length_s[:-1]))
    closes = np.where(is_on, found & (was_off_s > parameters.wake_lock_after_s), u < phones.lock_fraction[phone])
    closes = np.where(is_first, is_on == 0, closes)
    opens = (is_on == 1) & (u < phones.unlock_fraction[phone]) & (length_s > parameters.unlock_delay_s)
    phone = np.concatenate([phone[closes], phone[opens | is_first]])
    order = np.lexsort()
    return phone


def _battery_events(parameters: SynthesisParameters, path: _Path) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """The level at midnight, at each multiple of the step, and whenever the charger comes or goes."""
    step = parameters.battery_step_percent
    before, after = path.level[:-1], path.level[1:]
    same = path.phone[1:] == path.phone[:-1]
    rises = np.maximum(np.floor(after / step) - np.floor(before / step), 0).astype(np.int64)
    falls = np.maximum(np.ceil(before / step) - np.ceil(after / step), 0).astype(np.int64)
    n = np.where(same, rises + falls, 0)
    knot = np.repeat(np.arange(len(n)), n)
    i = np.arange(len(knot)) - np.repeat(np.cumsum(n) - n, n)
    up = np.floor(before[knot] / step) + 1 + i
    down = np.ceil(before[knot] / step) - 1 - i
    level = np.where(rises[knot] > 0, up, down) * step
    share = (level - before[knot]) / (after[knot] - before[knot])
    at_s = path.at_s[knot] + share * (path.at_s[knot + 1] - path.at_s[knot])
    phone, plug_at_s, _, _ = _changes(path, "charging", (path.state & _CHARGING) > 0)
    plug_level = path.level[_is_first(path) | np.append(True, ((path.state[1:] ^ path.state[:-1]) & _CHARGING) > 0)]
    value = np.concatenate([level, np.rint(plug_level)])
    phone = np.concatenate([path.phone[knot], phone])
    return phone, np.concatenate([at_s, plug_at_s]), np.full(len(phone), CHANNEL_CODE["battery"]), value


def _facts(parameters: SynthesisParameters, ids: IntArray, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    limits = np.cumsum([row.population_fraction for row in parameters.hardware])[:-1]
    row = np.searchsorted(limits, rng.uniform(seed, "hardware", ids))
    return {
        "model": np.array([h.model for h in parameters.hardware], dtype=object)[row],
        "ram_gb": np.array([h.ram_gb for h in parameters.hardware], dtype=np.float32)[row],
        "os_version": np.array([h.os_version for h in parameters.hardware], dtype=np.float32)[row],
    }
