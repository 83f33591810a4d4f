"""One trip of a device as a row of numbers, and the device model: what a trip takes of each phone.

Rows are planned by :class:`fedsim.device.world.World`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.data.passes import finished_steps
from fedsim.device.compute import Compute
from fedsim.device.energy import Energy
from fedsim.device.network import Transfers
from fedsim.device.work import Work
from fedsim.errors import InputError
from fedsim.fleet.availability import INTERRUPTIONS, Interruption
from fedsim.moved import names_of
from fedsim.ranges import DurationS, Positive, Range, Seed, Share01, SomeTimeS, StepS
from fedsim.schema import OUTCOMES
from fedsim.units import DAY_S, FloatArray, IntArray, on_clock

globals()["__getattr__"] = names_of(__name__)  # set so that type checkers do not take any name for granted

AGGREGATED, LATE, STALE, ABORTED, INTERRUPTED, TIMEOUT, FAILED, OPEN = range(len(OUTCOMES))
REPORTS = -1  # the plan of a session that reaches the server

SESSION = np.dtype(
    [
        ("session_id", np.int64),
        ("device_id", np.int64),
        ("client_id", np.int64),
        ("version", np.int64),
        ("n_examples", np.int64),
        ("data_since", np.float64),  # of examples that arrive: those after it, up to the assignment, are trained on
        ("assigned_at", np.float64),
        ("download_end_at", np.float64),  # planned, also where the session ends earlier
        ("train_end_at", np.float64),
        ("upload_end_at", np.float64),
        ("leaves_at", np.float64),  # end of the eligible window it was assigned in, inf: never
        ("ingest_start_at", np.float64),  # a worker took the report; inf: not, or not yet
        ("ingested_at", np.float64),
        ("end_at", np.float64),
        ("n_steps", np.int64),  # local steps that the training takes, planned
        ("trained_fraction", np.float64),  # examples it visits ÷ those of the whole local work, planned
        ("train_s", np.float64),  # seconds of training the work takes
        ("download_bytes", np.int64),  # planned
        ("assets_bytes", np.int64),  # of them, planned
        ("download_wait_s", np.float64),  # planned time in which no radio works: no usable network, or paused
        ("upload_wait_s", np.float64),
        ("battery_percent", np.float64),  # at assignment, NaN without a battery model
        ("debt_percent", np.float64),  # of that, what earlier sessions took and charging has not restored
        ("staleness", np.int64),  # −1: not judged
        ("weight", np.float64),
        # The narrow ones come last, so that all the others lie where the processor reads them in one go.
        ("cell", np.int32),
        ("base_trace", np.int32),
        ("participation", np.int32),
        ("network", np.int8),
        ("upload_network", np.int8),  # planned
        ("outcome", np.int8),  # REPORTS until the server has decided
    ],
    align=True,
)
_GIVEN_UP_S = 30.0 * DAY_S  # a trip that could not end otherwise, as on a phone that is never on a network
_BLOCK = np.dtype((np.void, SESSION.itemsize))
# A structured array of dtype SESSION. ``take``, ``compress`` and ``put`` move whole rows, twenty times as fast as an
# index in brackets, which moves them field by field.
Sessions = npt.NDArray[np.void]
NO_SESSIONS: Sessions = np.zeros(0, dtype=SESSION)


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Rows end to end, each copied as one block: ``numpy.concatenate`` would copy field by field."""
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    return np.concatenate([NO_SESSIONS.view(_BLOCK), *(part.view(_BLOCK) for part in filled)]).view(SESSION)


@dataclass(frozen=True)
class Throttling:
    """A phone that gets warm slows down: training beyond ``thermal_after_s`` takes ``thermal_slowdown`` as long."""

    thermal_after_s: DurationS
    thermal_slowdown: Annotated[float, Range(1, 1000)]

    def __post_init__(self) -> None:
        if not (self.thermal_after_s >= 0 and self.thermal_slowdown >= 1):
            raise InputError(
                "device.thermal_after_s and thermal_slowdown are outside their range",
                value=(self.thermal_after_s, self.thermal_slowdown),
                allowed="0 or more, 1 or more",
            )

    def __call__(self, train_s: FloatArray) -> FloatArray:
        """Seconds of training on a phone that would take ``train_s`` if it stayed cool."""
        return train_s + np.maximum(train_s - self.thermal_after_s, 0.0) * (self.thermal_slowdown - 1.0)

    def cool_s(self, train_s: FloatArray | float) -> FloatArray:
        """The other way round: seconds for which a phone that stays cool trains to come as far as in ``train_s``."""
        cool_s: FloatArray = train_s - np.maximum(train_s - self.thermal_after_s, 0.0) * (
            1.0 - 1.0 / self.thermal_slowdown
        )
        return cool_s


