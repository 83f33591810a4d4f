"""Composing: from Hydra's configuration to plain values. Nothing beside this package knows Hydra or OmegaConf."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fedsim.config.lines import shown
from fedsim.errors import FedsimError, InputError
from fedsim.files import shipped

OmegaConf.register_new_resolver("shipped", lambda name: str(shipped(name)), replace=True)

CONFIGS_VARIABLE = "FEDSIM_CONFIGS"  # folders with YAML of the user's own, separated as those of PATH are
SEARCH_PATH = "hydra.searchpath"
REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)  # of overrides, of a user's YAML


def users_folders() -> list[Path]:
    """The folders that FEDSIM_CONFIGS names; one that does not exist is an :class:`InputError`."""
    names = [name for name in os.environ.get(CONFIGS_VARIABLE, "").split(os.pathsep) if name]
    for name in names:
        if not Path(name).is_dir():
            allowed = f"folders with {os.pathsep!r} between them"
            raise InputError(f"{CONFIGS_VARIABLE} names a folder that does not exist", value=name, allowed=allowed)
    return [Path(name).absolute() for name in names]


class UsersConfigs(SearchPathPlugin):
    """Hydra looks for a file in the shipped folder first, then in those of FEDSIM_CONFIGS, then in hydra.searchpath.

    So a file of the user's own never replaces a shipped one of the same name: what an option means depends on no
    variable of the environment.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders where fedsim's configuration is composed; other applications of Hydra are let be."""
        if str(shipped("configs")) in [part.path for part in search_path.get_path()]:
            for folder in users_folders():
                search_path.append(CONFIGS_VARIABLE, f"file://{folder}")


Plugins.instance().register(UsersConfigs)


@contextmanager
def hydra_to_ourselves() -> Iterator[None]:
    """Hydra can be initialised once in a process: what a notebook or an application has made of it comes back."""
    mine, base = GlobalHydra.instance(), VersionBase.instance()
    hydra, version = mine.hydra, base.version_base
    mine.clear()
    try:
        yield
    finally:
        GlobalHydra.set_instance(mine)
        mine.hydra, base.version_base = hydra, version


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values of the shipped configuration with Hydra overrides; for code that is not Hydra's application."""
    try:
        with hydra_to_ourselves(), initialize_config_dir(version_base="1.3", config_dir=str(shipped("configs"))):
            config = compose("config", overrides=list(overrides))
    except (*REFUSALS, ValueError) as error:  # ValueError: Hydra's own, where a group is chosen by a number or null
        raise explained(error) from error
    return plain(config)


def explained(error: BaseException) -> FedsimError:
    """The error of ours behind Hydra's, or Hydra's own first words; a value that needs quotes is told so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FedsimError):
            return cause
        cause = cause.__cause__
    said = str(error) or str(error.__cause__)  # Hydra keeps silent where OmegaConf cannot read an interpolation
    text = " ".join(said.split("\nSee https")[0].split("\nConfig search path")[0].split())
    table = re.search(r"Could not find 'data/([^']+\.\w+)'", text)
    if table:
        allowed = "data=table data.path=FILE data.client=COLUMN data.label=COLUMN; see experiment=table"
        return InputError("data is no file", value=table[1], allowed=allowed)
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown and not is_hydras(unknown[1]):
        return _unknown_key(unknown[1], str(error.__cause__))
    if isinstance(error, OverrideParseException):
        allowed = _in_braces(error.override) or "'key=\"a & b\"': values with blanks or signs in quotes of their own"
        return InputError("override cannot be read", value=shown(error.override), allowed=allowed)
    return InputError(text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}…")


_LONGEST_TOLD = 600


def _in_braces(override: str) -> str | None:
    """The override in the form that Hydra's grammar has for keys that begin with a digit; None: it has no such key."""
    key, has_value, value = override.partition("=")
    first, *inner = key.split(".")
    n = next((n for n, name in enumerate(inner) if name[:1].isdigit()), None)
    if not has_value or n is None:
        return None
    for name in reversed(inner[n:]):
        value = f"{{{name}: {value}}}"
    return str(shown(f"{'.'.join([first, *inner[:n]])}={value}")) + ": a key that begins with a digit stands in braces"


def _unknown_key(key: str, reason: str) -> InputError:
    """Hydra advises to append a key that it does not know, which the schema would refuse: the nearest is told."""
    if f"full_key: {key}." in reason:  # a mapping that is the user's to fill, such as fleet.regions
        return InputError("a value with new names", value=key, allowed=f"+{key}={{…}} adds them to those there")
    near = [name for name in get_close_matches(key, list(_dotted_keys(composed([]))), 1) if name != key]
    return InputError("unknown key", value=key, allowed=f"did you mean {near[0]}?" if near else None)


def _dotted_keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _dotted_keys(value, f"{prefix}{name}.")


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved; missing values are refused."""
    try:
        missing = OmegaConf.missing_keys(config)
        if missing:
            raise InputError(f"{sorted(missing)[0]} must be given", value="???", where="the configuration")
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"the configuration cannot be resolved ({shown(str(error))})") from error
    return typing.cast("dict[str, Any]", values)


def as_yaml(values: dict[str, Any]) -> str:
    """Plain values as YAML that Hydra reads back as the same values."""
    return OmegaConf.to_yaml(OmegaConf.create(values))


def is_hydras(override: str) -> bool:
    """Whether an override speaks of Hydra itself and not of a value of the simulation."""
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))


def on_values(overrides: Sequence[str]) -> list[str]:
    """The overrides that the values come from: all but Hydra's own, of which only its search path matters."""
    return [text for text in overrides if not is_hydras(text) or text.lstrip("+").startswith(f"{SEARCH_PATH}=")]
