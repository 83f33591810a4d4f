"""fedsim plays an arm of a peer: what ``fedsim run`` would with the overrides below."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fedsim
from fedsim.config.compose import composed
from fedsim.config.simulation import build_simulation
from fedsim.traces.importers.fedscale import import_fedscale

Arm = dict[str, Any]
Answers = dict[str, list[Any]]

HERE = Path(__file__).parent
KBIT_BYTES = 128  # FedScale's kbit has 1024 bits
FLOAT_BYTES = 4
LONG_S = 1_000_000  # windows of phones that are always there
END_OF_COHORT = -1

# What every arm asks for: no spread, no crash, no cost that a peer does not know; a phone per row and per trace.
COMMON = (
    "training=none", "data=clicks", "data.n_clients=1", "data.examples_median=1000", "data.max_examples=1000",
    "data.examples_sigma=0", "fleet.is_replay=true", "fleet.rule=available", "fleet/hardware=table",
    "fleet.hardware.match=row", "device/compute=inference", "device.compute.relative_cost=1",
    "device.compute.latencies_per_layer=0", "device.compute.session_sigma=0", "device/network=symmetric",
    "device.crash_fraction=0", "device.setup_s=0", "device.session_timeout_s=null", "model=clicks",
    "training.loss=binary_cross_entropy", "evaluation.every_steps=null", f"hydra.searchpath=[{HERE / 'configs'}]",
    "stop.max_s=100000",
)  # fmt: skip
# APPFL's phones are always there. FedScale asks at both ends of a session whether its client is active.
ALWAYS_THERE = ("device.interruption=abort",)
ASKED_AT_THE_END = ("device.interruption=ignore", "fleet.window_end=closed")
# A round begins with whoever is there, and the next one at its close.
ROUNDS = (
    "server=sync", "server/selector=picks", "server.selection_timeout_s=0", "server.server_step_s=0",
    "server.weighting=uniform", "server.stragglers=free",
)  # fmt: skip
# A device is assigned in the microsecond in which another one's session ends.
BUFFERED = (
    "server=buffered", "server/selector=picks", "server.assignment_interval_s=0.000001",
    "server.staleness_weight=inverse_sqrt", "server.divisor=buffer_size", "server.weighting=uniform",
    "server.max_staleness=1000000", "server.server_step_s=0",
)  # fmt: skip


def phones(arm: Arm, folder: Path) -> tuple[str, ...]:
    """Write the arm's devices as FedScale's two files, import them; the overrides that name them and their work."""
    if arm["peer"] == "appfl":
        per_sample_s = arm["step_s"] / 3  # one sample a step; three inferences a sample
        ms = [1000 * per_sample_s * device["factor"] for device in arm["devices"]]
        bytes_per_s = [device["mbit_per_s"] * 1e6 / 8 for device in arm["devices"]]
        always = {"duration": LONG_S, "active": [0], "inactive": [LONG_S], "finish_time": LONG_S, "model": "any"}
        traces, batch_size, model_bytes = [always] * len(ms), 1, arm["model_bytes"]
    else:
        ms = [device["ms_per_sample"] for device in arm["devices"]]
        bytes_per_s = [device["kbit_per_s"] * KBIT_BYTES for device in arm["devices"]]
        traces, batch_size, model_bytes = arm["traces"], arm["batch_size"], arm["model_kbit"] * KBIT_BYTES
    capacity = [{"computation": c, "communication": b / KBIT_BYTES} for c, b in zip(ms, bytes_per_s, strict=True)]
    folder.mkdir(parents=True)
    for name, entries in (("client_behave_trace", traces), ("client_device_capacity", capacity)):
        (folder / name).write_bytes(pickle.dumps(dict(enumerate(entries))))
    import_fedscale(folder, folder / "traces")
    return (
        f"traces.folder={folder / 'traces'}",
        f"fleet.n_devices={len(ms)}",
        f"training.local.local_steps={arm['local_steps']}",
        f"training.local.batch_size={batch_size}",
        f"model.n_parameters={round(model_bytes / FLOAT_BYTES)}",
    )


def play(arm: Arm, picks: Sequence[Any], folder: Path) -> Answers:
    """fedsim's answers for an arm in which the peer has asked the devices ``picks``, by the names of the peer's own."""
    given = phones(arm, folder)
    if arm["kind"] == "windows":
        return _asked(arm, given)
    flat = list(picks)
    if arm["kind"] == "rounds":
        flat = [device for cohort in picks for device in [*cohort, END_OF_COHORT]]
    (folder / "picks.json").write_text(json.dumps(flat), encoding="utf-8")
    there = ALWAYS_THERE if arm["peer"] == "appfl" else ASKED_AT_THE_END
    rules = {"async": _buffered, "rounds": _rounds}[arm["kind"]](arm)
    picked = f"server.selector.picks={folder / 'picks.json'}"
    run = fedsim.simulate(*COMMON, *there, *given, *rules, picked, folder=folder / "run")
    return {"async": _updates, "rounds": _closed}[arm["kind"]](arm, run)


# Sessions and windows


def _asked(arm: Arm, given: tuple[str, ...]) -> Answers:
    """Who is eligible at the instants of the arm; the phases of a session of each device."""
    world = build_simulation(composed(["report=false", *COMMON, *ASKED_AT_THE_END, *given])).world
    ids = np.arange(len(arm["devices"]))
    n_samples = np.full(len(ids), arm["batch_size"] * arm["local_steps"])
    n_steps = np.full(len(ids), arm["local_steps"])
    k = np.zeros(len(ids), dtype=np.int32)
    compute_s = world.device.compute.train_s(ids, k, n_samples, n_steps)
    n_bytes, level = int(arm["model_kbit"] * KBIT_BYTES), world.device.network.level(ids, k)
    start = np.zeros(len(ids))
    down_s = world.device.network.download(None, ids, start, n_bytes, level)[0]
    up_s = world.device.network.upload(None, ids, start, n_bytes, level)[0]
    active = [
        world.availability.at(np.full(len(at), i), np.array(at))[0].astype(int).tolist()
        for i, at in enumerate(arm["asked_at"])
    ]
    return {"compute_s": compute_s.tolist(), "communication_s": (down_s + up_s).tolist(), "is_active": active}


# Buffered


def _buffered(arm: Arm) -> tuple[str, ...]:
    n_steps = arm["n_rounds"] if arm["peer"] == "fedscale" else arm["n_updates"] // arm["buffer_size"]
    sizes = (f"server.concurrency={arm['in_flight']}", f"server.buffer_size={arm['buffer_size']}")
    return (*BUFFERED, *sizes, f"stop.max_steps={n_steps}")


def _updates(arm: Arm, run: Any) -> Answers:
    """Updates that count in order of arrival, and steps."""
    columns = ["session_id", "device_id", "assigned_at", "end_at", "outcome", "staleness", "weight"]
    rows = run.sessions(columns)
    rows = rows[rows["outcome"] == "AGGREGATED"].sort_values(["end_at", "session_id"])
    step_at = run.steps["closed_at"].to_numpy()
    staleness = rows["staleness"].to_numpy(dtype=np.int64)
    if arm["peer"] == "fedscale":  # there, who starts in the instant of a step downloads the version before it
        staleness = staleness + np.isin(rows["assigned_at"].to_numpy(), step_at)
    moved = rows["weight"].to_numpy() * _moves(rows["device_id"].to_numpy())
    return {
        "session_device": rows["device_id"].tolist(),
        "session_start_s": rows["assigned_at"].tolist(),
        "session_end_s": rows["end_at"].tolist(),
        "session_length_s": (rows["end_at"] - rows["assigned_at"]).tolist(),
        "session_staleness": staleness.tolist(),
        "step_at_s": step_at.tolist(),
        "step_model": np.cumsum(moved.reshape(-1, arm["buffer_size"]).sum(axis=1)).tolist(),
    }


def _moves(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What the update of each device adds to the model."""
    moves: npt.NDArray[np.float64] = 1.0 / (ids + 1)
    return moves


