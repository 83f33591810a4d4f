"""How long a transfer takes: rates by network type, device and session, over the trace's own network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.fleet.availability import Availability, Track
from fedsim.fleet.phones import Phones, of_rows
from fedsim.ranges import DurationS, Range, Rate, Seed, Sigma, SomeTimeS
from fedsim.schema import NETWORKS
from fedsim.traces.canonical import NETWORK_CODE
from fedsim.units import BoolArray, FloatArray, IntArray, on_clock

Size = int | IntArray  # bytes, one for all or one each
Rates = Callable[[npt.NDArray[np.int8], FloatArray], FloatArray]  # bytes per second by network and level
Transfer = tuple[FloatArray, npt.NDArray[np.int8], FloatArray]  # end, network it began on, seconds of waiting

_FAR = 1e12  # s; where the network is looked up for a transfer that never begins
_MAX_CHANGES = 10_000  # a transfer that outlives so many changes of network and window counts as one without end


class Part(NamedTuple):
    """How far transfers have come, columns of length n: the instant, bytes moved until then, seconds of waiting."""

    at: FloatArray
    n_bytes: FloatArray
    waited_s: FloatArray


@dataclass(frozen=True)
class _Way:
    """What lets bytes flow: the network of the traces (None: not known), windows (None: always), the law of rates."""

    track: Track | None
    windows: Availability | None
    law: Rates

    def repeats_s(self, cells: IntArray) -> FloatArray:
        """Seconds after which everything comes back at each cell: what did not flow for so long never will."""
        source = self.track or self.windows
        return np.full(len(cells), np.inf) if source is None else source.fleet.cell_period_s(cells)


class Transfers:
    """How long transfers take over the networks that a device's trace tells; a law of rates is a subclass.

    Before its first byte a transfer takes ``n_round_trips`` × ``rtt_s`` of the network it begins on,
    the download ``connect_s`` besides. Bytes flow at the rate of the network the device is on at each moment of its
    trace; on no network they wait, and on the types of ``waits_on`` (metered ones, say). ``assumed_type`` is used where
    the trace does not know the network. All rates are ``rate_factor`` times what the law says, a lever for what-if
    questions.
    """

    rate_factor: float = 1.0

    def __init__(
        self,
        *,
        connect_s: DurationS,
        assumed_type: str,
        rtt_s: Mapping[str, SomeTimeS] | None,
        n_round_trips: Annotated[int, Range(0, 1000)],
        waits_on: Sequence[str],
    ) -> None:
        if assumed_type not in NETWORKS[1:]:
            raise InputError("network.assumed_type is unknown", value=assumed_type, allowed=", ".join(NETWORKS[1:]))
        if not connect_s >= 0:
            raise InputError("network.connect_s must not be negative", value=connect_s)
        unknown = set(waits_on) - set(NETWORKS[1:])
        if unknown:
            raise InputError("network.waits_on", value=sorted(unknown), allowed=", ".join(NETWORKS[1:]))
        if n_round_trips < 0:
            raise InputError("network.n_round_trips must not be negative", value=n_round_trips)
        self.connect_s, self.assumed_code = connect_s, NETWORK_CODE[assumed_type]
        self._trips_s = n_round_trips * by_type(rtt_s, "rtt_s") if rtt_s is not None else np.zeros(len(NETWORKS))
        self._is_used = np.array([kind not in waits_on for kind in NETWORKS]) if waits_on else None

    def level(self, ids: IntArray, k: npt.NDArray[np.int32]) -> FloatArray:
        """What sets each session apart from the typical one, ``float64[n]``; its meaning is the law's."""
        raise NotImplementedError

    def down_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """Bytes per second towards the phone on each network at each session's level, ``float64[n]``; on none 0."""
        raise NotImplementedError

    def up_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """As :meth:`down_rate`, from the phone."""
        raise NotImplementedError

    def known(self, codes: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """Network codes with the unknown ones replaced by the assumed type."""
        return np.where(np.isnan(codes), self.assumed_code, codes).astype(np.int8)

    def download(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray,
        *, windows: Availability | None = None,
    ) -> Transfer:  # fmt: skip
        """Ends of downloads of ``size`` bytes (inf: never), the network they begin on, seconds of waiting.

        With ``windows`` nothing goes on outside of them, which counts as waiting.
        """
        return self._transfer(_Way(track, windows, self.down_rate), cells, start, size, level)

    def upload(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray,
        *, windows: Availability | None = None,
    ) -> Transfer:  # fmt: skip
        """As :meth:`download`, at the rates of the way up."""
        return self._transfer(_Way(track, windows, self.up_rate), cells, start, size, level)

    def downloaded(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray,
        *, windows: Availability | None = None, until: float | FloatArray = np.inf,
        radio_s: float | FloatArray = np.inf,
    ) -> Part:  # fmt: skip
        """How far downloads have come ``until`` an instant, or when their radio has worked for ``radio_s``."""
        return self._part(_Way(track, windows, self.down_rate), cells, start, size, level, until, radio_s)

    def uploaded(
        self, track: Track | None, cells: IntArray, start: FloatArray, size: Size, level: FloatArray,
        *, windows: Availability | None = None, until: float | FloatArray = np.inf,
        radio_s: float | FloatArray = np.inf,
    ) -> Part:  # fmt: skip
        """As :meth:`downloaded`, on the way up."""
        return self._part(_Way(track, windows, self.up_rate), cells, start, size, level, until, radio_s)

    def _transfer(self, way: _Way, cells: IntArray, start: FloatArray, size: Size, level: FloatArray) -> Transfer:
        codes, is_open, until = self._conditions(way, cells, np.minimum(start, _FAR))
        begin = start + self._trips_s[codes]
        rate = self._rate(way.law, codes, level)
        end = _end_at(begin, size, rate)
        waited_s = np.zeros(len(cells))
        is_crossing = on_clock(end) > until
        if way.windows is not None:
            is_crossing |= ~is_open & (end > start)
        if is_crossing.any():
            crossing = np.flatnonzero(is_crossing & np.isfinite(start))
            part = self._part(
                way, cells[crossing], start[crossing], np.broadcast_to(size, start.shape)[crossing], level[crossing],
                np.inf, np.inf,
            )  # fmt: skip
            end[crossing], waited_s[crossing] = part.at, part.waited_s
        return end, codes, waited_s

    def _conditions(
        self, way: _Way, cells: IntArray, now: FloatArray
    ) -> tuple[npt.NDArray[np.int8], BoolArray, FloatArray]:
        """Network, whether the device may work, and until when both stay."""
        if way.track is None:
            codes, until = np.full(len(cells), self.assumed_code, dtype=np.int8), np.full(len(cells), np.inf)
        else:
            found, until = way.track.at_cells(cells, now)
            codes = self.known(found)
        if way.windows is None:
            return codes, np.ones(len(cells), dtype=bool), until
        is_open, changes_at = way.windows.at_cells(cells, now)
        return codes, is_open, np.minimum(until, changes_at)

    def _rate(self, law: Rates, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """Bytes per second by the law (on no network 0); 0 where transfers wait."""
        rate = law(codes, level) * self.rate_factor
        return rate if self._is_used is None else np.where(self._is_used[codes], rate, 0.0)

    def _part(
        self, way: _Way, cells: IntArray, start: FloatArray, size: Size, level: FloatArray,
        until: float | FloatArray, radio_s: float | FloatArray,
    ) -> Part:  # fmt: skip
        """Walk from change to change of network and window: round trips first, then bytes, as long as asked for."""
        n = len(cells)
        codes, _, _ = self._conditions(way, cells, np.minimum(start, _FAR))
        trips_s, left = self._trips_s[codes], np.array(np.broadcast_to(size, n), dtype=np.float64)
        stop, radio_s = np.broadcast_to(until, n), np.array(np.broadcast_to(radio_s, n))
        at, waited_s, now = np.minimum(np.full(n, np.inf), stop), np.zeros(n), start.copy()
        moved_at, repeats_s = start.copy(), way.repeats_s(cells)
        rows = np.flatnonzero(np.isfinite(start))
        for _ in range(_MAX_CHANGES):
            if not rows.size:
                break
            codes, is_open, changes_at = self._conditions(way, cells[rows], now[rows])
            rate = self._rate(way.law, codes, level[rows]) * is_open
            begin = now[rows] + trips_s[rows]
            done = np.where(is_open | (trips_s[rows] == 0), _end_at(begin, left[rows], rate), np.inf)
            radio_ends = np.where(rate > 0, now[rows] + radio_s[rows], np.inf)
            radio_ends = np.where(is_open & (radio_s[rows] <= trips_s[rows]), now[rows] + radio_s[rows], radio_ends)
            ends = np.minimum(np.minimum(done, radio_ends), stop[rows])
            here = np.minimum(ends, changes_at)
            trip_s = np.where(is_open, np.minimum(here - now[rows], trips_s[rows]), 0.0)
            moving_s = np.where(rate > 0, np.maximum(here - begin, 0.0), 0.0)
            left[rows] -= rate * moving_s
            trips_s[rows] -= trip_s
            radio_s[rows] -= trip_s + moving_s
            waited_s[rows] += here - now[rows] - trip_s - moving_s
            now[rows] = here
            moved_at[rows] = np.where(trip_s + moving_s > 0, here, moved_at[rows])
            is_over = on_clock(ends) <= changes_at  # what ends with the change ends before it
            at[rows[is_over]] = here[is_over]
            never = ~is_over & (here - moved_at[rows] >= repeats_s[rows])
            stuck = rows[never & np.isfinite(stop[rows])]
            waited_s[stuck] += stop[stuck] - now[stuck]
            rows = rows[~is_over & ~never]
        return Part(at, np.broadcast_to(size, n) - np.maximum(left, 0.0), waited_s)


class Network(Transfers):
    """Transfer times from a median rate per network type.

    The rate of a transfer is median(type, direction) × device level × session variation, the last
    two lognormal with median 1. A phone whose row of the hardware table tells its speed has that as
    its level, in units of the median rate down on wifi.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        down_bytes_per_s: Mapping[str, Rate],
        up_bytes_per_s: Mapping[str, Rate],
        device_sigma: Sigma,
        session_sigma: Sigma,
        connect_s: DurationS,
        assumed_type: str,
        rtt_s: Mapping[str, SomeTimeS] | None = None,
        n_round_trips: Annotated[int, Range(0, 1000)] = 0,
        waits_on: Sequence[str] = (),
        phones: Phones | None = None,
    ) -> None:
        super().__init__(
            connect_s=connect_s, assumed_type=assumed_type, rtt_s=rtt_s, n_round_trips=n_round_trips, waits_on=waits_on
        )
        for name, value in (("device_sigma", device_sigma), ("session_sigma", session_sigma)):
            if not value >= 0:
                raise InputError(f"network.{name} must not be negative", value=value)
        self.seed, self.device_sigma, self.session_sigma = seed, device_sigma, session_sigma
        self._down = by_type(down_bytes_per_s, "down_bytes_per_s")
        self._up = by_type(up_bytes_per_s, "up_bytes_per_s")
        self._own = OwnLevels(phones, lambda speeds: speeds / down_bytes_per_s["wifi"])

    def level(self, ids: IntArray, k: npt.NDArray[np.int32]) -> FloatArray:
        """Factor of each session on the median rates."""
        level = rng.lognormal(self.seed, "network/device", ids, median=1.0, sigma=self.device_sigma)
        level = self._own.of(ids, level)
        if self.session_sigma:
            level *= rng.lognormal(self.seed, "network/session", ids, k, median=1.0, sigma=self.session_sigma)
        return level

    def down_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """Bytes per second towards the phone on each network at each session's level."""
        rate: FloatArray = self._down[codes] * level
        return rate

    def up_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """As :meth:`down_rate`, from the phone."""
        rate: FloatArray = self._up[codes] * level
        return rate


class SymmetricNetwork(Transfers):
    """One rate per device, the same both ways and on every network (as FedScale has it).

    It is what the phone's row of the hardware table tells, elsewhere ``median_bytes_per_s`` × a lognormal factor of the
    device; ``session_sigma`` varies it from session to session.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        median_bytes_per_s: Rate,
        device_sigma: Sigma,
        session_sigma: Sigma,
        connect_s: DurationS,
        assumed_type: str,
        rtt_s: Mapping[str, SomeTimeS] | None = None,
        n_round_trips: Annotated[int, Range(0, 1000)] = 0,
        waits_on: Sequence[str] = (),
        phones: Phones | None = None,
    ) -> None:
        super().__init__(
            connect_s=connect_s, assumed_type=assumed_type, rtt_s=rtt_s, n_round_trips=n_round_trips, waits_on=waits_on
        )
        for name, value in (("device_sigma", device_sigma), ("session_sigma", session_sigma)):
            if not value >= 0:
                raise InputError(f"network.{name} must not be negative", value=value)
        if not median_bytes_per_s > 0:
            raise InputError("network.median_bytes_per_s must be positive", value=median_bytes_per_s)
        self.seed, self.median_bytes_per_s = seed, median_bytes_per_s
        self.device_sigma, self.session_sigma = device_sigma, session_sigma
        self._own = OwnLevels(phones, lambda speeds: speeds)

    def level(self, ids: IntArray, k: npt.NDArray[np.int32]) -> FloatArray:
        """Bytes per second of each session."""
        median, sigma = self.median_bytes_per_s, self.device_sigma
        level = self._own.of(ids, rng.lognormal(self.seed, "network/device", ids, median=median, sigma=sigma))
        if self.session_sigma:
            level = level * rng.lognormal(self.seed, "network/session", ids, k, median=1.0, sigma=self.session_sigma)
        return level

    def down_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """The session's rate, on no network 0."""
        return np.where(codes > 0, level, 0.0)

    def up_rate(self, codes: npt.NDArray[np.int8], level: FloatArray) -> FloatArray:
        """As :meth:`down_rate`: the rate is the same both ways."""
        return self.down_rate(codes, level)


class OwnLevels:
    """Levels of the phones whose speed the hardware table tells; ``level_of`` makes levels of speeds (NaN: unknown)."""

    def __init__(self, phones: Phones | None, level_of: Callable[[FloatArray], FloatArray]) -> None:
        self._phones = None if phones is None or np.isnan(phones.bytes_per_s).all() else phones
        self._levels = np.zeros(0) if self._phones is None else level_of(of_rows(self._phones.bytes_per_s, np.nan))

    def of(self, ids: IntArray, levels: FloatArray) -> FloatArray:
        """The levels, but for phones whose own is known."""
        if self._phones is None:
            return levels
        own = self._levels[self._phones.row_of(ids)]
        return np.where(np.isnan(own), levels, own)


def _end_at(start: FloatArray, size: Size | FloatArray, rate: FloatArray) -> FloatArray:
    """End of transfers that begin at ``start``; no bytes take no time, on whatever network."""
    duration = np.divide(size, rate, out=np.where(np.asarray(size) > 0, np.inf, np.zeros(rate.shape)), where=rate > 0)
    end: FloatArray = start + duration
    return end


def by_type(values: Mapping[str, float], name: str) -> FloatArray:
    """Positive values of the network types by their code, 0 where there is no network."""
    unknown = set(values) ^ set(NETWORKS[1:])
    if unknown:
        raise InputError(
            f"network.{name} must give one rate per type", value=sorted(unknown), allowed=", ".join(NETWORKS[1:])
        )
    bad = {kind: rate for kind, rate in values.items() if not rate > 0}
    if bad:
        raise InputError(f"network.{name} must be positive", value=bad)
    return np.array([0.0, *(values[kind] for kind in NETWORKS[1:])])
