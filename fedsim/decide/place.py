"""The folder of a decision: its runs, what they said, and its stages, each kept by the content of what it rests on.

``runs/`` holds runs, ``facts/`` what was read of each, ``stages/NAME-KEY/stage.json`` what a stage found, written last.
Whatever is there is not done again, by the same command or by the next one after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fedsim
from fedsim.errors import InputError
from fedsim.files import read_json, write_json
from fedsim.plan.content import KEY_DIGITS, digest
from fedsim.plan.judge import Facts
from fedsim.plan.quantities import Basis, facts_of
from fedsim.plan.store import Asked, Played, Store, Tell

STAGES = (
    "reasons", "constraints", "models", "data", "training", "forecast", "privacy", "fairness", "sensitivity", "verdict",
)  # fmt: skip
_VERSION = 1  # of what stages find and of what is read of runs: a change of it makes them anew
_SHOWN = 12  # digits of a key in a folder's name


class Place:
    """Where a decision works; ``minutes`` is what it may take, counted from now."""

    def __init__(self, folder: Path, *, cores: int, minutes: float, tell: Tell) -> None:
        self.folder, self.tell = folder, tell
        self.store = Store(folder / "runs", n_workers=cores, tell=lambda line: tell(f"  {line}"))
        self._began, self._minutes = time.monotonic(), minutes
        self.seconds: dict[str, float] = {}  # of each stage in this process
        self.keys: dict[str, str] = {}

    @property
    def minutes_used(self) -> float:
        """Since this process began."""
        return (time.monotonic() - self._began) / 60

    @property
    def minutes_left(self) -> float:
        """Of the budget."""
        return self._minutes - self.minutes_used

    def key_of(self, name: str, reads: Any) -> str:
        """The key of a stage that rests on ``reads``."""
        return digest([name, _VERSION, fedsim.__version__, reads])[:KEY_DIGITS]

    def is_there(self, name: str, reads: Any) -> bool:
        """Whether the stage has been done."""
        return self._file(name, self.key_of(name, reads)).exists()

    def stage(self, name: str, reads: Any, work: Callable[[], Any]) -> Any:
        """What the stage finds, as JSON; it is worked out if it is not there.

        Raises what ``work`` raises; bad input names the stage.
        """
        key = self.key_of(name, reads)
        self.keys[name] = f"{name}-{key[:_SHOWN]}"
        file, began = self._file(name, key), time.monotonic()
        if file.exists():
            self.seconds[name] = 0.0
            self.tell(f"{name}: done before")
            return read_json(file, f"stage {name}")["found"]
        self.tell(f"{name} …")
        try:
            found = work()
        except InputError as error:
            raise InputError(f"stage {name}: {error}") from error
        self.seconds[name] = time.monotonic() - began
        told = {"key": key, "stage": name, "version": fedsim.__version__, "seconds": round(self.seconds[name], 2)}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, told | {"found": found})
        return read_json(file, f"stage {name}")["found"]  # as the next command will see it

    def _file(self, name: str, key: str) -> Path:
        return self.folder / "stages" / f"{name}-{key[:_SHOWN]}" / "stage.json"

    def facts(self, played: Sequence[Played], basis: Basis) -> list[Facts | None]:
        """What each run says under a basis; None: its world could not go on."""
        of_basis = digest([_VERSION, fedsim.__version__, asdict(basis)])[:_SHOWN]
        return [None if each.failure is not None else self._facts(each, of_basis, basis) for each in played]

    def _facts(self, played: Played, of_basis: str, basis: Basis) -> Facts:
        file = self.folder / "facts" / f"{played.key}-{of_basis}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, facts_of(played.run, basis) | {"run": played.key} if played.run else {})
        found: Mapping[str, Any] = read_json(file, "what a run says")
        return found

    def played_facts(self, wanted: Sequence[Asked], basis: Basis) -> tuple[list[Facts | None], list[str | None]]:
        """Play what is missing; what each says, and why a world could not go on."""
        played = self.store.played(wanted)
        return self.facts(played, basis), [each.failure for each in played]
