"""Composing: from Hydra's configuration to plain values. Nothing beside this package knows Hydra or OmegaConf."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedsim.errors import FedsimError, InputError
from fedsim.files import shipped

OmegaConf.register_new_resolver("shipped", lambda name: str(shipped(name)), replace=True)


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Plain values of the shipped configuration with Hydra overrides; for code that is not Hydra's application."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(shipped("configs"))):
            config = compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error) from error
    return plain(config)


def explained(error: BaseException) -> FedsimError:
    """The error of ours behind Hydra's, or Hydra's own first words; a value that needs quotes is told so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FedsimError):
            return cause
        cause = cause.__cause__
    text = " ".join(str(error).split("\nSee https")[0].split())
    if isinstance(error, OverrideParseException):
        quoted = "'key=\"a & b\"': values with blanks or signs in quotes of their own"
        return InputError("override cannot be read", value=error.override, allowed=quoted)
    return InputError(text)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved; missing values are refused."""
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise InputError(f"{sorted(missing)[0]} must be given", value="???", where="the configuration")
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"the configuration cannot be resolved ({error})") from error
    return typing.cast("dict[str, Any]", values)
