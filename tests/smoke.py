"""The small task that tests take where they do not ask for another: `experiment=smoke`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsim.config import compose


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """As :func:`fedsim.config.compose.composed`, of the small task."""
    return compose.composed(small(overrides))


def small(overrides: Sequence[str]) -> list[str]:
    """The overrides of a small run; with ``experiment=null`` those of the default one."""
    is_chosen = any(override.lstrip("+").startswith("experiment=") for override in overrides)
    chosen = [override for override in overrides if override != "experiment=null"]
    if is_chosen:
        return chosen
    options = [place for place, word in enumerate(chosen) if word.startswith("-")]
    place = options[0] if options and options[0] else len(chosen)  # before the options, if they follow
    return [*chosen[:place], "experiment=smoke", *chosen[place:]]
