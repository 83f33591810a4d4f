"""The group ``training``: the trainer, the module it trains, and the central baseline."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra.utils
from hydra.errors import HydraException

from fedsim.config.build import build, keys_of, target_of
from fedsim.config.measures import loss_of, metrics_of
from fedsim.config.roles import BACKEND, MODULE, TRAINER, check_foreign, check_kind, named, targets
from fedsim.config.scheduled import local_of, server_optimizer_of
from fedsim.config.task import sized
from fedsim.data.clients import ClientData
from fedsim.errors import InputError
from fedsim.training.local import LocalWork
from fedsim.training.trainer import Measured, Trainer


def build_module(values: dict[str, Any]) -> Any:
    """Any ``torch.nn.Module`` named by the configuration, nested ones included."""
    for target in targets(values):
        _check_target(target)
    try:
        module = hydra.utils.instantiate(values, _convert_="all")
    except HydraException as error:
        raise _cannot_be_built(values, error.__cause__ or error) from error
    MODULE.check(module, "model.module", values["_target_"])
    return module


def _cannot_be_built(values: dict[str, Any], error: BaseException) -> InputError:
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return InputError(f"model.module cannot be built ({cause})", value=values["_target_"])


def _check_target(target: Any) -> None:
    """A module's parts may be any class or function, but none of Python's own library."""
    check_foreign(str(target), "model.module")
    try:
        found = hydra.utils.get_object(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise _cannot_be_built({"_target_": target}, error) from error
    check_kind(found, "model.module", str(target))


def _started(module: Any, init_from: str | None) -> Any:
    """The module as it was built, or with the tensors of ``model.init_from``."""
    if init_from is None:
        return module
    return named("fedsim.training.checkpoint.start_from", "model.init_from")(module, init_from)


def trainer_of(
    values: dict[str, Any], model: dict[str, Any], data: ClientData, *, n_parameters: Callable[[], int],
    local: LocalWork, max_staleness: int, seed: int,
) -> Trainer:  # fmt: skip
    """The trainer that ``training._target_`` names; one that asks for nothing of torch imports none.

    ``seed`` is the run's; ``training.seed``, if there is one, draws the initial parameters instead.

    It is given what its signature asks for: of the parts below, ``server_optimizer``, ``backend``, the settings that
    all trainers share, and keys of its own. ``n_parameters`` is what devices download, for trainers without a module.
    """
    asked = keys_of(target_of(values, "training", TRAINER))
    given: dict[str, Any] = {"n_parameters": n_parameters()} if "n_parameters" in asked else {}
    given |= {key: make(values[key]) for key, make in _BUILT.items() if key in asked and key in values}
    named = {key: value for key, value in values.items() if key not in (*_PARTS, *_BUILT)}
    trainer = build(
        {key: value for key, value in named.items() if key in asked or key != "n_threads"},
        "training",
        role=TRAINER,
        model=lambda: _started(build_module(model["module"]), model.get("init_from")),
        data=data,
        local=local,
        max_staleness=max_staleness,
        seed=values.get("seed", seed),
        **{part: make(values.get(part), f"training.{part}") for part, make in _MAKERS.items() if part in asked},
        **given,
    )
    return typing.cast(Trainer, trainer)


def _backend(values: Any, key: str) -> Callable[[Any], Any]:
    """What makes the backend once the trainer has something to be trained."""
    return lambda learner: build(values, key, role=BACKEND, learner=learner)


_MAKERS: Mapping[str, Callable[[Any, str], Any]] = {"server_optimizer": server_optimizer_of, "backend": _backend}
_BUILT: Mapping[str, Callable[[Any], Any]] = {"loss": loss_of, "metrics": metrics_of}
_PARTS = ("local", "central", "seed", *_MAKERS)  # no values for the trainer: they are built, or given by name


def central_metrics(values: dict[str, Any], data: ClientData) -> dict[str, float]:
    """Metrics of the model trained on the pooled data; empty if no baseline is asked for or nothing is trained."""
    return central_evaluation(values, data)[0]


def central_evaluation(
    values: dict[str, Any], data: ClientData, folder: Path | None = None
) -> tuple[dict[str, float], Measured | None]:
    """Metrics of the model trained on the pooled data, and what they were computed from; empty without a baseline.

    Its model is written to ``folder``, if there is one.
    Plain local SGD and a plain average, whatever algorithm the run uses.
    """
    central, seed = dict(values["training"]["central"]), values["seed"]
    epochs = central.pop("epochs")
    local = build({**central, "epochs": 1, "_target_": _PLAIN_SGD}, "training.central")
    average = {**values["training"], "server_optimizer": _PLAIN_AVERAGE}
    values = {**values, "model": {**values["model"], "module": sized(values["model"]["module"], lambda: data)}}

    made: list[Trainer] = []

    def trainer(examples: ClientData) -> Trainer:
        made.append(
            trainer_of(
                average, values["model"], examples, n_parameters=lambda: 0, local=local, max_staleness=0, seed=seed
            )
        )
        return made[-1]

    if not epochs or not _is_training(values, data):
        return {}, None
    train_central = named("fedsim.training.central.train_central", "training.central")
    try:
        metrics = typing.cast("dict[str, float]", train_central(trainer, data, epochs=epochs, seed=seed)[-1])
        if folder is not None and hasattr(made[-1], "save"):
            made[-1].save(folder, final="central")
        return metrics, getattr(made[-1], "measured", None)
    except InputError as error:  # the pooled data have other batches than the clients'
        raise InputError(f"training.central, in place of training.local: {error}") from error


def _is_training(values: dict[str, Any], data: ClientData) -> bool:
    """Whether the run's trainer, as it is, has a model at all."""
    local = local_of(values["training"]["local"])
    found = trainer_of(
        values["training"], values["model"], data, n_parameters=lambda: 0, local=local, max_staleness=0,
        seed=values["seed"],
    )  # fmt: skip
    return found.is_training


_PLAIN_SGD = "fedsim.training.algorithm.sgd.LocalSgd"
_PLAIN_AVERAGE = {"_target_": "fedsim.training.server_optimizer.FedAvg", "learning_rate": 1.0}
