"""Errors that fedsim raises on purpose; each is one clear line."""

from __future__ import annotations


class FedsimError(Exception):
    """Anything fedsim refuses to do; ``str()`` is one line for the user."""


class InputError(FedsimError):
    """Bad input: what is wrong, its value, where it stands and what is allowed (exit code 2)."""

    def __init__(self, what: str, *, value: object = None, where: object = None, allowed: object = None) -> None:
        text = what
        if value is not None:
            text += f": {value!r}"
        if where is not None:
            text += f" in {where}"
        if allowed is not None:
            text += f" (allowed: {allowed})"
        super().__init__(" ".join(text.split()))


class SimulationError(FedsimError):
    """The simulated world cannot go on, for example because no device is ever eligible (exit code 3)."""
