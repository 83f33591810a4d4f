"""FLASH's pauses: examples worked out by hand, and what fedsim makes of them.

Yang et al. 2021 (``Timer.get_future_time`` and ``Client.train`` of their code): download, training and upload follow
each other; each goes on only while the phone is ready, stands still in between, and goes on where it stopped. The trace
is repeated. What ends as a window ends is done; what follows it waits for the next window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fedsim_side
import numpy as np

from fedsim.config.compose import composed
from fedsim.config.simulation import build_simulation

MODEL_KBIT = 32_000.0
UPLOAD_SHARE = 0.5  # of the bytes of a download


@dataclass(frozen=True)
class Example:
    """A session that begins at ``at``: seconds that its download and training need, and when each phase has ended.

    An upload needs half as long as a download.
    """

    name: str
    windows: tuple[tuple[int, int], ...]
    period: int
    at: int
    needs: tuple[float, float]
    ends: tuple[float, float, float]


EXAMPLES = (
    # 10 + 10 = 20; 20 + 20 = 40; 40 + 5 = 45.
    Example("one window", ((0, 100),), 1000, at=10, needs=(10, 20), ends=(20, 40, 45)),
    # 20; 10 s of training until 30, the other 10 s from 50 on: 60; 65.
    Example("paused in training", ((0, 30), (50, 100)), 1000, at=10, needs=(10, 20), ends=(20, 60, 65)),
    # 5 s of the download until 15, 5 s from 40 on: 45; 65; 70.
    Example("paused in the download", ((0, 15), (40, 100)), 1000, at=10, needs=(10, 20), ends=(45, 65, 70)),
    # 20; 40; 2 s of the upload until 42, 2 s from 60 to 62, 1 s from 80 on: 81.
    Example("paused twice in upload", ((0, 42), (60, 62), (80, 200)), 1000, at=10, needs=(10, 20), ends=(20, 40, 81)),
    # Training ends with its window, at 40: done. The upload begins with the next window, at 70: 75.
    Example("a phase ends with its window", ((0, 40), (70, 100)), 1000, at=10, needs=(10, 20), ends=(20, 40, 75)),
    # 120; 10 s of training until 130, the others in the next period, from 1100 on: 1110; 1115.
    Example("across the wrap", ((100, 130),), 1000, at=110, needs=(10, 20), ends=(120, 1110, 1115)),
    # The download takes the whole window; training 10 s in each of [100, 110] and [200, 210], 5 s more: 305; 310.
    Example("several periods", ((0, 10),), 100, at=0, needs=(10, 25), ends=(10, 305, 310)),
    # The last window touches the first of the next period, [100, 120]: no pause. 100; 115; 120.
    Example("windows that touch at the wrap", ((0, 20), (90, 100)), 100, at=90, needs=(10, 15), ends=(100, 115, 120)),
    # 3 s until 10, 0.75 s from 20 on: 20.75; 1.25 s until 22, 0.5 s from 31 on: 31.5; 1.875 s: 33.375. (Their code
    # cuts the instant at which a phase begins to whole seconds when it looks for the window, and finds 22.5 here.)
    Example("fractions", ((0, 10), (20, 22), (31, 40)), 50, at=7, needs=(3.75, 1.75), ends=(20.75, 31.5, 33.375)),
)


def played(folder: Path) -> Iterator[tuple[str, list[float], list[float]]]:
    """Name, fedsim's ends and those worked out, example by example."""
    arm = {
        "peer": "fedscale",
        "devices": [
            {"ms_per_sample": 1000 * one.needs[1] / 60, "kbit_per_s": MODEL_KBIT / one.needs[0]} for one in EXAMPLES
        ],
        "model_kbit": MODEL_KBIT,
        "batch_size": 4,
        "local_steps": 5,
        "traces": [
            {
                "duration": sum(end - start for start, end in one.windows),
                "active": [start for start, _ in one.windows],
                "inactive": [end for _, end in one.windows],
                "finish_time": one.period,
                "model": "any",
            }
            for one in EXAMPLES
        ],
    }
    given = fedsim_side.phones(arm, folder)
    upload = f"model.upload_bytes_per_parameter={fedsim_side.FLOAT_BYTES * UPLOAD_SHARE}"
    rules = ("report=false", *fedsim_side.COMMON, "device.interruption=pause")
    simulation = build_simulation(composed([*rules, *given, upload]))
    ids, work = np.arange(len(EXAMPLES)), simulation.task.work
    at = np.array([one.at for one in EXAMPLES], dtype=np.float64)
    rows = simulation.world.plan(
        ids,
        simulation.world.fleet.cell_of(ids),
        work=work,
        at=at,
        until=simulation.world.availability.at(ids, at)[1],
        k=np.zeros(len(ids), dtype=np.int32),
        n_examples=np.full(len(ids), 1_000),
        download_bytes=np.full(len(ids), work.download_bytes),
    )
    for one, row in zip(EXAMPLES, rows, strict=True):
        ends = [float(row[name]) for name in ("download_end_at", "train_end_at", "upload_end_at")]
        yield one.name, ends, list(one.ends)
