"""The registry of importers: what it promises is what the importers take."""

import inspect
import subprocess
import sys

import pytest

from fedsim.traces.importers import IMPORTERS
from fedsim.traces.importers.events import EventLog
from fedsim.traces.importers.sessions import SessionLog

GATHERED = {"events": EventLog, "sessions": SessionLog}  # what takes the options, where it is not the function


def test_all_sources_are_there() -> None:
    assert set(IMPORTERS) == {
        "flash", "fedscale", "stunner", "sessions", "events", "mapping", "propius", "flash_tables", "sabre", "ucc5g",
    }  # fmt: skip


@pytest.mark.parametrize("name", IMPORTERS)
def test_options_are_the_keywords_of_the_function(name: str) -> None:
    importer = IMPORTERS[name]
    takes = GATHERED.get(name, importer.function())
    keywords = [one for one in inspect.signature(takes).parameters.values() if one.name not in ("src", "dst")]  # type: ignore[arg-type]
    assert sorted(option.name for option in importer.options) == sorted(keyword.name for keyword in keywords)
    for option in importer.options:
        (keyword,) = (keyword for keyword in keywords if keyword.name == option.name)
        if option.is_required:
            assert keyword.default is inspect.Parameter.empty
        else:
            assert keyword.default == option.default
            assert option.default is None or not option.choices or option.default in option.choices


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_what_it_reads(name: str) -> None:
    importer = IMPORTERS[name]
    assert importer.help.endswith(".")
    assert len(importer.help) < 110
    assert (inspect.getmodule(importer.function()).__doc__ or "").count("\n") >= 3  # the format and its traps
    assert "InputError" in (importer.function().__doc__ or "")
    assert all(option.help for option in importer.options)


def test_the_registry_loads_nothing_heavy() -> None:
    code = "import sys; import fedsim.traces.importers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pyarrow", "pandas", "yaml"} & set(loaded)
