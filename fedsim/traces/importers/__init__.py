"""Importers: raw logs of one format in, a canonical trace set out.

An importer is a function ``(src, dst)``; the first line of its docstring is what the command line says about it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from fedsim.traces.importers.fedscale import import_fedscale
from fedsim.traces.importers.flash import import_flash

Importer = Callable[[Path, Path], None]

IMPORTERS: Mapping[str, Importer] = {"flash": import_flash, "fedscale": import_fedscale}
