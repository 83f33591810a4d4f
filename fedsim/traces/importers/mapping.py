"""State logs of any shape, CSV or Parquet, whose columns a YAML file declares (see :mod:`.mapping_file`).

- A device's trace starts at its first row and lasts whole days, at least one; after its last row the device is
  unknown. Rows need not be in order, and rows of one device may stand anywhere in the files.
- A value that only repeats what its channel said before is dropped and counted; battery readings are all kept.
- A fact is the first that any row states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.errors import InputError
from fedsim.files import sha256
from fedsim.schema import CHANNELS, NETWORKS
from fedsim.traces.canonical import CHANNEL_CODE, FACTS, NETWORK_CODE, Events, TraceSet
from fedsim.traces.importers.columns import Extent, as_text, batches, numbers, table_files, texts
from fedsim.traces.importers.mapping_file import StateLog, Statement
from fedsim.traces.importers.shards import Grouping, Rows, Totals
from fedsim.traces.importers.source import Source
from fedsim.traces.spans import Window, device_rows
from fedsim.units import DAY_MS, BoolArray, FloatArray, IntArray

_BATTERY = CHANNEL_CODE["battery"]
_WORDS = {"true": "1", "false": "0"}


def import_mapping(src: Path, dst: Path, mapping: Path) -> None:
    """Write one trace per device of the log that ``mapping`` describes.

    Raises:
        InputError: a key of the mapping, a missing column, or a value that the mapping does not know (by row).
    """
    log = StateLog.load(mapping)
    files = table_files(src, "state log")
    plan = {"importer": "mapping", "mapping": sha256(mapping)}
    grouping = Grouping(files, plan, read=partial(_read, log=log), convert=partial(_convert, log=log))
    source = Source("mapping", log.source or src.name, log.licence)
    transforms = [
        f"columns and values as declared in {mapping.name}",
        f"instants: {log.clock}",
        "values that repeat what the channel said before dropped, except battery readings",
        "whole days from a device's first row; unknown after its last",
    ]
    grouping.run(
        dst, lambda totals: source.provenance([*files, mapping], transforms, _window(totals, log), totals.counts)
    )


def _window(totals: Totals, log: StateLog) -> dict[str, Any]:
    """What provenance says of the log's days; how many there are is each device's own."""
    said = Window.of(totals.first_ms, totals.last_ms, is_local=log.clock.is_local).said()
    return {name: value for name, value in said.items() if name != "n_days"}


def _read(path: Path, *, log: StateLog) -> Iterator[Rows]:
    """One row per statement: device, instant, channel, value, and the facts that its row states."""
    extent = Extent(str(path))
    for first, rows in batches(path, log.columns):
        at_ms = log.clock.local_ms(log.clock.read_ms(rows.column(log.time), log.time, str(path), first=first))
        extent.add(at_ms, first=first)
        table = pa.table({"device": texts(rows.column(log.device), log.device, str(path), first=first), "at_ms": at_ms})
        for name, fact in log.facts.items():
            table = table.append_column(name, _fact(rows.column(fact.column), name, fact.scale, str(path), first))
        events = None if log.event_column is None else _events(rows, log, path, first)
        stated = [_stated(rows, statement, events, path, first) for statement in log.statements]
        row = np.concatenate([row for row, _ in stated])
        order = np.argsort(row, kind="stable")  # what one row or instant says stays in the order of the source
        channel = np.repeat([CHANNEL_CODE[s.channel] for s in log.statements], [len(row) for row, _ in stated])
        value = np.concatenate([value for _, value in stated]).astype(np.float32)
        table = table.take(row[order])
        table = table.append_column("channel", pa.array(channel[order].astype(np.int8)))
        yield table.append_column("value", pa.array(value[order])), {"n_rows_read": rows.num_rows}


def _fact(column: pa.ChunkedArray, name: str, scale: float, where: str, first: int) -> pa.ChunkedArray:
    if name == "model":
        return as_text(column, name, where, first=first)
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = numbers(column, name, where, first=first) * scale
        stored = values.astype(np.float32)
    bad = np.flatnonzero(~np.isnan(values) & ~((stored > 0) & (stored < np.inf)))
    if bad.size:
        row = int(bad[0])
        what = f"{name} must be positive at row {first + row}"
        raise InputError(what, value=column[row].as_py(), where=where)
    return pa.chunked_array([pa.array(values, from_pandas=True)])


def _events(rows: pa.Table, log: StateLog, path: Path, first: int) -> pa.ChunkedArray:
    """The words of the event column, all of them declared."""
    words = texts(rows.column(str(log.event_column)), str(log.event_column), str(path), first=first)
    declared = {statement.word for statement in log.statements} | log.skipped
    unknown = [word for word in pc.unique(words).to_pylist() if word not in declared]
    if unknown:
        row = first + pc.index(words, unknown[0]).as_py()
        allowed = ", ".join(sorted(map(str, declared)))
        raise InputError("not in events.words", value=unknown[0], where=f"row {row} of {path}", allowed=allowed)
    return words


def _stated(
    rows: pa.Table, statement: Statement, events: pa.ChunkedArray | None, path: Path, first: int
) -> tuple[IntArray, FloatArray]:
    """Rows (within the batch) and values of one statement."""
    is_said = np.ones(rows.num_rows, dtype=bool)
    if events is not None:
        is_said = pc.equal(events, statement.word).to_numpy()
    if statement.column is None:
        row = np.flatnonzero(is_said)
        return row, np.full(len(row), statement.constant)
    column = as_text(rows.column(statement.column), statement.column, str(path), first=first)
    row = np.flatnonzero(is_said & column.is_valid().to_numpy())
    cells = column.take(pa.array(row))
    value = _plain(cells, statement) if statement.table is None else _looked_up(cells, statement.table)
    bad = np.flatnonzero(np.isneginf(value) | ~_in_range(value, statement.channel))
    if bad.size:
        allowed = _allowed(statement)
        where = f"row {first + row[bad[0]]} of {path}"
        raise InputError(f"not in {statement.key}", value=cells[int(bad[0])].as_py(), where=where, allowed=allowed)
    return row, value


def _looked_up(cells: pa.ChunkedArray, table: Mapping[str, float]) -> FloatArray:
    """Values of the mapping's table; −inf where it has none."""
    encoded = cells.combine_chunks().dictionary_encode()
    of_word = np.array([table.get(word, -np.inf) for word in encoded.dictionary.to_pylist()], dtype=np.float64)
    value: FloatArray = of_word[encoded.indices.to_numpy()]
    return value


