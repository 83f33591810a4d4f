"""The group ``training``: the trainer, the module it trains, and the central baseline."""

from __future__ import annotations

import typing
from typing import Any

import hydra.utils
from hydra.errors import HydraException

from fedsim.config.build import build, named
from fedsim.data.clients import ClientData
from fedsim.errors import InputError
from fedsim.training.local import LocalSgd
from fedsim.training.trainer import NullTrainer, Trainer

_TRAINERS = {"cohort": "fedsim.training.cohort.CohortTrainer", "loop": "fedsim.training.loop.LoopTrainer"}


def build_module(values: dict[str, Any]) -> Any:
    """Any ``torch.nn.Module`` named by the configuration, nested ones included."""
    try:
        return hydra.utils.instantiate(values, _convert_="all")
    except HydraException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"model.module cannot be built ({cause})", value=values.get("_target_")) from error


def trainer_of(
    values: dict[str, Any], model: dict[str, Any], data: ClientData, *, local: LocalSgd, max_staleness: int, seed: int
) -> Trainer:
    """The trainer that is asked for; ``none`` imports no torch."""
    name = values["name"]
    if name == "none":
        return NullTrainer(n_parameters=model["n_parameters"])
    if name not in _TRAINERS:
        raise InputError("training.name is unknown", value=name, allowed="none, " + ", ".join(_TRAINERS))
    trainer = build(
        {key: value for key, value in values.items() if key not in _NOT_FOR_TRAINER},
        "training",
        target=named(_TRAINERS[name], "training"),
        model=lambda: build_module(model["module"]),
        data=data,
        local=local,
        server_optimizer=build(values["server_optimizer"], "training.server_optimizer"),
        max_staleness=max_staleness,
        seed=seed,
    )
    if trainer.n_parameters != model["n_parameters"]:
        raise InputError(
            "model.n_parameters does not match the module", value=model["n_parameters"], allowed=trainer.n_parameters
        )
    return typing.cast(Trainer, trainer)


_NOT_FOR_TRAINER = ("name", "local", "server_optimizer", "central")


def central_metrics(values: dict[str, Any], data: ClientData) -> dict[str, float]:
    """Metrics of the model trained on the pooled data, empty if no baseline is asked for."""
    training, seed = values["training"], values["seed"]
    central = dict(training["central"])
    epochs = central.pop("epochs")
    if training["name"] == "none" or not epochs:
        return {}
    local = build({**central, "epochs": 1}, "training.central", target=LocalSgd)
    average = {**training, "server_optimizer": _PLAIN_AVERAGE}
    results = named("fedsim.training.central.train_central", "training.central")(
        lambda pool: trainer_of(average, values["model"], pool, local=local, max_staleness=0, seed=seed),
        data,
        epochs=epochs,
        seed=seed,
    )
    return typing.cast("dict[str, float]", results[-1])


_PLAIN_AVERAGE = {"_target_": "fedsim.training.server_optimizer.FedAvg", "learning_rate": 1.0}
