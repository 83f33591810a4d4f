"""What is asked of finished runs: report, compare, baseline, check, forecast, query, timeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedsim.cli.commands import add_command, door

COMPARE_HELP = """\
Arms of runs beside each other: what each came to, and how it differs from one of them, seed by seed.

  fedsim run -m seed=0,1,2,3,4,5 server.over_selection=1.0,1.3
  fedsim compare multirun/2026-01-31/12-00-00
  fedsim compare SWEEP --against over_selection=1.3 --target accuracy=0.9
  fedsim compare YESTERDAY TODAY --out comparison

Runs that differ in their seed alone are one arm; what else differs tells the arms apart. Writes compare.parquet
(columns: `fedsim tables`) and compare.html, and Markdown to the terminal."""

BASELINE_HELP = """\
Write down what runs of one configuration came to, for `fedsim check` to hold others against.

  fedsim run -m experiment=smoke data.seed=0 training.seed=0 seed=0,1,2,3,4,5,6,7,8,9 hydra.sweep.dir=clean
  fedsim baseline record clean --out baseline.json

Ten and more seeds; twenty if draws may change. Data and first parameters with a seed of their own, as above, leave less
to chance. FILE is text: commit it, and read its changes."""

CHECK_HELP = """\
Have runs regressed against a baseline? One line says so, and the exit code: 0 held, 1 regressed.

  fedsim check --baseline baseline.json                    play its configuration and seeds, and hold them against it
  fedsim check --baseline baseline.json SWEEP              hold these runs against it
  fedsim check --baseline baseline.json --junit check.xml --html check.html --strict

In this order: the same bytes; what holds in every run (nothing lost, nothing twice); with the same draws seed by seed,
where a change counts that is larger than a tenth of the spread between seeds; with other draws many seeds against many,
which sees little and says how little. More seeds are played, up to ten, as long as it is undecided."""

FORECAST_HELP = """\
What servers, network and phones must carry: loads by the second, workers, device-hours, energy, money.

  fedsim run training=none fleet=million stop.max_s=604800
  fedsim forecast RUN
  fedsim forecast SWEEP --population 8_000_000         several seeds: with intervals; check-ins of more phones
  fedsim forecast RUN --prices mine.yaml --grid mine.csv --constants mine.yaml

Reads the tables of runs of one configuration. Writes forecast.html and forecast.json, and Markdown to the terminal.
Shipped prices, constants and grids stand in fedsim/forecast/ with their sources."""

QUERY_HELP = """\
SQL over all tables of one or many runs (DuckDB, the extra `query`).

  fedsim query RUN "select outcome, count(*) from sessions group by 1"
  fedsim query SWEEP "select seed, max(value) from evals where metric = 'accuracy' group by 1"
  fedsim query RUN "copy (select * from sessions where outcome = 'LATE') to 'late.csv'"

Views: sessions, steps, evals, gauges, eligibility with the columns of `fedsim tables` behind run and seed, outcomes and
networks as words; runs with run, seed, arm, folder."""


def add_of_runs(commands: Any) -> None:
    """Add the sub-commands."""
    report = add_command(commands, "report", "write report.html from a run's tables", _report)
    report.add_argument("folder", type=Path, metavar="RUN_DIR", help="a finished run")
    _add_compare(commands)
    _add_baseline(commands)
    _add_check(commands)
    _add_forecast(commands)
    _add_query(commands)


def _report(arguments: argparse.Namespace) -> None:
    print(door("fedsim.report.html").write_report(arguments.folder))


def _compare(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.compare").main(
        arguments.folders, targets=arguments.target, against=arguments.against, out=arguments.out
    )


def _record(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.check").record(arguments.folders, out=arguments.out, targets=arguments.target)


def _check(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.check").main(
        arguments.baseline,
        arguments.folders,
        is_strict=arguments.strict,
        junit_file=arguments.junit,
        json_file=arguments.json,
        html_file=arguments.html,
    )


def _forecast(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.forecast").main(
        arguments.folders,
        population=arguments.population,
        prices_file=arguments.prices,
        grid_file=arguments.grid,
        constants_file=arguments.constants,
        out=arguments.out,
    )


def _query(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.query").query(arguments.folders, arguments.sql)


def _timeline(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.query").timeline(arguments.folder, n_devices=arguments.devices, out=arguments.out)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="compare arms of runs, seed by seed, with what can be said of each difference",
        description=COMPARE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs, and folders of runs (sweeps)")
    compare.add_argument(
        "--target", action="append", default=[], metavar="METRIC=VALUE",
        help="what it takes to reach this (several may be given); none: the metric at which all runs were to stop",
    )  # fmt: skip
    compare.add_argument("--against", metavar="ARM", help="the arm to hold the others against, or a part of its name")
    compare.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder for the files; none: the current one"
    )
    compare.set_defaults(action=_compare)


def _add_baseline(commands: Any) -> None:
    baseline = commands.add_parser("baseline", help="write down what runs came to, to hold later ones against")
    parts = baseline.add_subparsers(dest="part", required=True, metavar="COMMAND")
    record = parts.add_parser(
        "record",
        help="the baseline of runs of one configuration",
        description=BASELINE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    record.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="runs, and folders of runs (sweeps)")
    record.add_argument("--out", type=Path, required=True, metavar="FILE", help="the baseline, as text")
    record.add_argument(
        "--target", action="append", default=[], metavar="METRIC=VALUE", help="also hold the time until this is reached"
    )
    record.set_defaults(action=_record)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="have runs regressed against a baseline?",
        description=CHECK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "folders", nargs="*", type=Path, metavar="RUN", help="runs, and folders of runs; none: they are played"
    )
    check.add_argument("--baseline", type=Path, required=True, metavar="FILE", help="of `fedsim baseline record`")
    check.add_argument("--strict", action="store_true", help="exit code 7 if it is undecided, or the draws changed")
    check.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML: a test case for each quantity")
    check.add_argument("--json", type=Path, metavar="FILE", help="also write what was found as JSON")
    check.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the curves in their bands")
    check.set_defaults(action=_check)


def _add_forecast(commands: Any) -> None:
    forecast = commands.add_parser(
        "forecast",
        help="what servers, network and phones must carry: load, workers, energy, money",
        description=FORECAST_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    forecast.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs, and folders of runs (sweeps)")
    forecast.add_argument("--population", type=int, metavar="N", help="phones of the real fleet; none: those simulated")
    forecast.add_argument("--prices", type=Path, metavar="FILE", help="a price list of yours (YAML)")
    forecast.add_argument("--grid", type=Path, metavar="FILE", help="carbon by country of yours (CSV)")
    forecast.add_argument("--constants", type=Path, metavar="FILE", help="what else is assumed, of yours (YAML)")
    forecast.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder for the files; none: the current one"
    )
    forecast.set_defaults(action=_forecast)


def _add_query(commands: Any) -> None:
    query = commands.add_parser(
        "query",
        help="SQL over the tables of runs",
        description=QUERY_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    query.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="runs, and folders of runs (sweeps)")
    query.add_argument("sql", metavar="SQL", help="one query, in quotes")
    query.set_defaults(action=_query)
    timeline = add_command(commands, "timeline", "write a run as a Chrome trace, for Perfetto", _timeline)
    timeline.add_argument("folder", type=Path, metavar="RUN_DIR", help="a finished run")
    timeline.add_argument("--devices", type=int, default=200, metavar="N", help="phones in it, a sample; none: 200")
    timeline.add_argument("--out", type=Path, required=True, metavar="FILE", help="the trace, JSON, or .json.gz")
