"""APPFL's virtual-time simulator plays the arms of its own; usage: appfl_side.py INPUTS.json ANSWERS.json.

Its drivers, profiles, schedulers and aggregators run as they are. Stand-ins of ours: clients that train nothing and
send what is known (device i moves the model by 1 / (i + 1)), and the few lines of its server agent that pass calls on
to the scheduler, because that agent loads data readers, loggers and communicators that are not needed here.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import shelf
import torch
from appfl import __version__
from appfl.algorithm.aggregator import FedAsyncAggregator, FedAvgAggregator, FedBuffAggregator
from appfl.algorithm.scheduler import AsyncScheduler, SyncScheduler
from appfl.vsim import AsyncSimDriver, ClientProfile, SyncSimDriver
from omegaconf import OmegaConf

FLOAT_BYTES = 8
LOGGER = logging.getLogger("quiet")
LOGGER.setLevel(logging.CRITICAL)

Arm = dict[str, Any]


class Server:
    """What the drivers ask of a server agent, answered by APPFL's scheduler."""

    def __init__(self, scheduler: Any, n_updates: int | None) -> None:
        self.scheduler, self._n_updates = scheduler, n_updates

    def get_parameters(self, **kwargs: Any) -> Any:
        """The global model."""
        return self.scheduler.get_parameters(**kwargs)

    def global_update(self, client_id: str, local_model: Any, blocking: bool = False, **kwargs: Any) -> Any:
        """Hand an update on."""
        return self.scheduler.schedule(client_id, local_model, **kwargs)

    def training_finished(self) -> bool:
        """After so many updates, where a number is given."""
        return self._n_updates is not None and self.scheduler.get_num_global_epochs() >= self._n_updates


class Client:
    """Device ``i``; where its aggregator takes gradients it sends minus its step, else the model it has moved."""

    def __init__(self, i: int, local_steps: int, *, sends_gradient: bool) -> None:
        self._i, self._local_steps, self._sends_gradient = i, local_steps, sends_gradient

    def get_id(self) -> str:
        """Its name."""
        return str(self._i)

    def load_parameters(self, model: Any) -> None:
        """Download."""
        self._model = model

    def train(self) -> None:
        """Nothing is trained."""

    def get_parameters(self) -> tuple[Any, dict[str, Any]]:
        """Upload, with the one number that durations come from."""
        step = 1.0 / (self._i + 1)
        w = self._model["w"]
        return {"w": torch.full_like(w, -step) if self._sends_gradient else w + step}, {
            "current_local_steps": self._local_steps
        }


