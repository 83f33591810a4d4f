"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real traces and data sets, which are not part of the repository."""
    if not SHARED_DATA.exists():
        pytest.skip("real data sets are not beside the repository (../shared/data)")
    return SHARED_DATA
