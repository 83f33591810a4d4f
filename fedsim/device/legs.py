"""The legs of a trip, transfers and the training between them, over the windows and networks of the traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedsim.device.network import Part, Size, Transfer, Transfers
from fedsim.fleet.availability import Availability, Track
from fedsim.units import FloatArray, IntArray, on_clock

Direction = Literal["down", "up"]


@dataclass(frozen=True)
class Legs:
    """How long the legs of a trip take.

    ``track`` is the network of the traces (None: not known). ``windows``: where interruptions pause the work, it stands
    still outside of them.
    """

    link: Transfers
    track: Track | None
    windows: Availability | None

    def after(self, cells: IntArray, start: FloatArray, seconds: FloatArray | float) -> FloatArray:
        """The instant at which so many seconds of work are done (inf: never)."""
        end: FloatArray = on_clock(start + seconds)
        if self.windows is None:
            return end
        rows = np.flatnonzero(np.isfinite(end))
        finish = self.windows.finish_paused(cells[rows], start[rows], np.broadcast_to(seconds, len(cells))[rows])
        moved = np.full(len(cells), np.inf)
        moved[rows] = np.where(np.isnan(finish), np.inf, finish)
        return moved

    def work_s(self, cells: IntArray, start: FloatArray, stop: FloatArray) -> FloatArray:
        """Seconds in [start, stop) in which work goes on."""
        return stop - start if self.windows is None else self.windows.open_s(cells, start, stop)

    def download(self, cells: IntArray, at: FloatArray, size: Size, level: FloatArray) -> Transfer:
        """Connect and download from ``at`` on: ends (inf: never), the network at ``at``, seconds of waiting."""
        connect_s = self.link.connect_s
        connected_at = at if connect_s == 0.0 else self.after(cells, at, connect_s)
        end, codes, waited_s = self.link.download(self.track, cells, connected_at, size, level, windows=self.windows)
        if connect_s > 0.0 and self.track is not None:
            codes = self.link.known(self.track.at_cells(cells, at)[0])
        if connect_s > 0.0 and self.windows is not None:
            waited_s = waited_s + np.where(np.isfinite(connected_at), connected_at - at - connect_s, 0.0)
        return on_clock(end), codes, waited_s

    def upload(self, cells: IntArray, at: FloatArray, size: Size, level: FloatArray) -> Transfer:
        """Upload from ``at`` on, as :meth:`download` without connecting."""
        end, codes, waited_s = self.link.upload(self.track, cells, at, size, level, windows=self.windows)
        return on_clock(end), codes, waited_s

    def part(
        self, direction: Direction, cells: IntArray, at: FloatArray, size: Size, level: FloatArray,
        *, until: FloatArray | float = np.inf, radio_s: FloatArray | float = np.inf,
    ) -> Part:  # fmt: skip
        """How far the leg from ``at`` on has come ``until`` an instant, or when its radio has worked for ``radio_s``.

        While it connects, the radio works and no bytes move.
        """
        n = len(cells)
        until, radio_s = np.broadcast_to(until, n), np.broadcast_to(radio_s, n)
        if direction == "up":
            return self.link.uploaded(
                self.track, cells, at, size, level, windows=self.windows, until=until, radio_s=radio_s
            )
        connect_s = self.link.connect_s
        connected_at = at if connect_s == 0.0 else self.after(cells, at, connect_s)
        whole = self.link.downloaded(
            self.track, cells, connected_at, size, level, windows=self.windows, until=until, radio_s=radio_s - connect_s
        )
        is_connecting = (until <= connected_at) | (radio_s <= connect_s)
        stop = np.minimum(until, self.after(cells, at, np.minimum(radio_s, connect_s)))
        waited_s = np.where(is_connecting, stop - at - self.work_s(cells, at, np.minimum(stop, connected_at)), 0.0)
        waited_s = np.where(is_connecting, waited_s, whole.waited_s + connected_at - at - connect_s)
        return Part(
            np.where(is_connecting, stop, whole.at),
            np.where(is_connecting, 0.0, whole.n_bytes),
            np.maximum(waited_s, 0.0),
        )
