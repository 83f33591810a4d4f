"""SABRE bandwidth logs: periods of constant bandwidth, one JSON file per recording.

Format: ``[{"duration_ms", "bandwidth_kbps", "latency_ms"}, …]``, played in order and again from the start.
Source: SABRE ``example/mmsys18/{3Glogs,4Glogs}``, from Riiser et al., MMSys 2013 (3G, Oslo) and van der Hooft et
al., 2016 (4G, Ghent).

- kbit/s of 1000 bits. Only the way down was measured.
- Periods of no bandwidth are kept, also the long ones (outages, or gaps of the logger: nothing tells them apart);
  they are counted.
- A latency that is the same in all recordings of a network is an assumption of the player, not a measurement:
  ``rtt_ms`` is null and the constant stands in the provenance.
- The network is the ``3G`` in a folder's name; the scenario the ``bus`` in ``report_bus_0001.json``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.errors import InputError
from fedsim.files import existing, read_json
from fedsim.schema import LINKS, NETWORKS
from fedsim.traces.importers.source import Source
from fedsim.traces.measurements import MeasurementWriter
from fedsim.units import IntArray

_SOURCE = Source(
    "sabre",
    "SABRE bandwidth logs (Riiser et al., MMSys 2013; van der Hooft et al., 2016)",
    "BSD-2-Clause, as stated by the SABRE repository",
)
_TRANSFORMS = ("kbit/s of 1000 bits to bytes/s", "latency left out where it is one constant: not measured")
_FIELDS = ("duration_ms", "bandwidth_kbps", "latency_ms")
_BYTES_PER_KBIT = 125
_LONG_MS = 20_000  # periods are about a second long; beyond this something stood still
_TOO_MUCH = 2**40  # far beyond any period or bandwidth, far below where sums of them overflow
_FOLDER = re.compile(r"([2345])g", re.ASCII | re.IGNORECASE)
_SCENARIO = re.compile(r"report_([a-z]+)_\d+", re.ASCII)


def import_sabre(src: Path, dst: Path, network: str | None = None) -> None:
    """Write the periods as ``links.parquet``; ``network`` names the type where no folder's name does.

    Raises:
        InputError: a file whose network is not known, a period that breaks the format (file and number named).
    """
    if network is not None and network not in NETWORKS[1:]:
        raise InputError("unknown network", value=network, allowed=", ".join(NETWORKS[1:]))
    files = _files(src, network)
    counts = {name: _Counts() for name in dict(files).values()}
    with MeasurementWriter(dst) as writer:
        for name, group in groupby(files, key=lambda file: file[1]):
            paths = [path for path, _ in group]
            latency_ms = _constant_latency(paths)
            counts[name].constant_latency_ms = latency_ms
            for path in paths:
                periods = _periods(path)
                counts[name].add(periods)
                writer.add(LINKS, _links(path, name, periods, is_latency_measured=latency_ms is None))
        networks = {name: count.said() for name, count in counts.items()}
        writer.provenance = _SOURCE.provenance([path for path, _ in files], _TRANSFORMS, {"networks": networks})


def _files(src: Path, network: str | None) -> list[tuple[Path, str]]:
    """The recordings and their networks, those of one network together."""
    existing(src, "SABRE logs")
    paths = [src] if src.is_file() else sorted(src.rglob("*.json"))
    if not paths:
        raise InputError("no recording found", where=src, allowed="*.json")
    names = [path.stem for path in paths]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError("two recordings have one name", value=min(twice), where=src)
    return sorted(((path, network or _network_of(path)) for path in paths), key=lambda file: file[1])


def _network_of(path: Path) -> str:
    found = _FOLDER.match(path.parent.name)
    if found is None:
        raise InputError(
            "the network of a recording is not known", value=str(path), allowed="a folder named 3G…, 4G…, or --network"
        )
    return f"{found[1]}g"


def _periods(path: Path) -> dict[str, IntArray]:
    """The columns of a recording."""
    periods = read_json(path, "SABRE log")
    if not isinstance(periods, list) or not periods:
        raise InputError("a recording must be a list of periods", where=path, allowed="[{…}, …]")
    columns = {name: _column(periods, name, path) for name in _FIELDS}
    still = np.flatnonzero(columns["duration_ms"] == 0)
    if still.size:
        raise InputError("a period must last", value=0, where=f"period {still[0]} of {path}")
    return columns


def _column(periods: Sequence[Any], name: str, path: Path) -> IntArray:
    values: list[Any] = [period.get(name) if isinstance(period, dict) else None for period in periods]
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) >= _TOO_MUCH:
        bad = next(i for i, value in enumerate(values) if type(value) is not int or not 0 <= value < _TOO_MUCH)
        where = f"period {bad} of {path}"
        raise InputError(f"field {name!r} must be a whole number, zero or above", value=values[bad], where=where)
    return np.array(values, dtype=np.int64)


def _constant_latency(paths: Sequence[Path]) -> int | None:
    """The latency of all periods if they share one, else None."""
    latencies: set[int] = set()
    for path in paths:
        latencies |= set(np.unique(_periods(path)["latency_ms"]).tolist())
        if len(latencies) > 1:
            return None
    return latencies.pop()


def _links(path: Path, network: str, periods: dict[str, IntArray], *, is_latency_measured: bool) -> pa.Table:
    duration_ms = periods["duration_ms"]
    n = len(duration_ms)
    scenario = _SCENARIO.fullmatch(path.stem)
    columns = {
        "network": np.full(n, NETWORKS.index(network), dtype=np.int8),
        "trace": pa.repeat(pa.scalar(path.stem), n),
        "scenario": pa.repeat(pa.scalar(scenario[1] if scenario else None, pa.string()), n),
        "at_ms": np.cumsum(duration_ms) - duration_ms,
        "duration_ms": duration_ms,
        "down_bytes_per_s": periods["bandwidth_kbps"] * float(_BYTES_PER_KBIT),
        "up_bytes_per_s": pa.nulls(n, pa.float64()),
        "rtt_ms": periods["latency_ms"] if is_latency_measured else pa.nulls(n, pa.float32()),
    }
    return pa.table(columns)


@dataclass
class _Counts:
    """What the provenance tells about one network."""

    n_traces: int = 0
    n_periods: int = 0
    n_zero: int = 0
    n_long_zero: int = 0
    longest_zero_ms: int = 0
    constant_latency_ms: int | None = None

    def add(self, periods: dict[str, IntArray]) -> None:
        zero_ms = periods["duration_ms"][periods["bandwidth_kbps"] == 0]
        self.n_traces += 1
        self.n_periods += len(periods["duration_ms"])
        self.n_zero += len(zero_ms)
        self.n_long_zero += int(np.count_nonzero(zero_ms > _LONG_MS))
        self.longest_zero_ms = max(self.longest_zero_ms, int(zero_ms.max(initial=0)))

    def said(self) -> dict[str, int | None]:
        """As it stands in the provenance."""
        return {
            "n_traces": self.n_traces,
            "n_periods": self.n_periods,
            "n_periods_without_bandwidth": self.n_zero,
            f"n_periods_without_bandwidth_over_{_LONG_MS // 1000}_s": self.n_long_zero,
            "longest_period_without_bandwidth_ms": self.longest_zero_ms,
            "constant_latency_ms": self.constant_latency_ms,
        }
