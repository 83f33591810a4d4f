"""Transfer rates from measurements: each network type has the distribution that was measured on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.device.holders import normal_cdf
from fedsim.device.network import OwnLevels, Transfers
from fedsim.errors import InputError
from fedsim.fleet.phones import Phones
from fedsim.ranges import DurationS, Range, Rate, Seed, Share01, SomeTimeS
from fedsim.schema import LEVELS, LINKS, NETWORKS
from fedsim.traces.measurements import Measurements, link_quantiles, weighted_quantiles
from fedsim.units import FloatArray, IntArray

_Z = np.linspace(-3.0, 3.0, 61)  # normal scores at which the measured quantiles are tabled
_LEAST_BYTES_PER_S = 125.0  # 1 kbit/s: an outage is a very slow link, so that every transfer ends


class MeasuredNetwork(Transfers):
    """Rates drawn from the quantiles of imported links and phone levels, per network type.

    A session's rank in the distribution of its network type is Φ(√w · device + √(1-w) · session)
    with ``w`` = ``device_variance_share``: how much of the spread lies between phones, the rest
    between the sessions of one phone. A type that ``folders`` do not cover takes the median of
    ``otherwise_bytes_per_s``. Phones whose row of the hardware table tells a speed keep their rank among such rows
    as their part of the score: the measured rates stand, and which phones are fast is joined. Where the way up was
    not measured it has ``up_fraction`` of the way down.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        folders: Sequence[str],
        otherwise_bytes_per_s: Mapping[str, Rate],
        up_fraction: Annotated[float, Range(1e-6, 1e6)],
        device_variance_share: Share01,
        connect_s: DurationS,
        assumed_type: str,
        rtt_s: Mapping[str, SomeTimeS] | None = None,
        n_round_trips: Annotated[int, Range(0, 1000)] = 0,
        waits_on: Sequence[str] = (),
        phones: Phones | None = None,
    ) -> None:
        if not 0 <= device_variance_share <= 1:
            raise InputError("network.device_variance_share", value=device_variance_share, allowed="0 … 1")
        if not up_fraction > 0:
            raise InputError("network.up_fraction must be positive", value=up_fraction)
        sets = [Measurements.load(Path(folder)) for folder in folders]
        down = {kind: _quantiles(sets, kind, "down_bytes_per_s") for kind in NETWORKS[1:]}
        up = {kind: _quantiles(sets, kind, "up_bytes_per_s") for kind in NETWORKS[1:]}
        for kind, rates in down.items():
            if rates is None and kind not in otherwise_bytes_per_s:
                raise InputError("network: no measurement and no otherwise_bytes_per_s for", value=kind)
        bad = {kind: rate for kind, rate in otherwise_bytes_per_s.items() if not rate > 0}
        if bad:
            raise InputError("network.otherwise_bytes_per_s must be positive", value=bad)
        of_type = {
            kind: np.full(_Z.size, otherwise_bytes_per_s[kind]) if rates is None else rates
            for kind, rates in down.items()
        }
        super().__init__(
            connect_s=connect_s, assumed_type=assumed_type, rtt_s=rtt_s, n_round_trips=n_round_trips, waits_on=waits_on
        )
        self.seed, self._share = seed, device_variance_share
        self._own = OwnLevels(phones, lambda speeds: np.sqrt(device_variance_share) * _normal_ranks(speeds))
        nothing = np.zeros(_Z.size)
        self._down = rng.portable(np.stack([nothing, *of_type.values()]))
        ups = [up_fraction * of_type[kind] if rates is None else rates for kind, rates in up.items()]
        self._up = rng.portable(np.stack([nothing, *ups]))

    def level(self, ids: IntArray, k: npt.NDArray[np.int32]) -> FloatArray:
        """Normal score of each session's rate."""
        score = self._own.of(ids, np.sqrt(self._share) * rng.normal(self.seed, "network/device", ids))
        if self._share < 1:
            score += np.sqrt(1.0 - self._share) * rng.normal(self.seed, "network/session", ids, k)
        return score

    def down_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """Bytes per second towards the phone on each network at each session's score."""
        return _between(self._down, codes, level)

    def up_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """As :meth:`down_rate`, from the phone."""
        return _between(self._up, codes, level)


def _between(quantiles: FloatArray, codes: npt.NDArray[np.int8], score: FloatArray) -> FloatArray:
    """Rates at normal scores, between two tabled quantiles ``[code, score]`` in proportion."""
    place = np.clip((score - _Z[0]) / (_Z[1] - _Z[0]), 0.0, _Z.size - 1.000001)
    below = place.astype(np.int64)
    part = place - below
    rate: FloatArray = quantiles[codes, below] * (1.0 - part) + quantiles[codes, below + 1] * part
    return rate


def _normal_ranks(values: FloatArray) -> FloatArray:
    """Normal scores of the known values by their rank among them, NaN elsewhere; equal values share theirs."""
    known = values[~np.isnan(values)]
    below, until = (np.searchsorted(np.sort(known), known, side) for side in ("left", "right"))
    scores = np.full(len(values), np.nan)
    scores[~np.isnan(values)] = [NormalDist().inv_cdf(p) for p in (below + until) / (2 * len(known))]
    return scores


def _quantiles(sets: Sequence[Measurements], kind: str, column: str) -> FloatArray | None:
    """Measured rates on one network type at the scores of ``_Z``; None if no set has any."""
    q = normal_cdf(_Z)
    for measured in sets:
        if LINKS.name in measured.tables:
            found = link_quantiles(measured[LINKS], kind, column=column, q=q.tolist())
            if found is not None:
                return np.maximum(found, _LEAST_BYTES_PER_S)
        if LEVELS.name in measured.tables:
            levels = measured[LEVELS]
            is_kind = levels.column("network").to_numpy() == NETWORKS.index(kind)
            rates = levels.column(column).to_numpy()[is_kind]
            if rates.size:
                return np.maximum(weighted_quantiles(rates, np.ones(rates.size), q=q), _LEAST_BYTES_PER_S)
    return None
