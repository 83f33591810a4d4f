"""Runs by their content: what was played once is not played again, whoever asks for it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fedsim.config.compose import composed
from fedsim.config.play import simulate
from fedsim.errors import InputError, SimulationError
from fedsim.files import read_json, write_json
from fedsim.plan.content import KEY_DIGITS, Digests, digest, run_key
from fedsim.results.run import Run

_FAILED = "failed.json"
Tell = Callable[[str], None]


class Asked(NamedTuple):
    """A run that is wanted: Hydra's overrides, and its seed."""

    overrides: tuple[str, ...]
    seed: int

    @property
    def words(self) -> list[str]:
        """As overrides of one run; a report is not written."""
        return ["report=false", *self.overrides, f"seed={self.seed}"]


class Played(NamedTuple):
    """What became of it: its key, and the run, or why the simulated world could not go on."""

    key: str
    run: Run | None
    failure: str | None


class Store:
    """A folder of runs, each in a folder named by its key; half-written ones are played again.

    ``n_workers`` processes play at once. ``tell`` gets a line for each run that was played.
    """

    def __init__(self, folder: Path, *, n_workers: int, tell: Tell) -> None:
        if n_workers < 1:
            raise InputError("cores", value=n_workers, allowed="1 and more")
        self.folder, self._n_workers, self._tell = folder, n_workers, tell
        self._digests = Digests(folder / "digests.json")
        self._of_words: dict[tuple[str, ...], str] = {}
        self._values: dict[tuple[str, ...], dict[str, Any]] = {}
        self._remarks: set[str] = set()
        self.n_played = 0  # in this process; the others were there

    def key(self, asked: Asked) -> str:
        """The key of a run; bad input of its configuration is an :class:`InputError`."""
        if asked.overrides not in self._of_words:  # composed once for all seeds
            self._of_words[asked.overrides] = run_key(self.values(asked.overrides), self._digests)
        return digest([self._of_words[asked.overrides], asked.seed])[:KEY_DIGITS]

    def values(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        """The configuration of these overrides, composed once; not to be changed."""
        if overrides not in self._values:
            self._values[overrides] = composed(overrides)
        return self._values[overrides]

    def digest_of(self, path: Path) -> str:
        """The digest of a file or a folder."""
        return self._digests.of(path)

    def is_there(self, asked: Asked) -> bool:
        """Whether the run has been played."""
        place = self.folder / self.key(asked)
        return (place / "summary.json").exists() or (place / _FAILED).exists()

    def missing(self, wanted: Sequence[Asked]) -> list[Asked]:
        """Those that are not there, each once."""
        by_key = {self.key(each): each for each in wanted}
        return [each for each in by_key.values() if not self.is_there(each)]

    def played(self, wanted: Sequence[Asked]) -> list[Played]:
        """All of these runs, in their order; those that are missing are played.

        Raises:
            InputError: of a run whose input is bad; what was played before it stays.
        """
        missing = self.missing(wanted)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._digests.keep()
        with _workers(min(self._n_workers, len(missing))) as submit:
            waiting = [submit(_play, each, self.folder / self.key(each)) for each in missing]
            for n, done in enumerate(as_completed(waiting), start=1):
                self._note(done.result(), n, len(missing))
        return [self.opened(self.key(each)) for each in wanted]

    def _note(self, remarks: Sequence[str], n: int, n_all: int) -> None:
        self.n_played += 1
        for line in remarks:
            if line not in self._remarks:
                self._remarks.add(line)
                self._tell(line)
        if n == n_all or n % 10 == 0:
            self._tell(f"{n} of {n_all} runs played")

    def opened(self, key: str) -> Played:
        """A run that was played, by its key."""
        place = self.folder / key
        if (place / _FAILED).exists():
            return Played(key, None, str(read_json(place / _FAILED, "reason")["reason"]))
        return Played(key, Run.load(place), None)


Submit = Callable[..., "Future[list[str]]"]


@contextmanager
def _workers(n: int) -> Iterator[Submit]:
    """Something to hand work to: this process for one worker, else processes of its own, which end with the block."""
    if n < 2:
        yield _now
        return
    executor = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield executor.submit
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    executor.shutdown()


def _now(work: Callable[..., list[str]], *given: object) -> Future[list[str]]:
    done: Future[list[str]] = Future()
    done.set_result(work(*given))
    return done


def _end_with_parent() -> None:
    """A worker whose parent was killed ends too, so that its run folder is free for the next command."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _play(asked: Asked, place: Path) -> list[str]:
    """Play a run into its folder; what it warns of. That the world cannot go on is written down as its outcome."""
    if place.exists():
        shutil.rmtree(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            simulate(*asked.words, folder=place)
        except SimulationError as error:
            place.mkdir(parents=True, exist_ok=True)
            write_json(place / _FAILED, {"reason": str(error)})
    return [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
