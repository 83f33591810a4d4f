"""A selector from outside of fedsim that asks the devices another simulator has asked, in its order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.device.session import Sessions
from fedsim.errors import SimulationError
from fedsim.server.selector.selection import Scene, Selection
from fedsim.units import FloatArray

END_OF_ANSWER = -1  # between picks: a cohort ends here, though more devices may be wanted


class PicksSelector:
    """Answers from the file ``picks``, a JSON list of devices.

    One that is busy or not eligible when it is picked is a :class:`SimulationError`.
    """

    keeps_participations = False

    def __init__(self, *, picks: str) -> None:
        self.picks: list[int] = json.loads(Path(picks).read_text(encoding="utf-8"))

    def start(self, scene: Scene) -> PicksSearch:
        """The search at the start of a run."""
        return PicksSearch(self.picks, scene)


class PicksSearch:
    """How far one run has come along the picks."""

    def __init__(self, picks: list[int], scene: Scene) -> None:
        self._rest, self._scene = list(picks), scene

    def find(self, at: FloatArray) -> Selection:
        """The next picks, for the first instant alone."""
        now, n = float(at[0]), int((at == at[0]).sum())
        picked = self._rest[:n]
        if END_OF_ANSWER in picked:
            picked = picked[: picked.index(END_OF_ANSWER)]
        ids = np.array(picked, dtype=np.int64)
        cells = self._scene.fleet.cell_of(ids)
        is_eligible, until = self._scene.availability.at_cells(cells, now)
        is_free = self._scene.participation.free_at(ids) <= now
        if not (is_eligible & is_free).all():
            refused = ids[~(is_eligible & is_free)].tolist()
            raise SimulationError(f"picked at {now} s, but busy or not eligible: devices {refused}")
        return Selection(ids, cells, np.full(len(ids), now), until, np.arange(1, len(ids) + 1), len(ids))

    def take(self, selection: Selection, n: int) -> None:
        """The first ``n`` devices of what was found last are assigned."""
        n_passed = n + (n > 0 and self._rest[n : n + 1] == [END_OF_ANSWER])
        self._rest = self._rest[n_passed:]

    def observe(self, rows: Sessions, losses: FloatArray) -> Any:
        """Nothing to learn."""
