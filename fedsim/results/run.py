"""A finished run as files, loaded when first asked for.

Attributes named as the tables are (``steps``, ``evals``, ...) are pandas frames for notebooks; the Arrow tables behind
them (``step_table``, ...) and the totals over all sessions are what the numbers of a report come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fedsim.errors import InputError
from fedsim.files import existing, read_json, read_table
from fedsim.results.binning import Grid
from fedsim.results.frames import frame
from fedsim.results.sessions import COLUMNS, SessionTotals, total_sessions
from fedsim.schema import ELIGIBILITY, EVALS, GAUGES, OUTCOMES, RUN_SCHEMA, SESSIONS, STEPS

if TYPE_CHECKING:
    import pandas as pd

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
    """A complete run directory; tables are read on first use, sessions as a stream of batches.

    ``summary``, ``provenance`` and ``config`` are what the files of these names hold.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    config_text: str = field(repr=False)
    config: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, folder: Path | str) -> Run:
        """Open a run directory.

        Raises :class:`InputError` if it holds no run, if the run is not complete (``summary.json`` is written
        last), if a documented key is missing, or if a file cannot be read.
        """
        folder = existing(folder, "run directory").absolute()
        if not (folder / "summary.json").exists():
            if not (folder / "config.yaml").exists():
                raise InputError("no run is here, config.yaml and summary.json are missing", where=folder)
            raise InputError("run is not complete, summary.json is missing", where=folder)
        summary = _mapping(read_json(folder / "summary.json", "summary"), "summary", folder / "summary.json")
        _check_summary(summary, folder / "summary.json")
        provenance = read_json(folder / "provenance.json", "provenance")
        provenance = _mapping(provenance, "provenance", folder / "provenance.json")
        _check_schema(provenance, folder)
        config_text = _text(folder / "config.yaml")
        return cls(
            folder,
            summary,
            provenance,
            config_text,
            _parse_config(config_text, folder / "config.yaml"),
        )

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Server steps in order of time, one row each."""
        return frame(self.step_table)

    @cached_property
    def evals(self) -> pd.DataFrame:
        """Held-out metrics in order of time, one row per instant and metric; no rows if nothing was evaluated."""
        return frame(self.eval_table)

    @cached_property
    def gauges(self) -> pd.DataFrame:
        """Exact means and maxima over intervals of simulated time, one row per interval."""
        return frame(self.gauge_table)

    @cached_property
    def eligibility(self) -> pd.DataFrame:
        """Expected eligible share of the fleet over a simulated week, one row per instant."""
        return frame(self.eligibility_table)

    def sessions(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All sessions, one row each, read anew at each call; outcomes and networks as words.

        There can be millions: name the few ``columns`` that are needed, in the order wanted (None: all of
        ``fedsim tables``). Raises :class:`InputError` for a column that does not exist, and if the rows are
        not as many as the summary counts.
        """
        known = [column.name for column in SESSIONS.columns]
        wanted = known if columns is None else list(columns)
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise InputError("columns of sessions", value=unknown[0] if unknown else wanted, allowed=", ".join(known))
        batches = list(self.session_batches(tuple(wanted)))
        table = pa.concat_tables(batches) if batches else SESSIONS.arrow().empty_table()
        if table.num_rows != self.summary["n_sessions"]:
            stated = self.summary["n_sessions"]
            raise InputError(
                "sessions and summary.json disagree", value=table.num_rows, where=self.folder, allowed=stated
            )
        try:
            return frame(table.select(wanted))
        except pa.ArrowException as error:
            raise InputError(f"table 'sessions' cannot be read ({error})", where=self.folder) from error

    @cached_property
    def step_table(self) -> pa.Table:
        """Server steps in order of time."""
        return read_table(self.folder / "steps.parquet", STEPS)

    @cached_property
    def gauge_table(self) -> pa.Table:
        """Exact means and maxima over intervals of simulated time, in order of time."""
        return read_table(self.folder / "gauges.parquet", GAUGES).sort_by("at")

    @cached_property
    def eval_table(self) -> pa.Table:
        """Held-out metrics in order of time; no rows if nothing was evaluated."""
        return read_table(self.folder / "evals.parquet", EVALS).sort_by("at")

    @cached_property
    def eligibility_table(self) -> pa.Table:
        """Expected eligible share of the fleet over a simulated week, in order of time."""
        return read_table(self.folder / "eligibility.parquet", ELIGIBILITY).sort_by("at")

    @property
    def grid(self) -> Grid:
        """Time bins over the simulated time; what stragglers do after the run's end falls outside."""
        return Grid.covering(float(self.summary["simulated_s"]))

    @cached_property
    def totals(self) -> SessionTotals:
        """Totals over all session rows, one streamed pass.

        Raises :class:`InputError` if the rows are not as many as the summary counts, per outcome.
        """
        eval_at = np.unique(self.eval_table.column("at").to_numpy())
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


def _check_schema(provenance: dict[str, Any], folder: Path) -> None:
    """Folders without a schema were written before it had a number; they are read as the first."""
    schema = provenance.get("schema", 1)
    if schema != RUN_SCHEMA:
        versions = provenance.get("versions")
        version = versions.get("fedsim-fleet", "unknown") if isinstance(versions, dict) else "unknown"
        raise InputError(
            f"run folder has another schema; fedsim {version} wrote it and reads it",
            value=schema,
            where=folder,
            allowed=RUN_SCHEMA,
        )


def _check_summary(summary: dict[str, Any], path: Path) -> None:
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise InputError("summary lacks documented keys", value=", ".join(missing), where=path)
    simulated_s = summary["simulated_s"]
    if not isinstance(simulated_s, int | float) or not simulated_s > 0:
        raise InputError("simulated_s must be positive", value=simulated_s, where=path)
    if not isinstance(summary["outcomes"], dict):
        raise InputError("outcomes must be counts by name", value=summary["outcomes"], where=path)


def _text(path: Path) -> str:
    try:
        return existing(path, "config of the run").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config of the run cannot be read ({error})", where=path) from error


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    try:
        return _mapping(yaml.safe_load(text), "config of the run", path)
    except yaml.YAMLError as error:
        raise InputError(f"config of the run is not valid YAML ({error})", where=path) from error


def open_run(folder: Path | str) -> Run:
    """A finished run from its files, with its tables as pandas frames: ``open_run(folder).steps``.

    Raises :class:`InputError` if the folder holds no complete run, or a broken one.
    """
    return Run.load(folder)
