"""What a run rests on: versions, hashes, command line, wall time. Paths and times live here alone."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedsim.files import sha256
from fedsim.schema import RUN_SCHEMA

PACKAGES = ("fedsim-fleet", "numpy", "pyarrow", "simpy", "torch", "hydra-core")


def package_versions() -> dict[str, str]:
    """Installed versions of what the numbers depend on; a package that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout fedsim runs from, ``+changes`` if it differs; None outside one."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        state = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if state.stdout.strip() else "")


def describe_run(
    *, traces: list[Path], trace_provenance: Any, data_sha256: str, seed: int, overrides: list[str]
) -> dict[str, Any]:
    """The content of ``provenance.json``; ``wall_s`` is not known before the run has ended."""
    return {
        "schema": RUN_SCHEMA,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "traces": {
            "folder": ", ".join(map(str, traces)),
            "devices_sha256": ", ".join(sha256(folder / "devices.parquet") for folder in traces),
            "events_sha256": ", ".join(sha256(folder / "events.parquet") for folder in traces),
            "provenance": trace_provenance,
        },
        "data_sha256": data_sha256,
        "seed": seed,
        "overrides": overrides,
        "wall_s": None,
    }
