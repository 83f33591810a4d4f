"""Policies from a package outside the repository: one class, one YAML file, no edit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim.config.simulation import build_simulation
from fedsim.errors import InputError
from tests.smoke import composed

CODE = """
import numpy as np

from fedsim.server.selector.selection import Selection


class Lowest:
    '''Of the phones that are there, those of the lowest numbers; remembers the losses that it is told.'''

    keeps_participations = False

    def __init__(self, *, below: int) -> None:
        self.below = below

    def start(self, scene):
        return LowestSearch(self, scene)


class LowestSearch:
    def __init__(self, policy, scene):
        self.ids, self.scene, self.told = np.arange(policy.below), scene, []

    def find(self, at):
        at = at[at == at[0]]
        cells = self.scene.fleet.cell_of(self.ids)
        kept, until = self.scene.availability.at_cells(cells, at[0])
        kept &= self.scene.participation.free_at(self.ids) <= at[0]
        for gate in self.scene.gates:
            kept &= gate.admits(self.ids, cells, at[0])
        found = np.flatnonzero(kept)[:len(at)]
        return Selection(self.ids[found], cells[found], at[:len(found)], until[found], found, 0)

    def take(self, selection, n):
        pass

    def observe(self, rows, losses):
        assert rows["outcome"].size == losses.size
        self.told.append(losses)


class OddNumbers:
    '''A gate: every other phone.'''

    def __init__(self, fleet, *, seed: int, rest: int) -> None:
        assert (fleet.n_devices, seed) == (3000, 4)
        self.rest = rest

    def admits(self, ids, cells, at):
        return ids % 2 == self.rest

    def share(self, at):
        return 0.5

    def share_by_trace(self, at):
        return 0.5


class Same:
    '''Holders: all phones hold the data of one client.'''

    def __init__(self, clients, *, client: int) -> None:
        assert client < clients.n_clients
        self.client = client

    def client_of(self, ids):
        return np.full(len(ids), self.client)


class NoGate:
    pass
"""
YAML = {
    "server/selector/lowest": "_target_: outside_policies.Lowest\nbelow: 500\n",
    "fleet/gates/odd": "# @package fleet.gates.odd\n_target_: outside_policies.OddNumbers\nrest: 1\n",
    "fleet/gates/none_at_all": "# @package fleet.gates.none_at_all\n_target_: outside_policies.NoGate\n",
    "holders/same": "_target_: outside_policies.Same\nclient: 7\n",
}
SMALL = (
    "experiment=smoke",
    "fleet.n_devices=3000",
    "server.report_goal=5",
    "stop.max_steps=4",
    "seed=4",
    "device.crash_fraction=0",
)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package beside fedsim and a folder of YAML; the override that finds the folder."""
    (tmp_path / "outside_policies.py").write_text(CODE)
    for name, text in YAML.items():
        file = tmp_path / "configs" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield [f"hydra.searchpath=[file://{tmp_path}/configs]"]
    sys.modules.pop("outside_policies")


def sessions(overrides: list[str], folder: Path) -> dict[str, Any]:
    build_simulation(composed([*overrides, *SMALL])).run(folder)
    table = pq.read_table(folder / "sessions")
    return {name: table.column(name).to_numpy() for name in ("device_id", "client_id")}


def test_a_selector(outside: list[str], tmp_path: Path) -> None:
    found = sessions([*outside, "server/selector=lowest", "training=none"], tmp_path / "run")
    assert found["device_id"].max() < 500


def test_a_selector_is_told_the_losses_of_each_step(outside: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = build_simulation(composed([*outside, "server/selector=lowest", *SMALL]))
    searches: list[Any] = []
    start = simulation.policy.selector.start
    monkeypatch.setattr(
        simulation.policy.selector, "start", lambda scene: searches.append(start(scene)) or searches[-1]
    )
    simulation.run()
    assert [len(losses) for losses in searches[0].told] == [5, 5, 5, 5]
    assert all((losses > 0).all() for losses in searches[0].told)


@pytest.mark.slow
def test_a_gate(outside: list[str], tmp_path: Path) -> None:
    found = sessions([*outside, "+fleet/gates=odd", "training=none"], tmp_path / "run")
    assert (found["device_id"] % 2 == 1).all()
    found = sessions([*outside, "+fleet/gates=odd", "fleet.gates.odd.rest=0", "training=none"], tmp_path / "other")
    assert (found["device_id"] % 2 == 0).all()


def test_holders(outside: list[str], tmp_path: Path) -> None:
    found = sessions([*outside, "holders=same", "training=none"], tmp_path / "run")
    assert np.unique(found["client_id"]).tolist() == [7]


def test_what_is_no_gate_is_one_line(outside: list[str]) -> None:
    with pytest.raises(InputError, match=r"fleet\.gates\.none_at_all is no gate: 'outside_policies\.NoGate'"):
        build_simulation(composed([*outside, "+fleet/gates=none_at_all", "training=none"]))
    with pytest.raises(InputError, match=r"fleet\.gates must be a group of groups: 5"):
        build_simulation(composed(["fleet.gates=5", "training=none"]))
