"""What a run will take: its beginning is played for a few seconds, the rest follows in proportion."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedsim.simulation import Progress, Simulation
from fedsim.units import format_bytes, format_count, format_duration

PLAYED_S = 5.0  # of wall time; enough to see a few thousand sessions
BYTES_PER_SESSION = (
    80  # of the session table on disk: 62 (sync) to 70 (buffered, batteries) seen in runs of 0.2 M sessions
)
BYTES_PER_DEVICE = 200  # of memory for a device that was touched: 88 to 352
_LEAST_SESSIONS = 1000  # fewer tell nothing of the rest


@dataclass(frozen=True)
class Estimate:
    """What a whole run takes, from the share of it that was played; None where nothing of it is known."""

    played: Progress
    wall_s: float
    n_devices: int
    rss_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the run was played."""
        return self.played.fraction_done >= 1.0

    def _whole(self, part: float) -> float | None:
        return part / self.played.fraction_done if self.played.fraction_done > 0 else None

    @property
    def n_sessions(self) -> float | None:
        """Sessions."""
        return self._whole(self.played.n_sessions)

    @property
    def disk_bytes(self) -> float | None:
        """Size of the run's folder, without its report."""
        return None if self.n_sessions is None else self.n_sessions * BYTES_PER_SESSION

    @property
    def memory_bytes(self) -> float | None:
        """Memory at the end: what the process has now, and what it keeps of the devices that it will touch."""
        if self.n_sessions is None:
            return None
        return self.rss_bytes + BYTES_PER_DEVICE * min(self.n_sessions, self.n_devices)

    def text(self, folder: Path) -> str:
        """Four lines for a person; ``folder`` is where the run is to be written."""
        unknown, free = "unknown: no step came in the part that was played", shutil.disk_usage(_there(folder)).free
        n, wall_s, disk, memory = self.n_sessions, self._whole(self.wall_s), self.disk_bytes, self.memory_bytes
        about = "" if self.is_whole else "about "
        basis = f"measured over {self.wall_s:.1f} s, {100 * self.played.fraction_done:.3g} % of the run"
        lines = [
            f"sessions  {unknown if n is None else about + format_count(n)}",
            f"time      {unknown if wall_s is None else 'about ' + format_duration(wall_s)} ({basis})",
            f"memory    {unknown if memory is None else 'about ' + format_bytes(memory)}",
            f"disk      {unknown if disk is None else 'about ' + format_bytes(disk)}, {format_bytes(free)} are free",
        ]
        if disk is not None and disk > free:
            lines.append("the run would not fit on the disk")
        return "\n".join(lines)


class _Enough(Exception):
    """So much of the run is played that the rest can be told."""


def estimate(simulation: Simulation, *, played_s: float = PLAYED_S) -> Estimate:
    """Play the run's beginning into a folder that goes again."""
    began = time.perf_counter()
    last = Progress(0.0, 0, 0, {}, simulation.task.stop)

    def watch(progress: Progress) -> None:
        nonlocal last
        last = progress
        if time.perf_counter() - began > played_s and progress.fraction_done > 0:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, suppress(_Enough):
        simulation.run(Path(folder), on_progress=watch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Estimate(last, time.perf_counter() - began, simulation.world.fleet.n_devices, peak)


def warn_of_disk(folder: Path, on_progress: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    """What a run calls after each step: it says once, early, if the rest will not fit on the disk."""
    is_told = False

    def watch(progress: Progress) -> None:
        nonlocal is_told
        if not is_told and progress.n_sessions >= _LEAST_SESSIONS and progress.fraction_done > 0:
            is_told = True
            needed = BYTES_PER_SESSION * progress.n_sessions * (1.0 / progress.fraction_done - 1.0)
            free = shutil.disk_usage(folder).free
            if needed > free:
                need = f"the run needs about {format_bytes(needed)} more on the disk"
                print(f"fedsim: {need}, {format_bytes(free)} are free in {folder}", file=sys.stderr)
        if on_progress is not None:
            on_progress(progress)

    return watch


def _there(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
