"""The command ``fedsim`` and its sub-commands.

Modules that are slow to import are imported where a sub-command needs them (the documented lazy
doors), so that ``fedsim --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fedsim
from fedsim.cli.commands import add_command, door
from fedsim.cli.data_folders import add_data
from fedsim.cli.decisions import add_decide
from fedsim.cli.of_runs import add_of_runs
from fedsim.cli.outcome import EXIT_CODES, ended
from fedsim.cli.plans import add_plan
from fedsim.cli.traces import add_traces

RUN_HELP = """\
Run one simulation, or with -m a sweep.

  fedsim run                                   the main job with the shipped defaults
  fedsim run server=buffered seed=7            another protocol, another seed
  fedsim run training=none fleet.n_devices=1_000_000_000
  fedsim run -m seed=0,1,2 server.over_selection=1.0,1.3
  fedsim run --cfg job                         show the configuration instead of running it
  fedsim run --info defaults-tree              show where each value comes from
  FEDSIM_CONFIGS=DIR fedsim run model=mine     a YAML of your own, DIR/model/mine.yaml; or hydra.searchpath=[DIR]

Overrides are Hydra's: `group=option` chooses a file of configs/, `key=value` sets a value.
Results go to runs/<date>/<time>/ (a sweep: multirun/); choose with hydra.run.dir=DIR."""


COST_HELP = """\
What a task costs every kind of phone: seconds, memory, bytes, joules, battery, feasible or not.

  fedsim cost                                  the default task on phones of the default latency
  fedsim cost model=cnn_digits training.local.epochs=3 --hardware traces/local/flash_tables
  fedsim cost device/compute=measured --hardware TABLE   another law of time: inference, measured, flops, fixed
  fedsim cost --model-size 1.4MB,5MB,20MB      models of these sizes, of the kind that is configured, beside each other
  fedsim cost model=clicks data=clicks training.loss=binary_cross_entropy features=clicks
  fedsim cost cost.n_examples=100 cost.limits.max_session_s=600
  FEDSIM_CONFIGS=DIR fedsim cost model=mine    any model: a YAML of your own, DIR/model/mine.yaml
  fedsim cost model=cnn_digits --measure DIR   time it here, for device/compute=measured device.compute.profiles=DIR

Overrides are those of `fedsim run`; they stand before the options."""


def _cost(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.cost").main(
        arguments.overrides,
        hardware=arguments.hardware,
        model_size=arguments.model_size,
        json_file=arguments.json,
        csv_file=arguments.csv,
        measure_folder=arguments.measure,
    )


def _bench(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.bench").main(arguments.names, json_file=arguments.json)


def _tables(arguments: argparse.Namespace) -> None:
    schema = door("fedsim.schema")
    tables = (*schema.RUN_TABLES, *schema.RESULT_TABLES, *schema.TRACE_TABLES, *schema.MEASUREMENT_TABLES)
    print("\n\n".join(map(schema.describe, tables)))


def _completion(arguments: argparse.Namespace) -> None:
    print(door("shtab").complete(parser(), shell=arguments.shell))


def _run(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.run").main(arguments.overrides)


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"fedsim {fedsim.__version__}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="fedsim",
        description="Simulate cross-device federated learning on a fleet of phones before any is asked: "
        "who is eligible, how long training takes, and what it costs.",
        epilog="Start with `fedsim run`. Every sub-command has its own --help.\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    add_traces(commands)
    _add_cost(commands)
    add_data(commands)
    add_of_runs(commands)
    add_decide(commands)
    add_plan(commands)
    add_command(commands, "tables", "the schema of every table fedsim reads and writes", _tables)
    bench = add_command(commands, "bench", "measure speed and memory against baselines in one run", _bench)
    bench.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; none: all (see the table's rows)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    completion = add_command(commands, "completion", "print a completion script for your shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return root


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a simulation or a sweep",
        description=RUN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("overrides", nargs=argparse.REMAINDER, metavar="OVERRIDE", help="Hydra overrides and flags")
    run.set_defaults(action=_run)


def _add_cost(commands: Any) -> None:
    cost = commands.add_parser(
        "cost",
        help="what a task costs every kind of phone, and which can do it",
        description=COST_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cost.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="Hydra overrides")
    cost.add_argument(
        "--hardware", type=Path, metavar="TABLE", help="hardware table: a Parquet file, or a folder of one"
    )
    cost.add_argument(
        "--model-size", metavar="SIZE,…",
        help="models of so many bytes to download (5MB, 500kB; several: compared), of the configured kind",
    )  # fmt: skip
    cost.add_argument("--json", type=Path, metavar="FILE", help="also write task, summary and every class as JSON")
    cost.add_argument("--csv", type=Path, metavar="FILE", help="also write every class as CSV")
    cost.add_argument("--measure", type=Path, metavar="DIR", help="time the model here and write its profile instead")
    cost.set_defaults(action=_cost)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (:data:`fedsim.cli.outcome.EXIT_CODES`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["run"] and not {"-h", "--help"} & set(words[1:2]):
        arguments = argparse.Namespace(action=_run, overrides=words[1:])  # argparse would eat Hydra's flags
    else:
        arguments = parser().parse_args(words)
    return ended(lambda: arguments.action(arguments))


if __name__ == "__main__":
    sys.exit(main())
