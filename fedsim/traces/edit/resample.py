"""Draw whole devices with replacement: the same behaviour, another number of devices."""

from __future__ import annotations

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.assemble import take, with_transform


def resample(traces: TraceSet, *, n_devices: int, seed: int) -> TraceSet:
    """``n_devices`` devices drawn with replacement; each keeps its log, clock, facts and identifier.

    Device i is the same whatever ``n_devices`` is. A device drawn twice is in the set twice, under one identifier.
    """
    if n_devices < 1:
        raise InputError("the number of devices must be positive", value=n_devices)
    rows = rng.integers(seed, "resample", np.arange(n_devices), traces.n)
    text = f"resampled: {n_devices} whole devices drawn of {traces.n} with replacement, seed {seed}"
    return with_transform(take(traces, rows), text)
