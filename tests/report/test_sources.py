"""What the comments of a configuration tree say about the values of a run."""

from pathlib import Path
from textwrap import dedent

import yaml

from fedsim.files import shipped
from fedsim.report.sources import Noted, noted_values

TREE = {
    "config.yaml": """\
        seed: 0
        stop:
          max_steps: 60  # rounds
        """,
    "device/network/slow.yaml": """\
        # A comment of its own line.
        _target_: lab.Slow
        up:
          wifi: 5  # measured
          none_given: null  # assumed
        connect_s: 0.5   # seconds; assumed
        name: wifi
        """,
    "device/network/fast.yaml": """\
        _target_: lab.Fast
        connect_s: 0.5   # of the other option; assumed
        """,
    "experiment/big.yaml": """\
        # @package _global_
        server: {goal: 7}
        device:
          crash_fraction: 0.1  # assumed
        """,
}


def tree(folder: Path) -> Path:
    for name, text in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))
    return folder


def test_kept_values_with_their_comments(tmp_path: Path) -> None:
    network = {"_target_": "lab.Slow", "up": {"wifi": 5}, "connect_s": 0.5}
    config = {"seed": 0, "stop": {"max_steps": 60}, "device": {"crash_fraction": 0.1, "network": network}}
    assert noted_values(config, tree(tmp_path)) == [
        Noted("device.crash_fraction", 0.1, "assumed"),
        Noted("device.network.connect_s", 0.5, "seconds; assumed"),
        Noted("device.network.up.wifi", 5, "measured"),
        Noted("stop.max_steps", 60, "rounds"),
    ]


def test_changed_values_are_the_users_own(tmp_path: Path) -> None:
    config = {"stop": {"max_steps": 61}, "device": {"network": {"_target_": "lab.Other", "connect_s": 0.5}}}
    assert noted_values(config, tree(tmp_path)) == []


def test_only_what_is_said_to_be_assumed_is_assumed() -> None:
    assert [Noted("a", 1, note).is_assumed for note in ("assumed", "seconds; assumed", "Bonawitz et al. 2019")] == [
        True, True, False,
    ]  # fmt: skip


def test_the_shipped_tree_can_be_read() -> None:
    phone = yaml.safe_load((shipped("configs") / "device" / "energy" / "constant.yaml").read_text())
    keys = [note.key for note in noted_values({"device": {"energy": phone}}) if note.is_assumed]
    assert keys and all(key.startswith("device.energy.") for key in keys)
