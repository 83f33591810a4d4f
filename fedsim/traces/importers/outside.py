"""Importers that other packages add, through entry points of the group ``fedsim.importers``.

Looking them up reads the metadata of every installed package, so it is done when it is asked for and not before. No
package is loaded before one of its importers is asked for by name: one that is broken does no harm to the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from fedsim.errors import InputError
from fedsim.traces.importers import IMPORTERS, Importer

GROUP = "fedsim.importers"


def outside_names() -> dict[str, str]:
    """The names of all importers of other packages, and who adds each."""
    entries = entry_points(group=GROUP)
    return {name: _packages(entries.select(name=name)) for name in sorted(entries.names)}


def outside_importer(name: str) -> Importer:
    """The importer that another package adds under a name, ready to be called.

    Raises:
        InputError: the name is one of ours, or two packages add it; it cannot be loaded, or is no :class:`Importer`.
    """
    found = list(entry_points(group=GROUP, name=name))
    where = _packages(found)
    if name in IMPORTERS:
        raise InputError("another package adds an importer under a name of ours", value=name, where=where)
    if len(found) != 1:
        raise InputError("an importer's name must be that of one package", value=name, where=where)
    try:
        importer = _opened(found[0])
    except Exception as error:  # a stranger's module can raise anything
        what = f"importer of another package cannot be loaded ({type(error).__name__}: {error})"
        raise InputError(what, value=name, where=where) from error
    if importer is None:
        allowed = "an Importer whose door is a function"
        raise InputError("entry point of another package is no importer", value=name, where=where, allowed=allowed)
    return importer


def _opened(entry: EntryPoint) -> Importer | None:
    """What the entry point names, if it is an importer whose door opens."""
    importer = entry.load()
    return importer if isinstance(importer, Importer) and callable(importer.function()) else None


def _packages(entries: Iterable[EntryPoint]) -> str:
    return ", ".join(sorted(map(_package, entries))) or "no package"


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"package {entry.dist.name} {entry.dist.version}"
