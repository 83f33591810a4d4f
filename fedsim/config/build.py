"""Checked construction: a class or function is called with plain values, each held against its signature first."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fedsim.config.lines import FINITE, INT64, dotted, shown
from fedsim.config.roles import Role, named
from fedsim.errors import InputError
from fedsim.files import shipped
from fedsim.ranges import Range

_NOTHING = inspect.Parameter.empty


@dataclass(frozen=True)
class Key:
    """What a parameter takes: its annotation (:class:`typing.Any` without one), and whether it must be given."""

    hint: Any
    is_required: bool


def fits(value: Any, hint: Any, *, of_any_size: bool = False) -> bool:
    """Whether a YAML value suits a parameter's annotation: its type, and its range unless it may be ``of_any_size``."""
    origin, options = get_origin(hint), get_args(hint)

    def inner(value: Any, hint: Any) -> bool:
        return fits(value, hint, of_any_size=of_any_size)

    def holds(value: Any, *ranges: Any) -> bool:
        return of_any_size or all(each.holds(value) for each in ranges if isinstance(each, Range))

    if origin is Annotated:
        return inner(value, hint.__origin__) and holds(value, *hint.__metadata__)
    if origin in (Union, types.UnionType):
        plain = [option for option in options if _is_plain(option)]
        return any(inner(value, option) for option in (options if set(plain) <= {type(None)} else plain))
    if origin is Literal:
        return isinstance(value, str) and value in options
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and holds(value, FINITE)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and holds(value, INT64)
    if hint in (str, Path):
        return isinstance(value, str)
    if hint in (bool, type(None)):
        return isinstance(value, hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(inner(item, options[1]) for item in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(inner(item, options[0]) for item in value)
    return True


def _is_plain(hint: Any) -> bool:
    """Whether YAML can give it; the other classes of a union are for parts that code gives."""
    origin = get_origin(hint)
    is_container = isinstance(origin, type) and issubclass(origin, Mapping | Sequence)
    return hint in _WORDS or is_container or origin in (Annotated, Literal, Union, types.UnionType)


def told(hint: Any) -> str:
    """An annotation in words for the user."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{told(hint.__origin__)} {' '.join(map(str, hint.__metadata__))}"
    if origin in (Union, types.UnionType):
        return ", or ".join(told(option) for option in options)
    if origin is Literal:
        return ", ".join(map(str, options))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a group of names" + ("" if options[1] is Any else f", each with {told(options[1])}")
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list, each {told(options[0])}"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))


_WORDS = {
    float: "a number", int: "a whole number", str: "a text", Path: "a path", bool: "true, false", type(None): "null",
}  # fmt: skip


def keys_of(target: Any) -> dict[str, Key]:
    """What a class, a function or a typed dictionary takes by name; a name of ``**`` is no key."""
    hints = _hints(target)
    if typing.is_typeddict(target):
        is_free = {name: get_origin(hint) is typing.NotRequired for name, hint in hints.items()}
        return {
            name: Key(get_args(hint)[0] if is_free[name] else hint, not is_free[name]) for name, hint in hints.items()
        }
    found = _signature(target)
    return {
        name: Key(hints.get(name, Any), parameter.default is _NOTHING)
        for name, parameter in found.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def takes_any(target: Any) -> bool:
    """Whether a class or function takes keys of any name."""
    is_typed = typing.is_typeddict(target)
    return not is_typed and any(parameter.kind is parameter.VAR_KEYWORD for parameter in _signature(target).values())


def _signature(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError) as error:
        raise InputError("a class does not tell what it takes", value=getattr(target, "__name__", target)) from error


def _hints(target: Any) -> dict[str, Any]:
    """Annotations, with their ranges; a dataclass has those of its fields, wherever they were written."""
    sources = [target] if not isinstance(target, type) else []
    if isinstance(target, type):
        is_by_field = dataclasses.is_dataclass(target) or typing.is_typeddict(target)
        sources = [getattr(target, "__init__"), *([target] if is_by_field else [])]  # noqa: B009
    hints: dict[str, Any] = {}
    for source in sources:
        try:
            hints |= typing.get_type_hints(source, include_extras=True)
        except (NameError, TypeError, AttributeError):  # a class of the user's own, annotated for type checkers alone
            continue
    return hints


def check_value(value: Any, hint: Any, key: str) -> None:
    """Refuse a value that does not fit its annotation."""
    if not fits(value, hint):
        raise InputError(f"{key}{_what(value, hint)}", value=shown(value), allowed=told(hint))


def _what(value: Any, hint: Any) -> str:
    if get_origin(hint) is Literal and isinstance(value, str):
        return " is unknown"
    return "" if fits(value, hint, of_any_size=True) else " has the wrong type"


def check_keys(
    values: Any,
    key: str,
    keys: Mapping[str, Key],
    *,
    is_open: bool = False,
    also: Collection[str] = (),
    hint: str | None = None,
) -> None:
    """Hold a group of values against the keys it may have; those of ``also`` are checked elsewhere.

    ``hint`` tells where a key that is missing may come from.
    """
    for name, value in values.items():
        if name in keys:
            check_value(value, keys[name].hint, dotted(key, name))
        elif name not in also and not is_open:
            raise InputError("unknown key", value=shown(dotted(key, name)), allowed=_instead(name, [*keys, *also]))
    missing = [name for name, known in keys.items() if known.is_required and name not in values]
    if missing:
        raise InputError(f"{dotted(key, missing[0])} must be given", where="the configuration", allowed=hint)


def _instead(name: object, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), names, n=1)
    return ", ".join(names) + (f"; did you mean {close[0]}?" if close else "")


def check_group(values: Any, key: str) -> None:
    """Refuse a number, a list or null where a group of values belongs."""
    if not isinstance(values, Mapping):
        group = key.replace(".", "/")
        allowed = f"{group}=OPTION" if shipped("configs", group).is_dir() else "keys, each with its value"
        raise InputError(f"{key} must be a group of values", value=shown(values), allowed=allowed)


def target_of(values: Mapping[str, Any], key: str, role: Role | None) -> Callable[..., Any]:
    """The class that ``_target_`` names, which must be one of the role if there is one."""
    if "_target_" not in values:
        raise InputError(f"{key}._target_ must be given", where="the configuration")
    target = named(values["_target_"], key)
    if role is not None:
        role.check_target(target, key, values["_target_"])
    return target


def build(
    values: Mapping[str, Any],
    key: str,
    *,
    role: Role | None = None,
    target: Callable[..., Any] | None = None,
    **given: Any,
) -> Any:
    """Call ``target``, or the ``_target_`` of a role, with the values after checking them against its signature.

    ``given`` are parts that code supplies where the signature asks for them; a configuration may not set them.
    """
    check_group(values, key)
    if target is None:
        target = target_of(values, key, role)
    arguments = {name: value for name, value in values.items() if name != "_target_"}
    keys = keys_of(target)
    given = {name: part for name, part in given.items() if name in keys}
    free = {name: known for name, known in keys.items() if name not in given}
    check_keys(arguments, key, free, is_open=takes_any(target) and not given.keys() & arguments.keys())
    built = target(**arguments, **given)
    if role is not None:
        role.check(built, key, values["_target_"])
    return built


def part(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a nested group out of its parent's values."""
    part = values.pop(name)
    if not isinstance(part, dict):
        raise InputError(f"{name} must be a group of values", value=part)
    return part