def _plain(cells: pa.ChunkedArray, statement: Statement) -> FloatArray:
    """Cells taken as they are: canonical network names, else numbers; −inf where they are neither."""
    encoded = cells.combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    if statement.channel == "network":
        of_word = [float(NETWORK_CODE.get(word, -np.inf)) for word in words]
    else:
        of_word = [_number(_WORDS.get(word.lower(), word)) * statement.scale for word in words]
    value: FloatArray = np.array(of_word, dtype=np.float64)[encoded.indices.to_numpy()]
    return value


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return -np.inf


def _in_range(value: FloatArray, channel: str) -> BoolArray:
    """Whether values suit their channel; NaN (becomes unknown) always does."""
    if channel == "battery":
        is_fine: BoolArray = (value >= 0) & (value <= 100)
    elif channel == "network":
        is_fine = value >= 0
    else:
        is_fine = (value == 0) | (value == 1)
    return is_fine | np.isnan(value)


def _allowed(statement: Statement) -> str:
    if statement.table is not None:
        return ", ".join(statement.table)
    plain = {"network": ", ".join(NETWORKS), "battery": f"0 … {100 / statement.scale:g}"}
    return plain.get(statement.channel, "0, 1, true, false")


def _convert(rows: pa.Table, totals: Totals, *, log: StateLog) -> TraceSet:
    """Traces of rows sorted by device, instant and place in the source."""
    names, device = device_rows(rows.column("device"))
    at_ms = rows.column("at_ms").to_numpy()
    channel, value = rows.column("channel").to_numpy(), rows.column("value").to_numpy()
    begins = np.searchsorted(device, np.arange(len(names) + 1))
    first_ms, last_ms = at_ms[begins[:-1]], at_ms[begins[1:] - 1]
    period_ms = np.maximum(-(-(last_ms - first_ms) // DAY_MS), 1) * DAY_MS
    is_kept = ~_repeats(device, channel, value)
    tail = _unknown_after_last(device, channel, last_ms - first_ms, period_ms)
    columns = [(device[is_kept], (at_ms - first_ms[device])[is_kept], channel[is_kept], value[is_kept]), tail]
    device, at_ms, channel, value = (np.concatenate(pair) for pair in zip(*columns, strict=True))
    order = np.argsort(device, kind="stable")
    window = Window.of(totals.first_ms, totals.last_ms, is_local=log.clock.is_local)
    return TraceSet(
        device_id=names,
        start_ms=first_ms - window.first_ms,
        period_ms=period_ms,
        is_local=np.full(len(names), log.clock.is_local),
        facts={name: _fact_of_devices(rows, name, names, begins) for name in FACTS},
        offsets=np.searchsorted(device[order], np.arange(len(names) + 1)),
        events=Events(at_ms[order], channel[order], value[order], np.zeros(len(order), dtype=bool)),
        provenance={"counts": {"n_statements": rows.num_rows, "n_statements_that_repeat": int((~is_kept).sum())}},
    )


def _repeats(device: IntArray, channel: npt.NDArray[np.int8], value: npt.NDArray[np.float32]) -> BoolArray:
    """Statements equal to the one before on the same channel of the same device; never of the battery."""
    order = np.lexsort((channel, device))  # stable: time is kept inside
    d, c, v = device[order], channel[order], value[order]
    is_same = (v[1:] == v[:-1]) | (np.isnan(v[1:]) & np.isnan(v[:-1]))
    repeats = np.zeros(len(order), dtype=bool)
    repeats[order[1:]] = is_same & (d[1:] == d[:-1]) & (c[1:] == c[:-1]) & (c[1:] != _BATTERY)
    return repeats


def _unknown_after_last(
    device: IntArray, channel: npt.NDArray[np.int8], last_ms: IntArray, period_ms: IntArray
) -> tuple[IntArray, IntArray, npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Events that make every channel a device ever stated unknown after its last row, if its last day is not over."""
    stated = np.unique(device * len(CHANNELS) + channel)
    of_device, of_channel = stated // len(CHANNELS), (stated % len(CHANNELS)).astype(np.int8)
    is_open = last_ms[of_device] < period_ms[of_device]
    of_device, of_channel = of_device[is_open], of_channel[is_open]
    return of_device, last_ms[of_device], of_channel, np.full(len(of_device), np.nan, dtype=np.float32)


def _fact_of_devices(rows: pa.Table, name: str, names: npt.NDArray[np.object_], begins: IntArray) -> npt.NDArray[Any]:
    """The first value each device's rows state, None or NaN where none does."""
    is_text = name == "model"
    if name not in rows.column_names:
        return np.full(len(names), None, dtype=object) if is_text else np.full(len(names), np.nan, dtype=np.float32)
    column = rows.column(name)
    known = np.append(np.flatnonzero(column.is_valid().to_numpy()), rows.num_rows)
    first = known[np.searchsorted(known[:-1], begins[:-1])]
    row = pa.array(first, mask=first >= begins[1:])
    values = column.take(row)
    if is_text:
        return np.array(values.to_pylist(), dtype=object)
    return np.asarray(values.to_numpy(), dtype=np.float32)