def model(n_bytes: int) -> torch.nn.Module:
    """A model of that size, all zeros."""
    made = torch.nn.Module()
    made.register_parameter("w", torch.nn.Parameter(torch.zeros(n_bytes // FLOAT_BYTES, dtype=torch.float64)))
    made.requires_grad_(False)
    return made


def profiles(arm: Arm) -> dict[str, ClientProfile]:
    """APPFL's description of each device."""
    return {
        str(i): ClientProfile(compute_factor=device["factor"], bandwidth=device["mbit_per_s"])
        for i, device in enumerate(arm["devices"])
    }


def clients(arm: Arm, *, sends_gradient: bool) -> list[Client]:
    """The stand-ins."""
    return [Client(i, arm["local_steps"], sends_gradient=sends_gradient) for i in range(len(arm["devices"]))]


class HeardAsync(AsyncSimDriver):
    """The driver as it is, with an ear on whom it dispatches."""

    def _handle_train_start(self, cid: str, dispatch_time: float) -> None:
        self.__dict__.setdefault("picks", []).append(int(cid))
        super()._handle_train_start(cid, dispatch_time)


class HeardSync(SyncSimDriver):
    """The driver as it is, with an ear on its cohorts."""

    def _select_participants(self) -> list[str]:
        picked: list[str] = super()._select_participants()
        self.__dict__.setdefault("picks", []).append([int(cid) for cid in picked])
        return picked


def play_async(arm: Arm) -> dict[str, Any]:
    """FedAsync (a buffer of 1) or FedBuff: every update in order of arrival, every step."""
    size = arm["buffer_size"]
    config = OmegaConf.create(
        {
            "staleness_fn": "polynomial", "staleness_fn_kwargs": {"a": 0.5}, "alpha": 1.0, "K": size,
            "num_clients": size, "gradient_based": True, "optimize_memory": False,
        }
    )  # fmt: skip
    kind = FedAsyncAggregator if size == 1 else FedBuffAggregator
    aggregator = kind(model(arm["model_bytes"]), config, LOGGER)
    versions_behind: list[int] = []
    law = aggregator.staleness_fn

    def heard(behind: int) -> float:
        versions_behind.append(behind)
        return float(law(behind))

    aggregator.staleness_fn = heard
    server = Server(AsyncScheduler(OmegaConf.create({"optimize_memory": False}), aggregator, LOGGER), arm["n_updates"])
    driver = HeardAsync(
        server, clients(arm, sends_gradient=True), profiles(arm), arm["in_flight"], LOGGER,
        seed=arm["seed"], base_step_time=arm["step_s"],
    )  # fmt: skip
    models = []
    aggregate = aggregator.aggregate

    def stepped(client_id: str, local_model: Any, **kwargs: Any) -> Any:
        before = aggregator.global_step
        result = aggregate(client_id, local_model, **kwargs)
        if aggregator.global_step > before:
            models.append((kwargs["virtual_time"], float(result["w"][0])))
        return result

    aggregator.aggregate = stepped
    driver.run()
    updates = driver.history
    return {
        "picks": driver.picks,
        "session_device": [int(u["cid"]) for u in updates],
        "session_start_s": [u["dispatch_time"] for u in updates],
        "session_end_s": [u["vtime"] for u in updates],
        "session_length_s": [u["duration"] for u in updates],
        "session_staleness": versions_behind,
        "driver_staleness": [u["staleness"] for u in updates],
        "step_at_s": [at for at, _ in models],
        "step_model": [value for _, value in models],
    }


def play_rounds(arm: Arm) -> dict[str, Any]:
    """Rounds closed by a count or by a window: who was accepted, when they began and closed."""
    aggregator = FedAvgAggregator(model(arm["model_bytes"]), OmegaConf.create({"optimize_memory": False}), LOGGER)
    config = OmegaConf.create({"num_clients": len(arm["devices"]), "optimize_memory": False})
    driver = HeardSync(
        Server(SyncScheduler(config, aggregator, LOGGER), None),
        clients(arm, sends_gradient=False), profiles(arm), arm["cohort"], LOGGER,
        seed=arm["seed"], base_step_time=arm["step_s"], mode=arm["mode"], min_responses=arm["goal"],
        max_wait_time=arm["max_wait_s"], window_duration=arm["window_s"], target_rounds=arm["n_rounds"],
    )  # fmt: skip
    models = []
    run_round = driver._run_round

    def heard() -> bool:
        is_done: bool = run_round()
        models.append(float(driver.server.get_parameters(serial_run=True)["w"][0]))
        return is_done

    driver._run_round = heard
    driver.run()
    return {
        "picks": driver.picks,
        "round_start_s": [r["t_start"] for r in driver.history],
        "round_close_s": [r["t_barrier"] for r in driver.history],
        "round_length_s": [r["duration"] for r in driver.history],
        "round_is_committed": [int(not r["skipped"]) for r in driver.history],
        "round_accepted": [sorted(int(cid) for cid in r["accepted_cids"]) for r in driver.history],
        "round_model": models,
    }


def main(inputs: Path, answers: Path) -> None:
    """Play all arms of this peer."""
    arms = {name: arm for name, arm in shelf.load(inputs).items() if arm["peer"] == "appfl"}
    play = {"async": play_async, "rounds": play_rounds}
    found = {name: play[arm["kind"]](arm) for name, arm in arms.items()}
    shelf.save(answers, {"peer": {"package": "appfl", "version": __version__}, **found})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
