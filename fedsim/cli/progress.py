"""A progress line in the terminal; nothing where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fedsim.simulation import Progress
from fedsim.units import format_count, format_duration

_REFRESH_S = 0.2


@contextmanager
def shown() -> Iterator[Callable[[Progress], None] | None]:
    """Yields what a simulation calls after each step; None when standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("ETA"), TimeRemainingColumn())
    with Bar(*columns, transient=True) as bar:
        task = bar.add_task("simulating", total=1.0)
        first, last = (0.0, 0), 0.0

        def update(progress: Progress) -> None:
            nonlocal first, last
            now = time.perf_counter()
            if not last:  # what went before, as the training of a central baseline, is not the run's speed
                first = now, progress.n_sessions
            if now - last >= _REFRESH_S:
                last = now
                per_s = (progress.n_sessions - first[1]) / max(now - first[0], _REFRESH_S)
                bar.update(task, completed=progress.fraction_done, description=line_of(progress, per_s))

        yield update


def line_of(progress: Progress, sessions_per_s: float) -> str:
    """One line: simulated clock, step, sessions per second, latest metrics."""
    parts = [
        format_duration(progress.now),
        f"step {progress.version}",
        f"{format_count(sessions_per_s)} sessions/s",
        *(f"{name} {value:.3f}" for name, value in progress.metrics.items()),
    ]
    return " · ".join(parts)
