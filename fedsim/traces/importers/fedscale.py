"""FedScale client traces: availability sessions and device capacity, two pickles.

Behaviour: ``{id: {"duration", "active": […], "inactive": […], "finish_time", "model"}}``, whole seconds since the
client's own trace start; available from ``active[k]`` to ``inactive[k]``, the trace wraps at ``finish_time``.
Capacity: ``{id: {"computation": ms per sample (inference), "communication": kbit/s, both directions}}``.
Source: Lai et al., ICML 2022 (FedScale), ``benchmark/dataset/data/device_info/``.

- The clock is relative: the hour of day of a trace is not known.
- Outside its sessions a client is *not available*, so each trace opens with that event: nothing is unknown.
- Zero-length and touching sessions are kept. Windows are half-open, where FedScale's bounds are inclusive.
- FedScale counts a model as bytes / 1024 · 8 kbit; its kbit/s are therefore 128 bytes/s each.
- The published file is sorted, the most available clients first: its first n are no sample of a fleet. Provenance
  says so (``is_sorted_by_availability``).
- Capacity is joined with behaviour by nothing but position in FedScale, so it becomes the ``hardware`` table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.errors import InputError, shown
from fedsim.schema import HARDWARE
from fedsim.traces.canonical import TraceSet
from fedsim.traces.clock import MAX_RELATIVE_MS
from fedsim.traces.folder import TraceWriter
from fedsim.traces.importers import pickles
from fedsim.traces.importers.source import Source, plain, source_file
from fedsim.traces.spans import availability, unknown_facts
from fedsim.traces.validation import validate
from fedsim.units import FloatArray, IntArray

_SOURCE = Source(
    "fedscale", "FedScale client traces (Lai et al., ICML 2022)", "Apache-2.0, as stated by the FedScale repository"
)
_TRANSFORMS = (
    "every trace opens with available = 0, because outside its sessions a client is not available",
    "capacity: kbit/s of 1024 bits to bytes/s, every entry a device class of weight 1",
)
_BATCH = 10_000  # clients held as arrays at once
_KBIT_BYTES = 1024 / 8
_MAX_S = MAX_RELATIVE_MS // 1000  # ten years: beyond any trace
_NUMBERS, _LISTS = ("duration", "finish_time"), ("active", "inactive")


def import_fedscale(src: Path, dst: Path, capacity: Path | None = None) -> None:
    """FedScale client_behave_trace (a pickle, or a folder that may hold client_device_capacity as well).

    Raises:
        InputError: an entry that breaks the format, named by client; a pickle that asks for any global
            beyond ``collections.OrderedDict`` (behaviour) or numpy's float64 scalars (capacity).
    """
    behaviour = source_file(_inside(src, "client_behave_trace") or src, "FedScale behaviour trace")
    capacity = capacity or _inside(src, "client_device_capacity")
    with TraceWriter(dst) as writer:
        checks = _write_clients(behaviour, writer)
        files = [behaviour] if capacity is None else [behaviour, capacity]
        writer.provenance = _SOURCE.provenance(files, _TRANSFORMS, checks)
        writer.hardware = None if capacity is None else _hardware(source_file(capacity, "FedScale device capacity"))


def _write_clients(behaviour: Path, writer: TraceWriter) -> dict[str, int | bool]:
    """Write all clients batch by batch; how many broke a promise of the format that does no harm, and their order."""
    clients = iter(_entries(behaviour, {"collections.OrderedDict": OrderedDict}).items())
    n_mismatches = n_past_end = 0
    durations_s = [np.empty(0, dtype=np.int64)]
    while items := list(islice(clients, _BATCH)):
        batch = _Batch.of(items, behaviour)
        writer.add(batch.trace_set(behaviour))
        n_mismatches += batch.n_duration_mismatches
        n_past_end += batch.n_past_end
        durations_s.append(batch.duration_s)
    return {
        "n_clients_whose_sessions_do_not_sum_to_duration": n_mismatches,
        "n_sessions_cut_at_finish_time": n_past_end,
        "is_sorted_by_availability": bool((np.diff(np.concatenate(durations_s)) <= 0).all()),
    }


def _inside(folder: Path, name: str) -> Path | None:
    """The pickle of that name if ``folder`` is a folder that has it, under its full name or as a subset of it."""
    found = sorted(path for path in folder.glob(f"{name}*") if path.suffix in ("", ".pkl", ".pickle"))
    if len(found) > 1:
        raise InputError(f"more than one {name}", value=[path.name for path in found], where=folder, allowed="one")
    return found[0] if found else None


def _entries(path: Path, allowed: pickles.Globals) -> dict[Any, Any]:
    entries = pickles.load(path, allowed=allowed)
    if not isinstance(entries, dict) or not entries:
        raise InputError("pickle must hold a dict of clients", where=path, allowed="{id: {…}, …}")
    return entries


def _field(entry: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(entry, dict) or name not in entry:
        raise InputError(f"field {name!r} is missing", where=where)
    value = entry[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"field {name!r} has the wrong type", value=value, where=where)
    return value


@dataclass(frozen=True)
class _Batch:
    """Some clients; client i has sessions ``offsets[i] : offsets[i + 1]``."""

    ids: list[str]
    models: list[str | None]
    duration_s: IntArray
    period_s: IntArray
    offsets: IntArray
    active_s: IntArray
    inactive_s: IntArray

    @classmethod
    def of(cls, items: list[tuple[Any, Any]], source: Path) -> _Batch:
        for client, entry in items:
            _check_client(client, source)
            _check_entry(entry, f"client {shown(client)} of {source}")
        entries = [entry for _, entry in items]
        batch = cls(
            ids=[str(client) for client, _ in items],
            models=[entry.get("model") for entry in entries],
            duration_s=np.array([entry["duration"] for entry in entries], dtype=np.int64),
            period_s=np.array([entry["finish_time"] for entry in entries], dtype=np.int64),
            offsets=np.cumsum([0, *(len(entry["active"]) for entry in entries)], dtype=np.int64),
            active_s=np.fromiter(chain.from_iterable(entry["active"] for entry in entries), np.int64),
            inactive_s=np.fromiter(chain.from_iterable(entry["inactive"] for entry in entries), np.int64),
        )
        batch._check_order(source)
        return batch

    @property
    def _client(self) -> IntArray:
        """Row of the client of every session."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))

    def _check_order(self, source: Path) -> None:
        """Sessions must be sorted and must not overlap; they may touch, and may be empty."""
        client = self._client
        previous_end = np.zeros_like(self.active_s)
        previous_end[1:] = np.where(client[1:] == client[:-1], self.inactive_s[:-1], 0)
        bad = np.flatnonzero((self.active_s < previous_end) | (self.inactive_s < self.active_s))
        if bad.size:
            session = int(bad[0])
            row = client[session]
            raise InputError(
                f"session {session - self.offsets[row]} starts before the one before it ends, or ends before it starts",
                value=(int(self.active_s[session]), int(self.inactive_s[session])),
                where=f"client {self.ids[row]} of {source}",
            )

    @property
    def n_duration_mismatches(self) -> int:
        """Clients whose declared duration is not the sum of their sessions."""
        total = np.append(0, np.cumsum(self.inactive_s - self.active_s))[self.offsets]
        return int(np.count_nonzero(np.diff(total) != self.duration_s))

    @property
    def n_past_end(self) -> int:
        """Sessions that go on after the trace has wrapped, which FedScale never sees either."""
        return int(np.count_nonzero(self.inactive_s > self.period_s[self._client]))

    def trace_set(self, source: Path) -> TraceSet:
        """Each client's log: not available at 0, then available and not available per session."""
        n, end_s = len(self.ids), self.period_s[self._client]
        start_ms, end_ms = np.minimum(self.active_s, end_s) * 1000, np.minimum(self.inactive_s, end_s) * 1000
        offsets, events = availability(self.offsets, start_ms, end_ms)
        traces = TraceSet(
            device_id=np.array(self.ids, dtype=object),
            start_ms=np.zeros(n, dtype=np.int64),
            period_ms=self.period_s * 1000,
            is_local=np.zeros(n, dtype=bool),
            facts=unknown_facts(n) | {"model": np.array(self.models, dtype=object)},
            offsets=offsets,
            events=events,
        )
        validate(traces, where=source)
        return traces


