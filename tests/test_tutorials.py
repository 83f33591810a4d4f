"""Every tutorial runs as it stands, from an empty folder, and shows what it speaks of."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.py"))


def first_run(names: dict[str, Any], folder: Path) -> None:
    assert len(list(folder.glob("runs/*/*/summary.json"))) == 3
    assert len(names["by_hour"]) == 24
    assert names["costs"].loc["AGGREGATED", "n"] == 30 * 20
    assert names["accuracy"].iloc[-1].min() > names["accuracy"].iloc[0].max()


SHOWN: Mapping[str, Callable[[dict[str, Any], Path], None]] = {"first_run": first_run}


@pytest.mark.slow
@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_it_runs_and_shows_what_it_speaks_of(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(file))
    if file.stem in SHOWN:
        SHOWN[file.stem](names, tmp_path)
