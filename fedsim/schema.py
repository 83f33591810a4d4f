"""The tables fedsim reads and writes: every column with its type, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fedsim.errors import InputError


@dataclass(frozen=True)
class Column:
    """One column: name (which carries the unit), Arrow type, meaning, whether it may be null, or absent altogether."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    optional: bool = False  # a file without the column is read as one where it is null throughout


@dataclass(frozen=True)
class Table:
    """A documented table."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    def arrow(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def check(self, table: pa.Table, *, where: Path | str, columns: list[str] | None = None) -> pa.Table:
        """The table with this schema's columns and types, or an :class:`InputError` naming the field.

        Optional columns that the table lacks are null throughout.
        """
        wanted = [c for c in self.columns if columns is None or c.name in columns]
        arrays = [self._column(table, column, where) for column in wanted]
        return pa.table(arrays, names=[c.name for c in wanted])

    def _column(self, table: pa.Table, column: Column, where: Path | str) -> pa.ChunkedArray:
        if column.name not in table.column_names:
            if column.optional:
                return pa.chunked_array([pa.nulls(table.num_rows, column.type)])
            raise InputError(f"column {column.name!r} is missing", where=where, allowed=column.meaning)
        if table.column_names.count(column.name) > 1:
            raise InputError(f"column {column.name!r} is there twice", where=where)
        values = table.column(column.name)
        wrong = f"column {column.name!r} has type {values.type}"
        try:
            values = values.cast(column.type)
        except pa.ArrowInvalid as error:
            row = _first_refused(values, column.type)
            wrong += f" and does not fit at row {row}"
            raise InputError(wrong, value=values[row].as_py(), where=where, allowed=column.type) from error
        except pa.ArrowException as error:
            raise InputError(wrong, where=where, allowed=column.type) from error
        if values.null_count and not column.nullable:
            row = values.is_null().to_pylist().index(True)
            raise InputError(f"column {column.name!r} is empty at row {row}", where=where)
        return values


def _first_refused(values: pa.ChunkedArray, kind: pa.DataType) -> int:
    """The first row whose value cannot be cast, by bisection."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


_I32, _I64, _F32, _F64, _STR = pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()


def _fact(name: str, kind: pa.DataType, meaning: str) -> Column:
    return Column(name, kind, meaning, nullable=True, optional=True)


CHANNELS = ("available", "network", "charging", "screen", "locked", "battery")
NETWORKS = ("none", "wifi", "2g", "3g", "4g", "5g")
CLOCKS = ("local", "relative")
LATENCY_SOURCES = ("measured", "suspect", "trend", "score", "drawn")
OUTCOMES = ("AGGREGATED", "LATE", "STALE", "ABORTED", "INTERRUPTED", "TIMEOUT", "FAILED", "OPEN")

