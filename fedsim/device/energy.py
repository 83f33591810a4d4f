"""What a session costs in joules: power per activity, by network type, by class of phone or by phone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedsim.errors import InputError
from fedsim.fleet.phones import Phones, of_rows
from fedsim.ranges import LatencyMs, Watts
from fedsim.schema import NETWORKS
from fedsim.units import FloatArray, IntArray

OneOrByType = Watts | Mapping[str, Watts]
Classes = Mapping[str, Mapping[str, LatencyMs | None]]
_CLASS_KEYS = {"below_ms", "compute_factor", "radio_factor"}


class Energy:
    """Power drawn on top of idle, in watts.

    ``receive_w`` and ``send_w`` are one figure, or one per network type. ``classes`` make fast and slow phones
    differ: each has factors on the powers, for phones whose inference latency is ``below_ms`` (None: all others)
    and not below that of a faster class. Where the hardware table tells a phone's ``compute_w``, that is taken.
    """

    def __init__(
        self,
        *,
        compute_w: Watts,
        receive_w: OneOrByType,
        send_w: OneOrByType,
        phones: Phones | None = None,
        classes: Classes | None = None,
    ) -> None:
        if not compute_w >= 0:
            raise InputError("energy.compute_w must not be negative", value=compute_w)
        self.receive_w, self.send_w = _by_type(receive_w, "receive_w"), _by_type(send_w, "send_w")
        if classes is not None and phones is None:
            raise InputError("energy.classes need phones with a latency")
        self.compute_w, self._phones = compute_w, phones
        if phones is not None and (phones.compute_w < 0).any():
            raise InputError("compute_w of a phone must not be negative", value=float(np.nanmin(phones.compute_w)))
        self._own_w = None if phones is None or np.isnan(phones.compute_w).all() else of_rows(phones.compute_w, np.nan)
        self._classes = _factors(classes) if classes else None

    def _factor(self, ids: IntArray, column: int) -> FloatArray | float:
        """Factor of each device's class, NaN if its latency is unknown; column 0 of computing, 1 of the radio."""
        if self._phones is None or self._classes is None:
            return 1.0
        below_ms, factors = self._classes
        latency_ms = self._phones.inference_ms(ids)
        which = np.searchsorted(below_ms, latency_ms, side="right")
        factor: FloatArray = factors[np.minimum(which, len(factors) - 1), column]
        return np.where(np.isnan(latency_ms), np.nan, factor)

    def compute_watts(self, ids: IntArray) -> FloatArray:
        """Power of training on each device, ``float64[n]``."""
        watts = np.broadcast_to(self.compute_w * self._factor(ids, 0), len(ids))
        if self._phones is None or self._own_w is None:
            return watts
        own = self._own_w[self._phones.row_of(ids)]
        return np.where(np.isnan(own), watts, own)

    def receive_watts(self, ids: IntArray, networks: npt.NDArray[np.int8]) -> FloatArray:
        """Power of a download on each device, by the network it began on, ``float64[n]``."""
        watts: FloatArray = self.receive_w[networks] * self._factor(ids, 1)
        return watts

    def send_watts(self, ids: IntArray, networks: npt.NDArray[np.int8]) -> FloatArray:
        """Power of an upload on each device, by the network of the session, ``float64[n]``.

        Simplification: the network the session began on, also where it has changed since.
        """
        watts: FloatArray = self.send_w[networks] * self._factor(ids, 1)
        return watts


def _factors(classes: Classes) -> tuple[FloatArray, FloatArray]:
    """Latencies at which the classes end ``[n]``, rising to infinity, and their factors ``[n, 2]``."""
    rows = []
    for name, values in classes.items():
        if set(values) != _CLASS_KEYS:
            raise InputError(f"energy.classes.{name}", value=sorted(values), allowed=", ".join(sorted(_CLASS_KEYS)))
        below_ms, *factors = (values[key] for key in ("below_ms", "compute_factor", "radio_factor"))
        row = [np.inf if below_ms is None else below_ms, *(np.nan if f is None else f for f in factors)]
        if not all(value >= 0 for value in row):
            raise InputError(f"energy.classes.{name} must not be negative", value=dict(values))
        rows.append(row)
    table = np.array(sorted(rows), dtype=np.float64)
    if not np.isinf(table[-1, 0]) or len(np.unique(table[:, 0])) < len(table):
        raise InputError(
            "energy.classes: below_ms", value=table[:, 0].tolist(), allowed="different limits, one null for the rest"
        )
    return table[:, 0], table[:, 1:]


def _by_type(watts: OneOrByType, name: str) -> FloatArray:
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
