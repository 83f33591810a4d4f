"""A fleet as a function: every attribute of a device follows from ``(seed, attribute, device id)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from fedsim import rng
from fedsim.errors import InputError
from fedsim.ranges import DeviceCount, Range, Share01
from fedsim.traces.canonical import TraceSet
from fedsim.units import DAY_S, HOUR_S, US_PER_MS, US_PER_S, BoolArray, FloatArray, IntArray, to_us

JITTER_LEVELS = 16
MANY_CELLS = 1 << 20  # beyond, jitter has fewer levels: so many traces do not leave in one second anyway
MAX_CELLS = 1 << 24  # one byte-sized answer and one instant per cell: 0.3 GB at this bound
_SMALL_FLEET = 1 << 16  # up to here cells are counted exactly, above their expected share is used

_S32, _LOW32 = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Region:
    """A share of the fleet whose local clocks run ``utc_offset_hours`` ahead of simulated time.

    ``country`` is an ISO 3166-1 alpha-3 code, by which prices and grids of electricity are looked up; None: not said.
    """

    share: Share01
    utc_offset_hours: Annotated[float, Range(-24, 24)]
    country: str | None = None

    def __post_init__(self) -> None:
        code = self.country
        if code is not None and not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
            raise InputError("fleet.regions: country", value=code, allowed="three capital letters of ISO 3166, as IND")


ONE_REGION = {"utc": Region(share=1.0, utc_offset_hours=0.0)}


class Fleet:
    """``n_devices`` devices sampled from base traces; no array of that length is ever built.

    A device lives in a *cell*: base trace, whole-day shift, region, jitter. Cells are few (traces ×
    days × regions × up to 16), so what depends on the cell alone is computed once for all devices in it.
    Simulated time 0 is midnight at UTC offset 0; a device at trace position
    ``(now + phase of its cell) mod period`` keeps the hour of day of its trace, up to ± half of
    ``jitter_s``: without jitter all devices of a base trace would leave in the same second. Where
    traces are so many that few devices share a cell, jitter has fewer levels, down to none.

    ``trace_weight`` (float64[traces], any scale) makes some traces more frequent than others, as in
    a mixture of trace sets.

    With ``is_replay`` the fleet is the trace set as it is: device i is trace i, unshifted.

    Simplification: days are shifted without regard to the day of the week.
    """

    def __init__(
        self,
        traces: TraceSet,
        *,
        n_devices: DeviceCount,
        seed: int,
        is_replay: bool = False,
        regions: Mapping[str, Region] | None = None,
        jitter_s: Annotated[float, Range(0, DAY_S)] = 0.0,
        trace_weight: FloatArray | None = None,
    ) -> None:
        if n_devices < 1:
            raise InputError("fleet.n_devices must be positive", value=n_devices)
        if is_replay and n_devices != traces.n:
            raise InputError("a replay needs one device per trace: fleet.n_devices", value=n_devices, allowed=traces.n)
        if not 0 <= jitter_s <= DAY_S:
            raise InputError("fleet.jitter_s is outside its range", value=jitter_s, allowed=f"0 … {DAY_S}")
        self.traces, self.n_devices, self.seed, self.is_replay = traces, n_devices, seed, is_replay
        self._trace_share = _shares(traces.n, trace_weight)
        self._trace_edges = None if trace_weight is None else np.cumsum(self._trace_share)[:-1]
        if is_replay:
            self._build_cells(ONE_REGION, 0.0)
        else:
            self._build_cells(regions or ONE_REGION, jitter_s)

    def _build_cells(self, regions: Mapping[str, Region], jitter_s: float) -> None:
        traces, self.regions = self.traces, dict(regions)
        self._days = np.ones(traces.n, dtype=np.int64) if self.is_replay else traces.period_days
        self._first_cell = np.concatenate([[0], np.cumsum(self._days)])
        cells_per_offset = int(self._first_cell[-1])
        shares, offsets_s = _region_columns(regions)
        self._region_edges = np.cumsum(shares)[:-1]
        self._n_jitter = _jitter_levels(cells_per_offset * len(shares)) if jitter_s > 0 else 1
        self._jitter_shift = np.uint64(65 - self._n_jitter.bit_length())  # there are 2, 4, 8 or 16 levels, or one
        jitter = jitter_s * ((np.arange(self._n_jitter) + 0.5) / self._n_jitter - 0.5)
        offset_us = to_us(offsets_s[:, None] + jitter).ravel()  # region by region, level by level
        self._cells_per_offset, self.n_cells = cells_per_offset, cells_per_offset * offset_us.size
        if self.n_cells > MAX_CELLS:
            raise InputError(
                "traces × days × regions × jitter levels are too many", value=self.n_cells, allowed=f"up to {MAX_CELLS}"
            )
        trace = np.repeat(np.arange(traces.n), self._days)
        shift = np.arange(cells_per_offset) - self._first_cell[trace]
        phase_us = shift * (DAY_S * US_PER_S) - traces.start_ms[trace] * US_PER_MS
        self.cell_trace: IntArray = np.tile(trace, offset_us.size)
        self.cell_phase_us: IntArray = (offset_us[:, None] + phase_us).ravel()
        per_trace_day = self._trace_share[trace] / (self._days[trace] * self._n_jitter)
        per_offset = np.repeat(shares, self._n_jitter)
        self._cell_probability: FloatArray = (per_offset[:, None] * per_trace_day).ravel()

    @property
    def is_large(self) -> bool:
        """Whether cells hold their expected share of the devices, not a counted one."""
        return self.n_devices > _SMALL_FLEET

    def cell_of(self, device_ids: npt.NDArray[np.int64]) -> IntArray:
        """The cell of each device, ``int64[n]``."""
        return self.cell_on(self.trace_day_of(device_ids), device_ids)

    def trace_day_of(self, device_ids: npt.NDArray[np.int64]) -> IntArray:
        """Base trace and whole-day shift of each device as one number, ``int64[n]``."""
        if self.is_replay:
            return np.asarray(device_ids, dtype=np.int64)
        draw = rng.bits(self.seed, "base_trace", device_ids)
        trace = self._drawn_trace(draw >> _S32)
        draw &= _LOW32
        draw *= self._days.take(trace).view(np.uint64)
        draw >>= _S32  # the shift in days
        trace_days: IntArray = self._first_cell.take(trace)
        trace_days += draw.view(np.int64)
        return trace_days

    def cell_on(self, trace_days: IntArray, device_ids: npt.NDArray[np.int64]) -> IntArray:
        """The cell of each device, whose trace and day are known, ``int64[n]``."""
        cell = trace_days
        if self._n_jitter > 1:
            level = rng.bits(self.seed, "jitter", device_ids) >> self._jitter_shift  # the highest bits
            cell = cell + level.view(np.int64) * self._cells_per_offset
        if self._region_edges.size:
            region = np.searchsorted(self._region_edges, rng.uniform(self.seed, "region", device_ids), "right")
            cell = cell + region * (self._n_jitter * self._cells_per_offset)
        return cell

    def trace_days_with(self, is_cell: BoolArray) -> BoolArray:
        """Which traces' days have any of these cells, in whatever region and at whatever jitter."""
        return np.asarray(is_cell.reshape(-1, self._cells_per_offset).any(axis=0))

    def _drawn_trace(self, draw32: npt.NDArray[np.uint64]) -> IntArray:
        """The trace that 32 random bits stand for: all alike, or by weight."""
        if self._trace_edges is None:
            draw32 = draw32 * np.uint64(self.traces.n)
            draw32 >>= _S32
            return draw32.view(np.int64)
        return np.searchsorted(self._trace_edges, draw32 * 2.0**-32, side="right")

    def trace_of(self, device_ids: npt.NDArray[np.int64]) -> IntArray:
        """The base trace of each device, ``int64[n]``."""
        traces: IntArray = self.cell_trace[self.cell_of(device_ids)]
        return traces

    def region_of(self, cells: IntArray) -> IntArray:
        """Where the devices of each cell are: indices into ``regions``, in their order, ``int64[n]``."""
        return cells // (self._n_jitter * self._cells_per_offset)

    def cell_period_s(self, cells: IntArray) -> FloatArray:
        """Seconds after which the trace of each cell repeats, ``float64[n]``."""
        periods_s: FloatArray = self.traces.period_ms[self.cell_trace[cells]] / 1000.0
        return periods_s

    def cell_weights(self) -> FloatArray:
        """Share of the fleet in each cell, ``float64[n_cells]``: exact up to 65,536 devices, else expected."""
        if self.is_large:
            return self._cell_probability
        cells = self.cell_of(np.arange(self.n_devices))
        return np.bincount(cells, minlength=self.n_cells) / self.n_devices