# Rounds


def _rounds(arm: Arm) -> tuple[str, ...]:
    goal, cohort = arm["goal"], arm["cohort"]
    rules = [f"server.report_goal={goal}", f"server.over_selection={cohort / goal!r}"]
    if arm["peer"] == "fedscale":  # whatever has come counts, and nothing more is waited for
        rules += [f"server.quorum_fraction={1 / goal!r}", "server.deadline_s=null", "server.short_round=last_report"]
    elif arm["mode"] == "window":  # a goal that no cohort meets: the round lasts until its deadline
        rules = [f"server.report_goal={cohort + 1}", "server.over_selection=1", f"server.deadline_s={arm['window_s']}"]
        rules += [f"server.quorum_fraction={goal / (cohort + 1)!r}", "server.short_round=deadline"]
    else:
        rules += ["server.quorum_fraction=1", f"server.deadline_s={arm['max_wait_s'] or 'null'}"]
        rules += ["server.short_round=deadline"]
    return (*ROUNDS, *rules, f"stop.max_steps={arm['n_rounds']}")


def _closed(arm: Arm, run: Any) -> Answers:
    """Rounds in order of time, whose updates they counted, and the model after each."""
    steps = run.steps
    rows = run.sessions(["session_id", "device_id", "assigned_at", "end_at", "outcome", "weight"])
    rows = rows[rows["outcome"] == "AGGREGATED"].sort_values(["end_at", "session_id"])
    accepted = [rows[rows["assigned_at"] == start] for start in steps["started_at"]]
    moved = [float((some["weight"] * _moves(some["device_id"].to_numpy())).sum()) for some in accepted]
    lengths = [(some["end_at"] - some["assigned_at"]).tolist() for some in accepted]
    devices = [some["device_id"].tolist() for some in accepted]
    return {
        "round_start_s": steps["started_at"].tolist(),
        "round_close_s": steps["closed_at"].tolist(),
        "round_length_s": (steps["closed_at"] - steps["started_at"]).tolist(),
        "round_is_committed": steps["is_committed"].astype(int).tolist(),
        "round_accepted": [sorted(some) for some in devices] if arm["peer"] == "appfl" else devices,
        "accepted_length_s": lengths,
        "round_model": np.cumsum(moved).tolist(),
    }
