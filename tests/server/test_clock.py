"""The clock: whole microseconds, and ties by (time, rank) whatever was put on the clock first."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import simpy

from fedsim.server.clock import play


@dataclass
class Notes:
    """Decides at the instants it was given, and notes what it was told."""

    name: str
    instants: list[float]
    book: list[tuple[str, float]] = field(default_factory=list)

    def decide(self, now: float) -> float:
        if now > 0 or not self.instants:
            self.book.append((self.name, now))
        later = [at for at in self.instants if at > now + 1e-6]
        return min(later, default=math.inf)


def test_of_jobs_at_one_instant_the_lower_rank_decides_first() -> None:
    """Three jobs put on the clock in the order 2, 0, 1, coming to the instant 3.3 from different ones."""
    env, book = simpy.Environment(), list[tuple[str, float]]()
    for rank, instants in ((2, [3.3, 4.0]), (0, [1.7, 3.3]), (1, [2.1, 3.3])):
        env.process(play(env, Notes(f"job {rank}", instants, book), rank=rank))
    env.run()
    assert book == [
        ("job 0", 1.7), ("job 1", 2.1), ("job 0", 3.3), ("job 1", 3.3), ("job 2", 3.3), ("job 2", 4.0)
    ]  # fmt: skip


def test_instants_are_whole_microseconds_and_are_not_missed_by_a_rounding() -> None:
    """0.1 and a third of a second added up a thousand times in floating point would drift; the clock does not."""
    instants = [round(k / 3, 6) + 0.1 for k in range(1, 1000)]
    env, notes = simpy.Environment(), Notes("job", instants)
    env.process(play(env, notes, rank=0))
    env.run()
    assert [at for _, at in notes.book] == [round(at, 6) for at in instants]
    assert env.now == round(instants[-1] * 1e6)
