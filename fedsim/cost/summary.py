"""A table of device costs in a few numbers: shares of phones, quantiles over them, and a handful of phones by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.cost.table import LIMITS, VERDICTS
from fedsim.traces.measurements import QUANTILES, weighted_quantiles

FIGURES = (
    "inference_ms_per_sample", "download_s", "epoch_s", "train_s", "upload_s", "session_s", "compute_j", "radio_j",
    "battery_percent", "ram_fraction",
)  # fmt: skip
_N_COMMON, _FREQUENT = 5, 1.5  # so many frequent phones are named, if so many times as frequent as the average


def summarise(costs: pa.Table, sessions: pa.Table) -> dict[str, Any]:
    """A JSON-serialisable summary of both tables of :func:`fedsim.cost.table.device_costs`, weighted by share.

    Quantiles are those of each figure by itself, over the sessions for which it is known (None: for none). Shares are
    of sessions; ``exceeds`` counts every limit by itself, a session may exceed several.
    """
    verdicts, exceeds = sessions.column("is_feasible"), sessions.column("exceeds")
    return {
        "n_classes": costs.num_rows,
        "n_sessions": sessions.num_rows,
        "n_models": pc.count_distinct(costs.column("model")).as_py(),
        "feasible": {verdict: _share(sessions, pc.equal(verdicts, verdict)) for verdict in VERDICTS},
        "exceeds": {limit: _share(sessions, pc.match_substring(exceeds, limit)) for limit in LIMITS},
        "quantiles": {name: _quantiles(sessions, name) for name in FIGURES},
        "known": {name: _share(sessions, pc.is_valid(sessions.column(name))) for name in FIGURES},
        "named": _named(costs),
    }


def _share(costs: pa.Table, chosen: pa.ChunkedArray) -> float:
    """Share of the population in the chosen rows; rounding of many small shares is not to show."""
    return round(float(pc.sum(pc.if_else(chosen, costs.column("share"), 0.0)).as_py()), 9)


def _quantiles(costs: pa.Table, name: str) -> dict[str, float] | None:
    rows = costs.filter(pc.is_valid(costs.column(name)))
    if not rows.num_rows:
        return None
    found = weighted_quantiles(rows.column(name).to_numpy(), rows.column("share").to_numpy(), q=QUANTILES)
    return {f"p{100 * q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _named(costs: pa.Table) -> list[dict[str, Any]]:
    """Phones at the ends and quantiles of the session's length, and the most frequent ones; the quickest first."""
    rows = costs.filter(pc.is_valid(costs.column("session_s")))
    if not rows.num_rows:
        rows = costs
    share = rows.column("share").to_numpy()
    last = rows.num_rows - 1
    at_quantiles = np.searchsorted(np.cumsum(share), np.array(QUANTILES) * share.sum())
    common = np.argsort(-share, kind="stable")[:_N_COMMON]
    frequent = common[share[common] > _FREQUENT * share.mean()]
    chosen = sorted({0, last, *np.minimum(at_quantiles, last).tolist(), *frequent.tolist()})
    named: list[dict[str, Any]] = rows.take(chosen).to_pylist()
    return named
