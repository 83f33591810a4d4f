"""Make synthetic phones of a fit charge as much as the real ones did.

Readings of real logs gain charge that no logged charger gave (a third of it in FLASH's). In the generator every
percent has its charger, so phones that drained at the measured slopes would stand on it for longer than real ones.
The slopes are therefore scaled until the share of time charging is that of the set: simulated moments, one of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedsim.traces.canonical import TraceSet
from fedsim.traces.criteria import compile_channel
from fedsim.traces.generator.parameters import SynthesisParameters, Trait
from fedsim.traces.generator.synthesis import synthesize

DRAINS = ("idle_discharge_percent_per_h", "active_discharge_percent_per_h")
_N_DEVICES, _N_DAYS, _SEED = 300, 5, 0  # the share of so many phones has a standard error of about 0.01
_N_ROUNDS = 3


def calibrated(parameters: SynthesisParameters, traces: TraceSet) -> SynthesisParameters:
    """The parameters with both slopes of discharge scaled by one factor, noted with their source."""
    wanted, factor, scaled = charging_share(traces), 1.0, parameters
    for _ in range(_N_ROUNDS):
        found = charging_share(synthesize(scaled, n_devices=_N_DEVICES, n_days=_N_DAYS, seed=_SEED))
        factor *= _odds(wanted) / _odds(found)
        scaled = _drained(parameters, factor)
    return scaled


def charging_share(traces: TraceSet) -> float:
    """Share of the time in which it is known whether phones charge that they do."""
    levels = compile_channel(traces, "charging")
    is_known = ~np.isnan(levels.value)
    hold_ms = levels.hold_ms[is_known].astype(np.float64)
    return float((levels.value[is_known] * hold_ms).sum() / hold_ms.sum())


def _odds(share: float) -> float:
    """A phone's time on the charger per time off it goes with what it drains."""
    return share / (1.0 - share)


def _drained(parameters: SynthesisParameters, factor: float) -> SynthesisParameters:
    def scaled(trait: Trait) -> Trait:
        quantiles = tuple(float(f"{value * factor:.4g}") for value in trait.quantiles)
        return Trait(quantiles, f"{trait.source}; scaled by {factor:.3g} to its share of time charging")

    drains = {name: scaled(parameters.traits[name]) for name in DRAINS}
    return replace(parameters, traits={**parameters.traits, **drains})
