"""How long a device trains, from steps that were timed on some phones; apart, because the fit needs scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np

from fedsim import rng
from fedsim.device.compute import PhoneCompute, check_positive
from fedsim.device.profiles import Profiles
from fedsim.fleet.phones import Phones
from fedsim.ranges import Range, Seed, Sigma
from fedsim.training.model_work import ModelWork
from fedsim.units import FloatArray, IntArray

_SHORTEST_S = 1e-12  # logarithms of times need more than 0


class MeasuredCompute(PhoneCompute):
    """Steps timed on real devices (:data:`fedsim.schema.PROFILES`), fitted and added up over the model's layers.

    A phone that was timed has its own time. Others lie between the timed ones by their inference latency, straight
    in logarithms; beyond the fastest and the slowest time goes with latency. ``inference_ms`` tells the latency of
    timed devices. Where neither is known the time is unknown.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        phones: Phones,
        model: Callable[[], ModelWork],
        profiles: str,
        inference_ms: Mapping[str, Annotated[float, Range(1e-6, 1e9)]],
        layer_ops: Mapping[str, str],
        session_sigma: Sigma,
    ) -> None:
        super().__init__(seed=seed, phones=phones, session_sigma=session_sigma)
        for name, latency_ms in inference_ms.items():
            check_positive(f"inference_ms.{name}", latency_ms)
        timed = Profiles.load(profiles).unit_s(model(), layer_ops)
        self._unit_s = rng.portable(np.array(list(timed.values())))  # [device, (a step, a sample)]
        number = {name: i for i, name in enumerate(timed)}
        self._timed_of_row = np.array([*(number.get(str(name), -1) for name in phones.models), -1], dtype=np.int64)
        placed = [name for name in timed if name in inference_ms]
        self._ms, which = np.unique([inference_ms[name] for name in placed], return_inverse=True)
        sums = np.zeros((len(self._ms), 2))
        np.add.at(sums, which, self._unit_s[[number[name] for name in placed]])
        self._placed_unit_s = sums / np.bincount(which)[:, None]  # phones of one latency count as their mean

    def median_s(self, ids: IntArray, n_samples: IntArray, n_steps: IntArray) -> FloatArray:
        """Seconds without the spread, ``float64[n]``; NaN where no timed device tells."""
        work = np.stack([n_steps, n_samples], axis=1).astype(np.float64)
        seconds = self._between(self.phones.inference_ms(ids), work)
        timed = self._timed_of_row[self.phones.row_of(ids)]
        own = np.flatnonzero(timed >= 0)
        seconds[own] = (work[own] * self._unit_s[timed[own]]).sum(axis=1)
        return seconds

    def _between(self, phones_ms: FloatArray, work: FloatArray) -> FloatArray:
        """Seconds of phones by their latency; NaN without one, or if the latency of no timed device is known."""
        if not self._ms.size:
            return np.full(len(phones_ms), np.nan)
        reach = phones_ms / np.clip(phones_ms, self._ms[0], self._ms[-1])
        place = np.interp(np.log(phones_ms), np.log(self._ms), np.arange(self._ms.size))
        below = np.nan_to_num(place).astype(np.int64)
        above = np.minimum(below + 1, self._ms.size - 1)
        low, high = (
            np.log(np.maximum((work * self._placed_unit_s[i]).sum(axis=1), _SHORTEST_S)) for i in (below, above)
        )
        return rng.portable(np.exp(low + (place - below) * (high - low))) * reach
