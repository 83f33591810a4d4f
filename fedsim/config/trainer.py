"""The group ``training``: the trainer, the module it trains, and the central baseline."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import hydra.utils
from hydra.errors import HydraException

from fedsim.config.build import build, fits, named
from fedsim.data.clients import ClientData
from fedsim.errors import InputError
from fedsim.training.local import LocalWork
from fedsim.training.trainer import Trainer


def build_module(values: dict[str, Any]) -> Any:
    """Any ``torch.nn.Module`` named by the configuration, nested ones included."""
    try:
        return hydra.utils.instantiate(values, _convert_="all")
    except HydraException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"model.module cannot be built ({cause})", value=values.get("_target_")) from error


def check_training(training: Mapping[str, Any]) -> None:
    """A trainer's own YAML must have what a run asks of all of them."""
    missing = [key for key in ("_target_", "local", "loss", "central") if key not in training]
    if missing:
        where = "the configuration"
        raise InputError(f"training.{missing[0]} must be given", where=where, allowed="defaults: [task, _self_]")


def trainer_of(
    values: dict[str, Any], model: dict[str, Any], data: ClientData, *, local: LocalWork, max_staleness: int, seed: int
) -> Trainer:
    """The trainer that ``training._target_`` names; one that asks for nothing of torch imports none.

    It is given what its signature asks for: of the parts below, ``server_optimizer``, ``backend``, the settings that
    all trainers share, and keys of its own. Raises :class:`InputError` if ``model.n_parameters`` is not its size.
    """
    target = named(values["_target_"], "training")
    asked = inspect.signature(target).parameters
    trainer = build(
        {key: value for key, value in values.items() if key not in _PARTS and (key in asked or key not in _SHARED)},
        "training",
        target=target,
        model=lambda: build_module(model["module"]),
        n_parameters=model["n_parameters"],
        data=data,
        local=local,
        max_staleness=max_staleness,
        seed=seed,
        **{part: make(values.get(part), f"training.{part}") for part, make in _MAKERS.items() if part in asked},
    )
    if trainer.n_parameters != model["n_parameters"]:
        raise InputError(
            "model.n_parameters does not match the module", value=model["n_parameters"], allowed=trainer.n_parameters
        )
    return typing.cast(Trainer, trainer)


def _backend(values: Any, key: str) -> Callable[[Any], Any]:
    """What makes the backend once the trainer has something to be trained."""
    return lambda learner: build(values, key, learner=learner)


_MAKERS: Mapping[str, Callable[[Any, str], Any]] = {"server_optimizer": build, "backend": _backend}
_PARTS = ("local", "central", *_MAKERS)  # no values for the trainer: they are built
_SHARED = ("loss", "metrics", "n_threads")  # a trainer takes of these settings what it asks for


def central_metrics(values: dict[str, Any], data: ClientData) -> dict[str, float]:
    """Metrics of the model trained on the pooled data; empty if no baseline is asked for or nothing is trained.

    Plain local SGD and a plain average, whatever algorithm the run uses.
    """
    central, seed = dict(values["training"]["central"]), values["seed"]
    epochs = central.pop("epochs")
    if not fits(epochs, int) or epochs < 0:
        raise InputError("training.central.epochs", value=epochs, allowed="0 or more: 0 is no baseline")
    local = build({**central, "epochs": 1, "_target_": _PLAIN_SGD}, "training.central")
    average = {**values["training"], "server_optimizer": _PLAIN_AVERAGE}

    def trainer(examples: ClientData) -> Trainer:
        return trainer_of(average, values["model"], examples, local=local, max_staleness=0, seed=seed)

    if not epochs or not trainer(data).is_training:
        return {}
    train_central = named("fedsim.training.central.train_central", "training.central")
    return typing.cast("dict[str, float]", train_central(trainer, data, epochs=epochs, seed=seed)[-1])


_PLAIN_SGD = "fedsim.training.algorithm.sgd.LocalSgd"
_PLAIN_AVERAGE = {"_target_": "fedsim.training.server_optimizer.FedAvg", "learning_rate": 1.0}
