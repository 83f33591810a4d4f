"""Old names are answered with the new ones, and all new ones are there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from fedsim.config.simulation import build_simulation
from fedsim.errors import InputError
from fedsim.moved import MODULES, NAMES, moved_to
from tests.smoke import composed


@pytest.mark.parametrize("old", sorted(MODULES))
def test_a_module_that_moved_is_answered_with_its_place(old: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"^{old} is now {MODULES[old]}$"):
        importlib.import_module(old)
    importlib.import_module(MODULES[old])
    package, _, name = old.rpartition(".")
    with pytest.raises(ImportError, match=f"^{old} is now {MODULES[old]}$"):
        exec(f"from {package} import {name}", {})


@pytest.mark.parametrize("old", sorted(NAMES))
def test_a_name_that_moved_is_answered_with_its_place(old: str) -> None:
    module, _, name = old.rpartition(".")
    assert moved_to(old) == NAMES[old]
    answer = f"^{module} is now {MODULES[module]}$" if module in MODULES else f"^{old} is now {NAMES[old]}$"
    with pytest.raises(ImportError, match=answer):
        exec(f"from {module} import {name}", {})
    module, _, name = NAMES[old].rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'fedsim\.server\.rounds'"):
        importlib.import_module("fedsim.server.rounds")
    with pytest.raises(ImportError, match="cannot import name 'rounds'"):
        exec("from fedsim.config import rounds", {})
    assert moved_to("fedsim.server.protocol.sync.SyncCoordinator") is None


@pytest.mark.parametrize(
    ("group", "old", "now"),
    [
        ("server", "fedsim.server.sync.SyncCoordinator", "fedsim.server.protocol.sync.SyncCoordinator"),
        (
            "server.selector",
            "fedsim.server.selector.UniformSelector",
            "fedsim.server.selector.uniform.UniformSelector",
        ),
    ],
)
def test_an_old_target_is_one_line_that_names_the_new(group: str, old: str, now: str) -> None:
    values: dict[str, Any] = composed([f"{group}._target_={old}"])
    with pytest.raises(InputError) as refused:
        build_simulation(values)
    assert str(refused.value) == f"{group}._target_ has moved: {old!r} (allowed: {now})"
