"""A run as files, loaded when first asked for.

Attributes named as the tables are (``steps``, ``evals``, ...) are pandas frames for notebooks; the Arrow tables behind
them (``step_table``, ...) and the totals over all sessions are what the numbers of a report come from.
"""

from __future__ import annotations

import html
import importlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from fedsim.errors import InputError
from fedsim.files import existing, read_json
from fedsim.results.binning import Grid
from fedsim.results.frames import frame
from fedsim.results.sessions import COLUMNS, SessionTotals, total_sessions
from fedsim.results.tables import schema_of, session_batches, small_table
from fedsim.results.unfinished import summary_so_far
from fedsim.schema import ELIGIBILITY, EVALS, GAUGES, GROUPS, OUTCOMES, RUN_SCHEMA, SESSIONS, STEPS
from fedsim.units import format_duration

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

    from fedsim.results.datasets import Filter

# fmt: off
SUMMARY_KEYS = (
    "seed", "n_devices", "simulated_s", "n_steps", "n_versions", "n_sessions", "outcomes", "metrics", "protocol",
    "rule", "n_base_traces", "eligible_fraction_mean", "admitted_fraction_mean", "stop_reason", "n_parameters",
    "model_bytes",
)
# fmt: on


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory; tables are read on first use, sessions as a stream of batches or by what is asked for.

    ``summary``, ``provenance`` and ``config`` are what the files of these names hold. Of a run that is not complete
    (``is_complete``) the tables have the rows it came to write, and ``summary`` what can be counted of them.
    """

    folder: Path
    summary: dict[str, Any]
    provenance: dict[str, Any]
    config_text: str
    config: dict[str, Any]
    is_complete: bool = True

    @classmethod
    def load(cls, folder: Path | str, *, may_be_incomplete: bool = False) -> Run:
        """Open a run directory.

        Raises :class:`InputError` if it holds no run, if the run is not complete (``summary.json`` is written
        last) though it must be, if a documented key is missing, or if a file cannot be read.
        """
        folder = existing(folder, "run directory").absolute()
        is_complete = (folder / "summary.json").exists()
        if not is_complete and not (folder / "config.yaml").exists():
            raise InputError("no run is here, config.yaml and summary.json are missing", where=folder)
        if not is_complete and not may_be_incomplete:
            raise InputError("run is not complete, summary.json is missing", where=folder)
        summary = _summary(folder / "summary.json") if is_complete else {}
        has_provenance = is_complete or (folder / "provenance.json").exists()
        provenance = _object(folder / "provenance.json", "provenance") if has_provenance else {}
        if has_provenance:  # a run that was killed at its very start has none, and no tables
            _check_schema(provenance, folder)
        text = _text(folder / "config.yaml")
        config = _parse_config(text, folder / "config.yaml")
        return cls(
            folder, summary if is_complete else summary_so_far(folder, config), provenance, text, config, is_complete
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
    def groups(self) -> pd.DataFrame:
        """Metrics of the last model by groups of phones; no rows where ``evaluation.groups`` asked for none."""
        return frame(self.group_table)

    @cached_property
    def gauges(self) -> pd.DataFrame:
        """Exact means and maxima over intervals of simulated time, one row per interval."""
        return frame(self.gauge_table)

    @cached_property
    def eligibility(self) -> pd.DataFrame:
        """Expected eligible share of the fleet over a simulated week, one row per instant."""
        return frame(self.eligibility_table)

    def sessions(self, columns: Sequence[str] | None = None, *, filters: Sequence[Filter] = ()) -> pd.DataFrame:
        """Sessions, one row each, read anew at each call; outcomes and networks as words.

        There can be millions: name the few ``columns`` that are needed, in the order wanted (None: all of
        ``fedsim tables``), and ``filters`` that all have to hold, ``[("outcome", "==", "LATE"), ("end_at", "<", 60)]``;
        nothing else is read. Raises :class:`InputError` for a column that does not exist, for a filter that
        cannot be, and if all rows are asked for and are not as many as the summary counts.
        """
        known = [column.name for column in SESSIONS.columns]
        wanted = known if columns is None else list(columns)
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise InputError("columns of sessions", value=unknown[0] if unknown else wanted, allowed=", ".join(known))
        table = _datasets().picked(self.folder, wanted, filters) if filters else self._all_sessions(wanted)
        try:
            return frame(table.select(wanted))
        except pa.ArrowException as error:
            raise InputError(f"table 'sessions' cannot be read ({error})", where=self.folder) from error

    def _all_sessions(self, columns: Sequence[str]) -> pa.Table:
        batches = list(self.session_batches(tuple(columns)))
        table = pa.concat_tables(batches) if batches else SESSIONS.arrow().empty_table()
        if table.num_rows != self.summary["n_sessions"]:
            stated = self.summary["n_sessions"]
            raise InputError(
                "sessions and summary.json disagree", value=table.num_rows, where=self.folder, allowed=stated
            )
        return table

    def dataset(self, name: str) -> ds.Dataset:
        """A table (``"sessions"``, ``"steps"`` ...) as an Arrow dataset: a query reads what it asks for.

        Outcomes and networks are numbers here, as in the files. Raises :class:`InputError` for a table that is none
        of a run's.
        """
        found: ds.Dataset = _datasets().dataset(self.folder, schema_of(name))
        return found

    @cached_property
    def step_table(self) -> pa.Table:
        """Server steps in order of time."""
        return small_table(self.folder, STEPS, is_complete=self.is_complete)

    @cached_property
    def gauge_table(self) -> pa.Table:
        """Exact means and maxima over intervals of simulated time, in order of time."""
        return small_table(self.folder, GAUGES, is_complete=self.is_complete).sort_by("at")

    @cached_property
    def eval_table(self) -> pa.Table:
        """Held-out metrics in order of time; no rows if nothing was evaluated."""
        return small_table(self.folder, EVALS, is_complete=self.is_complete).sort_by("at")

    @cached_property
    def group_table(self) -> pa.Table:
        """Metrics by groups of phones in the order of the run; no rows where none were asked for."""
        return small_table(self.folder, GROUPS, is_complete=False)

    @cached_property
    def eligibility_table(self) -> pa.Table:
        """Expected eligible share of the fleet over a simulated week, in order of time."""
        return small_table(self.folder, ELIGIBILITY, is_complete=self.is_complete).sort_by("at")

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
        return session_batches(self.folder, columns)

    def model(self, which: str = "final") -> Any:
        """The trained ``torch.nn.Module``: the ``final`` version, the ``best`` one, or the ``central`` baseline.

        Raises :class:`InputError` for a run that trained nothing, and for a model that it does not have.
        """
        return importlib.import_module("fedsim.config.checkpoints").model_of(self.folder, which)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}{'' if self.is_complete else ', not complete'})"

    def _repr_html_(self) -> str:
        """How a notebook shows it: the few numbers a reader wants first."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._shown()
        )
        return f"<table>{rows}</table>"

    def _shown(self) -> Iterator[tuple[str, str]]:
        summary = self.summary
        yield "run", str(self.folder) + ("" if self.is_complete else " — not complete, as far as it came")
        yield "overrides", " ".join(self.provenance.get("overrides", [])) or "none"
        yield "simulated", format_duration(summary["simulated_s"])
        yield "server steps", f"{summary['n_steps']:,}"
        n = summary["n_sessions"]
        shares = {name: count / n for name, count in summary["outcomes"].items() if count}
        told = ", ".join(f"{share:.1%} {name.lower()}" for name, share in shares.items())
        yield "sessions", f"{n:,}" + (f" ({told})" if told else "")
        yield from ((name.replace("_", " "), f"{value:.4g}") for name, value in summary["metrics"].items())


def _datasets() -> Any:
    """A lazy door: Arrow's datasets import pandas."""
    return importlib.import_module("fedsim.results.datasets")


def _mapping(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} is not a mapping of keys to values", where=path)
    return value


def _object(path: Path, what: str) -> dict[str, Any]:
    return _mapping(read_json(path, what), what, path)


def _summary(path: Path) -> dict[str, Any]:
    summary = _object(path, "summary")
    _check_summary(summary, path)
    return summary


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
    """A run from its files, with its tables as pandas frames: ``open_run(folder).steps``.

    A run that is not complete is opened with a warning, as far as it came. Raises :class:`InputError` if the folder
    holds no run, or a broken one.
    """
    run = Run.load(folder, may_be_incomplete=True)
    if not run.is_complete:
        came = format_duration(run.summary["simulated_s"])
        warnings.warn(f"run is not complete, it came to {came} of simulated time: {run.folder}", stacklevel=2)
    return run