def _check_client(client: Any, source: Path) -> None:
    """An identifier has a text: a whole number that a column holds, or a text."""
    if isinstance(client, str):
        plain(client, "client", str(source))
    elif type(client) is not int or not -(2**63) <= client < 2**63:
        raise InputError("a client must be a whole number or a text", value=client, where=source)


def _check_entry(entry: Any, where: str) -> None:
    for name in _NUMBERS:
        _field(entry, name, int, where)
    if not 0 < entry["finish_time"] <= _MAX_S:
        allowed = f"1 … {_MAX_S} s; is the unit wrong?"
        raise InputError("finish_time out of range", value=entry["finish_time"], where=where, allowed=allowed)
    for name in _LISTS:
        instants = _field(entry, name, list, where)
        are_whole = set(map(type, instants)) <= {int}
        if not are_whole or max(instants, default=0) > _MAX_S or min(instants, default=0) < -_MAX_S:
            value = next(at for at in instants if type(at) is not int or not abs(at) <= _MAX_S)
            what = f"field {name!r} must list whole seconds"
            raise InputError(what, value=value, where=where, allowed=f"0 … {_MAX_S}")
    if len(entry["active"]) != len(entry["inactive"]):
        lengths = (len(entry["active"]), len(entry["inactive"]))
        raise InputError("active and inactive differ in length", value=lengths, where=where)
    if not abs(entry["duration"]) < 2**62:
        raise InputError("duration out of range", value=entry["duration"], where=where)
    if entry.get("model") is not None:
        plain(_field(entry, "model", str, where), "model", where)


def _hardware(path: Path) -> pa.Table:
    """One device class of equal weight per capacity entry."""
    entries = _entries(path, pickles.NUMPY_FLOATS)
    computation = _positive(entries, "computation", path)
    communication = _positive(entries, "communication", path)
    columns = {
        "model": pa.nulls(len(entries), pa.string()),
        "weight": np.ones(len(entries)),
        "inference_ms_per_sample": computation,
        "bytes_per_s": communication * _KBIT_BYTES,
        "ram_gb": pa.nulls(len(entries), pa.float32()),
        "latency_source": ["measured"] * len(entries),
    }
    return HARDWARE.check(pa.table(columns), where=path)


def _positive(entries: Mapping[Any, Any], name: str, path: Path) -> FloatArray:
    values = []
    for client, entry in entries.items():
        where = f"client {shown(client)} of {path}"
        value = _field(entry, name, (int, float), where)
        if not (pickles.is_number(value) and value > 0):
            raise InputError(f"{name} must be positive", value=value, where=where, allowed=f"up to {pickles.MOST:g}")
        values.append(value)
    return np.array(values, dtype=np.float64)
