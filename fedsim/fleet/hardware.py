"""What phone a device is: a row of a hardware table, drawn by population share or joined by its trace's model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim import rng
from fedsim.errors import InputError
from fedsim.files import read_table
from fedsim.fleet.fleet import Fleet
from fedsim.schema import HARDWARE
from fedsim.traces.expression import TRUE, Comparison
from fedsim.traces.rule import Rule
from fedsim.units import BoolArray, FloatArray, IntArray

Match = Literal["share", "trace_model", "row"]


class Hardware:
    """The device classes of a fleet (rows of :data:`fedsim.schema.HARDWARE`).

    ``table`` is a table, its file, or ``trace_set``: the table that came with the fleet's trace set.
    With ``match`` ``share`` a device's row is drawn by the rows' weights, independently of its
    trace. With ``trace_model`` a device whose base trace names a model of the table takes that row,
    so that compute is joined with behaviour; the others are drawn by weight. With ``row`` device i has the phone of row
    i, and after the last row the first comes again (as in FedScale): weights do not count.
    """

    def __init__(self, fleet: Fleet, table: Path | str | pa.Table, *, match: Match = "share") -> None:
        if table == "trace_set":
            table = fleet.traces.hardware
        if table is None:
            raise InputError("fleet.hardware.table: the trace set has no hardware table", value="trace_set")
        rows = table if isinstance(table, pa.Table) else read_table(table, HARDWARE)
        if match not in ("share", "trace_model", "row"):
            raise InputError("fleet.hardware.match is unknown", value=match, allowed="share, trace_model, row")
        self._is_by_row = match == "row"
        where = "hardware table" if isinstance(table, pa.Table) else table
        self.weight = _checked(rows, "weight", where)
        if self._is_by_row:
            self.weight = np.ones(len(self.weight))
        if not self.weight.sum() > 0:
            raise InputError("no row has a weight", where=where)
        self._inference_ms = _checked(rows, "inference_ms_per_sample", where)
        self.rows, self._fleet = rows, fleet
        self.models: Sequence[str | None] = rows.column("model").to_pylist()
        self.compute_w: FloatArray = self.column("compute_w").astype(np.float64)
        self.bytes_per_s: FloatArray = self.column("bytes_per_s").astype(np.float64)
        slow = np.flatnonzero(self.bytes_per_s <= 0)
        if slow.size:
            raise InputError(
                f"bytes_per_s must be positive at row {slow[0]}", value=self.bytes_per_s[slow[0]].item(), where=where
            )
        self._edges: FloatArray = np.cumsum(self.weight)[:-1] / self.weight.sum()
        self._row_of_trace = self._matched() if match == "trace_model" else np.full(fleet.traces.n, -1)
        if match == "trace_model" and (self._row_of_trace < 0).all():
            raise InputError("no base trace names a model of the hardware table", value=match, allowed="match=share")
        self._rank_below, self._rank_width = _ranks(self._inference_ms, self.share_of_rows())

    def _matched(self) -> IntArray:
        """For each base trace the table row of its model, −1 where there is none."""
        first: dict[Any, int] = {}
        for row, model in enumerate(self.models):
            first.setdefault(model, row)
        models = self._fleet.traces.facts["model"]
        return np.array([-1 if model is None else first.get(model, -1) for model in models], dtype=np.int64)

    def row_of(self, ids: IntArray) -> IntArray:
        """The table row of each device, ``int64[n]``."""
        if self._is_by_row:
            rows: IntArray = ids % len(self.weight)
            return rows
        drawn = np.searchsorted(self._edges, rng.uniform(self._fleet.seed, "hardware", ids), side="right")
        if (self._row_of_trace < 0).all():
            return drawn
        matched = self._row_of_trace[self._fleet.trace_of(ids)]
        return np.where(matched >= 0, matched, drawn)

    def inference_ms(self, ids: IntArray) -> FloatArray:
        """Latency of the benchmark model on each device, in ms."""
        latency_ms: FloatArray = self._inference_ms[self.row_of(ids)]
        return latency_ms

    def slowness(self, ids: IntArray) -> FloatArray:
        """Standard normal rank of each device's latency, ``float64[n]``; equal phones stand in random order."""
        row = self.row_of(ids)
        rank = self._rank_below[row] + self._rank_width[row] * rng.uniform(self._fleet.seed, "hardware/slowness", ids)
        return np.interp(rank, _PROBABILITIES, _SCORES)

    def share_of_rows(self) -> FloatArray:
        """Share of the fleet in each row, ``float64[rows]`` (traces count alike)."""
        is_matched = self._row_of_trace >= 0
        joined = np.bincount(self._row_of_trace[is_matched], minlength=len(self.weight)) / len(self._row_of_trace)
        share: FloatArray = joined + (1.0 - is_matched.mean()) * self.weight / self.weight.sum()
        return share

    def share_by_trace(self, is_met: BoolArray) -> FloatArray:
        """Share of each base trace's devices whose row is among those of ``is_met``, ``float64[traces]``."""
        drawn = float(self.weight @ is_met / self.weight.sum())
        return np.where(self._row_of_trace >= 0, is_met[self._row_of_trace], drawn)

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of the table, NaN or None where unknown."""
        return np.asarray(self.rows.column(name).to_numpy(zero_copy_only=False))

    def meets(self, requirement: Rule) -> BoolArray:
        """Which rows meet a rule over facts (model, ram_gb, os_version), ``bool[rows]``; unknown facts do not."""
        if requirement.channels:
            raise InputError(
                "fleet.hardware.requires is about the phone, not its state",
                value=str(requirement),
                allowed="model, ram_gb, os_version",
            )

        def truth(atom: Comparison) -> npt.NDArray[np.int8]:
            return atom.truth(self.column(atom.name))

        is_met: BoolArray = requirement.truth(truth, len(self.weight)) == TRUE
        return is_met


_SCORES = np.linspace(-6.0, 6.0, 2401)
_PROBABILITIES = np.array([NormalDist().cdf(z) for z in _SCORES])


def _ranks(values: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of the fleet below each row's value, and share of the fleet with that value."""
    distinct, which = np.unique(values, return_inverse=True)
    width: FloatArray = np.bincount(which, weights=share, minlength=len(distinct)).astype(np.float64)
    return (np.cumsum(width) - width)[which], width[which]


def _checked(rows: pa.Table, name: str, where: Path | str) -> FloatArray:
    values: FloatArray = rows.column(name).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise InputError(f"{name} is outside its range at row {bad[0]}", value=values[bad[0]].item(), where=where)
    return values
