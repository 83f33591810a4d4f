"""The commands ``fedsim traces …``: import, validate, show, criteria, compare, debounce, resample, merge, fit …"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fedsim.cli.commands import add_command, door
from fedsim.cli.trace_folders import (
    add_target,
    is_measurements,
    load,
    print_rich,
    require_files,
    require_new,
    rows_text,
    show,
)
from fedsim.cli.traces_import import LateParser, add_import
from fedsim.errors import InputError, printable


def add_traces(commands: Any) -> None:
    """Add ``traces`` and its actions to the command line."""
    traces = commands.add_parser("traces", help="import, look at, change and make device traces")
    actions = traces.add_subparsers(dest="traces_command", required=True, metavar="ACTION", parser_class=LateParser)
    add_import(actions)
    validate = add_command(actions, "validate", "check every rule of the canonical format", _validate)
    validate.add_argument("folder", type=Path, metavar="DIR")
    _add_show(actions)
    _add_criteria(actions)
    _add_debounce(actions)
    _add_resample(actions)
    merge = add_command(actions, "merge", "put trace sets together", _merge)
    merge.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="two sets or more")
    add_target(merge, "to", "DST")
    _add_compare(actions)
    _add_fit(actions)
    _add_synthesize(actions)


def _add_show(actions: Any) -> None:
    show = add_command(actions, "show", "what a trace set holds, as a table and as a page of figures", _show_page)
    show.add_argument("folder", type=Path, metavar="DIR")
    show.add_argument("--page", type=Path, metavar="FILE.html", help="also write a page of figures")
    show.add_argument("--rule", help="who is eligible on the page (default: charging & network == wifi & locked)")
    _add_unknown(show)


def _add_criteria(actions: Any) -> None:
    text = "who is left under eligibility rules: alone, together, one after the other and by hour"
    criteria = add_command(actions, "criteria", text, _criteria)
    criteria.add_argument("folder", type=Path, metavar="DIR")
    rule = "for example 'charging & network == wifi'; 'battery >= {20,50,80}' stands for three rules"
    criteria.add_argument("rules", nargs="+", metavar="RULE", help=rule)
    base = "what counts as all, its unbroken times as sessions, such as screen (default: all of every trace, by days)"
    criteria.add_argument("--base", metavar="RULE", help=base)
    criteria.add_argument("--json", action="store_true", help="print JSON")
    criteria.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as CSV")
    criteria.add_argument("--page", type=Path, metavar="FILE.html", help="also write a page of figures")
    _add_unknown(criteria)


def _add_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unknown", choices=("ineligible", "eligible"), default="ineligible", help="what an unknown value means"
    )


def _add_debounce(actions: Any) -> None:
    debounce = add_command(actions, "debounce", "close short gaps of an on-off channel", _debounce)
    debounce.add_argument("folder", type=Path, metavar="DIR")
    add_target(debounce, "to", "DST")
    debounce.add_argument("--gap-s", type=float, required=True, help="longest gap that is closed, in seconds")
    debounce.add_argument("--channel", default="available", help="on-off channel (default available)")


def _add_resample(actions: Any) -> None:
    resample = add_command(actions, "resample", "draw whole devices with replacement", _resample)
    resample.add_argument("folder", type=Path, metavar="DIR")
    add_target(resample, "to", "DST")
    resample.add_argument("--devices", type=int, required=True, help="how many to draw")
    resample.add_argument("--seed", type=int, default=0)


def _add_compare(actions: Any) -> None:
    text = "how well one set stands for another: distances of shares, hours, session lengths, autocorrelation"
    compare = add_command(actions, "compare", text, _compare)
    compare.add_argument("folder", type=Path, metavar="DIR", help="the set that is to stand")
    compare.add_argument("real", type=Path, metavar="REAL", help="for this one")
    _add_comparison(compare)


def _add_fit(actions: Any) -> None:
    text = "estimate the generator's parameters from a trace set, and tell how near synthetic phones come to it"
    fit = add_command(actions, "fit", text, _fit)
    fit.add_argument("folder", type=Path, metavar="DIR")
    fit.add_argument("file", type=Path, metavar="PARAMETERS.json", help="file to write")
    held_out = "share of the phones that the fit does not see and is held against (default 0: against all)"
    fit.add_argument("--held-out", type=float, default=0.0, metavar="SHARE", help=held_out)
    fit.add_argument("--seed", type=int, default=0, help="of the held-out phones and the synthetic ones")
    _add_comparison(fit)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    rule = (
        "eligibility rule under which to compare, may be repeated (default: FLASH's and two wider ones, or available)"
    )
    parser.add_argument("--rule", action="append", dest="rules", metavar="RULE", help=rule)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="also write the table as Markdown")


def _add_synthesize(actions: Any) -> None:
    make = add_command(actions, "synthesize", "generate traces of phones", _synthesize)
    add_target(make, "folder", "DIR")
    parameters = "what `fedsim traces fit` wrote (default: the parameters of the reference set)"
    make.add_argument("--parameters", type=Path, metavar="FILE.json", help=parameters)
    make.add_argument("--devices", type=int, default=200, help="base traces (default 200)")
    make.add_argument("--days", type=int, default=7, help="whole days (default 7)")
    make.add_argument("--seed", type=int, default=0)


def _validate(arguments: argparse.Namespace) -> None:
    if is_measurements(arguments.folder):
        tables = door("fedsim.traces.measurements").Measurements.load(arguments.folder).tables
        print(f"OK: {rows_text(tables)}")
        return
    traces = load(arguments.folder)
    n_hardware = 0 if traces.hardware is None else traces.hardware.num_rows
    print(
        f"OK: {traces.n:,} devices, {len(traces.events):,} events of {', '.join(traces.channels()) or 'no channel'}, "
        f"{traces.period_ms.sum() / 86_400_000:,.0f} device-days, {n_hardware:,} hardware classes"
    )


def _show_page(arguments: argparse.Namespace) -> None:
    if arguments.rule and not arguments.page:
        raise InputError("--rule is for the page", value=arguments.rule, allowed="together with --page FILE.html")
    require_files(arguments.page)
    show(arguments.folder)
    if arguments.page:
        traces, portrait = load(arguments.folder), door("fedsim.traces.statistics.portrait")
        parse = door("fedsim.traces.rule").Rule.parse
        rule = parse(arguments.rule) if arguments.rule else portrait.default_rule(traces)
        numbers = portrait.portrait(traces, rule, unknown=arguments.unknown)
        print(printable(str(door("fedsim.report.trace_page").write_trace_page(arguments.page, numbers))))


def _criteria(arguments: argparse.Namespace) -> None:
    require_files(arguments.page, arguments.csv)
    sweep = door("fedsim.traces.statistics.sweep").expand(arguments.rules)
    base = None if arguments.base is None else door("fedsim.traces.rule").Rule.parse(arguments.base)
    traces, text = load(arguments.folder), door("fedsim.traces.statistics.criteria_text")
    table = door("fedsim.traces.statistics.stats").criteria_table(
        traces, sweep.rules, unknown=arguments.unknown, base=base, combinations=sweep.combinations
    )
    if arguments.csv:
        door("fedsim.files").write_text(arguments.csv, text.criteria_csv(table))
    if arguments.page:
        door("fedsim.report.criteria_page").write_criteria_page(arguments.page, table, traces.provenance)
    if arguments.json:
        print(json.dumps(table, indent=2))
    else:
        print_rich(text.render_criteria(table))


def _debounce(arguments: argparse.Namespace) -> None:
    require_new(arguments.to, force=arguments.force)
    change = door("fedsim.traces.edit.debounce").debounce
    _write(change(load(arguments.folder), gap_s=arguments.gap_s, channel=arguments.channel), arguments.to)


def _resample(arguments: argparse.Namespace) -> None:
    require_new(arguments.to, force=arguments.force)
    change = door("fedsim.traces.edit.resample").resample
    _write(change(load(arguments.folder), n_devices=arguments.devices, seed=arguments.seed), arguments.to)


def _merge(arguments: argparse.Namespace) -> None:
    require_new(arguments.to, force=arguments.force)
    _write(door("fedsim.traces.edit.merge").merge([load(folder) for folder in arguments.folders]), arguments.to)


def _write(traces: Any, folder: Path) -> None:
    """Save a changed set, say what was done, and show it."""
    door("fedsim.traces.folder").save_traces(traces, folder)
    print(traces.provenance["transforms"][-1])
    show(folder)


def _compare(arguments: argparse.Namespace) -> None:
    require_files(arguments.markdown)
    made, real = ((str(folder), load(folder)) for folder in (arguments.folder, arguments.real))
    _tell(door("fedsim.traces.generator.compare").compare(made, real, _rules(arguments, real[1])), arguments)


def _fit(arguments: argparse.Namespace) -> None:
    require_files(arguments.file, arguments.markdown)
    traces = load(arguments.folder)
    fitted, comparisons = door("fedsim.traces.generator.compare").fit_and_compare(
        traces,
        _rules(arguments, traces),
        source=traces.provenance.get("source", arguments.folder.name),
        held_out_share=arguments.held_out,
        seed=arguments.seed,
    )
    fitted.save(arguments.file)
    _tell(comparisons, arguments)


def _rules(arguments: argparse.Namespace, traces: Any) -> Any:
    if arguments.rules:
        return [door("fedsim.traces.rule").Rule.parse(text) for text in arguments.rules]
    return door("fedsim.traces.generator.compare").default_rules(traces)


def _tell(comparisons: Any, arguments: argparse.Namespace) -> None:
    """Print what was compared, and write it where it is asked for."""
    text = door("fedsim.traces.generator.compare")
    if arguments.markdown:
        door("fedsim.files").write_text(arguments.markdown, text.markdown_comparisons(comparisons))
    if arguments.json:
        print(json.dumps(text.json_comparisons(comparisons), indent=2))
    else:
        print_rich(text.render_comparisons(comparisons))


def _synthesize(arguments: argparse.Namespace) -> None:
    require_new(arguments.folder, force=arguments.force)
    generators = door("fedsim.traces.generator.generators")
    population = generators.load_generator(arguments.parameters or generators.REFERENCE)
    made = generators.generate(population, n_devices=arguments.devices, n_days=arguments.days, seed=arguments.seed)
    door("fedsim.traces.folder").save_traces(made, arguments.folder)
    show(arguments.folder)