class Device:
    """The device side: how fast phones train and transfer, at what power, and what may end their sessions.

    A warm phone slows down (:class:`Throttling`). A crash strikes a share ``crash_fraction`` of the sessions at a
    uniform moment of their planned trip. A session ends as TIMEOUT after ``session_timeout_s`` (None: after 30 days).
    Before it trains a phone takes ``setup_s`` to start its runtime and fetch its examples; its training takes
    ``time_factor`` times what ``compute`` says, a lever for what-if questions.

    ``partial_work``, under ``interruption`` abort: a phone that is no longer eligible hands in what it has done, as
    stragglers do in FedProx (Li et al. 2020). If it has finished a step of its training when its window closes, it
    stops there (a step half done is lost) and uploads at once; if it was uploading, it goes on. One that has not
    finished a step is INTERRUPTED, as all are without this. Crashes, the battery's floor and time-outs end such a
    session like any other. Its update weighs by the examples it visited
    (:func:`fedsim.server.aggregator.visited_examples`). Simplification: what ended its eligibility does not keep it
    from sending; the bytes take the network that the traces then have, and wait where that is none.
    """

    def __init__(
        self,
        *,
        seed: Seed,
        compute: Compute,
        network: Transfers,
        energy: Energy,
        interruption: Interruption,
        crash_fraction: Share01,
        session_timeout_s: SomeTimeS | None,
        thermal_after_s: DurationS = np.inf,
        thermal_slowdown: Annotated[float, Range(1, 1000)] = 1.0,
        setup_s: StepS = 0.0,
        time_factor: Positive = 1.0,
        partial_work: bool = False,
    ) -> None:
        if interruption not in INTERRUPTIONS:
            raise InputError("device.interruption is unknown", value=interruption, allowed=", ".join(INTERRUPTIONS))
        if partial_work and interruption != "abort":
            raise InputError("device.partial_work is for interruption: abort, other sessions go on", value=interruption)
        if not 0 <= crash_fraction <= 1:
            raise InputError("device.crash_fraction is outside its range", value=crash_fraction, allowed="0 … 1")
        if session_timeout_s is not None and not session_timeout_s > 0:
            raise InputError("device.session_timeout_s must be positive", value=session_timeout_s)
        for name, value, is_wrong in (
            ("setup_s", setup_s, setup_s < 0),
            ("time_factor", time_factor, time_factor <= 0),
        ):
            if is_wrong:
                raise InputError(f"device.{name} is outside its range", value=value)
        self.setup_s, self.time_factor = setup_s, time_factor
        self.throttled = Throttling(thermal_after_s, thermal_slowdown)
        self.seed, self.compute, self.network, self.energy = seed, compute, network, energy
        self.interruption, self.partial_work, self.crash_fraction = interruption, partial_work, crash_fraction
        self.session_timeout_s = _GIVEN_UP_S if session_timeout_s is None else session_timeout_s

    @property
    def outlives_windows(self) -> bool:
        """Whether a session may go on when its device is no longer eligible."""
        return self.interruption != "abort" or self.partial_work

    def training(self, rows: Sessions, work: Work) -> tuple[IntArray, FloatArray]:
        """Steps of each session, and the seconds of set-up and training that they take.

        Where the training, without its set-up, would take longer than ``max_s`` of the local work, as many steps as fit
        into it, but at least one, which is finished whatever it takes. Simplification: the steps of a session, also
        one on the rest of a pass, take equally long while the phone is cool.
        """
        n_examples = rows["n_examples"]
        planned = n_steps = work.n_steps(n_examples)
        cool_s = self.time_factor * self.compute.train_s(
            rows["device_id"], rows["participation"], work.n_visits(n_examples), planned
        )
        if work.passes.max_s is not None:
            fitting = finished_steps(planned, cool_s, self.throttled.cool_s(work.passes.max_s))
            n_steps = np.maximum(fitting, np.minimum(planned, 1))
            cool_s = cool_s * np.divide(n_steps, planned, out=np.ones(len(planned)), where=planned > 0)
        return n_steps, self.throttled(cool_s) + self.setup_s

    def finished_steps(self, rows: Sessions, trained_s: FloatArray) -> IntArray:
        """Steps that planned sessions have finished after so many seconds, their set-up among them."""
        whole_s = self.throttled.cool_s(rows["train_s"] - self.setup_s)
        after_s = self.throttled.cool_s(trained_s - self.setup_s)
        return finished_steps(rows["n_steps"], whole_s, after_s)

    def crash_at(self, rows: Sessions) -> FloatArray:
        """Instant at which each session crashes (inf: it does not)."""
        crash_at = np.full(len(rows), np.inf)
        if self.crash_fraction == 0.0:
            return crash_at
        ids, k, start = rows["device_id"], rows["participation"], rows["assigned_at"]
        trip_s = rows["upload_end_at"] - start
        is_struck = rng.uniform(self.seed, "crash", ids, k) < self.crash_fraction
        struck = np.flatnonzero(is_struck & np.isfinite(trip_s))
        moment = rng.uniform(self.seed, "crash/moment", ids[struck], k[struck])
        crash_at[struck] = on_clock(start[struck] + moment * trip_s[struck])
        return crash_at
