"""The kinds of phone whose costs are told, as columns: from a hardware table, a fleet, timed phones, or a law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import ndtri

from fedsim.errors import InputError
from fedsim.files import read_table
from fedsim.fleet.admission import Requirement
from fedsim.fleet.hardware import Hardware
from fedsim.schema import HARDWARE
from fedsim.traces.rule import Rule
from fedsim.traces.validation import validate_hardware
from fedsim.units import FloatArray, IntArray


@dataclass(frozen=True)
class PhoneClasses:
    """Device classes as columns of length n; NaN (or None) where a figure is unknown. Shares add up to 1.

    They stand for a fleet (:class:`fedsim.fleet.phones.Phones`) in which the devices ``n_each`` × i and following are
    phones of class i.
    """

    models: Sequence[str | None]
    share: FloatArray
    latency_ms: FloatArray
    ram_gb: FloatArray
    bytes_per_s: FloatArray
    compute_w: FloatArray
    latency_source: Sequence[str | None]
    n_each: int = 1

    @property
    def n_devices(self) -> int:
        """Devices that stand for all classes."""
        return self.n_each * len(self.share)

    def row_of(self, ids: IntArray) -> IntArray:
        """The class of each device."""
        return ids // self.n_each

    def inference_ms(self, ids: IntArray) -> FloatArray:
        """Latency of the benchmark model on each device, in ms."""
        latency_ms: FloatArray = self.latency_ms[self.row_of(ids)]
        return latency_ms

    @classmethod
    def of(cls, hardware: pa.Table, *, where: Path | str) -> PhoneClasses:
        """The rows of a table of :data:`fedsim.schema.HARDWARE` that anyone has; ``where`` names it in errors."""
        validate_hardware(hardware, where=where)
        rows = hardware.filter(np.asarray(hardware.column("weight")) > 0)
        weight = _floats(rows, "weight")
        return cls(
            models=rows.column("model").to_pylist(),
            share=weight / weight.sum(),
            latency_ms=_floats(rows, "inference_ms_per_sample"),
            ram_gb=_floats(rows, "ram_gb"),
            bytes_per_s=_floats(rows, "bytes_per_s"),
            compute_w=_floats(rows, "compute_w"),
            latency_source=rows.column("latency_source").to_pylist(),
        )

    @classmethod
    def named(cls, names: Sequence[str], latency_ms: npt.ArrayLike) -> PhoneClasses:
        """Classes of equal share of which nothing else is known."""
        n = len(names)
        unknown = np.full(n, np.nan)
        return cls(
            models=list(names),
            share=np.full(n, 1 / n),
            latency_ms=np.asarray(latency_ms, dtype=np.float64),
            ram_gb=unknown,
            bytes_per_s=unknown,
            compute_w=unknown,
            latency_source=[None] * n,
        )

    @classmethod
    def lognormal(cls, *, median_ms: float, sigma: float, n: int) -> PhoneClasses:
        """Classes of equal share at the middle of each n-th part of a lognormal latency; the law has no models."""
        if n < 1:
            raise InputError("cost.n_classes", value=n, allowed="1 or more")
        middles = (np.arange(n) + 0.5) / n
        return cls.named([f"p{100 * middle:g}" for middle in middles], median_ms * np.exp(sigma * ndtri(middles)))


def classes_of_file(path: Path) -> PhoneClasses:
    """Device classes of a Parquet file, or of the ``hardware.parquet`` of a trace set or measurement folder."""
    file = table_file(path)
    return PhoneClasses.of(read_table(file, HARDWARE), where=file)


def table_file(path: Path) -> Path:
    """The hardware table that a path means."""
    return path / "hardware.parquet" if path.is_dir() else path


def classes_of_fleet(hardware: Hardware, requires: str | None) -> PhoneClasses:
    """The rows of a fleet's hardware table that a run would ask, with their shares of the fleet."""
    is_met = np.ones(len(hardware.weight), dtype=bool)
    if requires is not None:
        rule = Rule.parse(requires)
        Requirement(hardware, rule)  # refuses a rule that leaves no phone
        is_met = hardware.meets(rule)
    weight = np.where(is_met, hardware.share_of_rows(), 0.0)
    rows = hardware.rows.set_column(hardware.rows.column_names.index("weight"), "weight", pa.array(weight))
    return PhoneClasses.of(rows, where="the fleet's hardware table")


def _floats(table: pa.Table, name: str) -> FloatArray:
    """A column as float64, NaN where null."""
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)
