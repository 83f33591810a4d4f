"""Plays configurations in a process of its own, so that one that hangs or eats memory takes no test with it."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fedsim.config.simulation import build_simulation
from fedsim.errors import FedsimError

LONGEST_LINE = 2500
_MOST_BYTES = 12_000_000_000
_SPAWN = multiprocessing.get_context("spawn")


class Player:
    """A process that plays one configuration after the other; it is replaced when one takes longer than ``limit_s``."""

    def __init__(self, folder: Path, *, limit_s: float) -> None:
        self._folder, self._limit_s = folder, limit_s
        self._start()

    def _start(self) -> None:
        self._mine, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._folder), daemon=True)
        self._process.start()
        assert self._mine.recv() == "ready"

    def play(self, values: Any) -> str:
        """``ran``, ``refused``, or what is wrong with how it ended."""
        self._mine.send(values)
        if not self._mine.poll(self._limit_s):
            self.close()
            self._start()
            return f"hangs: no end after {self._limit_s} s"
        try:
            return str(self._mine.recv())
        except EOFError:
            self._start()
            return "the process died"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    warnings.simplefilter("error", RuntimeWarning)
    connection.send("ready")
    while True:
        connection.send(_played(connection.recv(), folder))


def _played(values: Any, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        build_simulation(values).run(folder)
        return _strange_numbers(folder) or "ran"
    except FedsimError as error:
        text = str(error)
        return "refused" if text and "\n" not in text and len(text) <= LONGEST_LINE else f"not a line: {text!r}"
    except Exception:
        return traceback.format_exc(limit=-4)


def _strange_numbers(folder: Path) -> str:
    """The first column with a number that is not finite; of sessions, with a negative one too. Empty: none."""
    files = [folder / "sessions", *(folder / f"{name}.parquet" for name in ("steps", "evals", "gauges", "eligibility"))]
    for file in [file for file in files if file.exists()]:
        table = pq.read_table(file)
        for name in table.column_names:
            column = table.column(name).drop_null().to_numpy(zero_copy_only=False)
            if column.dtype.kind not in "fiu":
                continue
            if not np.isfinite(column).all() or (file.name == "sessions" and (column < 0).any()):
                return f"{file.stem}.{name} holds {column[~np.isfinite(column) | (column < 0)][:3]}"
    return ""
