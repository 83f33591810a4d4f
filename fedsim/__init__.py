"""A discrete-event fleet simulator for cross-device federated learning.

``simulate`` plays a run in this process, ``open_run`` opens one from its files: a ``Run`` with pandas frames.
``open_runs`` opens several, of whole sweeps too.
These names and the version are looked up when they are first used (a lazy door): ``import fedsim`` loads nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedsim.errors import FedsimError, InputError, SimulationError
from fedsim.moved import answer_imports

if TYPE_CHECKING:
    from fedsim.config.play import simulate
    from fedsim.results.run import Run, open_run
    from fedsim.results.runs import Runs, open_runs

    __version__: str

__all__ = [
    "FedsimError",
    "InputError",
    "Run",
    "Runs",
    "SimulationError",
    "__version__",
    "open_run",
    "open_runs",
    "simulate",
]

_PLACES = {
    "simulate": "fedsim.config.play",
    "Run": "fedsim.results.run",
    "open_run": "fedsim.results.run",
    "Runs": "fedsim.results.runs",
    "open_runs": "fedsim.results.runs",
}

answer_imports()


def _named(name: str) -> Any:
    if name == "__version__":
        found: Any = _version()
    elif name in _PLACES:
        found = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


globals()["__getattr__"] = _named  # set so that type checkers do not take any name for granted


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """Of the installed distribution; from a source tree that is not installed it cannot be known."""
    metadata = importlib.import_module("importlib.metadata")  # ten times as slow as the rest of this file
    try:
        return str(metadata.version("fedsim-fleet"))
    except metadata.PackageNotFoundError:
        return "0+not.installed"
