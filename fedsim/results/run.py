"""A finished run as files: what the report reads, loaded when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table
from fedsim.results.binning import Grid
from fedsim.results.sessions import COLUMNS, SessionTotals, total_sessions
from fedsim.schema import ELIGIBILITY, EVALS, OUTCOMES, SESSIONS, STEPS

ROWS_PER_BATCH = 1 << 18
# fmt: off
SUMMARY_KEYS = (
    "seed", "n_devices", "simulated_s", "n_steps", "n_versions", "n_sessions", "outcomes", "metrics", "protocol",
    "rule", "n_base_traces", "eligible_fraction_mean", "admitted_fraction_mean", "stop_reason", "n_parameters",
    "model_bytes",
)
# fmt: on


@dataclass(frozen=True)
class Run:
    """A complete run directory; tables are read on first use, sessions as a stream of batches."""

    folder: Path
    summary: dict[str, Any]
    provenance: dict[str, Any]
    config_text: str
    config: dict[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> Run:
        """Open a run directory.

        Raises :class:`InputError` if the run is not complete (``summary.json`` is written last), if a
        documented key is missing, or if a file cannot be read.
        """
        folder = existing(folder, "run directory")
        if not (folder / "summary.json").exists():
            raise InputError("run is not complete, summary.json is missing", where=folder)
        summary = _mapping(read_json(folder / "summary.json", "summary"), "summary", folder / "summary.json")
        _check_summary(summary, folder / "summary.json")
        provenance = read_json(folder / "provenance.json", "provenance")
        config_text = existing(folder / "config.yaml", "config of the run").read_text(encoding="utf-8")
        return cls(
            folder,
            summary,
            _mapping(provenance, "provenance", folder / "provenance.json"),
            config_text,
            _parse_config(config_text, folder / "config.yaml"),
        )

    @cached_property
    def steps(self) -> pa.Table:
        """Server steps in order of time."""
        return read_table(self.folder / "steps.parquet", STEPS)

    @cached_property
    def evals(self) -> pa.Table:
        """Held-out metrics in order of time; no rows if nothing was evaluated."""
        return read_table(self.folder / "evals.parquet", EVALS).sort_by("at")

    @cached_property
    def eligibility(self) -> pa.Table:
        """Expected eligible share of the fleet over a simulated week, in order of time."""
        return read_table(self.folder / "eligibility.parquet", ELIGIBILITY).sort_by("at")

    @property
    def grid(self) -> Grid:
        """Time bins over the simulated time; what stragglers do after the run's end falls outside."""
        return Grid.covering(float(self.summary["simulated_s"]))

    @cached_property
    def sessions(self) -> SessionTotals:
        """Totals over all session rows, one streamed pass.

        Raises :class:`InputError` if the rows are not as many as the summary counts, per outcome.
        """
        eval_at = np.unique(self.evals.column("at").to_numpy())
        totals = total_sessions(self.session_batches(COLUMNS), self.grid, eval_at)
        counted = dict(zip(OUTCOMES, totals.n.tolist(), strict=True))
        stated = {name: self.summary["outcomes"].get(name, 0) for name in OUTCOMES}
        if counted != stated or sum(stated.values()) != self.summary["n_sessions"]:
            raise InputError("sessions and summary.json disagree", value=counted, where=self.folder, allowed=stated)
        return totals

    def session_batches(self, columns: tuple[str, ...]) -> Iterator[pa.Table]:
        """The named columns of all session rows, in batches of bounded size, each checked against the schema."""
        for path in sorted((self.folder / "sessions").glob("*.parquet")):
            try:
                for batch in pq.ParquetFile(path).iter_batches(ROWS_PER_BATCH, columns=list(columns)):
                    if batch.num_rows:
                        yield SESSIONS.check(pa.Table.from_batches([batch]), where=path, columns=list(columns))
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"table 'sessions' cannot be read ({error})", where=path) from error


def _mapping(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} is not a mapping of keys to values", where=path)
    return value


def _check_summary(summary: dict[str, Any], path: Path) -> None:
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise InputError("summary lacks documented keys", value=", ".join(missing), where=path)
    if not summary["simulated_s"] > 0:
        raise InputError("simulated_s must be positive", value=summary["simulated_s"], where=path)


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    try:
        return _mapping(yaml.safe_load(text), "config of the run", path)
    except yaml.YAMLError as error:
        raise InputError(f"config of the run is not valid YAML ({error})", where=path) from error
