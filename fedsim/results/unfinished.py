"""What can be counted of a run that is not complete, from the tables it came to write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fedsim.results.tables import session_batches, small_table
from fedsim.schema import EVALS, OUTCOMES, STEPS


def summary_so_far(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``summary.json`` that the tables tell, with their values so far; the others are left out.

    ``simulated_s`` is the last instant that any table knows of.
    """
    steps, evals = (small_table(folder, schema, is_complete=False) for schema in (STEPS, EVALS))
    n_by_outcome, last_at = np.zeros(len(OUTCOMES), dtype=np.int64), 0.0
    for batch in session_batches(folder, ("outcome", "end_at")):
        n_by_outcome += np.bincount(batch["outcome"].to_numpy(), minlength=len(OUTCOMES))
        last_at = max(last_at, float(pc.max(batch["end_at"]).as_py()))
    for instants in (steps["closed_at"], evals["at"]):
        last_at = max(last_at, float(pc.max(instants).as_py() or 0.0))
    n_steps = int(pc.sum(steps["is_committed"]).as_py() or 0)
    newest = evals.filter(pc.equal(evals["at"], pc.max(evals["at"]))) if evals.num_rows else evals
    return {
        "seed": config.get("seed"),
        "simulated_s": last_at,
        "n_steps": n_steps,
        "n_versions": n_steps,
        "n_sessions": int(n_by_outcome.sum()),
        "outcomes": dict(zip(OUTCOMES, n_by_outcome.tolist(), strict=True)),
        "metrics": dict(zip(newest["metric"].to_pylist(), newest["value"].to_pylist(), strict=True)),
    }
