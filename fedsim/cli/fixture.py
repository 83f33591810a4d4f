"""The pytest fixture ``fedsim_check``, which every project has that has fedsim installed.

def test_learning_has_not_regressed(fedsim_check):
    fedsim_check("baselines/digits.json")
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def fedsim_check() -> Callable[[Path | str], Any]:
    """Play the configuration of a baseline again and fail the test, with one line, if it regressed.

    What comes back says more (``status``, ``line``, ``findings``); where it is undecided, or the draws changed, the
    test passes with a warning.
    """
    return _check


def _check(baseline: Path | str) -> Any:
    # A lazy door: pytest loads this module in every project, and the simulator only where it is asked for.
    found = importlib.import_module("fedsim.cli.check").check_file(Path(baseline))
    if found.status == "regressed":
        pytest.fail(found.line, pytrace=False)
    if found.status != "held":
        warnings.warn(found.line, stacklevel=2)
    return found
