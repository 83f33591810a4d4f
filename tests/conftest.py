"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine and run; a slow first call or a busy machine is no failure.
settings.register_profile(
    "fedsim", derandomize=True, deadline=None, database=None, max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("fedsim")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real traces and data sets, which are not part of the repository."""
    if not SHARED_DATA.exists():
        pytest.skip("real data sets are not beside the repository (../shared/data)")
    return SHARED_DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-baselines", action="store_true", help="write tests/baselines anew from today's results")
