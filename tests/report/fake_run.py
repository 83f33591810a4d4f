"""Run directories made by hand or by chance, in the documented format."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.schema import ELIGIBILITY, EVALS, GAUGES, OUTCOMES, RUN_SCHEMA, SESSIONS, STEPS, Table
from fedsim.units import DAY_S, HOUR_S

CONFIG = """\
seed: 3
fleet:
  n_devices: 1000
protocol:
  buffer: 2  # assumed
"""
FULL_CONFIG = """\
seed: 3
stop: {max_steps: null, max_s: 604800, metric: null, metric_at_least: null}
traces: {folder: traces/local/flash100}
fleet: {n_devices: 1000000, is_replay: false, unknown: ineligible}
device:
  interruption: abort
  crash_fraction: 0.02
  session_timeout_s: null
  compute: {_target_: fedsim.device.compute.InferenceCompute, relative_cost: null, fixed_s_per_step: 0.1}
  network:
    _target_: fedsim.device.network.Network
    down_bytes_per_s: {wifi: 674000, 4g: 3600000}
    connect_s: 0.5
  energy: {_target_: fedsim.device.energy.Energy, compute_w: 3.0, receive_w: 1.0, send_w: 1.2}
server:
  _target_: fedsim.server.protocol.buffered.BufferedCoordinator
  concurrency: 130
  buffer_size: 10
  max_staleness: 20
  assignment_interval_s: 1
data: {_target_: fedsim.data.sources.digits.Digits, n_clients: 100, alpha: 1.0, test_fraction: 0.25, seed: 3}
model:
  module: {_target_: fedsim.training.tasks.models.Logistic, n_inputs: 64, n_classes: 10}
  n_parameters: 650
training:
  name: cohort
  loss: cross_entropy
  metrics: [accuracy, log_loss]
  local: {_target_: fedsim.training.local.LocalSgd, learning_rate: 0.1, epochs: 1, batch_size: 10}
  server_optimizer: {_target_: fedsim.training.server_optimizer.FedAvg, learning_rate: 1.0}
