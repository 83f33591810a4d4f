"""``fedsim traces import``: a format is an importer, ours or another package's."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from fedsim.cli.commands import add_command, door
from fedsim.cli.trace_folders import add_target, require_new, show
from fedsim.errors import InputError
from fedsim.traces.importers import IMPORTERS, Importer

_OPTION = "importer_"  # before the names of an importer's own options, which may be called like ours


class LateParser(argparse.ArgumentParser):
    """A parser that ``complete`` finishes when its command is asked for; what that refuses, the command then says."""

    complete: Callable[[], None] | None = None

    def parse_known_args(self, *args: Any, **keywords: Any) -> Any:
        """As argparse's, after what is left to complete."""
        complete, self.complete = self.complete, None
        try:
            if complete is not None:
                complete()
        except InputError as error:
            return argparse.Namespace(action=partial(_refuse, error)), []
        return super().parse_known_args(*args, **keywords)


def _refuse(error: InputError, _: argparse.Namespace) -> NoReturn:
    raise error


def add_import(actions: Any) -> None:
    """Add the action to the command line; formats of other packages are looked up when it is asked for."""
    load = actions.add_parser("import", help="turn raw logs or measurements into a canonical folder")
    formats = load.add_subparsers(dest="format", required=True, metavar="FORMAT")
    for name, importer in IMPORTERS.items():
        _add_importer(add_command(formats, name, importer.help.rstrip("."), partial(_import, importer)), importer)
    load.complete = partial(_add_outside, formats)


def _add_importer(parser: argparse.ArgumentParser, importer: Importer) -> None:
    parser.add_argument("raw", type=Path, metavar="SRC", help="file or folder of that format")
    add_target(parser, "folder", "DST")
    _add_options(parser, importer)


def _add_outside(formats: Any) -> None:
    """The formats of other packages by name alone; what they take is read when they are asked for."""
    for name, package in door("fedsim.traces.importers.outside").outside_names().items():
        one = formats.choices.get(name) or formats.add_parser(name, help=f"added by {package}".replace("%", "%%"))
        one.complete = partial(_add_outside_importer, one, name)


def _add_outside_importer(parser: argparse.ArgumentParser, name: str) -> None:
    importer = door("fedsim.traces.importers.outside").outside_importer(name)
    parser.description = importer.help
    try:
        _add_importer(parser, importer)
        parser.set_defaults(action=partial(_import, importer))
    except (argparse.ArgumentError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"options of another package's importer cannot be used ({error})", value=name) from error


def _add_options(parser: argparse.ArgumentParser, importer: Importer) -> None:
    for option in importer.options:
        default = "" if option.default is None or "default" in option.help else f" (default: {option.default})"
        parser.add_argument(
            "--" + option.name.replace("_", "-"),
            dest=_OPTION + option.name,
            type=option.type,
            default=option.default,
            choices=option.choices or None,
            required=option.is_required,
            metavar=None if option.choices else option.name.upper(),
            help=(option.help + default).replace("%", "%%"),
        )


def _import(importer: Importer, arguments: argparse.Namespace) -> None:
    require_new(arguments.folder, force=arguments.force)
    options = {option.name: getattr(arguments, _OPTION + option.name) for option in importer.options}
    importer(arguments.raw, arguments.folder, **options)
    show(arguments.folder)
