"""One phone's trace, asked instant by instant; all instants are whole microseconds (int)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from fedsim.schema import NETWORKS

US = 1_000_000
Log = list[tuple[int, object]]  # second of the trace, value that holds from then on


@dataclass(frozen=True)
class State:
    """What the trace says at an instant."""

    is_eligible: bool
    is_charging: bool
    network: int | None  # index into NETWORKS, None: not known
    battery: float | None


@dataclass(frozen=True)
class Phone:
    """A trace that repeats: ``start_s`` is the simulated second at which a lap begins."""

    rule: str  # the channel that must be on; and there must be a known network
    period_s: int
    start_s: int
    logs: dict[str, Log]

    @cached_property
    def _pieces(self) -> tuple[list[int], list[State]]:
        edges = sorted({at for log in self.logs.values() for at, _ in log} | {0})
        return [edge * US for edge in edges], [self._state_from(edge) for edge in edges]

    def _state_from(self, second: int) -> State:
        now: dict[str, object] = {
            name: [value for at, value in log if at <= second][-1] for name, log in self.logs.items()
        }
        network = None if now["network"] is None else NETWORKS.index(str(now["network"]))
        battery = now.get("battery")
        return State(
            is_eligible=bool(now[self.rule]) and network is not None and network > 0,
            is_charging=bool(now["charging"]),
            network=network,
            battery=None if battery is None else float(battery),  # type: ignore[arg-type]
        )

    @property
    def period_us(self) -> int:
        return self.period_s * US

    def at(self, now: int) -> tuple[State, int]:
        """The state at an instant, and the instant of the next entry of the trace."""
        edges, states = self._pieces
        position = (now - self.start_s * US) % self.period_us
        piece = bisect_right(edges, position) - 1
        until = edges[piece + 1] if piece + 1 < len(edges) else self.period_us
        return states[piece], now + until - position

    def change_after(self, now: int, of: Callable[[State], object]) -> float:
        """The next instant at which ``of`` the state differs (inf: never)."""
        state, at = self.at(now)
        here = of(state)
        while at <= now + 2 * self.period_us:
            state, until = self.at(at)
            if of(state) != here:
                return at
            at = until
        return math.inf

    def charged_us(self, start: int, end: int) -> int:
        """Microseconds on the charger."""
        total, at = 0, start
        while at < end:
            state, until = self.at(at)
            total += (min(until, end) - at) * state.is_charging
            at = until
        return total
