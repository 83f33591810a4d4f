"""One trip of one device, lived through piece by piece: from one entry of its trace to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fedsim import rng
from fedsim.schema import NETWORKS
from tests.alone.phone import US, Phone, State
from tests.alone.setups import Setup

REPORTS = "REPORTS"
_GIVEN_UP_US = 30 * 86_400 * US
DOWNLOAD, TRAINING, UPLOAD = range(3)


def us_of(seconds: float) -> int:
    """Seconds as the nearest whole number of microseconds."""
    return round(seconds * US)


@dataclass(frozen=True)
class Piece:
    """A stretch of one phase in which work goes on all the time; bytes flow at ``rate`` (0: connecting, training)."""

    phase: int
    start: int
    end: int
    rate: float


@dataclass(frozen=True)
class Used:
    """What a trip used until it was cut."""

    compute_s: float
    radio_s: tuple[float, float]
    n_bytes: tuple[float, float]  # not rounded
    joules: tuple[float, float, float]

    @property
    def total_j(self) -> float:
        return sum(self.joules)


@dataclass
class Trip:
    """The trip as it would go if nothing but its own phone came between."""

    setup: Setup
    phone: Phone
    device: int
    number: int  # of the device's sessions
    at: int
    level: float  # percent of battery at the start
    n_examples: int
    pieces: list[Piece] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # of the three phases, inf: never

    def __post_init__(self) -> None:
        link, setup = self.setup.link, self.setup
        state = self.phone.at(self.at)[0]
        self.network = self._known(state)
        self._level = self._drawn_level()
        now: float = self.at
        now = self._work(DOWNLOAD, now, us_of(link.connect_s))
        now = self._bytes(DOWNLOAD, self._greet(DOWNLOAD, now), setup.download_bytes + setup.plan_bytes, link.down)
        self.ends.append(now)
        now = self._train(now)
        self.ends.append(now)
        self.upload_network = self.network if math.isinf(now) else self._known(self.phone.at(int(now))[0])
        now = self._bytes(UPLOAD, self._greet(UPLOAD, now), setup.upload_bytes, link.up)
        self.ends.append(now)
        self.end, self.outcome = self._first_cause()

    # What the draws say

    def _one(self) -> tuple[list[int], list[int]]:
        return [self.device], [self.number]

    def _drawn_level(self) -> float:
        ids, k = self._one()
        seed, link = self.setup.seed, self.setup.link
        level = float(rng.lognormal(seed, "network/device", ids, median=1.0, sigma=link.device_sigma)[0])
        if link.session_sigma:
            level *= float(rng.lognormal(seed, "network/session", ids, k, median=1.0, sigma=link.session_sigma)[0])
        return level

    def _step_s(self) -> list[float]:
        """Seconds from the start of training to the end of each step, on a phone that gets warm."""
        n = len(self.setup.batches(self.n_examples))
        ids, k = np.array([self.device]), np.array([self.number], dtype=np.int32)
        whole_s = float(self.setup.trained_s(ids, k, np.array([n]))[0])
        after_s, slowdown = self.setup.thermal_after_s, self.setup.thermal_slowdown
        cool = [whole_s * step / n for step in range(1, n)] + [whole_s]
        return [s if s <= after_s else after_s + (s - after_s) * slowdown for s in cool]

    # Living through it

    def _known(self, state: State) -> int:
        return NETWORKS.index(self.setup.link.assumed_type) if state.network is None else state.network

    def _is_paused(self, state: State) -> bool:
        return self.setup.interruption == "pause" and not state.is_eligible

    def _work(self, phase: int, now: float, left: int) -> float:
        """The end of so many microseconds of work that begins at ``now``."""
        if math.isinf(now):
            return now
        at = since = int(now)
        while left > 0:
            state, until = self.phone.at(at)
            if not self._is_paused(state):
                until = min(until, at + left)
                self.pieces.append(Piece(phase, at, until, 0.0))
                left -= until - at
                since = until
            elif at - since > 2 * self.phone.period_us:
                return math.inf
            at = until
        return at

    def _train(self, now: float) -> float:
        """The end of the steps that are done from ``now`` on, one after the other, as ``n_steps`` counts them."""
        setup, left_at, budget_s = self.setup, math.inf, self.setup.budget_s or math.inf
        if setup.partial_work:
            left_at = self.phone.change_after(self.at, lambda state: state.is_eligible)
        done_us = [us_of(setup.setup_s + end_s) for end_s in self._step_s() if end_s <= budget_s]
        done_us = done_us or [us_of(setup.setup_s + self._step_s()[0])]  # a first step is finished whatever it takes
        by_then = [us for us in done_us if now + us <= left_at]
        self.n_steps = len(by_then or done_us)
        if by_then and len(by_then) < len(done_us):
            return self._work(TRAINING, now, int(left_at - now))
        return self._work(TRAINING, now, done_us[-1])

    def _greet(self, phase: int, now: float) -> float:
        """Round trips before the first byte, on the network that there is at their start."""
        link = self.setup.link
        if math.isinf(now) or link.rtt_s is None:
            return now
        network = self._known(self.phone.at(int(now))[0])
        return self._work(phase, now, us_of(link.n_round_trips * link.rtt_s[NETWORKS[network]]) if network else 0)

    def _bytes(self, phase: int, now: float, size: float, rates: dict[str, float]) -> float:
        """The end of a transfer whose first byte may flow at ``now``."""
        if math.isinf(now):
            return now
        at = since = int(now)
        left = float(size)
        while left > 0:
            state, until = self.phone.at(at)
            kind = NETWORKS[self._known(state)]
            is_flowing = kind != "none" and kind not in self.setup.link.waits_on and not self._is_paused(state)
            if is_flowing:
                rate = rates[kind] * self._level
                done = at + round(left / rate * US)
                left = 0 if done <= until else left - rate * (until - at) / US
                until = min(done, until)
                self.pieces.append(Piece(phase, at, until, rate))
                since = until
            elif at - since > 2 * self.phone.period_us:
                return math.inf
            at = until
        return at

    # What ends it

    def _first_cause(self) -> tuple[float, str]:
        """When the trip ends, and how if the server has no say."""
        setup, (end, outcome) = self.setup, (self.ends[UPLOAD], REPORTS)
        causes = [(self._crash(), "FAILED"), (self._floor(), "FAILED"), (self._timeout(), "TIMEOUT")]
        left_at = self.phone.change_after(self.at, lambda state: state.is_eligible)
        if setup.interruption == "abort" and not (setup.partial_work and self.ends[TRAINING] <= left_at):
            causes.insert(0, (left_at, "INTERRUPTED"))
        for at, cause in causes:
            if at < end:
                end, outcome = at, cause
        if setup.interruption == "ignore" and outcome == REPORTS and not self.phone.at(int(end))[0].is_eligible:
            outcome = "INTERRUPTED"
        return end, outcome

    def _timeout(self) -> int:
        timeout_s = self.setup.session_timeout_s
        return self.at + (_GIVEN_UP_US if timeout_s is None else us_of(timeout_s))

    def _crash(self) -> float:
        ids, k = self._one()
        fraction, seed = self.setup.crash_fraction, self.setup.seed
        if math.isinf(self.ends[UPLOAD]) or not rng.uniform(seed, "crash", ids, k)[0] < fraction:
            return math.inf
        moment = float(rng.uniform(seed, "crash/moment", ids, k)[0])
        return round(self.at + moment * (self.ends[UPLOAD] - self.at))

    def _floor(self) -> float:
        """When our own work has taken the battery to its floor; a phone on the charger at the start never is."""
        limits = self.setup.battery
        if limits is None or self.phone.at(self.at)[0].is_charging:
            return math.inf
        left_j = (self.level - limits.floor_percent) / 100 * limits.capacity_wh * 3600
        for piece in self.pieces:
            watts = self._watts()[piece.phase]
            piece_j = watts * (piece.end - piece.start) / US
            if watts and piece_j >= left_j:
                return round(piece.start + left_j / watts * US)
            left_j -= piece_j
        return math.inf

    # What it uses

    @property
    def trained_fraction(self) -> float:
        """Examples visited of those that the whole local work would visit."""
        batches = self.setup.batches(self.n_examples)
        return sum(batches[: self.n_steps]) / sum(batches)

    def waited_s(self, phase: int) -> float:
        """Seconds of a planned transfer in which no radio works (inf: one that never ends)."""
        start = self.at if phase == DOWNLOAD else self.ends[TRAINING]
        if math.isinf(self.ends[phase]):
            return math.inf
        worked = sum(piece.end - piece.start for piece in self.pieces if piece.phase == phase)
        return (self.ends[phase] - start - worked) / US

    def _watts(self) -> tuple[float, float, float]:
        compute_w, receive_w, send_w = self.setup.watts
        kind = NETWORKS[self.network]
        return receive_w[kind], compute_w, send_w[kind]

    def used(self, end: float) -> Used:
        """What it used if it was cut at ``end``."""
        us, flown = [0, 0, 0], [0.0, 0.0, 0.0]
        for piece in self.pieces:
            spent = max(min(piece.end, end) - piece.start, 0)
            us[piece.phase] += int(spent)
            flown[piece.phase] += piece.rate * spent / US
        whole = (self.setup.download_bytes + self.setup.plan_bytes, 0, self.setup.upload_bytes)
        n_bytes = [float(w) if e <= end else f for w, e, f in zip(whole, self.ends, flown, strict=True)]
        seconds = [spent / US for spent in us]
        joules = tuple(watts * s for watts, s in zip(self._watts(), seconds, strict=True))
        return Used(seconds[1], (seconds[0], seconds[2]), (n_bytes[0], n_bytes[2]), joules)  # type: ignore[arg-type]
