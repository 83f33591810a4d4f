"""Parts of ``training`` whose learning rate may follow a schedule, which is a part of theirs."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from fedsim.config.build import build
from fedsim.config.roles import LOCAL_WORK, SCHEDULE, SERVER_OPTIMIZER, Role
from fedsim.training.local import LocalWork


def local_of(values: Mapping[str, Any]) -> LocalWork:
    """The local work of ``training.local``."""
    return typing.cast(LocalWork, _scheduled(values, "training.local", LOCAL_WORK))


def server_optimizer_of(values: Any, key: str) -> Any:
    """The server optimiser under a key."""
    return _scheduled(values, key, SERVER_OPTIMIZER)


def _scheduled(values: Any, key: str, role: Role) -> Any:
    said = values.get("schedule") if isinstance(values, Mapping) else None
    if said is None:
        return build(values, key, role=role)
    return build({**values, "schedule": build(said, f"{key}.schedule", role=SCHEDULE)}, key, role=role)
