from __future__ import annotations

from pathlib import Path

import pytest

from fedsim.results.run import Run
from tests.results.regress.real import played


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Rounds that train."""
    return played(tmp_path_factory.mktemp("real") / "run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"