TRACE_DEVICES = Table(
    "devices",
    "one row per base trace, in the order of the events' `device`",
    (
        Column("device_id", _STR, "identifier in the source"),
        Column("start_ms", _I64, "first instant, ms since the set's own first midnight"),
        Column("period_ms", _I64, "length after which the trace repeats; whole days if clock is local"),
        Column("clock", _STR, "local (start_ms is local wall time) or relative (hour of day unknown)"),
        Column("model", _STR, "device model code", True),
        Column("ram_gb", _F32, "memory", True),
        Column("os_version", _F32, "major version of the operating system", True),
    ),
)
TRACE_EVENTS = Table(
    "events",
    "change log: a value holds until the channel's next event; sorted by device, at_ms, file order",
    (
        Column("device", _I32, "row of `devices`"),
        Column("at_ms", _I64, "ms since the trace's first instant, 0 … period_ms"),
        Column("channel", pa.int8(), "index into " + " ".join(CHANNELS)),
        Column("value", _F32, "0/1, battery %, network as index into " + " ".join(NETWORKS) + "; null = unknown", True),
        Column("is_sentinel", pa.bool_(), "written by the recorder to close a log: not behaviour, ignored by rules"),
    ),
)
HARDWARE = Table(
    "hardware",
    "device classes that a fleet's devices are drawn from",
    (
        Column("model", _STR, "device model", True),
        Column("weight", _F64, "relative share of the population"),
        Column("inference_ms_per_sample", _F64, "inference latency of the benchmark model"),
        Column("bytes_per_s", _F64, "network speed towards the phone on wifi", True),
        Column("ram_gb", _F32, "memory", True),
        _fact("market_name", _STR, "name the model is sold under"),
        _fact("soc", _STR, "system on a chip"),
        _fact("year", pa.int16(), "year the model came out"),
        _fact("os_version", _F32, "version of the operating system"),
        _fact("cpu_score", _F64, "score of the source's CPU float benchmark; higher is faster"),
        _fact("compute_w", _F64, "power of training on top of idle"),
        _fact("latency_source", _STR, "how inference_ms_per_sample is known: " + ", ".join(LATENCY_SOURCES)),
    ),
)
LINKS = Table(
    "links",
    "bandwidth over time: segments of constant rate; a trace plays again after its last segment",
    (
        Column("network", pa.int8(), "index into " + " ".join(NETWORKS)),
        Column("trace", _STR, "one recording; its segments stand together, in order of time"),
        Column("scenario", _STR, "how the phone moved, in the source's words", True),
        Column("at_ms", _I64, "ms since the recording's first instant; what lies between segments was not measured"),
        Column("duration_ms", _I64, "how long the rate holds"),
        Column("down_bytes_per_s", _F64, "capacity towards the phone; null = not measured", True),
        Column("up_bytes_per_s", _F64, "capacity from the phone; null = not measured", True),
        Column("rtt_ms", _F32, "round trip time; null = not measured", True),
    ),
)
LEVELS = Table(
    "levels",
    "bandwidth over phones: mean and spread of one phone's rates",
    (
        Column("network", pa.int8(), "index into " + " ".join(NETWORKS)),
        Column("device_id", _STR, "phone in the source"),
        Column("down_bytes_per_s", _F64, "mean rate towards the phone"),
        Column("down_sd_bytes_per_s", _F64, "standard deviation over time"),
        Column("up_bytes_per_s", _F64, "mean rate from the phone"),
        Column("up_sd_bytes_per_s", _F64, "standard deviation over time"),
    ),
)
PROFILES = Table(
    "profiles",
    "measured cost of one step of computation on a device",
    (
        Column("device", _STR, "device model"),
        Column("op", _STR, "layer or model that was run"),
        Column("kind", _STR, "train_step (forward, backward, update) or inference"),
        Column("batch_size", _I32, "samples in the step"),
        Column("in_size", _I32, "input width; of an embedding, its vocabulary", True),
        Column("out_size", _I32, "output width", True),
        Column("seq_len", _I32, "steps of the sequence; null if there is none", True),
        Column("step_s", _F64, "duration of the step"),
        _fact("peak_bytes", _I64, "peak memory of the process above its idle state"),
        _fact("n_threads", _I32, "threads used"),
    ),
)

