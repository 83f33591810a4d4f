"""Both generators behind one door: whole phones where all channels were recorded, else phones that come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsim.errors import InputError
from fedsim.files import read_json
from fedsim.traces.canonical import TraceSet
from fedsim.traces.generator.calibrate import calibrated
from fedsim.traces.generator.fit import (
    State,
    correlation,
    fit,
    fraction,
    hazard_factors,
    mean_stays_s,
    relative_durations,
    rounded,
)
from fedsim.traces.generator.onoff import CHANNEL, OnOffParameters, synthesize_on_off
from fedsim.traces.generator.parameters import TRAIT_PROBABILITIES, SynthesisParameters
from fedsim.traces.generator.segments import Segments
from fedsim.traces.generator.synthesis import REFERENCE, synthesize
from fedsim.traces.validation import MAX_DEVICE_DAYS, MAX_WINDOW_MS
from fedsim.units import DAY_MS, DAY_S, FloatArray

Parameters = SynthesisParameters | OnOffParameters
PHONE_CHANNELS = frozenset(("network", "charging", "screen", "locked", "battery"))


def fit_generator(traces: TraceSet, *, source: str) -> Parameters:
    """Parameters of the generator that the set's channels suffice for; ``source`` names the set.

    Raises:
        InputError: neither all channels of a phone nor ``available`` was recorded, or they tell too little.
    """
    channels = set(traces.channels())
    if channels >= PHONE_CHANNELS:
        return calibrated(fit(traces, template=SynthesisParameters.load(REFERENCE), source=source), traces)
    if CHANNEL in channels:
        return fit_on_off(traces, source=source)
    allowed = f"all of {', '.join(sorted(PHONE_CHANNELS))}; or {CHANNEL}"
    raise InputError("channels of the set fit no generator", value=", ".join(sorted(channels)), allowed=allowed)


def fit_on_off(traces: TraceSet, *, source: str) -> OnOffParameters:
    """The parameters of phones that come and go, by the methods of :mod:`fedsim.traces.generator.fit`."""
    segments = Segments.of_channel(traces, CHANNEL)
    durations: list[tuple[float, ...]] = []
    hours: list[tuple[float, ...]] = []
    mean_s: list[FloatArray] = []
    for value in (0, 1):
        state = State.of(segments, 0, value)
        factor = hazard_factors(state, {"hour": segments.hour})["hour"]
        seconds = factor[segments.hour] * segments.seconds
        mean_s.append(mean_stays_s(state, seconds))
        durations.append(relative_durations(state, seconds, mean_s[-1]))
        hours.append(rounded(factor))
    traits = np.stack([fraction(*mean_s), DAY_S / (mean_s[0] + mean_s[1])])
    return OnOffParameters(
        fraction_quantiles=rounded(np.quantile(traits[0], TRAIT_PROBABILITIES)),
        sessions_per_day_quantiles=rounded(np.quantile(traits[1], TRAIT_PROBABILITIES)),
        trait_correlation=correlation(traits)[0][1],
        relative_duration_quantiles=(durations[0], durations[1]),
        hour_factors=(hours[0], hours[1]),
        is_local=bool(traces.is_local.all()),
        source=source,
    )


def load_generator(path: Path) -> Parameters:
    """Parameters of either generator, as their file says."""
    value = read_json(path, "synthesis parameters")
    is_on_off = isinstance(value, dict) and value.get("channel") == CHANNEL
    return OnOffParameters.load(path) if is_on_off else SynthesisParameters.load(path)


def generate(parameters: Parameters, *, n_devices: int, n_days: int, seed: int) -> TraceSet:
    """A trace set of ``n_devices`` phones over ``n_days`` days.

    Raises:
        InputError: more days, or more of them in all, than a trace set may have.
    """
    if n_days > MAX_WINDOW_MS // DAY_MS or n_days * n_devices > MAX_DEVICE_DAYS:
        allowed = f"{MAX_WINDOW_MS // DAY_MS:,} days, {MAX_DEVICE_DAYS:,} of all devices"
        raise InputError("too many days and devices", value=(n_days, n_devices), allowed=allowed)
    if isinstance(parameters, OnOffParameters):
        return synthesize_on_off(parameters, n_devices=n_devices, n_days=n_days, seed=seed)
    return synthesize(parameters, n_devices=n_devices, n_days=n_days, seed=seed)
