"""Draw whole devices with replacement: the same behaviour, another number of devices."""

from __future__ import annotations

import numpy as np

from fedsim import rng
from fedsim.errors import InputError
from fedsim.traces.canonical import TraceSet
from fedsim.traces.edit.assemble import take, with_transform
from fedsim.traces.validation import MAX_DEVICE_DAYS


def resample(traces: TraceSet, *, n_devices: int, seed: int) -> TraceSet:
    """``n_devices`` devices drawn with replacement; each keeps its log, clock, facts and identifier.

    Device i is the same whatever ``n_devices`` is. A device drawn twice is in the set twice, under one identifier.
    """
    if not 1 <= n_devices <= MAX_DEVICE_DAYS:
        allowed = f"1 … {MAX_DEVICE_DAYS:,}"
        raise InputError("the number of devices must be positive", value=n_devices, allowed=allowed)
    rows = rng.integers(seed, "resample", np.arange(n_devices), traces.n)
    text = f"resampled: {n_devices} whole devices drawn of {traces.n} with replacement, seed {seed}"
    return with_transform(take(traces, rows), text)