SESSIONS = Table(
    "sessions",
    "one row per session: the trip of one device from assignment to its end",
    (
        Column("session_id", _I64, "number in order of assignment"),
        Column("device_id", _I64, "device in the fleet"),
        Column("base_trace", _I32, "row of the trace set's `devices`"),
        Column("client_id", _I64, "client whose data the device holds"),
        Column("participation", _I32, "sessions this device started before this one"),
        Column("version", _I64, "model version downloaded"),
        Column("network", pa.int8(), "network at assignment, index into " + " ".join(NETWORKS)),
        Column("upload_network", pa.int8(), "network at which the upload began; null if it did not", True),
        Column("region", pa.int8(), "where the device is: index into `regions` of summary.json"),
        Column("phone_row", _I32, "row of the hardware table; null where phones are not rows of one", True),
        Column("inference_ms", _F32, "inference latency of the phone, which tells tiers; null if not modelled", True),
        Column("n_examples", _I64, "training examples held"),
        Column("assigned_at", _F64, "instant of assignment, s"),
        Column("download_end_at", _F64, "instant the download ended, s; null if never", True),
        Column("train_end_at", _F64, "instant local training ended, s; null if never", True),
        Column("upload_end_at", _F64, "instant the upload ended, s; null if never", True),
        Column("ingest_start_at", _F64, "instant a worker of the aggregator took the report, s; null if never", True),
        Column("ingested_at", _F64, "instant the aggregator had ingested the report, s; null if never", True),
        Column("end_at", _F64, "instant the session ended, s"),
        Column("outcome", pa.int8(), "index into " + " ".join(OUTCOMES)),
        Column("staleness", _I64, "server version when aggregated or refused as stale − version; null otherwise", True),
        Column("weight", _F64, "share of the update in its server step; null if not aggregated", True),
        Column("compute_s", _F64, "seconds of set-up and local training done"),
        _fact(
            "trained_fraction",
            _F64,
            "examples visited in training ÷ those of the whole local work: below 1 where `max_s` or a departure under "
            "`partial_work` cut it; null if training did not end",
        ),
        Column(
            "download_wait_s", _F64, "seconds of the download in which no radio worked; null if it did not end", True
        ),
        Column("upload_wait_s", _F64, "seconds of the upload in which no radio worked; null if it did not end", True),
        Column("download_bytes", _I64, "bytes received"),
        Column("assets_bytes", _I64, "of them assets; of a cut download in proportion"),
        Column("shipped_bytes", _I64, "of them features of its examples, likewise"),
        Column("plan_bytes", _I64, "of them the training plan, likewise; the rest is the model"),
        Column("upload_bytes", _I64, "bytes sent"),
        Column("download_j", _F64, "energy of the download"),
        Column("compute_j", _F64, "energy of local training"),
        Column("upload_j", _F64, "energy of the upload"),
        Column("battery_start_percent", _F32, "battery level at assignment; null without a battery model", True),
        Column("battery_used_percent", _F32, "share of a full battery used; null without a battery model", True),
    ),
)
STEPS = Table(
    "steps",
    "one row per server step (a committed round, or a full buffer) and per abandoned round",
    (
        Column("step", _I64, "number in order of time"),
        Column("version", _I64, "model version after the step"),
        Column(
            "opened_at", _F64, "instant since when devices were sought (sync) or the buffer was empty (buffered), s"
        ),
        Column("started_at", _F64, "round start (sync) or first update of the buffer (buffered), s"),
        Column("closed_at", _F64, "instant the last update was aggregated, s"),
        Column("published_at", _F64, "instant from which devices download the version, s; null if there is none", True),
        Column("is_committed", pa.bool_(), "false for a round abandoned below its quorum"),
        Column("n_assigned", _I64, "cohort (sync); sessions assigned since the last step (buffered)"),
        Column("n_aggregated", _I64, "updates aggregated"),
        Column("mean_staleness", _F64, "mean staleness of the updates; null if none", True),
        Column("train_loss", _F64, "example-weighted mean local loss; null without training", True),
        Column("update_norm", _F64, "Euclidean norm of the aggregated update; null without training", True),
    ),
)
EVALS = Table(
    "evals",
    "held-out metrics, long format",
    (
        Column("at", _F64, "simulated instant, s"),
        Column("version", _I64, "model version evaluated"),
        Column("metric", _STR, "name"),
        Column("value", _F64, "value"),
    ),
)
GROUPS = Table(
    "groups",
    "held-out metrics of the last model by groups of phones, where evaluation.groups asks for them",
    (
        Column("at", _F64, "simulated instant, s"),
        Column("version", _I64, "model version evaluated"),
        Column("grouping", _STR, "respect in which the phones of a group are alike: tier, region, activity, size ..."),
        Column("group", _STR, "name of the group"),
        Column("n_devices", _I64, "devices of the group among those drawn from the fleet"),
        Column("n_examples", _I64, "held-out examples of their clients, as often as devices hold them"),
        Column("metric", _STR, "name"),
        Column("value", _F64, "value; null where it is not defined for these examples", nullable=True),
        Column("central_value", _F64, "the same of the central baseline; null without one", nullable=True),
    ),
)
GAUGES = Table(
    "gauges",
    "one row per interval of simulated time, the last one cut at the run's end: exact means and maxima over it",
    (
        Column("at", _F64, "start of the interval, s"),
        Column("until", _F64, "end of the interval, s"),
        Column("eligible_fraction_mean", _F64, "expected share of the fleet that is eligible"),
        Column("in_flight_mean", _F64, "devices in a session"),
        Column("in_flight_max", _I64, "most devices in a session at once"),
        Column("waiting_mean", _F64, "reports waiting for an aggregator worker"),
        Column("waiting_max", _I64, "most reports waiting at once"),
        Column("download_bytes_per_s_mean", _F64, "bytes received by devices ÷ length of the interval"),
        Column("download_bytes_per_s_max", _F64, "highest rate, each download spread evenly over its time"),
        Column("upload_bytes_per_s_mean", _F64, "bytes sent by devices ÷ length of the interval"),
        Column("upload_bytes_per_s_max", _F64, "highest rate, each upload spread evenly over its time"),
        Column("free_eligible_mean", _F64, "expected number of eligible devices − eligible devices in a session"),
        Column("free_eligible_max", _F64, "highest such difference"),
        Column("version", _I64, "server version at the start of the interval"),
    ),
)
ELIGIBILITY = Table(
    "eligibility",
    "who could be asked in the first simulated week, whether the run lasted that long or not",
    (
        Column("at", _F64, "instant, s"),
        Column("eligible_fraction", _F64, "expected share of the fleet that is eligible"),
        Column("admitted_fraction", _F64, "of the fleet, also let in by requirements, roll-out and holders of data"),
        _fact(
            "openings_per_device", _F64, "windows of eligibility that open until the next row, ÷ devices of the fleet"
        ),
    ),
)

