"""Simulations built from the shipped configuration for phones written by hand: what a test does not say is zero."""

from __future__ import annotations

from pathlib import Path

from fedsim.config.simulation import build_simulation
from fedsim.simulation import Simulation
from fedsim.traces.canonical import TraceSet
from fedsim.traces.folder import save_traces
from tests.smoke import composed

PLAIN = (
    "fleet.is_replay=true",
    "training=none",
    "model.download_bytes_per_parameter=0",
    "model.upload_bytes_per_parameter=0",
    "device.crash_fraction=0",
    "device.setup_s=0",
    "device.session_timeout_s=null",
    "device.network.connect_s=0",
    "server.over_selection=1",
    "server.quorum_fraction=1",
    "server.deadline_s=null",
    "server.selection_timeout_s=0",
    "server.server_step_s=0",
)


def configured(folder: Path, traces: TraceSet, *overrides: str) -> Simulation:
    """Rounds of the phones in ``traces``, device i being phone i: no bytes, no crashes, no deadline, no server step."""
    save_traces(traces, folder)
    fleet = (f"traces.folder={folder}", f"fleet.n_devices={traces.n}")
    return build_simulation(composed([*PLAIN, *fleet, *overrides]))
