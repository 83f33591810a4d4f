"""What a ``_target_`` may name: a class of the kind that its place in the configuration needs, nothing that acts."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fedsim.config.lines import shown
from fedsim.errors import InputError
from fedsim.moved import moved_to

_FOREIGN = sys.stdlib_module_names | {"hydra", "omegaconf"}  # they would call what they are told to


@dataclass(frozen=True)
class Role:
    """A place in the configuration: the methods of what is built there, and what it must know besides."""

    name: str
    methods: tuple[str, ...]
    attributes: tuple[str, ...] = ()

    def check_target(self, target: Callable[..., Any], key: str, said: object) -> None:
        """Refuse, before it is called, what cannot make such an object."""
        made = target if isinstance(target, type) else _hint_of_return(target)
        if not isinstance(made, type) or not all(hasattr(made, name) for name in self.methods):
            raise self._refused(key, said)

    def check(self, built: object, key: str, said: object) -> None:
        """Refuse what was built if something is missing that only an object has."""
        if not all(hasattr(built, name) for name in (*self.methods, *self.attributes)):
            raise self._refused(key, said)

    def _refused(self, key: str, said: object) -> InputError:
        allowed = (
            f"a class, or a function that says it returns one, with {', '.join((*self.methods, *self.attributes))}"
        )
        return InputError(f"{key} is no {self.name}", value=said, allowed=allowed)


COORDINATOR = Role("coordinator", ("start",), ("name", "max_staleness"))
SELECTOR = Role("selector", ("start",), ("keeps_participations",))
AGGREGATOR = Role("aggregator", ("start",))
HOLDERS = Role("holders", ("client_of",))
GATE = Role("gate", ("admits", "share", "share_by_trace"))
COMPUTE = Role("law of training time", ("train_s",))
NETWORK = Role("network", ("download", "upload", "level"))
ENERGY = Role("energy model", ("compute_watts", "receive_watts", "send_watts"))
PHONES = Role("fleet of phones", ("row_of", "inference_ms"), ("models", "compute_w", "bytes_per_s"))
DATA = Role("data set", ("n_examples", "fetch", "held_out", "sha256"), ("n_clients",))
LOCAL_WORK = Role("local work", ("n_steps", "batches"), ("epochs", "batch_size"))
TRAINER = Role("trainer", ("step", "evaluate"), ("is_training", "n_parameters", "version"))
SERVER_OPTIMIZER = Role("server optimiser", ("step",))
BACKEND = Role("backend", ("train",))
SCHEDULE = Role("schedule", ("factor",))
LOSS = Role("loss", ("per_example", "scores", "no_labels", "check"), ("name",))
METRIC = Role("metric", ("check", "keep", "value"), ("name",))
MODULE = Role("torch module", ("forward", "parameters", "state_dict"))


def named(target: object, key: str) -> Callable[..., Any]:
    """The class or function behind a dotted name."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise InputError(f"{key}._target_ must name a class", value=shown(target), allowed="package.module.Class")
    module, _, name = target.rpartition(".")
    check_foreign(target, key)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        if (now := moved_to(target)) is not None:
            raise InputError(f"{key}._target_ has moved", value=target, allowed=now) from error
        raise InputError(f"{key}._target_ cannot be found", value=shown(target)) from error
    check_kind(found, key, target)
    return typing.cast("Callable[..., Any]", found)


def check_foreign(target: str, key: str) -> None:
    """Refuse names within Python's own library, before anything is imported."""
    if target.partition(".")[0] in _FOREIGN:
        allowed = "classes of fedsim, of torch or of your own"
        raise InputError(f"{key}._target_ is not for a configuration to call", value=target, allowed=allowed)


def targets(values: Any) -> Iterator[Any]:
    """All names of classes in a group, however deep."""
    if isinstance(values, dict) and "_target_" in values:
        yield values["_target_"]
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    for value in inner:
        yield from targets(value)


def check_kind(found: object, key: str, target: str) -> None:
    """Refuse what is no class and no function, and what another name only leads to in Python's own library."""
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise InputError(f"{key}._target_ is no class", value=target)
    check_foreign(str(getattr(found, "__module__", None) or target), key)


def _hint_of_return(function: Callable[..., Any]) -> object:
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None
