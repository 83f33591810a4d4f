"""The command ``fedsim``: run, traces, report, tables, bench, completion.

Modules that are slow to import are imported where a sub-command needs them (the documented lazy
doors), so that ``fedsim --help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedsim.errors import FedsimError, InputError

RUN_HELP = """\
Run one simulation, or with -m a sweep.

  fedsim run                                   the main job with the shipped defaults
  fedsim run server=buffered seed=7            another protocol, another seed
  fedsim run training=none fleet.n_devices=1_000_000_000
  fedsim run -m seed=0,1,2 server.over_selection=1.0,1.3
  fedsim run --cfg job                         show the configuration instead of running it
  fedsim run --info defaults-tree              show where each value comes from

Overrides are Hydra's: `group=option` chooses a file of configs/, `key=value` sets a value.
Results go to runs/<date>/<time>/ (a sweep: multirun/); choose with hydra.run.dir=DIR."""

_FORMATS = ("flash", "fedscale")


def _door(module: str) -> Any:
    return importlib.import_module(module)


def _import(arguments: argparse.Namespace) -> None:
    importers = _door("fedsim.traces.importers").IMPORTERS
    if arguments.format not in importers:
        raise InputError("unknown trace format", value=arguments.format, allowed=", ".join(importers))
    importers[arguments.format](arguments.source, arguments.folder)
    _show(arguments)


def _show(arguments: argparse.Namespace) -> None:
    canonical, overview = _door("fedsim.traces.canonical"), _door("fedsim.traces.overview")
    table = overview.show_table(canonical.TraceSet.load(arguments.folder))
    _door("rich.console").Console().print(overview.render_show(table))


def _criteria(arguments: argparse.Namespace) -> None:
    canonical, stats = _door("fedsim.traces.canonical"), _door("fedsim.traces.stats")
    rules = [_door("fedsim.traces.rule").Rule.parse(text) for text in arguments.rules]
    table = stats.criteria_table(canonical.TraceSet.load(arguments.folder), rules, unknown=arguments.unknown)
    if arguments.json:
        print(_door("json").dumps(table, indent=2))
    else:
        _door("rich.console").Console().print(stats.render_criteria(table))


def _synthesize(arguments: argparse.Namespace) -> None:
    synthesis = _door("fedsim.traces.synthesis")
    synthesis.write_reference(arguments.folder, n_devices=arguments.devices, n_days=arguments.days, seed=arguments.seed)
    _show(arguments)


def _report(arguments: argparse.Namespace) -> None:
    print(_door("fedsim.report.html").write_report(arguments.folder))


def _bench(arguments: argparse.Namespace) -> None:
    _door("fedsim.bench").main(arguments.names, json_file=arguments.json)


def _tables(arguments: argparse.Namespace) -> None:
    schema = _door("fedsim.schema")
    print("\n\n".join(schema.describe(table) for table in (*schema.RUN_TABLES, *schema.TRACE_TABLES)))


def _completion(arguments: argparse.Namespace) -> None:
    print(_door("shtab").complete(parser(), shell=arguments.shell))


def _run(arguments: argparse.Namespace) -> None:
    _door("fedsim.run").main(arguments.overrides)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="fedsim",
        description="Simulate cross-device federated learning on a fleet of phones before any is asked: "
        "who is eligible, how long training takes, and what it costs.",
        epilog="Start with `fedsim run`. Every sub-command has its own --help.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_traces(commands)
    report = _add(commands, "report", "write report.html from a run's tables", _report)
    report.add_argument("folder", type=Path, metavar="RUN_DIR", help="a finished run")
    _add(commands, "tables", "the schema of every table fedsim reads and writes", _tables)
    bench = _add(commands, "bench", "measure speed and memory against baselines in one run", _bench)
    bench.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; none: all (see the table's rows)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    completion = _add(commands, "completion", "print a completion script for your shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return root


def _add(commands: Any, name: str, text: str, action: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    sub.set_defaults(action=action)
    return sub


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a simulation or a sweep",
        description=RUN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("overrides", nargs=argparse.REMAINDER, metavar="OVERRIDE", help="Hydra overrides and flags")
    run.set_defaults(action=_run)


def _add_traces(commands: Any) -> None:
    traces = commands.add_parser("traces", help="import, look at and make device traces")
    actions = traces.add_subparsers(dest="traces_command", required=True, metavar="ACTION")
    load = _add(actions, "import", "turn raw logs into a canonical trace set", _import)
    load.add_argument("format", metavar="FORMAT", choices=_FORMATS, help=", ".join(_FORMATS))
    load.add_argument("source", type=Path, metavar="SRC", help="file or folder of that format")
    load.add_argument("folder", type=Path, metavar="DST", help="folder to write")
    show = _add(actions, "show", "what a trace set holds", _show)
    show.add_argument("folder", type=Path, metavar="DIR")
    criteria = _add(actions, "criteria", "who is left under eligibility rules, alone and together", _criteria)
    criteria.add_argument("folder", type=Path, metavar="DIR")
    criteria.add_argument("rules", nargs="+", metavar="RULE", help="for example 'charging & network == wifi & locked'")
    criteria.add_argument("--json", action="store_true", help="print JSON")
    criteria.add_argument(
        "--unknown", choices=("ineligible", "eligible"), default="ineligible", help="what an unknown value means"
    )
    make = _add(actions, "synthesize", "generate traces with the reference model", _synthesize)
    make.add_argument("folder", type=Path, metavar="DIR")
    make.add_argument("--devices", type=int, default=200, help="base traces (default 200)")
    make.add_argument("--days", type=int, default=7, help="whole days (default 7)")
    make.add_argument("--seed", type=int, default=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 2 for bad input, 3 for a simulation that cannot go on."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["run"] and not {"-h", "--help"} & set(words[1:2]):
        arguments = argparse.Namespace(action=_run, overrides=words[1:])  # argparse would eat Hydra's flags
    else:
        arguments = parser().parse_args(words)
    try:
        arguments.action(arguments)
    except FedsimError as error:
        print(f"fedsim: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 3
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
