"""FedScale's own classes play the arms of theirs; usage: fedscale_side.py INPUTS.json ANSWERS.json.

Its client metadata, client manager and aggregators run as they are, in simulation mode: what they do when a round is
complete is called again and again, as their event loop would when all results are in. What the aggregator's module
imports besides and these methods do not use (communication, dashboards, models, data sets) is absent here.
"""

from __future__ import annotations

import collections
import logging
import pickle
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import shelf

ABSENT = (
    "grpc", "google", "google.protobuf", "google.protobuf.internal", "wandb", "torchvision", "torchvision.models",
    "overrides",
    "torch.utils.tensorboard", "fedscale.cloud.channels.job_api_pb2", "fedscale.dataloaders",
    "fedscale.dataloaders.utils_data", "fedscale.utils.models", "fedscale.utils.models.torch_model_provider",
    "fedscale.utils.models.tensorflow_model_provider", "fedscale.cloud.internal.tensorflow_model_adapter",
    "fedscale.cloud.internal.torch_model_adapter", "fedscale.cloud.aggregation.optimizers",
)  # fmt: skip
for name in ABSENT:
    sys.modules[name] = MagicMock()
sys.modules["overrides"].overrides = lambda method: method

import fedscale.cloud.config_parser as parser  # noqa: E402 (what is absent comes first)
from fedscale.cloud import commons  # noqa: E402
from fedscale.cloud.aggregation.aggregator import Aggregator  # noqa: E402
from fedscale.cloud.aggregation.async_aggregator import AsyncAggregator  # noqa: E402
from fedscale.cloud.client_manager import ClientManager  # noqa: E402
from fedscale.cloud.resource_manager import ResourceManager  # noqa: E402

Arm = dict[str, Any]


def device_of(client: int, arm: Arm) -> int:
    """FedScale numbers clients from 1, and gives client i entry i mod n of its files."""
    return client % len(arm["devices"])


def manager(arm: Arm) -> ClientManager:
    """FedScale's client manager, which has read its two files."""
    args = parser.args
    args.filter_less, args.filter_more, args.batch_size = 0, 1e15, arm["batch_size"]
    args.local_steps = arm["local_steps"]
    with tempfile.NamedTemporaryFile() as file:
        file.write(pickle.dumps(dict(enumerate(arm["traces"]))))
        file.flush()
        args.device_avail_file = file.name
        return ClientManager("random", args)


def register(made: Any, arm: Arm) -> None:
    """Tell the aggregator its clients, as its first executor does."""
    made.client_profiles = {
        i: {"computation": device["ms_per_sample"], "communication": device["kbit_per_s"]}
        for i, device in enumerate(arm["devices"])
    }
    made.client_register_handler(1, {"size": [1_000] * len(arm["devices"])})


def aggregator(kind: type, arm: Arm) -> Any:
    """An aggregator at the start of a run, without server, model and log."""
    made = kind.__new__(kind)
    made.args, made.experiment_mode = parser.args, commons.SIMULATION_MODE
    made.client_manager, made.resource_manager = manager(arm), ResourceManager(commons.SIMULATION_MODE)
    made.client_conf, made.model_update_size, made.num_of_clients = {}, arm["model_kbit"], 0
    made.global_virtual_clock = made.round_duration = 0.0
    made.round, made.tasks_round = 0, 0
    made.stats_util_accumulator, made.loss_accumulator, made.round_stragglers = [], [], []
    made.sampled_participants, made.individual_client_events = [], {}
    made.broadcast_events_queue, made.model_wrapper = collections.deque(), MagicMock()
    made.setup_env()
    register(made, arm)
    return made


def play_windows(arm: Arm) -> dict[str, Any]:
    """Who is active at which instants, each client asked in order of time; and how long each one's session is."""
    clients = manager(arm)
    for i, device in enumerate(arm["devices"]):
        speed = {"computation": device["ms_per_sample"], "communication": device["kbit_per_s"]}
        clients.register_client(1, i, 1_000, speed)
    costs = [
        clients.get_completion_time(i, arm["batch_size"], arm["local_steps"], arm["model_kbit"], arm["model_kbit"])
        for i in range(len(arm["devices"]))
    ]
    return {
        "compute_s": [cost["computation"] for cost in costs],
        "communication_s": [cost["communication"] for cost in costs],
        "is_active": [[int(clients.isClientActive(i, at)) for at in asked] for i, asked in enumerate(arm["asked_at"])],
    }


