"""From a specification to a verdict: what is written, what is not done again, what a changed threshold changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedsim.cli.main import main
from fedsim.decide.campaign import Judge
from fedsim.decide.decision import Decision, decide
from fedsim.decide.sensitivity import Variants, strongest_first
from fedsim.decide.spec import Change, read_spec
from fedsim.plan.store import Store
from tests.decide.specs import changed, written

pytestmark = pytest.mark.slow


def silent(_: str) -> None:
    """Progress is not shown."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decide")


@pytest.fixture(scope="module")
def first(folder: Path) -> Decision:
    return decide(read_spec(written(folder, changed())), folder / "out", tell=silent)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs were played since."""
    played = [0]
    note = Store._note

    def noted(self: Store, *given: Any) -> None:
        played[0] += 1
        note(self, *given)

    monkeypatch.setattr(Store, "_note", noted)
    return played


def test_a_small_decision_is_a_go(first: Decision) -> None:
    assert first.ruling is not None and first.ruling.verdict in ("go", "go_if")
    states = {each.requirement.name: each.state for each in first.ruling.proposal.judged}
    assert states == dict.fromkeys(("eligible", "feasible", "quality", "reached", "dropout"), "PASS")
    assert first.rule == "charging & network == wifi & locked"
    assert [len(each.facts) for each in first.tried] == [3]


def test_the_command_writes_a_page_a_text_and_a_verdict(folder: Path, first: Decision, count: list[int]) -> None:
    assert main(["decide", str(folder / "decision.yaml"), "--out", str(folder / "out")]) == 0
    assert count == [0]
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    assert verdict["schema"] == "fedsim.verdict/1" and verdict["valid_until"] == "2027-08-28"
    assert [each["name"] for each in verdict["requirements"]][:2] == ["eligible", "feasible"]
    page, text = (folder / "out" / "decision.html").read_text(), (folder / "out" / "decision.md").read_text()
    for title in ("Scorecard", "What would change the verdict", "Who takes part", "Reproduce and sign"):
        assert title in page and title in text
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is fetched


def test_the_same_runs_give_the_same_files(folder: Path, first: Decision) -> None:
    names = ("verdict.json", "decision.html", "decision.md")
    main(["decide", str(folder / "decision.yaml"), "--out", str(folder / "out")])
    before = [(folder / "out" / name).read_bytes() for name in names]
    main(["decide", str(folder / "decision.yaml"), "--out", str(folder / "out")])
    assert [(folder / "out" / name).read_bytes() for name in names] == before


def test_a_changed_threshold_is_judged_without_a_run(folder: Path, first: Decision, count: list[int]) -> None:
    told = changed(requirements={"eligible": {"at_least": "60 %"}}, levers={"goal": _GOAL})
    path = written(folder, told, "strict.yaml")
    code = main(["decide", str(path), "--out", str(folder / "out")])
    assert code == 5 and json.loads((folder / "out" / "verdict.json").read_text())["verdict"] == "no_go"


_GOAL = {"override": "server.over_selection", "values": [1.5]}


def test_only_the_threshold_of_a_run_changes_nothing_else(folder: Path, first: Decision, count: list[int]) -> None:
    told = changed(requirements={"dropout": {"at_most": 0.0, "level": "must"}})
    found = decide(read_spec(written(folder, told, "b.yaml")), folder / "out", tell=silent)
    assert count == [0]
    assert found.ruling is not None and found.ruling.verdict in ("iterate", "no_go")


def test_without_a_reason_it_is_a_no_go(folder: Path, first: Decision, count: list[int]) -> None:
    found = decide(read_spec(written(folder, changed(reasons=[]), "c.yaml")), folder / "out", tell=silent)
    assert found.ruling is not None and found.ruling.verdict == "no_go" and count == [0]


def test_privacy_cannot_be_counted_as_passed(folder: Path, first: Decision, count: list[int]) -> None:
    told = changed(requirements={"epsilon": {"metric": "epsilon", "at_most": 8}})
    found = decide(read_spec(written(folder, told, "d.yaml")), folder / "out", tell=silent)
    assert found.ruling is not None and found.ruling.verdict == "iterate"
    assert {each.requirement.name: each.state for each in found.ruling.proposal.judged}["epsilon"] == "UNKNOWN"


def test_a_stopped_decision_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read_spec(folder / "decision.yaml")
    note, played = Store._note, [0]

    def stops(self: Store, *given: Any) -> None:
        note(self, *given)
        played[0] += 1
        if played[0] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_note", stops)
        with pytest.raises(KeyboardInterrupt):
            decide(spec, tmp_path, tell=silent, until="training")
    played_before = sorted(path.parent.name for path in tmp_path.glob("runs/*/summary.json"))
    assert played_before and not (tmp_path / "verdict.json").exists()
    times = {name: (tmp_path / "runs" / name / "summary.json").stat().st_mtime_ns for name in played_before}
    assert main(["decide", str(folder / "decision.yaml"), "--out", str(tmp_path)]) == 0
    assert {name: (tmp_path / "runs" / name / "summary.json").stat().st_mtime_ns for name in played_before} == times


def test_a_stage_is_shown_without_a_verdict(folder: Path, first: Decision, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decide", str(folder / "decision.yaml"), "--out", str(folder / "out"), "--until", "models"]) == 0
    said = capsys.readouterr().out
    assert "no verdict was asked for" in said and "Can phones train it" in said and "Does it learn" not in said


def test_a_budget_that_ends_before_the_first_look_gives_no_verdict(tmp_path: Path) -> None:
    path = written(tmp_path, changed(budget={"minutes": 0.01}))
    assert main(["decide", str(path), "--out", str(tmp_path / "out")]) == 6
    assert not (tmp_path / "out" / "verdict.json").exists()


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"data": {"config": "data=table data.path=/nowhere.csv data.client=u data.label=y"}}, "stage constraints"),
        ({"models": {"candidates": [{"config": "model=clicks model.module.n_factors=-1"}]}}, "stage"),
        ({"training": {"arms": {"rounds": "server=sync server.report_gaol=3"}}}, "report_gaol"),
    ],
)
def test_a_stage_that_fails_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], stage: str
) -> None:
    path = written(tmp_path, changed(**change))
    assert main(["decide", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert stage in said[-1] and not (tmp_path / "out" / "verdict.json").exists()


def test_an_older_verdict_does_not_stand_beside_a_decision_that_failed(
    folder: Path, first: Decision, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "verdict.json").write_text("{}")
    told = changed(sensitivity={"slow": {"override": "device.no_such", "values": [1]}}, training=_FEWER)
    assert main(["decide", str(written(tmp_path, told)), "--out", str(tmp_path)]) == 2
    assert "sensitivity.slow: unknown key: 'device.no_such'" in capsys.readouterr().err
    assert not (tmp_path / "verdict.json").exists() and list(tmp_path.glob("runs/*/summary.json"))


_FEWER = {"common": "stop.max_steps=3 stop.max_s=43200 evaluation.every_steps=3 evaluation.n_group_devices=100"}


def test_an_unknown_stage_is_refused(folder: Path) -> None:
    assert main(["decide", str(folder / "decision.yaml"), "--until", "magic"]) == 2


def test_the_base_value_of_an_assumption_changes_nothing(first: Decision) -> None:
    """A schedule without training is that of the trained run: laid on itself the curve is the same."""
    tried = first.tried[0]
    variants = Variants(first.spec, first.place, tried, {})
    same = Change("same", "device.compute.time_factor", (1.0,), "")
    found, _ = variants.facts([(same, 1.0)])
    for new, old in zip(found, variants.base, strict=True):
        assert new is not None
        assert new["curves"] == old["curves"]
        by_files = {"usd_per_model", "usd_per_year"}  # storage of the logs, whose files differ by the metrics in them
        assert {name: new["values"][name] for name in old["values"] if name not in by_files} == {
            name: value for name, value in old["values"].items() if name not in by_files
        }
        assert new["values"]["usd_per_year"] == pytest.approx(old["values"]["usd_per_year"], rel=1e-4)


def test_slow_phones_move_what_depends_on_them(first: Decision) -> None:
    assert first.sensitivity is not None
    hours = {
        each.value: each.after.estimate
        for each in first.sensitivity.assumptions
        if each.after.requirement.name == "reached"
    }
    assert hours[0.5] < first.tried[0].judged[3].estimate < hours[3]
    quality = [each for each in first.sensitivity.assumptions if each.after.requirement.name == "quality"]
    assert {each.after.estimate for each in quality} == {each.before.estimate for each in quality}


def test_the_strongest_assumption_is_looked_at_first(first: Decision) -> None:
    variants = Variants(first.spec, first.place, first.tried[0], dict(first.constraints["criteria"][0]["values"]))
    judging = Judge(first.spec, first.requirements, n_candidates=1)
    weak, strong = (Change(name, key, (value,), "") for name, key, value in (
        ("weak", "device.crash_fraction", 0.006), ("strong", "server.server_step_s", 60),
    ))  # fmt: skip
    assert [each.name for each in strongest_first(variants, first.place, [weak, strong], judging)] == ["strong", "weak"]


def test_assumed_values_are_told_with_their_ranges(first: Decision) -> None:
    found = {each.key: each for each in first.assumed}
    crash = found["device.crash_fraction"]
    assert crash.change is not None and crash.change.values == (0, 0.02)
    between = found["server.selector.min_between_sessions_s"].change
    assert between is not None and between.values == (0, 2_592_000)
    assert "server.report_goal" not in found  # the specification sets it
