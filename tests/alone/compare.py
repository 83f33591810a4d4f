"""The engine's tables beside those of the independent simulator; the first difference in one line."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import SimulationError
from fedsim.schema import OUTCOMES
from tests.alone.gauges import flow_of, gauges_of
from tests.alone.phone import US
from tests.alone.server import Buffered, Disagreement, Server, Session, Sync, played_alone
from tests.alone.setups import Setup, engine_of, setup_of
from tests.alone.trip import DOWNLOAD, TRAINING, UPLOAD
from tests.build import Tables, played

Rows = list[dict[str, Any]]
_CLOSE = 1e-9  # relative, for what is no instant and no count


@dataclass(frozen=True)
class Near:
    """A number that the table has rounded, and by how much that may be off."""

    value: float
    slack: float


def differences(seed: int, **changes: Any) -> list[str]:
    """One line for every table in which engine and simulator disagree on set-up ``seed``, its first difference."""
    setup = setup_of(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = played(engine_of(setup, **changes), Path(folder))
        except SimulationError as error:
            return [f"{_name(setup)}: {line}" for line in _refused(setup, error)]
        except FileNotFoundError:  # no session, no table of sessions
            return [f"{_name(setup)}: {line}" for line in _refused(setup, "nothing")]
    try:
        server = played_alone(setup, run.sessions)
    except Disagreement as wrong:
        return [f"{_name(setup)}: {wrong}"]
    found = (next(lines, None) for lines in _compared(run, server))
    return [f"{_name(setup)}: {line}" for line in found if line]


def _name(setup: Setup) -> str:
    return f"set-up {setup.seed} ({setup.protocol}, {setup.interruption})"


def _refused(setup: Setup, error: object) -> list[str]:
    """A run may refuse to end without a session if there could be none."""
    if setup.protocol == "sync" and len(setup.phones) < Sync(setup, {}).quorum:
        return []
    server = (Sync if setup.protocol == "sync" else Buffered)(setup, {})
    try:
        server.run()
    except Disagreement as wrong:
        return [f"engine says {str(error)!r}, simulator: {wrong}"]
    return []


def _compared(run: Tables, server: Server) -> Iterator[Iterator[str]]:
    yield _rows("sessions", run.sessions.to_pylist(), [_session_row(server, s) for s in server.sessions])
    yield _rows("steps", run.steps.to_pylist(), _step_rows(server))
    yield _rows("evals", run.evals.to_pylist(), [{"at": at, "version": version} for at, version in server.evals])
    yield _rows("gauges", run.gauges.to_pylist(), _gauge_rows(server))
    yield _rows("summary", [dict(run.summary)], [_summary(server)])


def _rows(table: str, engine: Rows, alone: Rows) -> Iterator[str]:
    """All differences of one table, in the columns that the simulator has."""
    if len(engine) != len(alone):
        yield f"{table}: engine has {len(engine)} rows, simulator {len(alone)}"
    for number, (said, computed) in enumerate(zip(engine, alone, strict=False)):
        for column, value in computed.items():
            if column in said and not _same(column, said[column], value):
                shown = value / US if _is_instant(column) and value is not None else getattr(value, "value", value)
                yield f"{table} row {number} {column}: engine says {said[column]!r}, simulator {shown!r}"
            elif column not in said:
                yield f"{table} row {number} {column}: engine has no such column"


def _is_instant(column: str) -> bool:
    return column in ("at", "until", "simulated_s") or column.endswith("_at")


def _same(column: str, said: Any, computed: Any) -> bool:
    if said is None or computed is None:
        return said is computed
    if _is_instant(column):
        return bool(said == computed / US)
    if isinstance(computed, Near):
        return abs(said - computed.value) <= computed.slack + 1e-9
    if isinstance(computed, float):
        return math.isclose(said, computed, rel_tol=_CLOSE, abs_tol=1e-9)
    return bool(said == computed)


def _whole(n_bytes: float) -> Near:
    """Bytes before they are rounded: what is half a byte may fall either way."""
    return Near(n_bytes, 0.5 + 1e-6)


def _single(value: float) -> Near:
    """A number that is float32 in the table."""
    return Near(value, abs(value) * 2.0**-23)


def _session_row(server: Server, session: Session) -> dict[str, Any]:
    trip, used, end = session.trip, session.used, session.end

    def reached(at: float) -> float | None:
        return at if at <= end else None

    limits = server.setup.battery
    is_aborted = session.outcome == "ABORTED"
    return {
        "session_id": session.id,
        "device_id": trip.device,
        "base_trace": trip.device,
        "client_id": session.client,
        "participation": trip.number,
        "version": session.version,
        "network": trip.network,
        "upload_network": trip.upload_network if trip.ends[TRAINING] <= end and not is_aborted else None,
        "region": 0,
        "phone_row": None,
        "n_examples": session.n_examples,
        "assigned_at": trip.at,
        "outcome": OUTCOMES.index(session.outcome),
        "end_at": end,
        "download_end_at": reached(trip.ends[DOWNLOAD]),
        "train_end_at": reached(trip.ends[TRAINING]),
        "upload_end_at": None if is_aborted else reached(trip.ends[UPLOAD]),
        "ingest_start_at": session.ingest_start if math.isfinite(session.ingest_start) else None,
        "ingested_at": session.ingested if math.isfinite(session.ingested) else None,
        "staleness": session.staleness,
        "weight": session.weight,
        "compute_s": used.compute_s,
        "trained_fraction": trip.trained_fraction if trip.ends[TRAINING] <= end else None,
        "download_wait_s": trip.waited_s(DOWNLOAD) if trip.ends[DOWNLOAD] <= end else None,
        "upload_wait_s": trip.waited_s(UPLOAD) if trip.ends[UPLOAD] <= end and not is_aborted else None,
        "download_bytes": _whole(used.n_bytes[0]),
        "upload_bytes": _whole(used.n_bytes[1]),
        "download_j": used.joules[0],
        "compute_j": used.joules[1],
        "upload_j": used.joules[2],
        "battery_start_percent": None if limits is None else _single(trip.level),
        "battery_used_percent": None if limits is None else _single(used.total_j / limits.capacity_wh / 36),
    }


def _step_rows(server: Server) -> Rows:
    return [
        {
            "step": number,
            "version": step.version,
            "opened_at": step.opened_at,
            "started_at": step.started_at,
            "closed_at": step.closed_at,
            "published_at": step.published_at,
            "is_committed": step.published_at is not None,
            "n_assigned": step.n_assigned,
            "n_aggregated": len(step.staleness),
            "mean_staleness": sum(step.staleness) / len(step.staleness) if step.staleness else None,
        }
        for number, step in enumerate(server.steps)
    ]


def _gauge_rows(server: Server) -> Rows:
    """The engine adds up traffic in whole bytes for each session and interval, its rates in thousandths."""
    rows = gauges_of(server)
    transfers = {phase: list(flow_of(server, phase)) for phase in (DOWNLOAD, UPLOAD)}
    for row in rows:
        lasts_s = (row["until"] - row["at"]) / US
        for way, phase in (("download_bytes_per_s", DOWNLOAD), ("upload_bytes_per_s", UPLOAD)):
            legs = [leg for leg in transfers[phase] if leg.start < row["until"] and leg.end > row["at"]]
            # Of a cut transfer half a byte may fall either way, over the whole leg.
            cut = sum(US / (leg.would_end - leg.start) for leg in legs if abs(leg.n_bytes % 1 - 0.5) < 1e-6)
            row[f"{way}_mean"] = Near(row[f"{way}_mean"], 2 * len(legs) / lasts_s)
            row[f"{way}_max"] = Near(row[f"{way}_max"], len(legs) * 0.0005 + cut)
    return rows


def _summary(server: Server) -> dict[str, Any]:
    sessions, n_steps = server.sessions, sum(step.published_at is not None for step in server.steps)
    counts = Counter(session.outcome for session in sessions)
    wasted = [session for session in sessions if session.outcome != "AGGREGATED"]
    return {
        "protocol": server.setup.protocol,
        "simulated_s": server.ended_at,
        "stop_reason": server.stop_reason,
        "n_steps": n_steps,
        "n_abandoned_rounds": len(server.steps) - n_steps,
        "n_versions": server.version,
        "n_sessions": len(sessions),
        "n_devices_touched": len({session.trip.device for session in sessions}),
        "outcomes": {name: counts[name] for name in OUTCOMES},
        "device_h": sum(session.end - session.trip.at for session in sessions) / US / 3600,
        "wasted_device_h": sum(session.end - session.trip.at for session in wasted) / US / 3600,
        "metrics": {"version": float(server.version)},
    }
