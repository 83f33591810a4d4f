"""Checked construction: a class or function is called with plain values, each held against its signature first."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from fedsim.errors import InputError
from fedsim.moved import moved_to


def named(target: str, key: str) -> Callable[..., Any]:
    """The class or function behind a dotted name."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        if (now := moved_to(target)) is not None:
            raise InputError(f"{key}._target_ has moved", value=target, allowed=now) from error
        raise InputError(f"{key}._target_ cannot be found", value=target) from error
    return typing.cast("Callable[..., Any]", found)


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value suits a parameter's annotation."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint if isinstance(hint, type) else type(None))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(fits(item, get_args(hint)[1]) for item in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    return True


def _allowed(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(str(option) for option in get_args(hint))
    return getattr(hint, "__name__", str(hint).replace("None", "null"))


def build(values: Mapping[str, Any], key: str, *, target: Callable[..., Any] | None = None, **given: Any) -> Any:
    """Call the ``_target_`` (or ``target``) with the values, after checking names and types against its signature.

    ``given`` are parts that code supplies where the signature asks for them; a configuration may not set them.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{key} must be a group of values", value=values, allowed=f"{key.replace('.', '/')}=OPTION")
    arguments = {name: value for name, value in values.items() if name != "_target_"}
    if target is None:
        if "_target_" not in values:
            raise InputError(f"{key}._target_ must be given", where="the configuration")
        target = named(values["_target_"], key)
    signature = inspect.signature(target).parameters
    given = {name: part for name, part in given.items() if name in signature}
    parameters = {name: p for name, p in signature.items() if name not in given}
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    for name, value in arguments.items():
        if name not in parameters:
            raise InputError("unknown key", value=f"{key}.{name}", allowed=", ".join(parameters))
        if name in hints and not fits(value, hints[name]):
            raise InputError(f"{key}.{name} has the wrong type", value=value, allowed=_allowed(hints[name]))
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise InputError(f"{key}.{missing[0]} must be given", where="the configuration")
    return target(**arguments, **given)


def part(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a nested group out of its parent's values."""
    part = values.pop(name)
    if not isinstance(part, dict):
        raise InputError(f"{name} must be a group of values", value=part)
    return part
