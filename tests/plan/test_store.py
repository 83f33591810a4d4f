"""Runs by their content: nothing is played twice, half a run is played again, a key follows content and not place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedsim.config.compose import composed
from fedsim.files import shipped
from fedsim.plan.content import Digests, by_content, run_key
from fedsim.plan.store import Asked, Store
from fedsim.results.run import Run

TINY = ("fleet.n_devices=20000", "training=none", "server.report_goal=10", "stop.max_steps=3", "stop.max_s=86400")


def store(folder: Path) -> Store:
    return Store(folder, n_workers=1, tell=lambda line: None)


@pytest.mark.slow
def test_nothing_is_played_twice_and_half_a_run_again(tmp_path: Path) -> None:
    asked = [Asked(TINY, 0), Asked(TINY, 1), Asked(TINY, 0)]
    first = store(tmp_path)
    runs = [each.run for each in first.played(asked) if each.run is not None]
    assert [run.summary["seed"] for run in runs] == [0, 1, 0]
    assert first.n_played == 2
    again = store(tmp_path)
    again.played(asked)
    assert again.n_played == 0
    (runs[1].folder / "summary.json").unlink()  # as if it had been killed
    (runs[1].folder / "left over").write_text("of the run that was killed")
    third = store(tmp_path)
    assert third.missing(asked) == [asked[1]]
    third.played(asked)
    assert third.n_played == 1
    assert not (runs[1].folder / "left over").exists()
    assert Run.load(runs[1].folder).summary == runs[1].summary


@pytest.mark.slow
def test_a_world_that_cannot_go_on_is_remembered(tmp_path: Path) -> None:
    never = Asked((*TINY, 'fleet.rule="battery > 100"'), 0)
    failed = store(tmp_path).played([never])[0]
    assert failed.run is None
    assert failed.failure
    again = store(tmp_path)
    assert again.played([never])[0] == failed
    assert again.n_played == 0


def test_a_key_follows_the_content_of_files_and_not_their_place(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        shutil.copytree(shipped("traces/reference"), place)

    def key(folder: Path, *words: str) -> str:
        return run_key(composed([*TINY, f"traces.folder={folder}", *words]), Digests(tmp_path / "seen.json"))

    before = key(one)
    assert key(other) == before
    assert key(one, "report=false") == before  # no table depends on it
    assert key(one, "seed=1") != before
    with (one / "provenance.json").open("a") as file:
        file.write("\n")
    assert key(one) != before
    assert key(other) == before


def test_names_of_files_become_digests_and_other_texts_stay(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.txt"
    file.parent.mkdir()
    file.write_text("one")
    digests = Digests(tmp_path / "seen.json")
    told = {"file": str(file), "list": [str(file), "no/such", 3], "rule": "a / b"}
    found = by_content(told, digests)
    assert found["file"].startswith("sha256:")
    assert found["list"] == [found["file"], "no/such", 3]
    assert found["rule"] == "a / b"


def test_a_list_of_digests_that_is_broken_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "seen.json").write_text("{")
    file = tmp_path / "x"
    file.write_text("one")
    digests = Digests(tmp_path / "seen.json")
    first = digests.of(file)
    digests.keep()
    assert Digests(tmp_path / "seen.json").of(file) == first
