"""The shipped YAML of real tables, read as they are: who holds how much, what is held out, what the first rows say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.config import roles
from fedsim.config.build import build
from fedsim.config.compose import composed
from fedsim.data.table.table import TableClients

pytestmark = pytest.mark.slow


def built(name: str, shared_data: Path, *more: str) -> TableClients:
    values = composed([f"data={name}", f"paths.datasets={shared_data}/datasets", *more])["data"]
    found: Any = build(values, "data", role=roles.DATA)
    return found


@pytest.mark.parametrize(
    ("name", "n_clients", "n_examples", "held_out", "sizes"),
    [
        ("conda_toxicity", 8_982, 26_921, (8_974, 64), {"n_values": 16_387, "n_classes": 2}),
        ("convabuse", 2_301, 3_297, (888, 64), {"n_values": 16_387, "n_classes": 2}),
        ("ubuntu_irc", 15_865, 194_963, (4_000, 20), {"n_words": 5_003, "length": 20}),
        ("lambdarank", 201, 201, (50, 32, 300), {"n_inputs": 300, "n_classes": 5}),
    ],
)
def test_a_table_is_what_its_source_says(
    name: str, n_clients: int, n_examples: int, held_out: tuple[int, ...], sizes: dict[str, int], shared_data: Path
) -> None:
    data = built(name, shared_data)
    each = data.n_examples(np.arange(data.n_clients))
    assert (data.n_clients, each.sum(), each.min()) == (n_clients, n_examples, 1)
    assert data.held_out()[0].shape == held_out
    assert sizes.items() <= data.sizes.items()


def test_a_role_speaks_its_own_lines(shared_data: Path) -> None:
    data = built("shakespeare_roles", shared_data)
    each = data.n_examples(np.arange(data.n_clients))
    assert data.n_clients == 1_334 and each.sum() > 50_000
    assert data.sizes["n_words"] == 73 + 3 - 1  # a character of held-out lines alone has no id
    examples = data.fetch(np.array([5]))
    is_there = examples.y >= 0
    assert (examples.x[:, 1:][is_there[:, :-1] & (examples.x[:, 1:] > 0)] > 1).all()  # every character has an id
    assert (examples.x[:, 1:] == examples.y[:, :-1])[is_there[:, 1:]].all()  # the label is the next input


def test_a_third_of_later_messages_is_by_known_users(shared_data: Path) -> None:
    data = built("ubuntu_irc", shared_data)
    assert data.held_out_clients is not None
    assert (data.held_out_clients >= 0).mean() == pytest.approx(0.32, abs=0.02)


def test_the_size_of_a_vocabulary_is_a_knob(shared_data: Path) -> None:
    data = built("convabuse", shared_data, "data.features.text.size=1000")
    assert data.sizes["n_values"] == 1003 and data.held_out()[0].max() < 1003
