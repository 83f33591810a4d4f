"""What a session costs the battery: constant powers per activity."""

from __future__ import annotations

from dataclasses import dataclass

from fedsim.errors import InputError


@dataclass(frozen=True)
class Energy:
    """Power drawn on top of idle, in watts.

    Simplification: one figure for all devices and networks.
    """

    compute_w: float
    receive_w: float
    send_w: float

    def __post_init__(self) -> None:
        for name in ("compute_w", "receive_w", "send_w"):
            if not getattr(self, name) >= 0:
                raise InputError(f"energy.{name} must not be negative", value=getattr(self, name))
