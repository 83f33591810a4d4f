"""How long a transfer takes: rates by network type, device and session, over the trace's own network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.fleet.availability import Track
from fedsim.fleet.phones import Phones, of_rows
from fedsim.schema import NETWORKS
from fedsim.traces.canonical import NETWORK_CODE
from fedsim.units import SAME_S, FloatArray, IntArray

Size = int | IntArray  # bytes, one for all or one each
Transfer = tuple[FloatArray, npt.NDArray[np.int8], FloatArray]  # end, network it began on, seconds of waiting

_FAR = 1e12  # s; where the network is looked up for a transfer that never begins
_MAX_NETWORK_CHANGES = 10_000  # a transfer that outlives so many changes will not end


class Network:
    """Transfer times from a median rate per network type.

    Before its first byte a transfer takes ``n_round_trips`` × ``rtt_s`` of the network it begins on,
    the download ``connect_s`` besides. On the types of ``waits_on`` (metered ones, say) bytes wait.

    The rate of a transfer is median(type, direction) × device level × session variation, the last
    two lognormal with median 1. A phone whose row of the hardware table tells its speed has that as
    its level, in units of the median rate down on wifi. Bytes flow at the rate of the network the device is on at each
    moment of its trace; on no network they wait. ``assumed_type`` is used where the trace does not
    know the network.
    """

    def __init__(
        self,
        *,
        seed: int,
        down_bytes_per_s: Mapping[str, float],
        up_bytes_per_s: Mapping[str, float],
        device_sigma: float,
        session_sigma: float,
        connect_s: float,
        assumed_type: str,
        rtt_s: Mapping[str, float] | None = None,
        n_round_trips: int = 0,
        waits_on: Sequence[str] = (),
        phones: Phones | None = None,
    ) -> None:
        if assumed_type not in NETWORKS[1:]:
            raise InputError("network.assumed_type is unknown", value=assumed_type, allowed=", ".join(NETWORKS[1:]))
        for name, value in (("device_sigma", device_sigma), ("session_sigma", session_sigma), ("connect_s", connect_s)):
            if not value >= 0:
                raise InputError(f"network.{name} must not be negative", value=value)
        self.seed, self.device_sigma, self.session_sigma = seed, device_sigma, session_sigma
        unknown = set(waits_on) - set(NETWORKS[1:])
        if unknown:
            raise InputError("network.waits_on", value=sorted(unknown), allowed=", ".join(NETWORKS[1:]))
        if n_round_trips < 0:
            raise InputError("network.n_round_trips must not be negative", value=n_round_trips)
        self.connect_s, self.assumed_code = connect_s, NETWORK_CODE[assumed_type]
        self._trips_s = n_round_trips * _rates(rtt_s, "rtt_s") if rtt_s is not None else np.zeros(len(NETWORKS))
        is_used = np.array([kind not in waits_on for kind in NETWORKS])
        self._down = _rates(down_bytes_per_s, "down_bytes_per_s") * is_used
        self._up = _rates(up_bytes_per_s, "up_bytes_per_s") * is_used
        self._phones, self._own_level = phones, self._levels_of(phones, down_bytes_per_s)

    def _levels_of(self, phones: Phones | None, down_bytes_per_s: Mapping[str, float]) -> FloatArray | None:
        """Levels of the rows whose speed is known, NaN elsewhere and behind; None if it is known of no row."""
        if phones is None or np.isnan(phones.bytes_per_s).all():
            return None
        return of_rows(phones.bytes_per_s, np.nan) / down_bytes_per_s["wifi"]

    def _own(self, ids: IntArray, levels: FloatArray) -> FloatArray:
        """The levels, but for phones whose own is known."""
        if self._phones is None or self._own_level is None:
            return levels
        own = self._own_level[self._phones.row_of(ids)]
        return np.where(np.isnan(own), levels, own)

    def typical_level(self, ids: IntArray) -> FloatArray:
        """Level of each device where its own is known, of the median device elsewhere; sessions do not vary."""
        return self._own(ids, np.ones(len(ids)))

    def level(self, ids: IntArray, k: npt.NDArray[np.int32]) -> FloatArray:
        """Factor of each session on the median rates."""
        level = rng.lognormal(self.seed, "network/device", ids, median=1.0, sigma=self.device_sigma)
        level = self._own(ids, level)
        if self.session_sigma:
            level *= rng.lognormal(self.seed, "network/session", ids, k, median=1.0, sigma=self.session_sigma)
        return level

    def known(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """Network codes with the unknown ones replaced by the assumed type."""
        return np.where(np.isnan(codes), self.assumed_code, codes).astype(np.int8)

    def _rate(self, rates: FloatArray, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """Bytes per second on each network at each session's level; 0 where transfers wait."""
        rate: FloatArray = rates[codes] * level
        return rate

    def download(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray
    ) -> Transfer:
        """Ends of downloads of ``size`` bytes (inf: never), the network they begin on, seconds of waiting."""
        return self._transfer(track, cells, start, size, level, self._down)

    def upload(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray
    ) -> Transfer:
        """As :meth:`download`, at the rates of the way up."""
        return self._transfer(track, cells, start, size, level, self._up)

    def _transfer(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray, rates: FloatArray
    ) -> Transfer:
        if track is None:
            codes = np.full(len(cells), self.assumed_code, dtype=np.int8)
            rate = self._rate(rates, codes, level)
            return _end_at(start + self._trips_s[codes], size, rate), codes, np.zeros(len(cells))
        found, until = track.at_cells(cells, np.minimum(start, _FAR))
        codes = self.known(found)
        start = start + self._trips_s[codes]
        rate = self._rate(rates, codes, level)
        end = _end_at(start, size, rate)
        waited_s = np.zeros(len(cells))
        crossing = np.flatnonzero((end > until + SAME_S) & np.isfinite(start))
        if crossing.size:
            first_s = np.maximum(until[crossing] - start[crossing], 0.0)
            moved = rate[crossing] * first_s
            left = np.broadcast_to(size, start.shape)[crossing] - moved
            until[crossing] = np.maximum(until[crossing], start[crossing])
            end[crossing], more_s = self._cross(track, cells[crossing], until[crossing], left, level[crossing], rates)
            waited_s[crossing] = more_s + first_s * (rate[crossing] == 0)
        return end, codes, waited_s

    def _cross(
        self, track: Track, cells: IntArray, now: FloatArray, left: FloatArray, level: FloatArray, rates: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """End of transfers that outlive the network they began on, and their waiting: walk on from change to change."""
        end, waited_s = np.full(len(cells), np.inf), np.zeros(len(cells))
        rows = np.arange(len(cells))
        for _ in range(_MAX_NETWORK_CHANGES):
            if not rows.size:
                break
            codes, until = track.at_cells(cells[rows], now[rows])
            rate = self._rate(rates, self.known(codes), level[rows])
            ends = _end_at(now[rows], left[rows], rate)
            is_done = ends <= until + SAME_S
            end[rows[is_done]] = ends[is_done]
            left[rows] -= rate * (until - now[rows])
            waited_s[rows[~is_done]] += ((rate == 0) * (until - now[rows]))[~is_done]
            now[rows] = until
            rows = rows[~is_done]
        return end, waited_s


def _end_at(start: FloatArray, size: Size | FloatArray, rate: FloatArray) -> FloatArray:
    duration = np.divide(size, rate, out=np.full(rate.shape, np.inf), where=rate > 0)
    end: FloatArray = start + duration
    return end


def _rates(by_type: Mapping[str, float], name: str) -> FloatArray:
    unknown = set(by_type) ^ set(NETWORKS[1:])
    if unknown:
        raise InputError(
            f"network.{name} must give one rate per type", value=sorted(unknown), allowed=", ".join(NETWORKS[1:])
        )
    bad = {kind: rate for kind, rate in by_type.items() if not rate > 0}
    if bad:
        raise InputError(f"network.{name} must be positive", value=bad)
    return np.array([0.0, *(by_type[kind] for kind in NETWORKS[1:])])
