"""The engine's tables beside those of the independent simulator; the first difference in one line."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsim.errors import SimulationError
from fedsim.schema import OUTCOMES
from tests.alone.gauges import gauges_of
from tests.alone.phone import US
from tests.alone.server import Buffered, Disagreement, Server, Session, Sync, played_alone
from tests.alone.setups import Setup, engine_of, setup_of
from tests.alone.trip import DOWNLOAD, TRAINING, UPLOAD
from tests.build import Tables, played

Rows = list[dict[str, Any]]
_CLOSE = 1e-9  # relative, for what is no instant and no count


def differences(seed: int, **changes: Any) -> list[str]:
    """One line for every table in which engine and simulator disagree on set-up ``seed``, its first difference."""
    setup = setup_of(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = played(engine_of(setup, **changes), Path(folder))
        except SimulationError as error:
            return [f"{_name(setup)}: {line}" for line in _refused(setup, error)]
    try:
        server = played_alone(setup, run.sessions)
    except Disagreement as wrong:
        return [f"{_name(setup)}: {wrong}"]
    found = (next(lines, None) for lines in _compared(run, server))
    return [f"{_name(setup)}: {line}" for line in found if line]


def _name(setup: Setup) -> str:
    return f"set-up {setup.seed} ({setup.protocol}, {setup.interruption})"


def _refused(setup: Setup, error: SimulationError) -> list[str]:
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
    yield _rows("gauges", run.gauges.to_pylist(), gauges_of(server))
    yield _rows("summary", [dict(run.summary)], [_summary(server)])


def _rows(table: str, engine: Rows, alone: Rows) -> Iterator[str]:
    """All differences of one table, in the columns that the simulator has."""
    if len(engine) != len(alone):
        yield f"{table}: engine has {len(engine)} rows, simulator {len(alone)}"
    for number, (said, computed) in enumerate(zip(engine, alone, strict=False)):
        for column, value in computed.items():
            if column in said and not _same(column, said[column], value):
                shown = value / US if _is_instant(column) and value is not None else value
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
    if column.endswith("_bytes"):  # the simulator's are not rounded: half a byte may fall either way
        return abs(said - computed) <= 0.5 + 1e-6
    if column == "total_bytes":
        return True
    if isinstance(computed, float):
        absolute = 1e-5 if column.startswith("battery") else 1e-9  # batteries are float32 in the table
        return math.isclose(said, computed, rel_tol=_CLOSE, abs_tol=absolute)
    return bool(said == computed)


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
        "download_bytes": used.n_bytes[0],
        "upload_bytes": used.n_bytes[1],
        "download_j": used.joules[0],
        "compute_j": used.joules[1],
        "upload_j": used.joules[2],
        "battery_start_percent": None if limits is None else trip.level,
        "battery_used_percent": None if limits is None else used.total_j / limits.capacity_wh / 36,
    }


def _step_rows(server: Server) -> Rows:
    return [
        {
            "step": number,
            "version": step.version,
            "started_at": step.started_at,
            "closed_at": step.closed_at,
            "is_committed": step.is_committed,
            "n_assigned": step.n_assigned,
            "n_aggregated": len(step.staleness),
            "mean_staleness": sum(step.staleness) / len(step.staleness) if step.staleness else None,
        }
        for number, step in enumerate(server.steps)
    ]


def _summary(server: Server) -> dict[str, Any]:
    sessions, n_steps = server.sessions, sum(step.is_committed for step in server.steps)
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
