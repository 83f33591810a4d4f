"""The identity of a run: two runs with the same one have the same bytes. One function for all who ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedsim
from fedsim.files import portable, sha256
from fedsim.schema import RUN_SCHEMA

# When a run ends, where its files are, what is made of them: none of it changes what happens in it.
_NOT_PART = ("stop", "report", "paths", "hydra", "force", "objective", "estimate")


def identity(values: Mapping[str, Any], *, traces_sha256: Sequence[str], data_sha256: str) -> dict[str, str]:
    """Hex digests ``run``, and ``arm``, which runs that differ in their seed alone have in common.

    They rest on the configuration, the traces' and the data's content, the schema and the version of fedsim. Files are
    known by their content or by their place below the folders of ``paths``, so the identity is that of any machine.
    Simplification: a seed of a part of its own counts as the run's where the two are equal.
    """
    content = {
        "config": portable({key: value for key, value in values.items() if key not in _NOT_PART}, values["paths"]),
        "traces": list(traces_sha256),
        "data": data_sha256,
        "schema": RUN_SCHEMA,
        "version": fedsim.__version__,
    }
    model = content["config"].get("model", {})
    if model.get("init_from") is not None:  # known by its content
        model["init_from"] = sha256(Path(values["model"]["init_from"]))
    traces = content["config"]["traces"]
    traces["folder"], traces["mixture"] = None, list((traces.get("mixture") or {}).values())
    return {"run": _digest(content), "arm": _digest(_seedless(content, values["seed"]))}


def _seedless(value: Any, seed: int) -> Any:
    """The value without the run's seed, wherever it stands: what is drawn from it follows it (``seed: ${seed}``)."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if not (key == "seed" and item == seed)}
        return {key: _seedless(item, seed) for key, item in kept.items()}
    return value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