COMPARISON = Table(
    "compare",
    "one row per measure and arm: what the arm came to, and how it differs from the arm it is held against",
    (
        Column("measure", _STR, "what is compared"),
        Column("unit", _STR, "fraction, s, h, bytes, kWh, count or number"),
        Column("better", _STR, "higher or lower; null: neither is better", True),
        Column("arm", _STR, "what tells the arm from the others"),
        Column("seeds", pa.list_(_I64), "seeds of its runs"),
        Column("n_runs", _I64, "runs that measured it"),
        Column("n_reached", _I64, "of them those that reached it; the others ended before, which bounds it from below"),
        Column("center", _F64, "mean over the runs, or their median (method median; inf: not reached)", True),
        Column("low", _F64, "lower end of the 95 % interval; null: cannot be known", True),
        Column("high", _F64, "upper end of the 95 % interval; null: cannot be known; inf: beyond the runs' ends", True),
        Column("method", _STR, "of the interval: t, bootstrap, median (order statistics) or none"),
        Column("against", _STR, "the arm that it is held against; null: it is that one", True),
        Column(
            "n_pairs",
            _I64,
            "seeds that both have, of signs those that tell; unpaired: the runs of the smaller arm",
            True,
        ),
        Column("difference", _F64, "mean of arm − against", True),
        Column("difference_low", _F64, "lower end of its 95 % interval", True),
        Column("difference_high", _F64, "upper end of its 95 % interval", True),
        Column(
            "difference_method", _STR, "t or bootstrap of pairs, welch (no seeds in common), signs of pairs, none", True
        ),
        Column("p_value", _F64, "of the hypothesis that there is no difference", True),
        Column("verdict", _STR, "better, worse, higher, lower, equal, cannot be told or not measured", True),
        Column(
            "n_seeds_needed", _I64, "seeds that would tell such a difference with a chance of 80 %; 1001: more", True
        ),
    ),
)

RUN_SCHEMA = 3  # of the files of a run; it goes up when a reader of the former ones would misread them
RUN_TABLES = (SESSIONS, STEPS, EVALS, GROUPS, GAUGES, ELIGIBILITY)
TRACE_TABLES = (TRACE_DEVICES, TRACE_EVENTS, HARDWARE)
MEASUREMENT_TABLES = (LINKS, LEVELS, PROFILES)
RESULT_TABLES = (COMPARISON,)


def describe(table: Table) -> str:
    """A Markdown table that documents the columns."""
    rows = [f"| `{c.name}` | {c.type} | {c.meaning} |" for c in table.columns]
    head = [f"**{table.name}**: {table.meaning}", "", "| column | type | meaning |", "| --- | --- | --- |"]
    return "\n".join([*head, *rows])
