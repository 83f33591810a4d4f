"""The page: one self-contained HTML file from the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedsim.files import write_text
from fedsim.report import figures, story
from fedsim.report.phone_panels import phone_panels
from fedsim.report.sources import noted_values
from fedsim.report.svg import css_variables
from fedsim.report.words import OUTCOME_MEANINGS, UNKNOWN, duration, large, metric_name, percent, size
from fedsim.results.numbers import (
    NetworkRow,
    OutcomeRow,
    PhaseRow,
    headline,
    metric_names,
    network_rows,
    outcome_rows,
    phase_rows,
)  # fmt: skip
from fedsim.results.run import Run
from fedsim.units import HOUR_S


def write_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` into a complete run directory and return its path.

    The page needs no other file and no network. The same run gives the same bytes. Raises
    :class:`InputError` if the run is not complete or contradicts itself.
    """
    run = Run.load(run_folder)
    path = run.folder / "report.html"
    write_text(path, _environment().get_template("template.html").render(_content(run)))
    return path


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _content(run: Run) -> dict[str, Any]:
    numbers = headline(run)
    # The group `cost` asks what a session would cost, before any run; a run does not use it.
    noted = noted_values({name: values for name, values in run.config.items() if name != "cost"})
    return {
        "title": story.title(run),
        "result": story.result_sentence(run, numbers),
        "tiles": story.tiles(run, numbers),
        "asked": story.asked(run),
        "sections": [
            ("Who could take part", figures.availability_panels(run)),
            ("What the devices did", figures.work_panels(run, numbers)),
            ("How fast the server moved", figures.step_panels(run, numbers)),
            ("What the model learned", figures.learning_panels(run)),
            ("What it cost", figures.cost_panels(run, numbers)),
            ("What it took from the phones", phone_panels(run, numbers)),
        ],
        "outcomes": _outcome_cells(outcome_rows(run), has_energy=numbers["joules_per_session"] is not None),
        "phases": _phase_cells(phase_rows(run)),
        "group_metrics": [metric_name(name) for name in metric_names(run)],
        "groups": _group_cells(run),
        "has_central": run.group_table.column("central_value").null_count < run.group_table.num_rows,
        "networks": _network_cells(network_rows(run), has_energy=numbers["joules_per_session"] is not None),
        "foundations": story.foundations(run, numbers, noted),
        "noted": [(note.key, note.value, note.note) for note in noted],
        "command": story.command(run),
        "provenance": story.provenance_rows(run),
        "config": run.config_text,
        "light": css_variables(dark=False),
        "dark": css_variables(dark=True),
    }


def _outcome_cells(rows: list[OutcomeRow], *, has_energy: bool) -> list[list[str]]:
    """Rows of the table of outcomes as text, those that never happened left out, with the sum at the end."""
    n, device_s = sum(row.n for row in rows), sum(row.device_s for row in rows)
    total = OutcomeRow(
        outcome="all",
        n=n,
        device_s=device_s,
        compute_s=sum(row.compute_s for row in rows),
        download_bytes=sum(row.download_bytes for row in rows),
        upload_bytes=sum(row.upload_bytes for row in rows),
        joules=sum(row.joules for row in rows),
        is_useful=False,
    )
    return [
        [
            row.outcome,
            OUTCOME_MEANINGS.get(row.outcome, ""),
            f"{row.n:,}",
            percent(row.n / n),
            large(row.device_s / HOUR_S),
            large(row.compute_s / HOUR_S),
            size(row.download_bytes),
            size(row.upload_bytes),
            large(row.joules / 1000) if has_energy else UNKNOWN,
        ]
        for row in [*rows, total]
        if row.n
    ]


def _group_cells(run: Run) -> list[list[str]]:
    """Rows of the table of groups as text: phones, examples, then each metric with the central model's in brackets."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in run.group_table.to_pylist():
        found.setdefault((row["grouping"], row["group"]), {})[row["metric"]] = row
    cells = []
    for (grouping, group), of_metric in found.items():
        any_row = next(iter(of_metric.values()))
        told = [_group_value(of_metric[name]) if name in of_metric else UNKNOWN for name in metric_names(run)]
        cells.append([grouping, group, f"{any_row['n_devices']:,}", f"{any_row['n_examples']:,}", *told])
    return cells


def _group_value(row: dict[str, Any]) -> str:
    value, central = (UNKNOWN if row[key] is None else _four_digits(row[key]) for key in ("value", "central_value"))
    return value if row["central_value"] is None else f"{value} ({central})"


def _four_digits(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _network_cells(rows: list[NetworkRow], *, has_energy: bool) -> list[list[str]]:
    """Rows of the table of networks as text."""
    n = sum(row.n for row in rows)
    return [
        [
            row.network,
            f"{row.n:,}",
            percent(row.n / n),
            size(row.n_bytes),
            size(row.n_bytes / row.n),
            large(row.joules / 1000) if has_energy else UNKNOWN,
        ]
        for row in rows
    ]


def _phase_cells(rows: list[PhaseRow]) -> list[list[str]]:
    """Rows of the table of phases as text; the last one is the whole session."""
    return [
        [
            row.phase,
            f"{row.n_reached:,}",
            f"{row.n_completed:,}",
            large(row.device_s / HOUR_S),
            percent(row.device_s / rows[-1].device_s) if rows[-1].device_s else UNKNOWN,
            duration(row.median_s),
            duration(row.p95_s),
        ]
        for row in rows
    ]