"""
PROVENANCE = {
    "commit": "0123abc",
    "seed": 3,
    "wall_s": 12.5,
    "overrides": ["fleet.n_devices=1000", "stop.metric=a b"],
    "data_sha256": "beef" * 16,
    "traces": {
        "folder": "traces/local/flash100",
        "events_sha256": "feed" * 16,
        "provenance": {"source": "FLASH state traces", "licence": "BSD-2-Clause", "files": [{"name": "a.json"}]},
    },
    "versions": {"fedsim-fleet": "0.1.0"},
    "schema": RUN_SCHEMA,
}
DEFAULTS = {
    "client_id": 0,
    "region": 0,
    "assets_bytes": 0,
    "shipped_bytes": 0,
    "plan_bytes": 0,
    "version": 0,
    "network": 1,
    "n_examples": 10,
    "base_trace": 0,
    "participation": 0,
    "compute_s": 0.0,
    "trained_fraction": 1.0,
    "download_bytes": 0,
    "upload_bytes": 0,
    "compute_j": 0.0,
    "download_j": 0.0,
    "upload_j": 0.0,
    "battery_start_percent": None,
    "battery_used_percent": None,
}


def table(schema: Table, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema.arrow())


def session(**row: Any) -> dict[str, Any]:
    """A session row; the outcome by name, columns that are not given get plain values."""
    return {**DEFAULTS, "session_id": 0, "device_id": 0, **row, "outcome": OUTCOMES.index(row["outcome"])}


def summary(sessions: pa.Table, **values: Any) -> dict[str, Any]:
    counts = np.bincount(sessions.column("outcome").to_numpy().astype(np.int64), minlength=len(OUTCOMES))
    return {
        "seed": 3,
        "n_devices": 1000,
        "simulated_s": 4 * HOUR_S,
        "n_steps": 2,
        "n_versions": 2,
        "n_sessions": sessions.num_rows,
        "outcomes": dict(zip(OUTCOMES, counts.tolist(), strict=True)),
        "metrics": {},
        "protocol": "buffered",
        "rule": "charging & network == wifi & locked",
        "n_base_traces": 100,
        "eligible_fraction_mean": 0.059,
        "admitted_fraction_mean": 0.059,
        "stop_reason": "max_steps",
        "n_parameters": 4810,
        "model_bytes": 19240,
        **values,
    }


def write_run(
    folder: Path,
    *,
    sessions: pa.Table,
    steps: pa.Table,
    evals: pa.Table,
    eligibility: pa.Table,
    summary: dict[str, Any],
    n_files: int = 1,
    config: str = CONFIG,
) -> Path:
    (folder / "sessions").mkdir(parents=True)
    edges = [sessions.num_rows * part // n_files for part in range(n_files + 1)]
    for part, (start, stop) in enumerate(pairwise(edges)):
        pq.write_table(sessions.slice(start, stop - start), folder / "sessions" / f"part-{part:05d}.parquet")
    pq.write_table(gauges_of(sessions, summary["simulated_s"]), folder / "gauges.parquet")
    for schema, rows in ((STEPS, steps), (EVALS, evals), (ELIGIBILITY, eligibility)):
        pq.write_table(rows, folder / f"{schema.name}.parquet")
    (folder / "config.yaml").write_text(config)
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def gauges_of(sessions: pa.Table, simulated_s: float) -> pa.Table:
    """One interval whose maximum of devices in flight is that of the sessions; the other columns stand still."""
    starts, ends = (np.sort(sessions.column(name).to_numpy()) for name in ("assigned_at", "end_at"))
    most = int((np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")).max(initial=0))
    row = {column.name: 0 for column in GAUGES.columns}
    row |= {"until": simulated_s, "in_flight_max": most, "download_bytes_per_s_max": 2e6 if most else 0}
    return pa.Table.from_pylist([row], GAUGES.arrow())


HAND_SESSIONS = [
    # 30 min, useful: download 10 min, training 15 min, upload 5 min
    session(
        session_id=0, device_id=7, assigned_at=0.0, download_end_at=600.0, train_end_at=1500.0, upload_end_at=1800.0,
        end_at=1800.0, outcome="AGGREGATED", staleness=0, weight=0.5, compute_s=900.0, download_bytes=6000,
        upload_bytes=3000, compute_j=90.0, download_j=6.0, upload_j=4.0,
        battery_start_percent=100.0, battery_used_percent=0.5,
    ),
    # an hour across two hours, useful, stale by 1; waits 10 min for the server
    session(
        session_id=1, device_id=8, base_trace=1, assigned_at=1800.0, download_end_at=2400.0, train_end_at=4200.0,
        upload_end_at=4800.0, end_at=5400.0, outcome="AGGREGATED", staleness=1, weight=0.5, compute_s=1800.0,
        download_bytes=6000, upload_bytes=3000, compute_j=180.0, download_j=12.0, upload_j=8.0,
        battery_start_percent=18.0, battery_used_percent=1.0,
    ),
    # the first device again, interrupted in training, 15 min
    session(
        session_id=2, device_id=7, participation=1, base_trace=1, assigned_at=6300.0, download_end_at=6600.0,
        end_at=7200.0, outcome="INTERRUPTED", compute_s=600.0, download_bytes=6000, compute_j=60.0, download_j=5.0,
        network=4, battery_start_percent=55.5, battery_used_percent=0.25,
    ),
    # interrupted in the middle of the download, 15 min over an hour's edge
    session(
        session_id=3, device_id=9, assigned_at=10350.0, end_at=11250.0, outcome="INTERRUPTED",
        download_bytes=3000, download_j=5.0, network=4,
    ),
    # refused as stale, 60 min; nothing else in the last hour
    session(
        session_id=4, device_id=7, participation=2, assigned_at=10800.0, download_end_at=10800.0, train_end_at=10800.0,
        upload_end_at=14400.0, end_at=14400.0, outcome="STALE", staleness=4, upload_bytes=3600, upload_j=30.0,
    ),
]  # fmt: skip
HAND_STEPS = [
    {"step": 0, "version": 1, "opened_at": 0.0, "started_at": 600.0, "closed_at": 1800.0,
     "is_committed": True, "n_assigned": 1, "n_aggregated": 1, "mean_staleness": 0.0},
    {"step": 1, "version": 1, "opened_at": 1800.0, "started_at": 1800.0, "closed_at": 3600.0,
     "is_committed": False, "n_assigned": 1, "n_aggregated": 0},
    {"step": 2, "version": 2, "opened_at": 3600.0, "started_at": 3600.0, "closed_at": 5400.0,
     "is_committed": True, "n_assigned": 1, "n_aggregated": 1, "mean_staleness": 1.0},
]  # fmt: skip
HAND_EVALS = [
    {"at": at, "version": version, "metric": metric, "value": value}
    for at, version, accuracy, loss in ((0.0, 0, 0.1, 2.3), (1800.0, 1, 0.5, 1.5), (5400.0, 2, 0.9, 0.4))
    for metric, value in (("log_loss", loss), ("accuracy", accuracy))
]
HAND_ELIGIBILITY = [
    {"at": hour * 3600.0, "eligible_fraction": 3 * share, "admitted_fraction": share}
    for hour, share in ((0, 0.08), (1, 0.06), (3, 0.04), (24, 0.10))
]


def hand_made(folder: Path, *, n_files: int = 1, **summary_values: Any) -> Path:
    """Five sessions whose numbers a reader can check in the head."""
    sessions = table(SESSIONS, HAND_SESSIONS)
    values = {"metrics": {"accuracy": 0.9, "log_loss": 0.4}, "central_metrics": {"accuracy": 0.95}, **summary_values}
    return write_run(
        folder,
        sessions=sessions,
        steps=table(STEPS, HAND_STEPS),
        evals=table(EVALS, HAND_EVALS),
        eligibility=table(ELIGIBILITY, HAND_ELIGIBILITY),
        summary=summary(sessions, **values),
        n_files=n_files,
    )


def without_training(folder: Path, **summary_values: Any) -> Path:
    """The hand-made sessions of a run that trained nothing, evaluated nothing and knew no energy."""
    free = {"compute_j": 0.0, "download_j": 0.0, "upload_j": 0.0}
    free |= {"battery_start_percent": None, "battery_used_percent": None}
    sessions = table(SESSIONS, [{**row, **free} for row in HAND_SESSIONS])
    return write_run(
        folder,
        sessions=sessions,
        steps=table(STEPS, HAND_STEPS),
        evals=table(EVALS, []),
        eligibility=table(ELIGIBILITY, HAND_ELIGIBILITY),
        summary=summary(sessions, n_parameters=None, **summary_values),
    )


def without_sessions(folder: Path, **summary_values: Any) -> Path:
    """A run that ended before any device was assigned."""
    sessions = table(SESSIONS, [])
    values = {"n_steps": 0, "n_versions": 0, "stop_reason": "max_s", **summary_values}
    return write_run(
        folder,
        sessions=sessions,
        steps=table(STEPS, []),
        evals=table(EVALS, []),
        eligibility=table(ELIGIBILITY, []),
        summary=summary(sessions, **values),
    )


def random_run(
    folder: Path, *, n: int = 200_000, days: float = 7.0, protocol: str = "buffered", seed: int = 0, n_files: int = 3
) -> Path:
    """A week of a fleet with a daily rhythm; nothing in it was simulated, it only looks like a run."""
    rng = np.random.default_rng(seed)
    horizon = days * DAY_S
    assigned = _rhythmic_instants(rng, n, horizon)
    columns = _random_sessions(rng, assigned, horizon, protocol)
    sessions = pa.table(columns).select([c.name for c in SESSIONS.columns]).cast(SESSIONS.arrow())
    steps = _random_steps(rng, sessions, protocol)
    evals, metrics = _random_evals(rng, steps)
    at = np.arange(0, 7 * DAY_S, 600.0)
    share = np.clip(_rhythm(at) + rng.normal(0, 0.0015, len(at)), 0, 1)
    return write_run(
        folder,
        sessions=sessions,
        steps=steps,
        evals=evals,
        eligibility=pa.table(
            {"at": at, "eligible_fraction": share, "admitted_fraction": share, "openings_per_device": share / 20}
        ).cast(ELIGIBILITY.arrow()),
        summary=summary(
            sessions,
            n_devices=1_000_000,
            simulated_s=horizon,
            n_steps=steps.num_rows,
            n_versions=steps.num_rows,
            protocol=protocol,
            metrics=metrics,
            central_metrics={"accuracy": 0.972, "log_loss": 0.11},
            eligible_fraction_mean=float(share.mean()),
            admitted_fraction_mean=float(share.mean()),
        ),
        n_files=n_files,
        config=FULL_CONFIG,
    )


def _rhythm(at: np.ndarray) -> np.ndarray:
    return 0.058 + 0.025 * np.cos(2 * np.pi * (at / HOUR_S - 2) / 24)


def _rhythmic_instants(rng: np.random.Generator, n: int, horizon: float) -> np.ndarray:
    grid = np.linspace(0, horizon, 5000)
    law = np.cumsum(_rhythm(grid))
    return np.sort(np.interp(rng.uniform(law[0], law[-1], n), law, grid))


def _random_sessions(
    rng: np.random.Generator, assigned: np.ndarray, horizon: float, protocol: str
) -> dict[str, np.ndarray | pa.Array]:
    n = len(assigned)
    download_end = assigned + rng.lognormal(1.5, 0.6, n)
    train_end = download_end + rng.lognormal(3.6, 0.9, n)
    upload_end = train_end + rng.lognormal(2.2, 0.7, n)
    shares = (
        [0.74, 0.14, 0, 0.05, 0.05, 0.01, 0.01, 0] if protocol == "sync" else [0.88, 0, 0.02, 0, 0.08, 0.01, 0.01, 0]
    )
    outcome = rng.choice(len(OUTCOMES), n, p=shares)
    left = assigned + rng.uniform(0, 1, n) * (train_end - assigned)
    end = np.minimum(np.where(outcome >= OUTCOMES.index("ABORTED"), left, upload_end), horizon)
    outcome[(end == horizon) & (outcome == 0)] = OUTCOMES.index("ABORTED")
    staleness = np.where(outcome == OUTCOMES.index("STALE"), 21, rng.poisson(4, n))
    has_staleness = np.isin(outcome, (0, OUTCOMES.index("STALE")))
    device = rng.integers(0, 120_000, n)
    size = 1_200_000
    reached = {
        "download_end_at": download_end, "train_end_at": train_end, "upload_end_at": upload_end,
        "ingest_start_at": upload_end, "ingested_at": upload_end,
    }  # fmt: skip
    return {
        "session_id": np.arange(n),
        "device_id": device,
        "base_trace": device % 100,
        "client_id": device,
        "participation": _nth_occurrence(device),
        "version": np.zeros(n),
        "network": rng.choice([1, 4], n, p=[0.9, 0.1]),
        "upload_network": pa.array(np.ones(n), mask=train_end > end),
        "region": np.zeros(n),
        "phone_row": pa.nulls(n),
        "inference_ms": pa.nulls(n),
        "download_wait_s": pa.array(np.zeros(n), mask=download_end > end),
        "upload_wait_s": pa.array(np.zeros(n), mask=upload_end > end),
        **{f"{kind}_bytes": np.zeros(n) for kind in ("assets", "shipped", "plan")},
        "n_examples": rng.integers(5, 200, n),
        "assigned_at": assigned,
        **{name: pa.array(at, mask=at > end) for name, at in reached.items()},
        "end_at": end,
        "outcome": outcome,
        "staleness": pa.array(staleness, mask=~has_staleness),
        "weight": pa.array(np.full(n, 0.01), mask=outcome != 0),
        "compute_s": np.clip(end - download_end, 0, train_end - download_end),
        "trained_fraction": pa.array(np.ones(n), mask=train_end > end),
        "download_bytes": np.rint(size * np.clip((end - assigned) / (download_end - assigned), 0, 1)),
        "upload_bytes": np.rint(size * np.clip((end - train_end) / (upload_end - train_end), 0, 1)),
        "compute_j": 2.5 * np.clip(end - download_end, 0, train_end - download_end),
        "download_j": 0.8 * np.clip(end - assigned, 0, download_end - assigned),
        "upload_j": 1.2 * np.clip(end - train_end, 0, upload_end - train_end),
        "battery_start_percent": rng.uniform(15, 100, n),
        "battery_used_percent": rng.lognormal(-3.0, 0.6, n),
    }


def _nth_occurrence(values: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(values)])
    nth = np.empty(len(values), dtype=np.int64)
    nth[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return nth


def _random_steps(rng: np.random.Generator, sessions: pa.Table, protocol: str) -> pa.Table:
    end = np.sort(sessions.column("end_at").to_numpy()[sessions.column("outcome").to_numpy() == 0])
    closed = end[99::100]
    n = len(closed)
    gap = np.diff(closed, prepend=0.0)
    is_committed = np.ones(n, dtype=bool) if protocol == "buffered" else rng.uniform(size=n) > 0.01
    columns = {
        "step": np.arange(n),
        "version": np.cumsum(is_committed),
        "opened_at": closed - gap,
        "started_at": closed - gap * rng.uniform(0.7, 1.0, n),
        "closed_at": closed,
        "published_at": closed,
        "is_committed": is_committed,
        "n_assigned": np.full(n, 130),
        "n_aggregated": np.full(n, 100),
        "mean_staleness": rng.normal(4, 0.2, n),
        "train_loss": 2.3 * np.exp(-np.arange(n) / 300) + 0.1,
        "update_norm": np.ones(n),
    }
    return pa.table(columns).cast(STEPS.arrow())


def _random_evals(rng: np.random.Generator, steps: pa.Table) -> tuple[pa.Table, dict[str, float]]:
    at = np.r_[0.0, steps.column("closed_at").to_numpy()[19::20]]
    version = np.arange(len(at)) * 20
    progress = 1 - np.exp(-version / 250)
    curves = {
        "accuracy": np.clip(0.1 + 0.865 * progress + rng.normal(0, 0.004, len(at)), 0, 1),
        "log_loss": 2.3 - 2.15 * progress + rng.normal(0, 0.01, len(at)),
    }
    parts = [
        pa.table({"at": at, "version": version, "metric": [name] * len(at), "value": value}).cast(EVALS.arrow())
        for name, value in curves.items()
    ]
    return pa.concat_tables(parts), {name: float(value[-1]) for name, value in curves.items()}