def _jitter_levels(n_cells: int) -> int:
    """Levels of jitter for cells that would be so many without it: where they are many, few devices share one."""
    levels = JITTER_LEVELS
    while levels > 1 and levels * n_cells > MANY_CELLS:
        levels //= 2
    return levels


def _shares(n: int, weight: FloatArray | None) -> FloatArray:
    if weight is None:
        return np.full(n, 1.0 / n)
    if len(weight) != n or not ((weight >= 0).all() and weight.sum() > 0):
        raise InputError("weights of traces must be positive, one each", value=len(weight), allowed=n)
    shares: FloatArray = weight / weight.sum()
    return shares


def _region_columns(regions: Mapping[str, Region]) -> tuple[FloatArray, FloatArray]:
    shares = np.array([region.share for region in regions.values()], dtype=np.float64)
    offsets_s = np.array([region.utc_offset_hours * HOUR_S for region in regions.values()], dtype=np.float64)
    if not ((shares >= 0).all() and abs(shares.sum() - 1.0) <= 1e-9):  # NaN fails both
        raise InputError("fleet.regions: shares must be positive and sum to 1", value=shares.tolist())
    if not np.isfinite(offsets_s).all():
        raise InputError("fleet.regions: utc_offset_hours must be a number", value=(offsets_s / HOUR_S).tolist())
    return shares, offsets_s
