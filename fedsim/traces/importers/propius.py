"""Propius phone table: CPU score, RAM, OS version and inference latency of phone models, one pickle.

Format: ``{rank: {"device", "cpu_f", "ram" GB, "fp16_mem", "android_os", "speed" ms}}``, ranks in any order.
Source: Propius ``datasets/device_info/client_spec_speed``, joined there from two tables of ai-benchmark.com (2023).

- The join that made the file has a bug: a phone that the second table lacks silently got the latency of the rank
  before it. A latency is *suspect* if it equals that of the rank before, no other row of the same name shares it
  (names are what was joined by), and it is more than twice off the trend of latency over CPU score. Equal
  latencies near the trend are phones of one chip.
- Names repeat where a phone was ranked in several versions; all rows are kept.
- ``fp16_mem`` (a memory score) is not kept.
- It lists models, not a population: every weight is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedsim.errors import InputError, shown
from fedsim.schema import HARDWARE
from fedsim.traces.importers import pickles
from fedsim.traces.importers.source import Source, plain, source_file
from fedsim.traces.importers.trend import Trend
from fedsim.traces.measurements import MeasurementWriter
from fedsim.units import BoolArray, FloatArray

Suspect = Literal["trend", "drop", "keep"]
_SOURCE = Source(
    "propius",
    "Propius phone table, from AI-Benchmark 2023 (ai-benchmark.com)",
    "MIT, as stated by the Propius repository",
)
_SUSPECT = "suspect latencies (equal to the rank before, no namesake shares them, over 2 times off the trend): "
_SUSPECTS: dict[Suspect, str] = {
    "trend": _SUSPECT + "replaced by the trend",
    "drop": _SUSPECT + "their phones dropped",
    "keep": _SUSPECT + "kept and marked",
}
_FAR = 2.0  # times off the trend; two robust standard deviations of the published table
_FIELDS = ("cpu_f", "ram", "android_os", "speed")


def import_propius(src: Path, dst: Path, suspect: Suspect = "trend") -> None:
    """Write the phones as ``hardware.parquet``; ``suspect`` latencies follow the trend, are dropped or kept.

    Raises:
        InputError: a field that is missing or out of range, named by rank; a pickle that asks for any global.
    """
    if suspect not in get_args(Suspect):
        raise InputError("unknown treatment of suspect latencies", value=suspect, allowed=", ".join(get_args(Suspect)))
    phones = PhoneTable.load(src)
    with MeasurementWriter(dst) as writer:
        writer.add(HARDWARE, phones.hardware(suspect))
        writer.provenance = _SOURCE.provenance([src], ["sorted by rank", _SUSPECTS[suspect]], _notes(phones))


@dataclass(frozen=True)
class PhoneTable:
    """The phones in order of rank, columns of equal length n."""

    rank: npt.NDArray[np.int64]
    name: npt.NDArray[np.object_]
    cpu_score: FloatArray
    ram_gb: FloatArray
    os_version: FloatArray
    latency_ms: FloatArray

    @classmethod
    def load(cls, path: Path) -> PhoneTable:
        """Read the pickle without letting it name any global."""
        entries = pickles.load(source_file(path, "Propius phone table"), allowed={})
        if not isinstance(entries, dict) or not entries:
            raise InputError("pickle must hold a dict of phones", where=path, allowed="{rank: {…}, …}")
        for rank, entry in entries.items():
            _check_entry(rank, entry, f"rank {shown(rank)} of {path}")
        ranks = sorted(entries)
        columns = {name: np.array([entries[rank][name] for rank in ranks], dtype=np.float64) for name in _FIELDS}
        return cls(
            rank=np.array(ranks, dtype=np.int64),
            name=np.array([entries[rank]["device"] for rank in ranks], dtype=object),
            cpu_score=columns["cpu_f"],
            ram_gb=columns["ram"],
            os_version=columns["android_os"],
            latency_ms=columns["speed"],
        )

    @property
    def trend(self) -> Trend:
        """Latency over CPU score."""
        return Trend.of(self.cpu_score, self.latency_ms)

    @property
    def is_repeated(self) -> BoolArray:
        """Latencies equal to that of the rank before."""
        is_repeated: BoolArray = np.append(False, self.latency_ms[1:] == self.latency_ms[:-1])
        return is_repeated

    @property
    def is_suspect(self) -> BoolArray:
        """Latencies that the source's bug may have copied from the rank before."""
        _, name = np.unique(self.name.astype(str), return_inverse=True)
        _, row, n = np.unique(np.stack([name, self.latency_ms]), axis=1, return_inverse=True, return_counts=True)
        is_own = n[row.reshape(-1)] == 1
        is_far = np.abs(np.log(self.latency_ms / self.trend.at(self.cpu_score))) > np.log(_FAR)
        is_suspect: BoolArray = self.is_repeated & is_own & is_far
        return is_suspect

    def hardware(self, suspect: Suspect) -> pa.Table:
        """The rows of ``hardware.parquet``, in order of rank."""
        is_suspect = self.is_suspect
        latency_ms = np.where(is_suspect, self.trend.at(self.cpu_score), self.latency_ms)
        table = HARDWARE.check(
            pa.table(
                {
                    "model": pa.array(self.name, pa.string()),
                    "weight": np.ones(len(self.rank)),
                    "inference_ms_per_sample": self.latency_ms if suspect == "keep" else latency_ms,
                    "bytes_per_s": pa.nulls(len(self.rank), pa.float64()),
                    "ram_gb": self.ram_gb,
                    "os_version": self.os_version,
                    "cpu_score": self.cpu_score,
                    "latency_source": np.where(is_suspect, "suspect" if suspect == "keep" else "trend", "measured"),
                }
            ),
            where="Propius phone table",
        )
        return table.filter(~is_suspect) if suspect == "drop" else table


def _check_entry(rank: Any, entry: Any, where: str) -> None:
    if type(rank) is not int or not -(2**63) <= rank < 2**63:
        raise InputError("a rank must be a whole number", value=rank, where=where, allowed="-2^63 … 2^63 - 1")
    if not isinstance(entry, dict) or not isinstance(entry.get("device"), str):
        raise InputError("field 'device' must be a text", where=where)
    plain(entry["device"], "device", where)
    for name in _FIELDS:
        value: Any = entry.get(name)
        if not (pickles.is_number(value) and value > 0):
            allowed = f"up to {pickles.MOST:g}"
            raise InputError(f"field {name!r} must be a number above zero", value=value, where=where, allowed=allowed)


def _notes(phones: PhoneTable) -> dict[str, Any]:
    """What provenance says of the table's flaws."""
    trend = phones.trend
    return {
        "n_latencies_equal_to_the_rank_before": int(phones.is_repeated.sum()),
        "n_suspect_latencies": int(phones.is_suspect.sum()),
        "n_rows_with_a_name_seen_before": len(phones.name) - len(set(phones.name)),
        "trend": f"{trend.factor:.4g} ms * cpu_score ** {trend.exponent:.4g}, spread {trend.spread:.3g} of its log",
    }
