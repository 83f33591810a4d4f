"""Errors that fedsim raises on purpose; each is one clear line."""

from __future__ import annotations


class FedsimError(Exception):
    """Anything fedsim refuses to do; ``str()`` is one line for the user. Each kind has an exit code of its own."""

    exit_code: int


class InputError(FedsimError):
    """Bad input: what is wrong, its value, where it stands and what is allowed."""

    exit_code = 2

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
    """The simulated world cannot go on, for example because no device is ever eligible."""

    exit_code = 3


class SweepError(FedsimError):
    """Jobs of a sweep failed: a line for each."""

    exit_code = 8


class NotReachedError(FedsimError):
    """A run ended, and is complete, without the metric that was required of it."""

    exit_code = 9
