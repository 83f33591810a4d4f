"""What a session costs in joules: power per activity, by network type, and by phone where it is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError
from fedsim.fleet.hardware import Hardware
from fedsim.schema import NETWORKS
from fedsim.units import FloatArray, IntArray

Watts = float | Mapping[str, float]


class Energy:
    """Power drawn on top of idle, in watts.

    ``receive_w`` and ``send_w`` are one figure, or one per network type. Where the fleet's hardware
    table has a column ``compute_w``, that of the device's row replaces ``compute_w``.
    """

    def __init__(self, *, compute_w: float, receive_w: Watts, send_w: Watts, hardware: Hardware | None = None) -> None:
        if not compute_w >= 0:
            raise InputError("energy.compute_w must not be negative", value=compute_w)
        self.compute_w, self._hardware = compute_w, None
        self.receive_w, self.send_w = _by_type(receive_w, "receive_w"), _by_type(send_w, "send_w")
        if hardware is not None:
            of_row = hardware.column("compute_w").astype(np.float64)
            self._hardware = hardware
            self._compute_w_of_row = np.where(np.isnan(of_row), compute_w, of_row)

    def compute_j(self, ids: IntArray, seconds: FloatArray) -> FloatArray:
        """Energy of so many seconds of training on each device."""
        watts = self.compute_w if self._hardware is None else self._compute_w_of_row[self._hardware.row_of(ids)]
        joules: FloatArray = watts * seconds
        return joules

    def receive_j(self, networks: npt.NDArray[np.int8], seconds: FloatArray) -> FloatArray:
        """Energy of so many seconds of download, by the network each began on."""
        joules: FloatArray = self.receive_w[networks] * seconds
        return joules

    def send_j(self, networks: npt.NDArray[np.int8], seconds: FloatArray) -> FloatArray:
        """Energy of so many seconds of upload, by the network of the session.

        Simplification: the network the session began on, also where it has changed since.
        """
        joules: FloatArray = self.send_w[networks] * seconds
        return joules


def _by_type(watts: Watts, name: str) -> FloatArray:
    """Watts for each network code; a session that begins on no network is booked as on wifi."""
    if not isinstance(watts, Mapping):
        watts = dict.fromkeys(NETWORKS[1:], watts)
    wrong = set(watts) ^ set(NETWORKS[1:])
    if wrong:
        raise InputError(
            f"energy.{name} must give watts per type", value=sorted(wrong), allowed=", ".join(NETWORKS[1:])
        )
    bad = {kind: value for kind, value in watts.items() if not value >= 0}
    if bad:
        raise InputError(f"energy.{name} must not be negative", value=bad)
    return np.array([watts["wifi"], *(watts[kind] for kind in NETWORKS[1:])])