def play_rounds(arm: Arm) -> dict[str, Any]:
    """Synchronous rounds: who was asked and whose updates count, when each began and closed."""
    made = aggregator(Aggregator, arm)
    made.args.num_participants, made.args.overcommitment = arm["goal"], arm["cohort"] / arm["goal"]
    rounds = []
    for _ in range(arm["n_rounds"]):
        made.round_completion_handler()
        rounds.append(
            {
                "picks": [device_of(client, arm) for client in made.sampled_participants],
                "round_start_s": made.global_virtual_clock,
                "round_close_s": made.global_virtual_clock + made.round_duration,
                "round_length_s": made.round_duration,
                "round_accepted": [device_of(client, arm) for client in made.resource_manager.client_run_queue],
                "accepted_length_s": made.flatten_client_duration.tolist(),
            }
        )
    return {key: [one[key] for one in rounds] for key in rounds[0]}


class FreeClients:
    """A client manager's draws of one client, repeated until it is one that is not under way, and written down.

    FedScale asks clients that are busy, too, and then forgets when the first of the two sessions began.
    """

    def __init__(self, made: Any) -> None:
        self._draw = made.client_manager.select_participants
        self.busy_until: dict[int, float] = {}
        self.drawn: list[int] = []
        made.client_manager.select_participants = self

    def __call__(self, n: int, cur_time: float = 0) -> list[int]:
        """As ``select_participants``; what is drawn for a whole round is not used by the asynchronous aggregator."""
        picked: list[int] = self._draw(n, cur_time=cur_time)
        while n == 1 and self.busy_until.get(picked[0], -1.0) >= cur_time:
            picked = self._draw(n, cur_time=cur_time)
        self.drawn += picked
        return picked


def play_async(arm: Arm) -> dict[str, Any]:
    """FedBuff: every update that counts in order of arrival, every step."""
    made = aggregator(AsyncAggregator, arm)
    made.args.num_participants, made.args.max_concurrency = arm["buffer_size"], arm["in_flight"]
    made.args.max_staleness, made.args.overcommitment = 1_000_000, 1.0
    draws, new_task, tasks = FreeClients(made), made._new_task, []

    def heard(at: float) -> None:
        new_task(at)
        client = draws.drawn[-1]
        cost = made.virtual_client_clock[client]
        length_s = cost["computation"] + cost["communication"]
        draws.busy_until[client] = at + length_s
        tasks.append((at + length_s, device_of(client, arm), at, length_s, made.client_task_model_version[client]))

    made._new_task = heard
    step_at_s = []
    for _ in range(arm["n_rounds"]):
        made.round_completion_handler()
        step_at_s.append(made.global_virtual_clock)
    counted = sorted(tasks)[: arm["n_rounds"] * arm["buffer_size"]]
    end_s, device, start_s, length_s, version_then = map(list, zip(*counted, strict=True))
    return {
        "picks": [task[1] for task in tasks],
        "session_device": device,
        "session_start_s": start_s,
        "session_end_s": end_s,
        "session_length_s": length_s,
        "session_staleness": [1 + k // arm["buffer_size"] - version_then[k] for k in range(len(counted))],
        "step_at_s": step_at_s,
    }


def main(inputs: Path, answers: Path) -> None:
    """Play all arms of this peer."""
    logging.disable()
    play = {"windows": play_windows, "rounds": play_rounds, "async": play_async}
    arms = {name: arm for name, arm in shelf.load(inputs).items() if arm["peer"] == "fedscale"}
    found = {name: play[arm["kind"]](arm) for name, arm in arms.items()}
    shelf.save(answers, {"peer": {"package": "fedscale", "version": version("fedscale")}, **found})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
