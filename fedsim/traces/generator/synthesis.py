"""Synthetic trace sets: a seeded semi-Markov model of charger, network, screen, keyguard and battery together.

The parameters of the reference set stand in ``reference.json`` beside this file, each with its source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.traces.canonical import CHANNEL_CODE, NETWORK_CODE, Events, TraceSet
from fedsim.traces.folder import save_traces
from fedsim.traces.generator.parameters import CELLULAR as RADIOS
from fedsim.traces.generator.parameters import SynthesisParameters
from fedsim.traces.generator.walk import CELLULAR, CHARGING, SCREEN, WIFI, Knots, SyntheticPhones, walk
from fedsim.units import DAY_MS, DAY_S, BoolArray, FloatArray, IntArray

REFERENCE = Path(__file__).with_name("reference.json")
REFERENCE_SEED = 95  # its 200 phones meet every published statistic within the bounds of the tests


def write_reference(folder: Path | str, *, n_devices: int = 200, n_days: int = 7, seed: int = REFERENCE_SEED) -> None:
    """Write a trace set made with the reference parameters; with the defaults, the one that travels with fedsim."""
    save_traces(synthesize(SynthesisParameters.load(REFERENCE), n_devices=n_devices, n_days=n_days, seed=seed), folder)


def synthesize(parameters: SynthesisParameters, *, n_devices: int, n_days: int, seed: int) -> TraceSet:
    """A trace set of ``n_devices`` phones over ``n_days`` local days.

    Phone i is the same whatever ``n_devices`` is; the same arguments give the same bytes. The initial state
    of every channel is known, unlike in recorded logs. Simplifications: days of the week are alike, phones
    are independent of each other given the hour, hardware is independent of behaviour.
    """
    if n_devices < 1:
        raise InputError("n_devices", value=n_devices, allowed="at least 1")
    if n_days < 1:
        raise InputError("n_days", value=n_days, allowed="at least 1")
    phones = SyntheticPhones.draw(parameters, np.arange(n_devices), seed)
    knots = walk(parameters, phones, end_s=float(n_days * DAY_S), seed=seed)
    changes = [
        _Changes.of("network", knots.phone, knots.at_s, _network(parameters, phones, knots, seed)),
        _Changes.of("charging", knots.phone, knots.at_s, knots.has(CHARGING)),
        _Changes.of("screen", knots.phone, knots.at_s, knots.has(SCREEN)),
        _keyguard(parameters, phones, knots, seed),
        _battery(parameters, knots),
    ]
    phone, events = _log(changes, end_ms=n_days * DAY_MS)
    return TraceSet(
        device_id=np.array([f"synthetic-{i}" for i in range(n_devices)], dtype=object),
        start_ms=np.zeros(n_devices, dtype=np.int64),
        period_ms=np.full(n_devices, n_days * DAY_MS),
        is_local=np.ones(n_devices, dtype=bool),
        facts=_facts(parameters, phones.ids, seed),
        offsets=np.searchsorted(phone, np.arange(n_devices + 1)).astype(np.int64),
        events=events,
        provenance=_provenance(parameters, n_devices=n_devices, n_days=n_days, seed=seed),
    )


def _provenance(parameters: SynthesisParameters, *, n_devices: int, n_days: int, seed: int) -> dict[str, Any]:
    """All that is needed to make the set again."""
    text = json.dumps(parameters.as_json(), sort_keys=True)
    return {
        "source": "synthetic: fedsim traces synthesize",
        "licence": "Apache-2.0",
        "n_devices": n_devices,
        "n_days": n_days,
        "seed": seed,
        "parameters_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "transforms": [],
    }


@dataclass(frozen=True)
class _Changes:
    """Changes of one channel, columns of equal length, sorted by time inside each phone."""

    channel: str
    phone: IntArray
    at_s: FloatArray
    value: FloatArray

    @classmethod
    def of(cls, channel: str, phone: IntArray, at_s: FloatArray, value: npt.ArrayLike) -> _Changes:
        """Sorted by phone and time (ties stay in order), without rows that change nothing."""
        order = np.lexsort((at_s, phone))
        phone, at_s, value = phone[order], at_s[order], np.asarray(value, dtype=np.float64)[order]
        is_news = np.append(True, (phone[1:] != phone[:-1]) | (value[1:] != value[:-1]))
        return cls(channel, phone[is_news], at_s[is_news], value[is_news])


def _log(changes: Sequence[_Changes], *, end_ms: int) -> tuple[IntArray, Events]:
    """All channels in one log, in whole seconds as recorders write them; and the phone of each event."""
    phone = np.concatenate([c.phone for c in changes])
    at_s = np.concatenate([c.at_s for c in changes])
    value = np.concatenate([c.value for c in changes])
    channel = np.repeat([CHANNEL_CODE[c.channel] for c in changes], [len(c.phone) for c in changes])
    order = np.lexsort((channel, at_s, phone))
    at_ms = np.floor(at_s[order]).astype(np.int64) * 1000
    order, at_ms = order[at_ms < end_ms], at_ms[at_ms < end_ms]
    is_sentinel = np.zeros(len(order), dtype=bool)
    return phone[order], Events(
        at_ms=at_ms,
        channel=channel[order].astype(np.int8),
        value=value[order].astype(np.float32),
        is_sentinel=is_sentinel,
    )


def _number_in_phone(is_counted: BoolArray, knots: Knots) -> IntArray:
    """How many counted knots the phone has had before and at each knot."""
    total = np.cumsum(is_counted)
    first = np.flatnonzero(knots.is_first)
    return total - (total - is_counted)[first][knots.phone]


def _network(parameters: SynthesisParameters, phones: SyntheticPhones, knots: Knots, seed: int) -> IntArray:
    """Network code from each knot on; the radio type is drawn anew for each cellular session."""
    is_on = knots.has(CELLULAR)
    begins = is_on & (knots.is_first | np.append(True, ~is_on[:-1]))
    u = rng.uniform(seed, "radio", phones.ids[knots.phone], _number_in_phone(begins, knots))
    limits = np.cumsum([parameters.cellular_fractions[name] for name in RADIOS])[:-1]
    radio = np.array([NETWORK_CODE[name] for name in RADIOS])[np.searchsorted(limits, u)]
    without_wifi = np.where(is_on, radio, NETWORK_CODE["none"])
    return np.where(knots.has(WIFI), NETWORK_CODE["wifi"], without_wifi)


def _keyguard(parameters: SynthesisParameters, phones: SyntheticPhones, knots: Knots, seed: int) -> _Changes:
    """The keyguard closes as the screen goes off, or is found closed as it comes back, and opens a little later.

    Each of the three happens by chance; a phone that begins with its screen off is locked.
    """
    screen = _Changes.of("screen", knots.phone, knots.at_s, knots.has(SCREEN))
    is_first = np.append(True, screen.phone[1:] != screen.phone[:-1])
    is_last = np.append(is_first[1:], True)
    stay_s = np.where(is_last, np.inf, np.append(screen.at_s[1:], 0.0) - screen.at_s)
    off_s = np.where(is_first, 0.0, np.append(0.0, stay_s[:-1]))  # before the screen came on
    k = np.arange(len(is_first)) - np.flatnonzero(is_first)[screen.phone]
    ids = phones.ids[screen.phone]
    u = rng.uniform(seed, "keyguard", ids, k)
    is_found = rng.uniform(seed, "keyguard/found", ids, k) < parameters.wake_lock_fraction
    is_on = screen.value == 1
    closes = np.where(is_on, is_found & (off_s > parameters.wake_lock_after_s), u < phones.lock_fraction[screen.phone])
    closes = np.where(is_first, ~is_on, closes)
    opens = is_on & (u < phones.unlock_fraction[screen.phone]) & (stay_s > parameters.unlock_delay_s)
    begins_open = is_first & is_on
    phone = np.concatenate([screen.phone[begins_open], screen.phone[closes], screen.phone[opens]])
    at_s = np.concatenate(
        [screen.at_s[begins_open], screen.at_s[closes], screen.at_s[opens] + parameters.unlock_delay_s]
    )
    value = np.repeat([0.0, 1.0, 0.0], [begins_open.sum(), closes.sum(), opens.sum()])
    return _Changes.of("locked", phone, at_s, value)


def _battery(parameters: SynthesisParameters, knots: Knots) -> _Changes:
    """The level at the first midnight, at each multiple of the step, and when the charger comes or goes."""
    step = parameters.battery_step_percent
    before, after = knots.level[:-1], knots.level[1:]
    rises = np.floor(after / step) - np.floor(before / step)
    falls = np.ceil(before / step) - np.ceil(after / step)
    n = np.where(knots.is_first[1:], 0, np.maximum(rises, 0) + np.maximum(falls, 0)).astype(np.int64)
    knot = np.repeat(np.arange(len(n)), n)
    i = np.arange(len(knot)) - np.repeat(np.cumsum(n) - n, n)
    up, down = np.floor(before[knot] / step) + 1 + i, np.ceil(before[knot] / step) - 1 - i
    crossed = np.where(rises[knot] > 0, up, down) * step
    share = (crossed - before[knot]) / (after[knot] - before[knot])
    crossed_at_s = knots.at_s[knot] + share * (knots.at_s[knot + 1] - knots.at_s[knot])
    is_charging = knots.has(CHARGING)
    is_plug = knots.is_first | np.append(True, is_charging[1:] != is_charging[:-1])
    return _Changes.of(
        "battery",
        np.concatenate([knots.phone[knot], knots.phone[is_plug]]),
        np.concatenate([crossed_at_s, knots.at_s[is_plug]]),
        np.concatenate([crossed, np.rint(knots.level[is_plug])]),
    )


def _facts(parameters: SynthesisParameters, ids: IntArray, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    limits = np.cumsum([row.population_fraction for row in parameters.hardware])[:-1]
    row = np.searchsorted(limits, rng.uniform(seed, "hardware", ids))
    return {
        "model": np.array([h.model for h in parameters.hardware], dtype=object)[row],
        "ram_gb": np.array([h.ram_gb for h in parameters.hardware], dtype=np.float32)[row],
        "os_version": np.array([h.os_version for h in parameters.hardware], dtype=np.float32)[row],
    }
